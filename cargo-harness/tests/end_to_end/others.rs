//! Harnesses and test macros of others: each in a fixture that runs.

use crate::scene::{Scene, shared_target};
use fixture_kit::{place, results};
use harness_metadata::{Verdict, exit_code};
use std::collections::BTreeMap;

/// Each test, and whether it passes.
const TESTS: &[(&str, bool)] = &[
    // datatest-stable
    ("others::data sum::three.txt", true),
    ("others::data sum::wrong.txt", false),
    // cucumber
    ("others::features features", true),
    // rusty-fork
    ("others::forks a_process_of_its_own", true),
    ("others::forks a_process_that_aborts", true),
    // insta
    ("others::macros a_snapshot_in_a_file_is_the_same", true),
    ("others::macros a_snapshot_is_the_same", true),
    // proptest
    ("others::macros addition_commutes", true),
    // rstest
    ("others::macros adds_two::case_1", true),
    ("others::macros adds_two::case_2_large", true),
    // test-case
    ("others::macros sums::test_case_1_one_and_one", true),
    ("others::macros sums::test_case_2_nothing", true),
    (
        "others::macros sums::test_case_3_one_and_one_is_not_three",
        false,
    ),
    // libtest-mimic
    ("others::mimic [sum] adds up", true),
    ("others::mimic does not", false),
    // criterion
    ("others::bench/criterion add with criterion", true),
    // divan
    ("others::bench/divan divan::add", true),
    // trybuild
    ("ui::wrong what_does_not_compile_says_why", true),
];

#[test]
fn harnesses_and_macros_of_others_have_their_results() {
    let scene = Scene::new();
    let mut command = scene.command(place::runner());
    command.current_dir(place::workspace().join("fixtures/others"));
    command.env("CARGO_TARGET_DIR", shared_target().join("others"));
    command.args(["run", "--locked", "--workspace", "--all-targets"]);
    command.args(["--no-fail-fast", "--events"]);
    command.arg(scene.path("events"));
    let run = scene.run(command);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let finished = results::finished(results::events(&scene));
    let passed: BTreeMap<String, bool> = finished
        .iter()
        .map(|test| (test.test.to_string(), test.verdict == Verdict::Pass))
        .collect();
    let expected = TESTS
        .iter()
        .map(|(test, passes)| ((*test).to_owned(), *passes));
    assert_eq!(passed, expected.collect(), "{}", run.stderr);
}
