//! The fixture workspace, run as a whole and compared with its model in every form.

use crate::scene::{Scene, shared_target};
use fixture_kit::model::{Runner, check_events, check_junit, check_junit_rules, check_list};
use fixture_kit::model::{check_schema, check_terminal, final_lines, running_tests};
use fixture_kit::results::finished_tests;
use harness_metadata::{Outcome, exit_code};
use std::{collections::BTreeSet, fs, process::Command};

/// Returns a run of all tests that writes all reports.
fn run_of_everything(scene: &Scene) -> Command {
    let mut command = scene.harness(["run", "--workspace", "--no-fail-fast", "-j", "4"]);
    command.arg("--junit").arg(scene.path("junit.xml"));
    command.arg("--events").arg(scene.path("events.ndjson"));
    command.args(["--final-status-level", "all", "--show-progress", "none"]);
    command
}

/// Runs everything and shows all differences of all forms at once.
fn check_everything(scene: &Scene, trace: Option<&str>) {
    let mut command = run_of_everything(scene);
    if let Some(trace) = trace {
        command.args(["--trace", trace]);
    }
    let run = scene.run(command);
    scene.assert_no_strays();
    run.assert_code(exit_code::TEST_RUN_FAILED);

    let read = |name| fs::read_to_string(scene.path(name)).expect("the report was written");
    let (junit, events) = (read("junit.xml"), read("events.ndjson"));
    let checks = [
        check_events(&events),
        check_schema(&events),
        check_terminal(&run.stderr, Runner::Harness),
        check_junit(&junit, Runner::Harness),
        check_junit_rules(&junit),
    ];
    let differences: Vec<_> = checks
        .into_iter()
        .filter_map(Result::err)
        .map(|error| error.to_string())
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_list_names_every_test() {
    let scene = Scene::new();
    let list = scene.run(scene.harness(["list", "--workspace", "--message-format", "json"]));
    list.assert_code(exit_code::OK);
    check_list(&list.stdout, Runner::Harness).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_test_has_its_outcome_when_traced() {
    // Without the option, so that the override of the test that traces itself holds.
    let scene = Scene::new();
    check_everything(&scene, None);
}

#[test]
fn every_test_has_its_outcome_when_not_traced() {
    let scene = Scene::new();
    check_everything(&scene, Some("off"));
}

#[test]
fn a_run_of_passing_tests_succeeds() {
    let scene = Scene::new();
    let command = scene.harness(["run", "-p", "targets", "-p", "macros", "--no-fail-fast"]);
    let run = scene.run(command);
    run.assert_code(exit_code::OK)
        .assert_says("8 tests run: 8 passed, 0 skipped");
    assert_eq!(run.stdout, "", "results for people go to standard error");
}

#[test]
fn cargo_can_call_it_as_its_subcommand() {
    let scene = Scene::new();
    let list = scene.run(scene.harness(["harness", "list", "-p", "macros"]));
    list.assert_code(exit_code::OK);
    assert_eq!(list.stdout, "macros tests::the_macro_has_a_test\n");
}

#[test]
fn every_partition_holds_other_tests_and_together_they_hold_all() {
    let scene = Scene::new();
    let mut seen = BTreeSet::new();
    for part in ["slice:1/3", "slice:2/3", "slice:3/3"] {
        let list = scene.run(scene.harness(["list", "--workspace", "--partition", part]));
        list.assert_code(exit_code::OK);
        for line in list.stdout.lines() {
            assert!(seen.insert(line.to_owned()), "{line} is in two partitions");
        }
    }
    let expected: BTreeSet<_> = running_tests().map(|test| test.id()).collect();
    assert_eq!(seen, expected);
}

#[test]
fn ignored_tests_run_when_asked_for() {
    let scene = Scene::new();
    let mut command = scene.harness(["run", "--workspace", "--no-fail-fast"]);
    command.args(["--run-ignored", "only", "--final-status-level", "all", "-E"]);
    command.arg("binary_id(outcomes) | binary_id(harnesses::custom)");
    let run = scene.run(command);
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("4 tests run: 2 passed, 2 failed");
    let errors = run.stderr.lines().filter(|line| line.starts_with("error"));
    assert_eq!(errors.collect::<Vec<_>>(), ["error: test run failed"]);
    let lines = final_lines(&run.stderr);
    assert_eq!(lines["harnesses::custom ignored and passes"], "PASS");
    assert_eq!(lines["harnesses::custom ignored and fails"], "FAIL");
    assert_eq!(lines["outcomes tests::ignored_and_fails"], "FAIL");
}

#[test]
fn all_that_a_test_prints_is_counted() {
    const BYTES: u64 = 10_000_000;
    let scene = Scene::new();
    let mut command = scene.harness(["run", "-p", "output", "--no-fail-fast", "-E"]);
    command.arg("test(=floods_both_streams) | test(=floods_both_streams_and_fails)");
    command
        .arg("--events")
        .arg(scene.path("events"))
        .env("FIXTURE_FLOOD_BYTES", "10000000");
    scene.run(command).assert_code(exit_code::TEST_RUN_FAILED);
    let tests = finished_tests(&scene);
    assert_eq!(tests.len(), 2);
    for test in tests {
        let attempt = &test.attempts[0];
        // The standard harness adds a few lines of its own.
        for stream in [attempt.stdout, attempt.stderr] {
            assert!(
                (BYTES..BYTES + 2_000).contains(&stream.written),
                "{}: {stream:?}",
                test.test
            );
            assert!(
                stream.dropped <= stream.written,
                "{}: {stream:?}",
                test.test
            );
        }
    }
}

#[test]
fn a_traced_test_counts_its_processes() {
    let scene = Scene::new();
    let mut command = scene.harness(["run", "-p", "processes", "-E"]);
    command.arg("test(=starts_many_short_processes) | test(=forks_many_children_at_once)");
    command.arg("--events").arg(scene.path("events"));
    scene.run(command).assert_code(exit_code::OK);
    let processes: Vec<_> = finished_tests(&scene)
        .iter()
        .map(|test| (test.test.name.to_string(), test.attempts[0].usage.processes))
        .collect();
    let expected = [
        ("forks_many_children_at_once", 101),
        ("starts_many_short_processes", 151),
    ];
    let mut processes = processes;
    processes.sort();
    assert_eq!(
        processes,
        expected.map(|(name, count)| (name.to_owned(), Some(count)))
    );
}

#[test]
fn every_survivor_is_named_and_killed() {
    let scene = Scene::new();
    let mut command = scene.harness(["run", "-p", "processes", "--no-fail-fast", "-E"]);
    command
        .arg("binary(leaks)")
        .arg("--events")
        .arg(scene.path("events"));
    scene.run(command).assert_code(exit_code::TEST_RUN_FAILED);
    for test in finished_tests(&scene) {
        let attempt = test.attempts.last().expect("there is one");
        assert!(
            matches!(attempt.outcome, Outcome::Exited(_)),
            "{}",
            test.test
        );
        for survivor in attempt.leak.iter().flat_map(|leak| &leak.survivors) {
            assert!(survivor.killed, "{}: {survivor:?}", test.test);
            assert!(
                survivor.pid > 1 && !survivor.command.is_empty(),
                "{survivor:?}"
            );
        }
    }
}

#[test]
fn a_profile_writes_its_junit_report_into_its_own_folder() {
    let scene = Scene::new();
    let report = shared_target().join("harness/ci/ci/junit.xml");
    let _ = fs::remove_file(&report);
    scene
        .run(scene.harness(["run", "-p", "targets", "--profile", "ci"]))
        .assert_code(exit_code::OK);
    let xml = fs::read_to_string(&report).expect("the report was written");
    assert!(xml.contains("name=\"the fixture\""), "{xml}");
}

#[test]
fn a_report_mentions_skipped_tests_as_their_settings_say() {
    let scene = Scene::new();
    let source = "#[test] fn runs() {}\n#[test] #[ignore] fn told() {}\n\
                  #[test] #[ignore] fn untold() {}\n";
    let folder = scene.package("skips", source);
    let config = "[profile.default.junit]\npath = \"junit.xml\"\nreport-skipped = \"ignored\"\n\n\
                  [[profile.default.overrides]]\nfilter = \"test(=untold)\"\n\
                  junit.report-skipped = \"none\"\n";
    scene.write("skips/.config/harness.toml", config);
    scene
        .run(scene.harness_in(&folder, &["run"]))
        .assert_code(exit_code::OK);
    let report = folder.join("target/harness/default/junit.xml");
    let xml = fs::read_to_string(report).expect("the report was written");
    assert!(
        xml.contains("name=\"told\"") && xml.contains("<skipped "),
        "{xml}"
    );
    assert!(!xml.contains("untold"), "{xml}");
}

#[test]
fn the_first_failure_ends_the_run_of_a_profile_that_says_so() {
    let scene = Scene::new();
    let mut command = scene.harness(["run", "-p", "outcomes", "--profile", "ci", "-j", "1"]);
    command.args(["--retries", "0", "-E", "binary_id(outcomes::exits)"]);
    let run = scene.run(command);
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("1/15 tests run");
    run.assert_says("14/15 tests were not run");
}

#[test]
fn uncaptured_output_is_passed_on_as_it_is() {
    let scene = Scene::new();
    let mut command = scene.harness(["run", "-p", "output", "--no-capture", "-E"]);
    command.arg("test(=prints_without_a_newline)");
    let run = scene.run(command);
    run.assert_code(exit_code::OK);
    assert!(
        run.stdout.contains("no newline at the end"),
        "{}",
        run.stdout
    );
}
