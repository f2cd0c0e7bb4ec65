//! Passes that are used again: each class of inputs, what rules reuse out, and what is said about it.

use crate::{
    environment::installed,
    scene::{Finished, Scene, skip},
};
use harness_metadata::exit_code;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::Command,
};

/// A test for each class of inputs.
const INPUTS: &str = r#"
use std::{fs, io::{Read, Write}, net::{TcpListener, TcpStream}, path::{Path, PathBuf}, process::Command};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

#[test]
fn reads_a_file() {
    assert_eq!(fs::read_to_string(data("read.txt")).unwrap(), "right");
}

#[test]
fn has_a_child_that_reads() {
    let output = Command::new("cat").arg(data("child.txt")).output().unwrap();
    assert_eq!(output.stdout, b"right");
}

#[test]
fn asks_for_a_file_that_is_not_there() {
    assert!(!data("absent.txt").exists());
}

#[test]
fn lists_a_folder() {
    assert_eq!(fs::read_dir(data("list")).unwrap().count(), 1);
}

#[test]
fn follows_a_link() {
    assert_eq!(fs::read_to_string(data("link")).unwrap(), "right");
}

#[test]
fn asks_for_metadata() {
    assert_eq!(fs::metadata(data("asked.txt")).unwrap().len(), 5);
}

#[test]
fn runs_a_script() {
    assert!(Command::new(data("script.sh")).status().unwrap().success());
}

#[test]
fn computes() {
    assert_eq!(1 + 1, 2);
}

#[test]
fn has_a_folder_of_its_own() {
    let folder = std::env::temp_dir().join(format!("own-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x"), "x").unwrap();
    fs::OpenOptions::new().append(true).open(folder.join("x")).unwrap().write_all(b"y").unwrap();
    assert_eq!(fs::read_to_string(folder.join("x")).unwrap(), "xy");
    fs::rename(folder.join("x"), folder.join("z")).unwrap();
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn leaves_a_file() {
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("left.txt"), "left").unwrap();
}

#[test]
fn is_its_own_server() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    server.accept().unwrap().0.write_all(b"x").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
}

#[test]
fn always_connects() {
    assert!(TcpStream::connect("127.0.0.1:9").is_err());
}

#[test]
fn always_appends() {
    let log = fs::OpenOptions::new().append(true).open(data("log.txt"));
    log.unwrap().write_all(b"x").unwrap();
}

#[test]
fn always_asks_for_the_load() {
    fs::read("/proc/loadavg").unwrap();
}
"#;

/// Those that always run, with a part of the reason.
const ALWAYS: [(&str, &str); 3] = [
    ("always_appends", "it writes to `"),
    (
        "always_asks_for_the_load",
        "`/proc/loadavg`, which is another at each look",
    ),
    ("always_connects", "it connected to `127.0.0.1:9`"),
];

struct Suite {
    scene: Scene,
    package: PathBuf,
}

impl Suite {
    fn new(tests: &str) -> Self {
        let scene = Scene::new();
        scene.write("suite/tests/it.rs", tests);
        for file in ["read", "child", "asked", "target", "list/one", "log"] {
            scene.write(&format!("suite/data/{file}.txt"), "right");
        }
        scene.write("suite/data/script.sh", "#!/bin/sh\nexit 0\n");
        let package = scene.package("suite", "");
        let script = package.join("data/script.sh");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is there");
        symlink("target.txt", package.join("data/link")).expect("it can be made");
        Self { scene, package }
    }

    fn harness(&self, args: &[&str]) -> Finished {
        let mut command = self.scene.harness_in(&self.package, args);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_CONFIG_SYSTEM", "/dev/null");
        self.scene.run(command)
    }

    fn write(&self, file: &str, text: &str) {
        self.scene.write(&format!("suite/{file}"), text);
    }

