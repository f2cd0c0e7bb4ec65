//! The messages of libtest, as programs read them.

use crate::scene::{Finished, Scene, skip};
use harness_metadata::exit_code;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TESTS: &str = r#"
#[test]
fn passes() {}

#[test]
fn fails() {
    println!("said \"this\"");
    eprintln!("and \x1b[31mthat\x1b[0m");
    panic!("boom");
}

#[test]
#[ignore = "needs a disk"]
fn ignored() {}

#[test]
#[should_panic]
fn does_not_panic() {}
"#;

const OTHERS: &str = r#"
#[test]
fn a() {}

#[test]
#[ignore]
fn b() {}

#[test]
fn c() {
    std::thread::sleep(std::time::Duration::from_secs(600));
}
"#;

/// Two binaries: one test fails twice, one runs out of time.
fn package(scene: &Scene) -> PathBuf {
    let folder = scene.package("sent", TESTS);
    fs::create_dir(folder.join("tests")).expect("the folder is new");
    fs::write(folder.join("tests/other.rs"), OTHERS).expect("it can be written");
    scene.write(
        "sent/.config/harness.toml",
        "[profile.default]\nretries = 1\nfail-fast = false\n\n\
         [[profile.default.overrides]]\nfilter = \"test(=c)\"\nretries = 0\n\
         slow-timeout = { period = \"1s\", terminate-after = 1 }\n",
    );
    folder
}

fn run(scene: &Scene, folder: &Path, more: &[&str]) -> Finished {
    let mut command = scene.harness_in(folder, &["run", "--no-fail-fast"]);
    command.args(more);
    let run = scene.run(command);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    run
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("lines of JSON")
}

/// The messages of a suite, between its start and its end.
fn suites(messages: &[Value]) -> Vec<&[Value]> {
    let is_end = |it: &Value| it["type"] == "suite" && it["event"] != "started";
    messages.split_inclusive(is_end).collect()
}

/// Returns how each test ended, after a look at whether the messages of a suite go together.
fn ends(suite: &[Value]) -> BTreeMap<&str, &str> {
    let [start, tests @ .., end] = suite else {
        panic!("{suite:?}")
    };
    assert_eq!(
        (&start["type"], &start["event"]),
        (&"suite".into(), &"started".into())
    );
    let mut ends = BTreeMap::new();
    let mut running = Vec::new();
    for test in tests {
        assert_eq!(test["type"], "test", "{test}");
        let name = test["name"].as_str().expect("a test has a name");
        match test["event"].as_str().expect("a message has an event") {
            "started" => running.push(name),
            event => {
                let at = running.iter().position(|it| *it == name);
                running.remove(at.unwrap_or_else(|| panic!("{name} was not started")));
                assert_eq!(ends.insert(name, event), None, "{name} ended twice");
            }
        }
    }
    assert_eq!(running, [""; 0]);
    let count = |event: &str| ends.values().filter(|it| **it == event).count() as u64;
    assert_eq!(start["test_count"], ends.len() as u64);
    assert_eq!(end["passed"], count("ok"));
    assert_eq!(end["failed"], count("failed"));
    assert_eq!(end["ignored"], count("ignored"));
    let word = if count("failed") == 0 { "ok" } else { "failed" };
    assert_eq!(end["event"], word);
    ends
}

#[test]
fn each_binary_is_one_suite_with_one_end_for_each_test() {
    let scene = Scene::new();
    let folder = package(&scene);
    let plain = run(&scene, &folder, &["--message-format", "libtest-json"]);
    assert!(plain.stderr.contains("Summary"), "{}", plain.stderr);
    let messages = lines(&plain.stdout);
    let suites = suites(&messages);
    assert_eq!(suites.len(), 2, "{}", plain.stdout);
    let all: BTreeMap<_, _> = suites.iter().flat_map(|suite| ends(suite)).collect();
    let expected = [
        ("sent::other$a", "ok"),
        ("sent::other$b", "ignored"),
        ("sent::other$c", "failed"),
        ("sent::sent$does_not_panic", "failed"),
        ("sent::sent$fails", "failed"),
        ("sent::sent$ignored", "ignored"),
        ("sent::sent$passes", "ok"),
    ];
    assert_eq!(all, expected.into());
    let end = |name: &str| {
        let mut ends = messages.iter().filter(|it| it["event"] != "started");
        ends.find(|it| it["name"] == name).unwrap()
    };
    let failed = end("sent::sent$fails");
    let stdout = failed["stdout"].as_str().unwrap();
    assert!(stdout.contains("said \"this\"\n"), "{stdout}");
    assert!(stdout.contains("and that\n"), "{stdout}");
    assert_eq!(failed["message"], "boom");
    assert!(failed["exec_time"].is_number());
    assert_eq!(end("sent::sent$ignored")["message"], "needs a disk");
    assert_eq!(end("sent::other$c")["reason"], "time limit exceeded");
    let panic = end("sent::sent$does_not_panic")["message"].as_str();
    assert!(panic.unwrap().contains("did not panic"), "{panic:?}");
}

