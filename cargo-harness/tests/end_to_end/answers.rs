//! Answers from traces: who uses a file, and the selection by that.

use crate::scene::{Finished, Scene};
use harness_metadata::exit_code;
use std::path::PathBuf;

/// Tests that share a folder, a port and a file, and one that reads the home folder.
const SUITE: &str = r#"
use std::{env, fs, net::{TcpListener, TcpStream}, path::{Path, PathBuf}, process::Command};

#[test]
fn reads_the_home() {
    let home = env::var("HOME").unwrap();
    let _ = fs::read(format!("{home}/.suiterc"));
}

#[test]
fn runs_a_child_that_reads() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data.txt");
    assert!(Command::new("cat").arg(data).output().unwrap().status.success());
}

#[test]
fn connects_in_vain() {
    assert!(TcpStream::connect("127.0.0.1:9").is_err());
}

#[test]
fn has_a_folder_of_its_own() {
    let folder = env::temp_dir().join(format!("suite-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x"), "x").unwrap();
    fs::remove_dir_all(&folder).unwrap();
}

fn shares_a_folder(name: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shared");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), name).unwrap();
    let _ = fs::read_dir(&folder).unwrap().count();
}

#[test]
fn shares_a_folder_as_one() {
    shares_a_folder("one");
}

#[test]
fn shares_a_folder_as_two() {
    shares_a_folder("two");
    let _ = fs::remove_file(Path::new(env!("CARGO_TARGET_TMPDIR")).join("shared/one"));
}

#[test]
fn takes_a_port() {
    drop(TcpListener::bind("127.0.0.1:18231"));
}

#[test]
fn takes_the_same_port() {
    drop(TcpListener::bind("127.0.0.1:18231"));
}

#[test]
fn takes_any_port() {
    TcpListener::bind("127.0.0.1:0").unwrap();
}

#[test]
fn is_traced_at_the_level_process() {
    assert_eq!(1 + 1, 2);
}
"#;

const SETTINGS: &str = "[[profile.default.overrides]]\n\
    filter = \"test(is_traced_at_the_level_process)\"\n\
    trace = \"process\"\n";

struct Suite {
    scene: Scene,
    package: PathBuf,
}

impl Suite {
    fn new() -> Self {
        Self::of(SUITE)
    }

    fn of(tests: &str) -> Self {
        let scene = Scene::new();
        scene.write("suite/tests/clash.rs", tests);
        scene.write("suite/data.txt", "data");
        scene.write("suite/.config/harness.toml", SETTINGS);
        let package = scene.package("suite", "");
        Self { scene, package }
    }

    fn harness(&self, args: &[&str]) -> Finished {
        let mut command = self.scene.harness_in(&self.package, args);
        command.env("HOME", self.scene.path("home"));
        self.scene.run(command)
    }

    #[track_caller]
    fn answers(&self, args: &[&str], tests: &[&str]) -> Finished {
        let run = self.harness(args);
        run.assert_code(exit_code::OK);
        let found: Vec<&str> = run.stdout.lines().collect();
        assert_eq!(found.len(), tests.len(), "{}", run.stdout);
        for (line, test) in found.iter().zip(tests) {
            assert!(line.starts_with(&format!("suite::clash {test} ")), "{line}");
        }
        run
    }
}

#[test]
fn the_tests_that_use_something_are_named_and_those_that_are_not_known() {
    let suite = Suite::new();
    suite
        .harness(&["who-reads", "x"])
        .assert_code(exit_code::SETUP);
    // Nothing is known, so all tests are selected.
    let run = suite.harness(&["run", "--no-fail-fast", "--touching", "data.txt"]);
    run.assert_code(exit_code::OK)
        .assert_says("so all tests are selected");
    run.assert_says("10 tests run: 10 passed");

    let unknown = "1 test has no complete trace, so they are unknown: suite::clash \
                   is_traced_at_the_level_process (the level `process` does not see files)";
    for path in ["data.txt", "*.txt", "../suite/data.txt"] {
        let run = suite.answers(&["who-reads", path], &["runs_a_child_that_reads"]);
        assert!(
            run.stdout.contains("read data.txt  (openat at "),
            "{}",
            run.stdout
        );
        run.assert_says(unknown)
            .assert_says("traced without look-ups");
    }
    let run = suite.answers(&["who-reads", "~/.suiterc"], &["reads_the_home"]);
    assert!(
        run.stdout.contains("found absent ~/.suiterc"),
        "{}",
        run.stdout
    );
    suite.answers(&["who-connects", "9"], &["connects_in_vain"]);
    suite.answers(&["who-connects", "localhost:9"], &["connects_in_vain"]);
    suite.answers(&["who-runs", "cat"], &["runs_a_child_that_reads"]);
    let run = suite.answers(&["who-writes", "data.txt"], &[]);
    run.assert_says("none of 9 tests with a whole trace did");
    for wrong in [
        ["who-reads", ""],
        ["who-reads", "a["],
        ["who-connects", "nowhere"],
        ["who-runs", ""],
    ] {
        suite.harness(&wrong).assert_code(exit_code::USAGE);
    }
    let run = suite.harness(&["who-reads", "data.txt", "--json"]);
    let lines: Vec<serde_json::Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["uses"][0]["how"], "read");
    assert_eq!(lines[0]["uses"][0]["root"], "workspace");
    assert_eq!(lines[0]["complete"], true);
    assert_eq!(lines[1]["answer"], "unknown");

    // The one that reads it, and the one whose trace does not see files.
    let run = suite.harness(&["run", "--touching", "data.txt"]);
    run.assert_code(exit_code::OK)
        .assert_says("1 test touched it when traced last, 1 may, 8 did not and are left out");
    run.assert_says("2 tests run: 2 passed, 8 skipped");
    let run = suite.harness(&["list", "--touching", "data.txt", "--touching", "~/.suiterc"]);
    run.assert_code(exit_code::OK);
    assert_eq!(run.stdout.lines().count(), 3, "{}", run.stdout);
}