    /// Returns the decision and the reason for each test, by its name.
    fn plan(&self, args: &[&str]) -> BTreeMap<String, (String, String)> {
        let plan = self.harness(&[&["plan", "--json"], args].concat());
        plan.assert_code(exit_code::OK);
        let rows = plan.stdout.lines().map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            (
                text(&row["test"]["name"]),
                (text(&row["decision"]), text(&row["reason"])),
            )
        });
        rows.collect()
    }

    /// Returns the names of tests that would run, without those that always do.
    fn runs(&self, args: &[&str]) -> Vec<String> {
        let plan = self.plan(args).into_iter();
        let runs = plan.filter(|(_, (decision, _))| decision == "run");
        let names = runs.map(|(name, _)| name);
        names.filter(|name| !name.starts_with("always_")).collect()
    }
}

#[test]
fn each_class_of_inputs_selects_its_test_when_it_changes_and_not_when_it_is_touched() {
    let suite = Suite::new(INPUTS);
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK)
        .assert_says("14 tests run: 14 passed, 0 skipped");
    let plan = suite.plan(&[]);
    for (name, reason) in ALWAYS {
        let (decision, why) = &plan[name];
        assert!(
            decision == "run" && why.contains(reason),
            "{name}: {decision}: {why}"
        );
    }
    assert_eq!(suite.runs(&[]), Vec::<String>::new(), "{plan:#?}");

    let cases = [
        ("data/read.txt", "right", "reads_a_file"),
        ("data/child.txt", "right", "has_a_child_that_reads"),
        ("data/asked.txt", "right", "asks_for_metadata"),
        ("data/target.txt", "right", "follows_a_link"),
        ("data/script.sh", "#!/bin/sh\nexit 0\n", "runs_a_script"),
    ];
    for (file, content, test) in cases {
        // The same content at another time.
        suite.write(file, content);
        assert_eq!(suite.runs(&[]), Vec::<String>::new(), "{file}");
        suite.write(file, "#wrong");
        assert_eq!(suite.runs(&[]), [test], "{file}");
        let (_, why) = &suite.plan(&[])[test];
        assert!(
            why.ends_with(&format!("`{file}` has changed")) || file.contains("target"),
            "{why}"
        );
        suite.write(file, content);
    }
    suite.write("data/absent.txt", "");
    assert_eq!(suite.runs(&[]), ["asks_for_a_file_that_is_not_there"]);
    fs::remove_file(suite.package.join("data/absent.txt")).expect("it is there");

    suite.write("data/list/two.txt", "");
    assert_eq!(suite.runs(&[]), ["lists_a_folder"]);
    fs::remove_file(suite.package.join("data/list/two.txt")).expect("it is there");

    let link = suite.package.join("data/link");
    fs::remove_file(&link).expect("it is there");
    symlink("read.txt", &link).expect("it can be made");
    assert_eq!(suite.runs(&[]), ["follows_a_link"]);
    fs::remove_file(&link).expect("it is there");
    symlink("target.txt", &link).expect("it can be made");

    let script = suite.package.join("data/script.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).expect("it is there");
    assert_eq!(suite.runs(&[]), ["runs_a_script"]);
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is there");
    assert_eq!(suite.runs(&[]), Vec::<String>::new());

    // All that a test has left is there, as it has left it.
    let left = suite.package.join("target/tmp/left.txt");
    fs::write(&left, "edited").expect("it is there");
    assert_eq!(suite.runs(&[]), ["leaves_a_file"]);
    fs::remove_file(&left).expect("it is there");
    assert_eq!(suite.runs(&[]), ["leaves_a_file"]);
}

