//! The order in which tests start, and the tests that run beside each other.

use crate::scene::{Finished, Scene};
use fixture_kit::results;
use harness_metadata::{Event, EventKind, exit_code};
use std::{path::Path, process::Command};

/// Three tests, of which the second is the longest and the third fails.
const SOURCE: &str = "\
#[test] fn a() {}
#[test] fn b() { std::thread::sleep(std::time::Duration::from_millis(300)); }
#[test] fn c() { panic!(); }
";

/// Runs a package with one slot. Returns the names of its tests in the order of their starts.
fn order(scene: &Scene, folder: &Path, args: &[&str]) -> (Finished, Vec<String>) {
    let mut command = scene.harness_in(folder, &["run", "-j", "1", "--no-fail-fast"]);
    command.env_remove("HARNESS_ORDER").args(args);
    let (run, events) = run(scene, command);
    let started = events.into_iter().filter_map(|event| match event.kind {
        EventKind::AttemptStarted(attempt) => Some(attempt.test.name.to_string()),
        _ => None,
    });
    (run, started.collect())
}

/// Runs a command that writes events.
fn run(scene: &Scene, mut command: Command) -> (Finished, Vec<Event>) {
    command.arg("--events").arg(scene.path("events"));
    (scene.run(command), results::events(scene))
}

#[test]
fn a_run_begins_with_what_failed_last_time_and_then_with_the_longest() {
    let scene = Scene::new();
    let folder = scene.package("ordered", SOURCE);
    let (run, first) = order(&scene, &folder, &[]);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    assert_eq!(first, ["a", "b", "c"], "nothing is known yet");
    assert_eq!(order(&scene, &folder, &[]).1, ["c", "b", "a"]);
    assert_eq!(
        order(&scene, &folder, &["--order", "name"]).1,
        ["a", "b", "c"]
    );

    let profile = "[profile.default]\norder = \"name\"\n";
    scene.write("ordered/.config/harness.toml", profile);
    assert_eq!(order(&scene, &folder, &[]).1, ["a", "b", "c"]);
    assert_eq!(
        order(&scene, &folder, &["--order", "longest-first"]).1,
        ["c", "b", "a"]
    );
}

#[test]
fn a_random_order_names_its_seed_and_comes_again_with_it() {
    let scene = Scene::new();
    let source: String = (0..20)
        .map(|number| format!("#[test] fn t{number:02}() {{}}\n"))
        .collect();
    let folder = scene.package("shuffled", &source);
    let (run, first) = order(&scene, &folder, &["--shuffle"]);
    run.assert_code(exit_code::OK)
        .assert_says("again with --shuffle ");
    let (_, rest) = run.stderr.split_once("again with ").expect("it says so");
    let again: Vec<&str> = rest.split_whitespace().take(2).collect();
    assert_eq!(order(&scene, &folder, &again).1, first);
    let (run, seventh) = order(&scene, &folder, &["--shuffle", "7"]);
    run.assert_says("again with --shuffle 7");
    assert_ne!(order(&scene, &folder, &["--shuffle", "8"]).1, seventh);
}

#[test]
fn a_word_in_the_place_of_a_seed_is_named() {
    let scene = Scene::new();
    let run = scene.run(scene.harness(["run", "--shuffle", "a_filter"]));
    run.assert_code(2)
        .assert_says("invalid value 'a_filter' for '--shuffle [<SEED>]'");
}
