//! However a run ends, nothing that it started outlives it.

use crate::scene::{Running, Scene, wait_until};
use fixture_kit::results;
use harness_metadata::{EventKind, Outcome, exit_code};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use std::time::Duration;

/// Tests that hang, two of them with children of their own. None is near its limit.
const HANGING: &str = "binary_id(outcomes::slow) & test(/^hangs/)";
const HANGING_TESTS: usize = 7;

/// Starts a run of tests that hang, and returns when all of them and their children run.
fn start_hanging(scene: &Scene, trace: &str) -> Running {
    let config = scene.write("harness.toml", "[profile.default]\nfail-fast = false\n");
    let mut command = scene.harness(["run", "-p", "outcomes", "-j", "8", "-E", HANGING]);
    command
        .args(["--trace", trace])
        .arg("--config-file")
        .arg(config);
    command.arg("--events").arg(scene.path("events"));
    let run = scene.start(command);
    let all_run = wait_until(Duration::from_secs(120), || {
        let hanging = scene
            .strays()
            .into_iter()
            .filter(|(_, command)| command.contains("--exact hangs"));
        (hanging.count() >= HANGING_TESTS + 2).then_some(())
    });
    assert!(
        all_run.is_some(),
        "the tests did not start: {:#?}",
        scene.strays()
    );
    run
}

#[test]
fn nothing_outlives_an_interrupted_run() {
    for trace in ["process", "off"] {
        for (number, name) in [(Signal::SIGINT, "SIGINT"), (Signal::SIGTERM, "SIGTERM")] {
            let scene = Scene::new();
            let run = start_hanging(&scene, trace);
            run.signal(number);
            // A second one, for those that ignore the first.
            let ended = wait_until(Duration::from_millis(700), || {
                scene.strays().is_empty().then_some(())
            });
            if ended.is_none() {
                run.signal(number);
            }
            let run = run.finish();
            scene.assert_no_strays();
            run.assert_code(exit_code::ended_by(number as i32))
                .assert_says(name);

            let events = results::events(&scene);
            let interrupted = events.iter().filter(|event| match &event.kind {
                EventKind::TestFinished(test) => {
                    let last = test.attempts.last().expect("there is one");
                    matches!(last.outcome, Outcome::Interrupted { .. })
                }
                _ => false,
            });
            assert_eq!(interrupted.count(), HANGING_TESTS, "no result is lost");
            let last = &events.last().expect("there are events").kind;
            assert!(matches!(last, EventKind::RunFinished(_)), "{last:?}");
        }
    }
}

#[test]
fn nothing_outlives_a_run_that_is_killed() {
    for trace in ["process", "off"] {
        let scene = Scene::new();
        let run = start_hanging(&scene, trace);
        run.signal(Signal::SIGKILL);
        run.finish();
        scene.assert_no_strays();
    }
}

#[test]
fn a_killed_stub_costs_one_attempt_and_leaves_nothing() {
    let scene = Scene::new();
    let run = start_hanging(&scene, "process");
    let stubs = scene
        .strays()
        .into_iter()
        .filter(|(_, command)| command.contains("__double-spawn"));
    let stubs: Vec<_> = stubs.collect();
    assert!(stubs.len() >= HANGING_TESTS, "{stubs:#?}");
    for (stub, _) in stubs {
        // It may be gone already, with the one before.
        let _ = signal::kill(Pid::from_raw(stub), Signal::SIGKILL);
    }
    let run = run.finish();
    scene.assert_no_strays();
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let faults = results::events(&scene).into_iter().filter(|event| {
        matches!(&event.kind, EventKind::TestFinished(test)
            if matches!(test.attempts[0].outcome, Outcome::HarnessFault(_)))
    });
    assert_eq!(faults.count(), HANGING_TESTS);
}

#[test]
fn nothing_outlives_both_a_killed_run_and_its_killed_stubs() {
    let scene = Scene::new();
    let run = start_hanging(&scene, "process");
    let ours = scene
        .strays()
        .into_iter()
        .filter(|(_, command)| command.contains("cargo-harness"));
    for (pid, _) in ours {
        // One of them may have ended the other.
        let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    run.finish();
    scene.assert_no_strays();
}