#[test]
fn the_environment_the_settings_and_the_binary_are_part_of_what_a_pass_rests_on() {
    let suite = Suite::new("#[test]\nfn computes() {}\n");
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK);
    assert_eq!(suite.runs(&[]), Vec::<String>::new());
    let plan = |name: &str| {
        let mut command = suite.scene.harness_in(&suite.package, &["plan"]);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_CONFIG_SYSTEM", "/dev/null");
        command.env(name, "1");
        let plan = suite.scene.run(command);
        plan.assert_code(exit_code::OK);
        plan.stdout
    };
    let new = plan("OF_THE_TEST");
    assert!(new.contains("the variable `OF_THE_TEST` is new"), "{new}");
    assert!(plan("SHLVL").contains("cached"));
    suite.write(
        ".config/harness.toml",
        "[profile.default.reuse]\nignore-environment = [\"OF_*\"]\n",
    );
    assert!(plan("OF_THE_TEST").contains("cached"));
    suite.write(
        ".config/harness.toml",
        "[profile.default]\nrun-extra-args = [\"--test-threads=1\"]\n",
    );
    let (_, why) = &suite.plan(&[])["computes"];
    assert_eq!(why, "its command or its settings have changed");
    fs::remove_file(suite.package.join(".config/harness.toml")).expect("it is there");
    suite.write(
        "tests/it.rs",
        "#[test]\nfn computes() { assert_eq!(1 + 1, 2); }\n",
    );
    let (_, why) = &suite.plan(&[])["computes"];
    assert!(
        why == "its test binary has changed" || why.starts_with("`it::computes"),
        "{why}"
    );
    // A renamed test is a new one.
    suite.write("tests/it.rs", "#[test]\nfn computes_more() {}\n");
    let (_, why) = &suite.plan(&[])["computes_more"];
    assert_eq!(why, "no pass of it is stored");
}

#[test]
fn a_changed_file_that_a_test_or_its_child_reads_fails_the_next_run() {
    let suite = Suite::new(INPUTS);
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK);
    suite
        .harness(&["run", "--cached", "--audit", "0%"])
        .assert_code(exit_code::OK)
        .assert_says("3 tests run: 3 passed, 0 skipped, 11 cached");
    suite.write("data/read.txt", "wrong");
    suite.write("data/child.txt", "wrong");
    suite
        .harness(&["run", "--cached", "--audit", "0%", "--no-fail-fast"])
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("5 tests run: 3 passed, 2 failed, 0 skipped, 9 cached");
    // A failure is not used again.
    assert_eq!(suite.runs(&[]), ["has_a_child_that_reads", "reads_a_file"]);
    // Cached tests have passed.
    suite
        .harness(&["run", "--rerun", "latest", "--no-fail-fast"])
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("2 tests run: 0 passed, 2 failed");
    suite.write("data/read.txt", "right");
    suite.write("data/child.txt", "right");
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK);
    assert_eq!(suite.runs(&[]), Vec::<String>::new());
}

#[test]
fn a_file_that_changes_during_a_run_is_no_input_of_a_pass() {
    let suite = Suite::new(
        r#"
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/log.txt");
#[test]
fn a_reads() { std::fs::read(FILE).unwrap(); }
#[test]
fn b_writes() { std::fs::write(FILE, "left").unwrap(); }
#[test]
fn c_reads() { std::fs::read(FILE).unwrap(); }
"#,
    );
    suite.write(
        ".config/harness.toml",
        "[profile.default]\ntest-threads = 1\n",
    );
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK);
    let plan = suite.plan(&[]);
    let (decision, reason) = &plan["a_reads"];
    assert_eq!(decision, "run");
    // It was looked at before the change or after it: it differs now, or is no input that is known.
    assert!(reason.contains("log.txt"), "{reason}");
}