#[test]
fn a_suite_of_the_other_form_says_which_binary_it_is() {
    let scene = Scene::new();
    let folder = package(&scene);
    let mut command = scene.harness_in(&folder, &["run", "-E", "binary(other) - test(=c)"]);
    command.env("NEXTEST_MESSAGE_FORMAT", "libtest-json-plus");
    let plus = scene.run(command);
    plus.assert_code(exit_code::OK);
    let messages = lines(&plus.stdout);
    let (start, end) = (&messages[0], &messages[messages.len() - 1]);
    let binary = serde_json::json!({"crate": "sent", "test_binary": "other", "kind": "test"});
    assert_eq!((&start["nextest"], &end["nextest"]), (&binary, &binary));
    assert_eq!(ends(&messages)["sent::other$b"], "ignored");
    // `c` was not asked for.
    assert_eq!(end["filtered_out"], 1);

    let all = &["run", "--run-ignored", "all", "-E", "test(=b)"];
    let mut command = scene.harness_in(&folder, all);
    command.args(["--message-format", "libtest-json"]);
    let messages = lines(&scene.run(command).stdout);
    assert_eq!(ends(&messages), [("sent::other$b", "ok")].into());
}

#[test]
fn each_iteration_of_a_stress_run_has_its_suites() {
    let scene = Scene::new();
    let folder = package(&scene);
    let twice = [
        "run",
        "--stress-count",
        "2",
        "-E",
        "binary(other) & test(=a)",
    ];
    let mut command = scene.harness_in(&folder, &twice);
    command.args(["--message-format", "libtest-json-plus"]);
    let messages = lines(&scene.run(command).stdout);
    let suites = suites(&messages);
    assert_eq!(suites.len(), 2, "{messages:?}");
    for (number, suite) in suites.into_iter().enumerate() {
        let binary = &suite[0]["nextest"];
        assert_eq!(
            (&binary["stress_index"], &binary["stress_total"]),
            (&number.into(), &2.into())
        );
        let name = |test: &str| format!("sent::other@stress-{number}${test}");
        let (ran, ignored) = (name("a"), name("b"));
        let expected = [(ran.as_str(), "ok"), (ignored.as_str(), "ignored")];
        assert_eq!(ends(suite), expected.into());
    }
}

#[test]
fn a_version_of_the_messages_that_is_unknown_is_named() {
    let scene = Scene::new();
    let folder = scene.package("sent", TESTS);
    let mut command = scene.harness_in(&folder, &["run", "--message-format", "libtest-json"]);
    command.args(["--message-format-version", "0.2"]);
    let run = scene.run(command);
    run.assert_code(exit_code::USAGE);
    assert!(run.stderr.contains("0.1"), "{}", run.stderr);
}

#[test]
fn cargo2junit_reads_the_messages() {
    let name = "cargo2junit_reads_the_messages";
    let scene = Scene::new();
    let folder = package(&scene);
    let run = run(&scene, &folder, &["--message-format", "libtest-json"]);
    fs::write(scene.path("messages"), &run.stdout).unwrap();
    let mut reader = Command::new("cargo2junit");
    reader.stdin(fs::File::open(scene.path("messages")).unwrap());
    let Ok(output) = reader.output() else {
        return skip(name, "cargo2junit is not installed");
    };
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    assert_eq!(report.matches("<testcase ").count(), 7, "{report}");
    assert_eq!(report.matches("<failure ").count(), 3, "{report}");
    assert!(report.contains("boom"), "{report}");
}
