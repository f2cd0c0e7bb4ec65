//! `cargo harness explain`: a failure against a pass.

use crate::scene::{Finished, Scene};
use harness_metadata::exit_code;
use std::{fs, path::PathBuf};

/// Tests that fail in their first attempt, each for another reason, and one that is the reason of another.
const SUITE: &str = r#"
use std::{env, fs, net::TcpListener, path::PathBuf, process::Command, thread, time::Duration};

fn first() -> bool {
    env::var("HARNESS_ATTEMPT").as_deref() == Ok("1")
}

fn shared(name: &str) -> PathBuf {
    PathBuf::from(env::var("SHARED").unwrap()).join(name)
}

fn wait_for(path: PathBuf) {
    while !path.exists() {
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn loses_its_state() {
    fs::write(shared("state"), "x").unwrap();
    fs::write(shared("written"), "").unwrap();
    if first() {
        wait_for(shared("removed"));
    }
    fs::read(shared("state")).unwrap();
}

#[test]
fn removes_the_state() {
    wait_for(shared("written"));
    fs::remove_file(shared("state")).unwrap();
    fs::write(shared("removed"), "").unwrap();
}

#[test]
fn has_a_child_that_fails() {
    let own = env::temp_dir().join(format!("own-{}", std::process::id()));
    fs::write(&own, "").unwrap();
    fs::remove_file(&own).unwrap();
    let code = if first() { "exit 3" } else { "exit 0" };
    assert!(Command::new("sh").args(["-c", code]).status().unwrap().success());
}

#[test]
fn rolls_dice() {
    fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/data.txt")).unwrap();
    let _socket = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(!first());
}

#[test]
fn reads_the_data() {
    let data = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/data.txt")).unwrap();
    assert_eq!(data, "one");
}
"#;

struct Suite {
    scene: Scene,
    package: PathBuf,
}

impl Suite {
    fn new() -> Self {
        let scene = Scene::new();
        scene.write("suite/tests/dice.rs", SUITE);
        scene.write("suite/data.txt", "one");
        scene.write("shared/.keep", "");
        let package = scene.package("suite", "");
        Self { scene, package }
    }

    fn harness(&self, args: &[&str]) -> Finished {
        let mut command = self.scene.harness_in(&self.package, args);
        command.env("SHARED", self.scene.path("shared"));
        self.scene.run(command)
    }

    #[track_caller]
    fn explained(&self, args: &[&str]) -> String {
        let run = self.harness(&[&["explain"], args].concat());
        run.assert_code(exit_code::OK);
        run.stdout + &run.stderr
    }
}

#[test]
fn a_failure_is_explained_by_what_was_answered_differently_when_the_test_passed() {
    let suite = Suite::new();
    let run = suite.harness(&["run", "-j4", "--retries", "1", "--trace", "full"]);
    run.assert_code(exit_code::OK).assert_says("3 flaky");

    let lost = suite.explained(&["loses_its_state"]);
    let words = [
        "failed: attempt 1 of run ",
        "passed: attempt 2 of the same run",
        "open to read ",
        "failed: ENOENT (No such file or directory), at ",
        "passed: worked",
        "s before that, suite::dice removes_the_state removed it",
    ];
    for word in words {
        assert!(lost.contains(word), "{word}: {lost}");
    }

    let child = suite.explained(&["has_a_child_that_fails"]);
    assert!(
        child.contains("the child ") && child.contains("/sh\n"),
        "{child}"
    );
    assert!(child.contains("failed: exited with 3, at "), "{child}");
    assert!(child.contains("passed: exited with 0"), "{child}");
    assert!(
        !child.contains("own-"),
        "names of its own files are no difference: {child}"
    );

    let dice = suite.explained(&["rolls_dice"]);
    let nothing = "Nothing in files, network or children differs, as far as the traces show.";
    assert!(dice.contains(nothing), "{dice}");
    assert!(dice.contains("time, randomness, scheduling"), "{dice}");

    let json = suite
        .harness(&["explain", "--json", "loses_its_state"])
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is an object");
    let differences = json["differences"].as_array().expect("it is a list");
    let causes: Vec<_> = differences
        .iter()
        .map(|it| &it["causes"][0]["test"]["name"])
        .collect();
    assert!(
        causes.contains(&&serde_json::json!("removes_the_state")),
        "{json}"
    );
    assert_eq!(json["lookups_traced"], true);

    // A file that was changed between two runs; the traces themselves do not differ.
    let data = suite.package.join("data.txt");
    fs::write(&data, "two").expect("it is ours");
    let run = suite.harness(&["run", "reads_the_data"]);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let changed = suite.explained(&[]);
    assert!(changed.contains("suite::dice reads_the_data"), "{changed}");
    assert!(
        changed.contains("read in both, and modified between them, at "),
        "{changed}"
    );
    assert!(changed.contains(": data.txt\n"), "{changed}");
    // Changed again, it says nothing about then.
    fs::write(&data, "one").expect("it is ours");
    let unknown = suite.explained(&[]);
    assert!(unknown.contains("modified or removed since"), "{unknown}");
    assert!(!unknown.contains("what is left is time"), "{unknown}");
}

#[test]
fn what_cannot_be_explained_is_said() {
    let suite = Suite::new();
    suite.harness(&["run", "rolls_dice", "--trace", "io"]);
    let wrong = |args: &[&str], text: &str| {
        let run = suite.harness(&[&["explain"], args].concat());
        run.assert_code(exit_code::SETUP).assert_says(text);
    };
    wrong(
        &["rolls_dice"],
        "no run is kept in which `suite::dice rolls_dice` passed and its files were traced",
    );
    wrong(
        &["no_such_test"],
        "no failed attempt of a test `no_such_test` is kept",
    );
    wrong(&["rolls_dice", "--against", "ffff"], "ffff");
    suite.harness(&["run", "rolls_dice", "--trace", "off"]);
    wrong(
        &["rolls_dice", "--run", "latest"],
        "no trace is kept of the failure of `suite::dice rolls_dice`",
    );
}

#[test]
fn a_condition_that_makes_a_test_fail_is_named() {
    let scene = Scene::new();
    let suite = r#"
        #[test]
        fn is_at_home() {
            let zone = std::env::var("TZ").unwrap_or_default();
            assert_ne!(zone, "Pacific/Kiritimati");
        }
    "#;
    scene.write("suite/tests/zone.rs", suite);
    let package = scene.package("suite", "");
    let harness = |args: &[&str]| {
        let mut command = scene.harness_in(&package, args);
        command.env_remove("TZ");
        scene.run(command)
    };
    harness(&["shake", "is_at_home"]).assert_code(exit_code::SETUP);
    harness(&["run"]).assert_code(exit_code::OK);
    let record = package.join("target/harness/history.cache");
    let before = fs::read(&record).expect("a run has written it");
    let run = harness(&["shake", "is_at_home", "--json"]);
    assert_eq!(
        before,
        fs::read(&record).expect("it is there"),
        "trials are no runs"
    );
    run.assert_code(exit_code::OK);
    let rows = run.stdout.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).expect("it is an object");
        let text = |key: &str| row[key].as_str().expect("it is a text").to_owned();
        (text("condition"), text("found"), row["failed"].clone())
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), 10, "{rows:?}");
    for (condition, found, failed) in rows {
        match condition.as_str() {
            "in another time zone" => {
                assert_eq!((found.as_str(), failed), ("more-often", 10.into()))
            }
            _ => assert_eq!(
                (found.as_str(), failed),
                ("unclear", 0.into()),
                "{condition}"
            ),
        }
    }
    let left = package.join("target/harness/trials");
    assert!(!left.exists(), "nothing is left of the runs");
}