#[test]
fn reuse_is_said_in_all_reports() {
    let suite = Suite::new("#[test]\nfn one() {}\n#[test]\nfn two() {}\n");
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK);
    let report = |name: &str| suite.scene.path(name).to_str().expect("UTF-8").to_owned();
    let (junit, events, html) = (report("junit.xml"), report("events"), report("page.html"));
    let run = suite.harness(&[
        "run", "--cached", "--audit", "0%", "--junit", &junit, "--events", &events, "--html", &html,
    ]);
    run.assert_code(exit_code::OK)
        .assert_says("2 tests cached: nothing has changed since they passed")
        .assert_says("0 tests run: 0 passed, 0 skipped, 2 cached")
        .assert_says("CACHED")
        .assert_says("suite::it one");
    let read = |path: &str| fs::read_to_string(path).expect("the report was written");
    let junit = read(&junit);
    assert_eq!(junit.matches("name=\"cached\"").count(), 2, "{junit}");
    assert!(junit.contains("tests=\"2\""), "{junit}");
    let events = read(&events);
    assert_eq!(
        events.matches("\"event\":\"test-cached\"").count(),
        2,
        "{events}"
    );
    assert!(events.contains("\"cached_tests\":2"), "{events}");
    assert!(read(&html).len() > 1_000);
    let plan = suite.harness(&["plan"]);
    plan.assert_code(exit_code::OK)
        .assert_says("0 of 2 tests would run");
}

#[test]
fn a_sample_of_the_tests_that_need_not_run_runs_all_the_same() {
    let suite = Suite::new("#[test]\nfn one() {}\n#[test]\nfn two() {}\n");
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK);
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK)
        .assert_says("1 test run: 1 passed, 0 skipped, 1 cached")
        .assert_says("1 test ran as a sample, and nothing differed");
    suite
        .harness(&["run", "--cached", "--audit", "100%"])
        .assert_code(exit_code::OK)
        .assert_says("2 tests ran as a sample, and nothing differed");
    suite
        .harness(&["run", "--cached", "--audit", "101%"])
        .assert_code(exit_code::USAGE)
        .assert_says("`101%` is no part such as `5%`");
}

#[test]
fn a_test_that_passes_and_fails_with_the_same_inputs_is_not_used_again() {
    // The process id decides, as chance would.
    let source = "#[test]\nfn tosses() { assert!(std::process::id() % 2 == 0, \"odd\"); }\n";
    let suite = Suite::new(source);
    let until = |code: i32| {
        // All of the tests that need not run are in the sample.
        let mut runs = (0..200).map(|_| suite.harness(&["run", "--cached", "--audit", "100%"]));
        runs.find(|run| run.status.code() == Some(code))
            .expect("it tosses")
    };
    until(exit_code::OK);
    let failed = until(exit_code::TEST_RUN_FAILED);
    failed.assert_says("reuse is off for `suite::it tosses` until its binary changes");
    failed.assert_says("when it was run as a sample, it did not pass");
    until(exit_code::OK);
    let (decision, why) = &suite.plan(&[])["tosses"];
    assert_eq!(decision, "run");
    assert!(
        why.starts_with("reuse is off for it until its binary changes"),
        "{why}"
    );
}

#[test]
fn why_leads_from_the_test_to_what_has_changed() {
    let suite = Suite::new(INPUTS);
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK);
    let why = suite.harness(&["why", "has_a_child_that_reads"]);
    why.assert_code(exit_code::OK);
    assert!(
        why.stdout
            .contains("cached suite::it has_a_child_that_reads"),
        "{}",
        why.stdout
    );
    suite.write("data/child.txt", "a longer text");
    let why = suite.harness(&["why", "has_a_child"]);
    why.assert_code(exit_code::OK);
    for expected in [
        "run suite::it has_a_child_that_reads: `data/child.txt` has changed",
        "then: a file of 5 bytes with the content ",
        "now: a file of 13 bytes with the content ",
        " → cat ",
        "data/child.txt → openat",
    ] {
        assert!(why.stdout.contains(expected), "{expected}: {}", why.stdout);
    }
    suite
        .harness(&["why", "no_such_test"])
        .assert_code(exit_code::SETUP)
        .assert_says("no_such_test");
    suite
        .harness(&["why", "always"])
        .assert_code(exit_code::SETUP)
        .assert_says("`always` may be any of 3 tests");
}

