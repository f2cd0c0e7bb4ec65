//! The suite that runs programs as payloads: the same verdicts under `cargo test`, under cargo-nextest and
//! under us, and no process is left behind.

use crate::{
    environment::installed,
    scene::{Scene, shared_target, skip},
};
use fixture_kit::{place, results};
use harness_metadata::{Verdict, exit_code};
use std::{collections::BTreeMap, fs, process::Command};

type Verdicts = BTreeMap<String, bool>;

/// The tests of the suite, and whether each passes.
fn expected() -> Verdicts {
    let suite = place::workspace().join("fixtures/payloads/tests/suite.rs");
    let suite = fs::read_to_string(suite).expect("it is there");
    let tests = suite.split("#[test]\nfn ").skip(1);
    let names = tests.filter_map(|test| test.split('(').next());
    let mut verdicts: Verdicts = names
        .map(|name| (name.to_owned(), name.starts_with("passes")))
        .collect();
    assert!(
        verdicts.len() > 10,
        "too few tests were found: {verdicts:?}"
    );
    verdicts.insert("it_counts".to_owned(), true);
    verdicts.insert("a_test_that_aborts_leaves_nothing".to_owned(), false);
    verdicts
}

/// A command in the folder of the suite.
fn of_suite(scene: &Scene, program: &std::path::Path) -> Command {
    let mut command = scene.command(program);
    command
        .current_dir(place::workspace().join("fixtures/payloads"))
        .env("CARGO_TARGET_DIR", shared_target().join("payloads"));
    command
}

#[test]
fn payloads_have_the_same_verdicts_under_cargo_test() {
    let scene = Scene::new();
    let mut command = of_suite(&scene, "cargo".as_ref());
    command.args(["test", "--locked", "--tests", "--no-fail-fast"]);
    let run = scene.run(command);
    let mut verdicts: Verdicts = run
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
        .filter(|(_, result)| ["ok", "FAILED"].contains(result))
        .map(|(name, result)| (name.to_owned(), result == "ok"))
        .collect();
    // It ends its process before libtest has a result.
    verdicts
        .entry("a_test_that_aborts_leaves_nothing".to_owned())
        .or_insert(false);
    assert!(run.stderr.contains("SIGABRT"), "{}", run.stderr);
    assert_eq!(verdicts, expected(), "{}", run.stdout);
    scene.assert_no_strays();
}

#[test]
fn payloads_have_the_same_verdicts_under_cargo_nextest() {
    const NAME: &str = "payloads_have_the_same_verdicts_under_cargo_nextest";
    if !installed("cargo-nextest", &["nextest", "--version"]) {
        return skip(NAME, "cargo-nextest is not installed");
    }
    let scene = Scene::new();
    let mut command = of_suite(&scene, "cargo-nextest".as_ref());
    command.args([
        "nextest",
        "run",
        "--locked",
        "--no-fail-fast",
        "--color",
        "never",
    ]);
    command.args(["--failure-output", "never", "--final-status-level", "none"]);
    let run = scene.run(command);
    let verdicts: Verdicts = run
        .stderr
        .lines()
        .filter_map(|line| {
            let (status, rest) = line.trim().split_once(" [")?;
            let passes = match status {
                "PASS" => true,
                "FAIL" | "SIGABRT" => false,
                _ => return None,
            };
            Some((rest.rsplit(' ').next()?.to_owned(), passes))
        })
        .collect();
    assert_eq!(verdicts, expected(), "{}", run.stderr);
    assert!(!run.stderr.contains("LEAK"), "{}", run.stderr);
    scene.assert_no_strays();
}

#[test]
fn payloads_have_the_same_verdicts_under_us_and_nothing_is_left_for_the_runner() {
    let scene = Scene::new();
    let mut command = of_suite(&scene, &place::runner());
    command.args(["run", "--locked", "--no-fail-fast", "--events"]);
    command.arg(scene.path("events"));
    let run = scene.run(command);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let finished = results::finished_tests(&scene);
    let verdicts: Verdicts = finished
        .iter()
        .map(|test| (test.test.name.to_string(), test.verdict == Verdict::Pass))
        .collect();
    assert_eq!(verdicts, expected(), "{}", run.stderr);
    for test in &finished {
        let name = test.test.name.to_string();
        let leaks = test
            .attempts
            .iter()
            .filter_map(|attempt| attempt.leak.as_ref());
        // A test that aborts is outlived by its guardian, by milliseconds, or more on a busy machine.
        let left: Vec<_> = leaks.flat_map(|leak| &leak.survivors).collect();
        let may_be_seen = name == "a_test_that_aborts_leaves_nothing";
        assert!(left.is_empty() || may_be_seen, "{name}: {left:?}");
    }
    let own = finished
        .iter()
        .find(|test| test.test.name.as_str() == "passes_with_metrics");
    let metrics = &own.expect("it ran").attempts[0].metrics;
    let shown: Vec<String> = metrics.found.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["shell.p99 = 15 us", "own = 2.5 ms"]);
    assert_eq!(metrics.unread, 0);
    for part in [
        "payload `shell` failed a check: not so: the exit code is 0: it ended with exit code 3",
        "not so: `p99` is there: there are no metrics",
        "no whole JSON document",
        "it is NaN, which no bound holds for",
        "there is no `no-such-program` in the folders of `PATH`",
    ] {
        run.assert_says(part);
    }
    scene.assert_no_strays();
}

/// The first example of the page is a test of the suite, and has ten lines.
#[test]
fn the_example_of_the_page_about_payloads_is_a_test_of_the_suite() {
    let read = |path: &str| fs::read_to_string(place::workspace().join(path)).expect("it is there");
    let example = read("fixtures/payloads/tests/first.rs");
    for page in ["site/docs/payloads.md", "harness-runner/payload/README.md"] {
        assert!(
            read(page).contains(&format!("```rust\n{example}```")),
            "{page}"
        );
    }
    assert!(example.lines().filter(|line| !line.is_empty()).count() <= 10);
}
