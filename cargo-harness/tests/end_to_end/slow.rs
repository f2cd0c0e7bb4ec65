//! A slow test has a reason: what its tasks wait for is looked at each time that it is reported as slow.

use crate::scene::Scene;
use fixture_kit::results::{events, finished_tests};
use harness_metadata::{exit_code, outcome::Doing};
use std::fs;

/// A test that waits for its own lock until it has been reported as slow a few times.
const SUITE: &str = r#"
#![cfg(test)]

use std::{fs::File, thread, time::{Duration, Instant}};

#[test]
fn waits_for_a_lock() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/the-lock");
    let held = File::create(path).expect("it is made");
    held.lock().expect("it is free");
    let waiting = thread::Builder::new().name("locker".to_owned());
    let waiting = waiting.spawn(move || File::open(path).expect("it is there").lock());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        thread::park_timeout(Duration::from_millis(100));
    }
    held.unlock().expect("it is held");
    waiting.expect("it started").join().expect("it ends").expect("it is locked");
}

#[test]
fn is_quick() {}
"#;

#[test]
fn a_slow_test_says_what_it_waited_for() {
    let scene = Scene::new();
    scene.write(
        "slow/.config/harness.toml",
        "[[profile.default.overrides]]\nfilter = 'test(waits)'\nslow-timeout = '1s'\n",
    );
    let package = scene.package("slow", SUITE);
    let mut command = scene.harness_in(&package, &["run", "--junit"]);
    command.arg(scene.path("junit"));
    command.arg("--events").arg(scene.path("events"));
    let run = scene.run(command);
    run.assert_code(exit_code::OK);
    run.assert_says("slow: the test, thread `locker`");
    assert!(!events(&scene).is_empty());
    for finished in finished_tests(&scene) {
        let attempt = &finished.attempts[0];
        let is_slow = finished.test.name.as_str() == "waits_for_a_lock";
        assert_eq!(attempt.slow_tasks.is_empty(), !is_slow, "{attempt:?}");
        let in_flock =
            |doing: &Doing| matches!(doing, Doing::Waits { call, .. } if call == "flock");
        let waits = attempt.slow_tasks.iter().any(|task| in_flock(&task.doing));
        assert_eq!(waits, is_slow, "{attempt:?}");
    }
    let junit = fs::read_to_string(scene.path("junit")).expect("it is written");
    assert!(
        junit.contains("name=\"slow\" value=\"the test, thread `locker`"),
        "{junit}"
    );
    scene.assert_no_strays();
}