#[test]
fn readers_store_nothing_and_a_damaged_ledger_runs_all() {
    let suite = Suite::new("#[test]\nfn one() {}\n");
    suite
        .harness(&["run", "--cached", "--cache-read-only"])
        .assert_code(exit_code::OK);
    assert_eq!(suite.runs(&[]), ["one"]);
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK);
    let ledger = suite.package.join("target/harness/reuse/ledger");
    let stored = fs::read(&ledger).expect("it is there");
    suite
        .harness(&["run", "--cached", "--cache-read-only", "--audit", "0%"])
        .assert_code(exit_code::OK)
        .assert_says("0 tests run: 0 passed, 0 skipped, 1 cached");
    assert_eq!(fs::read(&ledger).expect("it is there"), stored);
    let mut other = stored.clone();
    other[8] = 99;
    fs::write(&ledger, other).expect("it can be written");
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK)
        .assert_says("was written by another version of cargo harness, so all tests run")
        .assert_says("1 test run: 1 passed");
    // It has been replaced.
    assert_eq!(suite.runs(&[]), Vec::<String>::new());
}

#[test]
fn what_changed_since_a_revision_affects_the_tests_that_asked_for_it() {
    const NAME: &str = "what_changed_since_a_revision_affects_the_tests_that_asked_for_it";
    if !installed("git", &["--version"]) {
        return skip(NAME, "git is not installed");
    }
    let suite = Suite::new(INPUTS);
    let git = |args: &[&str]| {
        let mut command: Command = suite.scene.command("git");
        command.current_dir(&suite.package).args(args);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_CONFIG_SYSTEM", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "x");
            command.env(format!("GIT_{role}_EMAIL"), "x@example.com");
        }
        suite.scene.run(command).assert_code(0);
    };
    suite.write(".gitignore", "target\n");
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "first"]);
    suite
        .harness(&["run", "--cached"])
        .assert_code(exit_code::OK);
    git(&["checkout", "-q", "data/log.txt"]);
    assert_eq!(suite.runs(&["--affected"]), Vec::<String>::new());
    suite.write("data/read.txt", "wrong");
    suite.write("README.md", "no test reads it");
    // Neither is committed.
    assert_eq!(suite.runs(&["--affected"]), ["reads_a_file"]);
    git(&["checkout", "-q", "-b", "topic"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "second"]);
    assert_eq!(suite.runs(&["--affected=main"]), ["reads_a_file"]);
    assert_eq!(suite.runs(&["--affected=topic"]), Vec::<String>::new());
    suite
        .harness(&["run", "--affected=main", "--no-fail-fast"])
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("1 failed, 0 skipped, 10 cached");
    suite
        .harness(&["plan", "--affected=nowhere"])
        .assert_code(exit_code::SETUP)
        .assert_says("`nowhere` is no revision");
    suite.write("rust-toolchain.toml", "");
    let (_, why) = &suite.plan(&["--affected=topic"])["computes"];
    assert_eq!(
        why,
        "`rust-toolchain.toml` has changed: it is a rule of the build"
    );
}

#[test]
fn flags_that_change_what_a_test_sees_rule_reuse_out() {
    let suite = Suite::new("#[test]\nfn one() {}\n");
    suite
        .harness(&["run", "--cached", "--no-capture"])
        .assert_code(exit_code::USAGE)
        .assert_says("`--cached` cannot be used with `--no-capture`: tests see the terminal");
    suite.write(
        ".config/harness.toml",
        "[profile.default]\nreuse.mode = \"cached\"\n",
    );
    suite
        .harness(&["run", "--no-capture"])
        .assert_code(exit_code::OK)
        .assert_says("passes are neither stored nor used with `--no-capture`");
    suite.harness(&["run"]).assert_code(exit_code::OK);
    assert_eq!(suite.runs(&[]), Vec::<String>::new());
    suite
        .harness(&["run", "--no-cached"])
        .assert_code(exit_code::OK)
        .assert_says("1 test run: 1 passed, 0 skipped");
}
