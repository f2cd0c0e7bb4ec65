//! Budgets: the run says which number was outside of which limit, where that is written, and what made the number up.

use crate::{html::details, scene::Scene};
use fixture_kit::results::{events, finished_tests};
use harness_metadata::{Attempt, Verdict, exit_code, metric::Number};
use std::{fs, path::PathBuf};

const SUITE: &str = r#"
#![cfg(test)]

use std::{env, fs, io::Write, process::Command};

fn record(line: &str) {
    let file = env::var_os("HARNESS_METRICS_FILE").expect("it is set");
    let mut file = fs::File::options().create(true).append(true).open(file).expect("it is opened");
    writeln!(file, "{line}").expect("it is written");
}

#[test]
fn measures_latency() {
    record("{\"name\":\"p99_us\",\"value\":1900,\"unit\":\"us\"}");
}

#[test]
fn starts_children() {
    for _ in 0..3 {
        assert!(Command::new("true").arg("child").status().expect("it starts").success());
    }
}

#[test]
fn opens_files() {
    for number in 0..40 {
        fs::read(format!("{}/data/{number:02}", env!("CARGO_MANIFEST_DIR"))).expect("it is read");
    }
}

#[test]
fn does_nothing() {}

#[test]
fn fails_by_itself() {
    panic!("this is the reason");
}
"#;

const BUDGETS: &str = "[profile.default]
fail-fast = false
[profile.default.budget]
rss = '4 GiB'
p99_us = { max = 1500 }
processes = { max = 2, result = 'warn' }
[[profile.default.overrides]]
filter = 'test(opens_files)'
budget = { 'files.opened' = 30 }
[profile.strict.budget]
p99_us = { max = 2000, required = true }
";

fn suite(scene: &Scene) -> PathBuf {
    scene.write("budgets/.config/harness.toml", BUDGETS);
    for number in 0..40 {
        scene.write(&format!("budgets/data/{number:02}"), "x");
    }
    scene.package("budgets", SUITE)
}

fn attempt(scene: &Scene, test: &str) -> Attempt {
    let mut finished = finished_tests(scene).into_iter();
    let test = finished.find(|finished| finished.test.name.as_str() == test);
    test.expect("it ran").attempts.pop().expect("it has one")
}

#[test]
fn a_budget_is_told_with_value_limit_place_and_what_the_trace_knows() {
    let scene = Scene::new();
    let package = suite(&scene);
    let mut command = scene.harness_in(&package, &["run", "--trace", "io"]);
    for report in ["--events", "--junit", "--html"] {
        command.arg(report).arg(scene.path(&report[2..]));
    }
    let run = scene.run(command);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    run.assert_says(
        "budget: `p99_us` is 1900 us, but may be 1500 us at most (.config/harness.toml:5)",
    );
    run.assert_says("`files.opened` is ");
    run.assert_says("/data/00, ");
    run.assert_says(
        "`processes` is 4, but may be 2 at most (.config/harness.toml:6), which is a warning",
    );
    run.assert_says("in 3 tests, `p99_us` is not judged (may be 1500 at most, .config/harness.toml:5): the test recorded no metric `p99_us`");
    assert!(!events(&scene).is_empty());

    let latency = attempt(&scene, "measures_latency");
    assert_eq!((latency.verdict, latency.budget.len()), (Verdict::Fail, 1));
    assert_eq!(latency.budget[0].value, Some(Number(1900.0)));
    let children = attempt(&scene, "starts_children");
    assert_eq!(children.verdict, Verdict::Pass);
    let processes = children.budget.iter().find(|it| it.name == "processes");
    let evidence = &processes.expect("it is outside").evidence;
    assert!(evidence[0].contains("true child"), "{evidence:?}");
    let files = attempt(&scene, "opens_files");
    let of_files = files
        .budget
        .iter()
        .find(|it| it.name == "files.opened")
        .expect("it is outside");
    assert!(
        files.verdict == Verdict::Fail && of_files.fails && of_files.line == 9,
        "{files:?}"
    );
    // A test that fails by itself has its own reason, and no doubts about numbers that it did not reach.
    let failed = attempt(&scene, "fails_by_itself");
    assert!(failed.budget.is_empty(), "{failed:?}");

    let junit = fs::read_to_string(scene.path("junit")).expect("it is written");
    assert!(junit.contains("type=\"test budget\""), "{junit}");
    assert!(
        junit.contains("test is outside of its budget: `p99_us` is 1900 us"),
        "{junit}"
    );
    assert!(
        junit.contains("name=\"budget\" value=\"`p99_us` is not judged"),
        "{junit}"
    );
    let html = details(&scene.path("html")).to_string();
    assert!(html.contains("budget: `p99_us` is 1900 us"), "{html}");
    scene.assert_no_strays();
}

#[test]
fn without_a_trace_a_budget_on_files_is_a_doubt_and_one_that_is_required_fails() {
    let scene = Scene::new();
    let package = suite(&scene);
    let untraced = [
        "run",
        "--trace",
        "off",
        "-E",
        "test(opens_files)",
        "--events",
    ];
    let mut command = scene.harness_in(&package, &untraced);
    command.arg(scene.path("events"));
    let run = scene.run(command);
    run.assert_code(exit_code::OK);
    run.assert_says("`files.opened` is not judged (may be 30 at most, .config/harness.toml:9): the test was not traced");
    let files = attempt(&scene, "opens_files");
    assert_eq!(files.verdict, Verdict::Pass);
    assert!(
        files
            .budget
            .iter()
            .any(|it| it.name == "files.opened" && it.value.is_none()),
        "{files:?}"
    );

    let strict = [
        "run",
        "-P",
        "strict",
        "-E",
        "test(measures) + test(does_nothing)",
        "--events",
    ];
    let mut command = scene.harness_in(&package, &strict);
    command.arg(scene.path("events"));
    let run = scene.run(command);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    assert_eq!(attempt(&scene, "measures_latency").verdict, Verdict::Pass);
    assert_eq!(attempt(&scene, "does_nothing").verdict, Verdict::Fail);
    run.assert_says("BUDGET");
}

#[test]
fn show_config_has_the_budgets_of_a_test_and_a_mistake_has_its_place() {
    let scene = Scene::new();
    let package = suite(&scene);
    let shown = scene.run(scene.harness_in(&package, &["show-config", "test", "opens_files"]));
    shown.assert_code(exit_code::OK);
    assert!(
        shown
            .stdout
            .contains("\"files.opened\" = 30, rss = \"4 GiB\", p99_us = 1500"),
        "{}",
        shown.stdout
    );
    scene.write(
        "budgets/.config/harness.toml",
        "[profile.default.budget]\n'files.open' = 3\n",
    );
    let wrong = scene.run(scene.harness_in(&package, &["run"]));
    wrong.assert_says("harness.toml:2:");
    wrong.assert_says("is not measured: the runner knows `files.opened`");
}
