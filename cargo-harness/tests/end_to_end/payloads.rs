//! The suite that runs programs as payloads: the same verdicts under `cargo test`, under cargo-nextest and
//! under us, and no process is left behind.

use crate::{
    environment::installed,
    html::details,
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
    command.args(["run", "--locked", "--no-fail-fast"]);
    for report in ["--events", "--junit", "--html"] {
        command.arg(report).arg(scene.path(&report[2..]));
    }
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
    // Reports have them too.
    let junit = fs::read_to_string(scene.path("junit")).expect("it is written");
    let html = details(&scene.path("html")).to_string();
    for (name, value) in [("shell.p99", "15 us"), ("own", "2.5 ms")] {
        let property = format!("<property name=\"metric\" value=\"{name} = {value}\"/>");
        assert!(junit.contains(&property), "{junit}");
        let row = format!("[\"{name}\",\"{value}\"]");
        assert!(html.contains(&row), "the page has no {row}");
    }
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

/// The tests of `tests/real.rs` in the crate, and the number that each of their programs prints, with its unit.
const REAL: [(&str, &str, &str); 6] = [
    (
        "redis_is_measured_by_its_benchmark",
        "redis-benchmark.SET",
        "1/s",
    ),
    ("postgresql_is_measured_by_pgbench", "pgbench.tps", "1/s"),
    (
        "postgresql_is_measured_by_pgbench",
        "pgbench.latency_ms",
        "ms",
    ),
    ("hyperfine_exports_json", "hyperfine.results.0.mean", "s"),
    (
        "sysbench_counts_events",
        "sysbench.events_per_second",
        "1/s",
    ),
    ("fio_prints_json", "fio.jobs.0.read.iops", "1/s"),
];

#[test]
fn numbers_of_real_programs_are_kept_and_compared_over_more_than_ten_runs() {
    const RUNS: usize = 13;
    let scene = Scene::new();
    let runs = scene.path("runs");
    let harness = |args: &[&str]| {
        let mut command = scene.command(place::runner());
        command.current_dir(place::workspace().join("harness-runner/payload"));
        command.env("CARGO_TARGET_DIR", shared_target().join("payloads"));
        command
            .env("PAYLOAD_RUNS", "1")
            .arg("--runs-dir")
            .arg(&runs);
        scene.run({
            command.args(args);
            command
        })
    };
    for _ in 0..RUNS {
        harness(&["run", "--locked", "--test", "real", "--trace", "off"])
            .assert_code(exit_code::OK);
    }
    let mut compared = Vec::new();
    for (test, number, unit) in REAL {
        let asked = harness(&["history", test, "--metric", number, "-T", "json"]);
        if asked.status.code() == Some(exit_code::NO_TESTS) {
            skip(test, "its programs are not installed");
            continue;
        }
        asked.assert_code(exit_code::OK);
        let rows = asked.stdout.lines();
        let values: Vec<f64> = rows
            .map(|row| {
                let row: serde_json::Value = serde_json::from_str(row).expect("it is JSON");
                row["values"][0].as_f64().expect("it is a number")
            })
            .collect();
        assert_eq!(values.len(), RUNS, "{test}: {values:?}");
        assert!(values.iter().all(|value| *value > 0.0), "{values:?}");
        let shown = harness(&["history", test, "--metric", number]).stdout;
        let head = shown.lines().next().unwrap_or_default();
        let parts = [
            format!("is better: {RUNS} runs, median "),
            "noise band ".to_owned(),
            format!(" {unit}"),
        ];
        let is_there =
            |part: &String| head.contains(part.as_str()) || (unit == "s" && part == " s");
        assert!(parts.iter().all(is_there), "{head}");
        compared.push(number);
    }
    // Whether noise looks like a change is chance. That each number was compared is not.
    let mut asked = vec!["regressions"];
    asked.extend(compared.iter().flat_map(|number| ["--metric", number]));
    if !compared.is_empty() {
        let says = format!(
            "{} numbers of tests compared over their last 5 passes",
            compared.len()
        );
        harness(&asked).assert_says(&says);
    }
    scene.assert_no_strays();
}
