//! `--break-exec`: processes that are stopped at their execution and handed over to a debugger.

use crate::scene::{Finished, Scene, skip, wait_until};
use fixture_kit::results;
use harness_metadata::{EventKind, event::TraceLevel, exit_code};
use nix::sys::signal::Signal;
use std::{process::Command, time::Duration};

/// Limits that no test keeps to that waits for anything.
const SHORT: &str = "[profile.default]\n\
    slow-timeout = { period = \"2s\", terminate-after = 1, grace-period = \"0s\" }\n\
    leak-timeout = \"1s\"\n";

/// A debugger for the poor: shows that the process is stopped and untraced, and continues it.
const LOOK: &str = "sleep 3; grep -E '^(State|TracerPid):' /proc/{pid}/status; \
    tr '\\0' '.' < /proc/{pid}/cmdline; echo; kill -CONT {pid}";

fn run(scene: &Scene, test: &str, pattern: &str, command: &str) -> Finished {
    let mut run = scene.harness(["run", "-p", "processes", "--status-level", "fail"]);
    run.args(["-E", &format!("test(={test})")])
        .args(["--break-exec", pattern, "--break-command", command])
        .arg("--config-file")
        .arg(scene.write("harness.toml", SHORT))
        .arg("--events")
        .arg(scene.path("events"));
    let run = scene.run(run);
    scene.assert_no_strays();
    run
}

#[test]
fn a_child_is_stopped_untraced_after_its_exec_and_its_test_has_no_limits() {
    for pattern in ["cat", "name=cat", "argv~^cat$", "after:cat"] {
        let scene = Scene::new();
        let run = run(&scene, "talks_with_a_child_through_pipes", pattern, LOOK);
        run.assert_code(exit_code::OK)
            .assert_says("stopped at its exec: pid")
            .assert_says("attach: gdb -p")
            .assert_says("State:\tT (stopped)")
            .assert_says("TracerPid:\t0")
            .assert_says("\ncat.\n");
        let events = results::events(&scene);
        let broke: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::AttemptBroke { args, .. } => Some(args),
                _ => None,
            })
            .collect();
        assert_eq!(broke.len(), 1, "{pattern}");
        assert_eq!(broke[0][0].as_bytes(), b"cat");
        let Some(EventKind::RunStarted(start)) = events.first().map(|event| &event.kind) else {
            panic!("the run did not start");
        };
        assert_eq!(start.trace.level, TraceLevel::Process);
    }
}

#[test]
fn before_its_exec_a_child_is_still_its_parent_s_program() {
    let scene = Scene::new();
    let test = "talks_with_a_child_through_pipes";
    let run = run(&scene, test, "before:cat", LOOK);
    run.assert_code(exit_code::OK)
        .assert_says("State:\tT (stopped)")
        .assert_says("TracerPid:\t0")
        .assert_says(".talks_with_a_child_through_pipes.");
}

#[test]
fn a_test_that_executes_from_a_thread_is_let_go_with_all_its_threads() {
    for pattern in ["before:helper", "after:helper"] {
        let scene = Scene::new();
        let run = run(&scene, "execs_from_a_thread", pattern, LOOK);
        // What it becomes is no test, and reports no result.
        run.assert_code(exit_code::TEST_RUN_FAILED)
            .assert_says("NO-RESULT")
            .assert_says("State:\tT (stopped)")
            .assert_says("TracerPid:\t0");
    }
}

#[test]
fn a_debugger_can_attach_to_what_is_let_go() {
    if Command::new("gdb").arg("--version").output().is_err() {
        return skip("a_debugger_can_attach", "gdb is not installed");
    }
    // Where the process stands: in front of the loader's first instruction, or of the call.
    for (pattern, seen) in [("cat", "_start ()"), ("before:cat", "syscall")] {
        let scene = Scene::new();
        let command =
            "gdb -nx -batch -p {pid} -ex bt -ex \"x/i \\$pc\" -ex detach; kill -CONT {pid}";
        let run = run(&scene, "talks_with_a_child_through_pipes", pattern, command);
        run.assert_code(exit_code::OK)
            .assert_says(seen)
            .assert_says("[Inferior 1 (process ");
    }
}

#[test]
fn what_is_killed_instead_is_seen_as_killed_by_its_parent() {
    let scene = Scene::new();
    let test = "talks_with_a_child_through_pipes";
    run(&scene, test, "cat", "kill -KILL {pid}").assert_code(exit_code::TEST_RUN_FAILED);
}

#[test]
fn a_run_that_waits_for_a_user_can_be_interrupted() {
    let scene = Scene::new();
    let mut run = scene.harness(["run", "-p", "processes", "--break-exec", "cat"]);
    run.args(["-E", "test(=talks_with_a_child_through_pipes)"])
        .arg("--config-file")
        .arg(scene.write("harness.toml", SHORT));
    let run = scene.start(run);
    let stopped = wait_until(Duration::from_secs(120), || {
        let strays = scene.strays();
        let mut commands = strays.iter().map(|(_, command)| command);
        commands
            .any(|command| command.starts_with("cat"))
            .then_some(())
    });
    stopped.expect("the child is there");
    run.signal(Signal::SIGINT);
    let run = run.finish();
    scene.assert_no_strays();
    run.assert_code(exit_code::ended_by(Signal::SIGINT as i32));
}

#[test]
fn what_does_not_match_runs_as_ever() {
    for pattern in ["dog", "before:dog"] {
        let scene = Scene::new();
        let mut command = scene.harness(["run", "-p", "processes", "--break-exec", pattern]);
        command.args(["-E", "test(/pipe/) or test(/execs/) or test(/stop/)"]);
        command.arg("--no-fail-fast");
        let run = scene.run(command);
        scene.assert_no_strays();
        let mut command = scene.harness(["run", "-p", "processes"]);
        command.args(["-E", "test(/pipe/) or test(/execs/) or test(/stop/)"]);
        command.arg("--no-fail-fast");
        assert_eq!(run.status, scene.run(command).status);
    }
}

#[test]
fn a_pattern_that_makes_no_sense_is_refused() {
    let scene = Scene::new();
    let run = scene.run(scene.harness(["run", "--break-exec", "argv~("]));
    run.assert_code(2).assert_says("unclosed group");
}