#[test]
fn the_pairs_that_clash_are_named_and_no_others() {
    let suite = Suite::new();
    let run = suite.harness(&["run", "--no-fail-fast", "-j1"]);
    run.assert_code(exit_code::OK);
    let pairs = |args: &[&str]| -> Vec<serde_json::Value> {
        let run = suite.harness(&[&["conflicts", "--json"], args].concat());
        run.assert_code(exit_code::OK);
        let lines = run.stdout.lines();
        lines.map(|it| serde_json::from_str(it).unwrap()).collect()
    };
    let names = |pairs: &[serde_json::Value]| -> Vec<[String; 2]> {
        let name = |pair: &serde_json::Value, party: &str| {
            pair[party]["test"]["name"].as_str().unwrap().to_owned()
        };
        let pairs = pairs.iter();
        pairs
            .map(|it| [name(it, "one"), name(it, "other")])
            .collect()
    };
    let all = pairs(&[]);
    assert_eq!(
        names(&all),
        [
            ["takes_a_port", "takes_the_same_port"],
            ["shares_a_folder_as_one", "shares_a_folder_as_two"]
        ]
    );
    // They ran one after the other.
    assert_eq!(all[0]["sure"], "same-address");
    assert_eq!(all[1]["sure"], "could");
    let one = &all[1]["clashes"][0];
    assert!(
        one["path"].as_str().unwrap().ends_with("shared/one"),
        "{one}"
    );
    assert_eq!(one["other"][0]["how"], "removed");
    assert_eq!(names(&pairs(&["takes_a"])).len(), 1);

    let run = suite.harness(&["conflicts"]);
    run.assert_code(exit_code::OK);
    run.assert_says("2 pairs of 10 tests compared, 0 met")
        .assert_says("folder-that-stays 1");
    assert!(
        run.stdout.contains("    127.0.0.1:18231: bound at "),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains("could meet: in their run they did not"),
        "{}",
        run.stdout
    );
}

/// Tests that fail if the other one is there: each waits a while for it. Alone they pass.
const MEETING: &str = r#"
use std::{fs, path::Path, thread::sleep, time::{Duration, Instant}};

fn meets(own: &str, other: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("meeting");
    fs::create_dir_all(&folder).unwrap();
    let _ = fs::remove_file(folder.join(own));
    fs::write(folder.join(own), own).unwrap();
    let start = Instant::now();
    let mut met = false;
    while !met && start.elapsed() < Duration::from_millis(200) {
        met = fs::File::open(folder.join(other)).is_ok();
        sleep(Duration::from_millis(1));
    }
    // The other one sees it as well.
    sleep(Duration::from_millis(50));
    fs::remove_file(folder.join(own)).unwrap();
    assert!(!met);
}

#[test]
fn meets_two() {
    meets("one", "two");
}

#[test]
fn meets_one() {
    meets("two", "one");
}
"#;

#[test]
fn a_pair_is_confirmed_by_running_it_and_kept_apart_by_the_learnt_group() {
    let suite = Suite::of(MEETING);
    suite.harness(&["run", "-j1"]).assert_code(exit_code::OK);
    let run = suite.harness(&["conflicts", "--confirm", "--json"]);
    run.assert_code(exit_code::OK)
        .assert_says("1 pair is run, each at most 60 times together");
    let pair: serde_json::Value = serde_json::from_str(run.stdout.trim()).unwrap();
    assert_eq!(pair["tried"]["confirmed"], true, "{pair}");
    assert_eq!(pair["tried"]["alone"]["failed"], 0, "{pair}");
    // Those runs are no runs of the user.
    let runs = suite.harness(&["runs", "-T", "json"]);
    assert_eq!(runs.stdout.lines().count(), 1, "{}", runs.stdout);
    suite.scene.assert_no_strays();

    let run = suite.harness(&["conflicts", "--learn-locks"]);
    run.assert_code(exit_code::OK)
        .assert_says("has 2 tests for 1 pair: one after the other they take");
    suite.scene.write("suite/.config/harness.toml", &run.stdout);
    let run = suite.harness(&["run", "-j2", "--stress-count", "3"]);
    run.assert_code(exit_code::OK);
}

#[test]
fn what_is_not_the_tests_own_is_ranked_and_unknown_tests_are_named() {
    let suite = Suite::new();
    suite.harness(&["run"]).assert_code(exit_code::OK);
    let ranked = suite.harness(&["hermetic"]);
    ranked.assert_code(exit_code::OK);
    let home = "home: the home folder was read, or asked for files, by 1 test\n  ~/.suiterc  (suite::clash reads_the_home)";
    assert!(ranked.stdout.contains(home), "{}", ranked.stdout);
    assert!(!ranked.stdout.contains("data.txt"), "{}", ranked.stdout);
    assert!(!ranked.stdout.contains("suite-"), "{}", ranked.stdout);
    ranked.assert_says("is_traced_at_the_level_process");
    let one = suite.harness(&["hermetic", "reads_the_home", "--json"]);
    let line: serde_json::Value = serde_json::from_str(&one.stdout).expect("it is one object");
    assert_eq!(line["class"], "home");
    assert_eq!(line["how"], "missing");
    suite
        .harness(&["hermetic", "no_such"])
        .assert_code(exit_code::SETUP);
}
