//! The ends of a run: failed, out of time and interrupted are three different things.

use super::*;
use crate::package::whole_lines;
use fixture_kit::model::parse_events;
use harness_metadata::{
    EventKind, Interruption,
    event::{CancelReason, RunFinished, RunningState, RunningTest},
};
use nix::sys::{ptrace, wait::waitpid};

pub(super) fn run_finished(scene: &Scene) -> RunFinished {
    let events = results::events(scene);
    match events.into_iter().next_back().map(|event| event.kind) {
        Some(EventKind::RunFinished(finished)) => *finished,
        last => panic!("not the end of a run: {last:?}"),
    }
}

/// Returns the run with a JUnit report.
fn with_junit(scene: &Scene, mut run: Command) -> Command {
    run.arg("--junit").arg(scene.path("junit.xml"));
    run
}

fn junit(scene: &Scene) -> String {
    fs::read_to_string(scene.path("junit.xml")).expect("it was written")
}

/// Waits until the events contain this, which may be after a build.
pub(super) fn await_event(scene: &Scene, part: &str) {
    let told = || {
        let events = fs::read_to_string(scene.path("events")).ok()?;
        events.contains(part).then_some(())
    };
    wait_until(LONGEST_RUN, told).unwrap_or_else(|| panic!("no event contains `{part}`"));
}

/// Returns what a run that goes on has told of its running tests, each time that it was asked.
pub(super) fn statuses(scene: &Scene) -> Vec<Vec<RunningTest>> {
    let events = fs::read_to_string(scene.path("events")).expect("they were written");
    let events = parse_events(whole_lines(&events)).expect("they are events");
    let statuses = events.into_iter().filter_map(|event| match event.kind {
        EventKind::Status { running, .. } => Some(running),
        _ => None,
    });
    statuses.collect()
}

/// Waits until the run knows that its one test has ended, and that something of it has not.
fn await_draining(run: &Running, scene: &Scene) {
    let draining = || {
        run.signal(Signal::SIGUSR1);
        let running = statuses(scene).pop()?;
        let state = running.first()?.state;
        (state == RunningState::Draining).then_some(())
    };
    wait_until(SOON, draining).expect("the end of the test is shown");
}

/// Waits until the test `ignores_signals` does.
pub(super) fn await_deaf(scene: &Scene) {
    let test = await_processes(scene, "--exact ignores_signals", 1)[0];
    let deaf = || {
        let status = fs::read_to_string(format!("/proc/{test}/status")).ok()?;
        let ignored = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))?;
        let ignored = u64::from_str_radix(ignored.trim(), 16).ok()?;
        // SIGTERM is the last that it comes to ignore.
        (ignored & (1 << 14) != 0).then_some(())
    };
    wait_until(SOON, deaf).expect("it ignores them");
}

#[test]
fn a_run_that_a_signal_ends_says_so_and_exits_as_a_shell_has_it() {
    for (number, reason) in [
        (Signal::SIGHUP, CancelReason::Signal(1)),
        (Signal::SIGINT, CancelReason::Interrupt),
        (Signal::SIGQUIT, CancelReason::Signal(3)),
        (Signal::SIGTERM, CancelReason::Signal(15)),
    ] {
        let scene = Scene::new();
        let run = with_junit(&scene, zoo_run(&scene, "", "hangs|fails"));
        let run = scene.start(run);
        await_event(&scene, "test-finished");
        await_processes(&scene, "--exact hangs", 1);
        run.signal(number);
        run.finish()
            .assert_code(exit_code::ended_by(number as i32))
            .assert_says(&format!("Interrupted the run received {number}"))
            .assert_says(&format!("error: test run was ended by {number}"));
        let last = last_attempt(&scene);
        let by = Interruption::Signal(number as i32);
        assert!(
            matches!(last.outcome, Outcome::Interrupted { by: told, .. } if told == by),
            "{last:?}"
        );
        let finished = run_finished(&scene);
        assert_eq!(finished.cancelled, Some(reason));
        assert_eq!((finished.stats.failed, finished.stats.interrupted), (1, 1));
        let junit = junit(&scene);
        for part in [
            "failures=\"1\" errors=\"1\"",
            "type=\"interrupted\">",
            &format!("name=\"run-cut-off\" value=\"the run received {number}\""),
        ] {
            assert!(junit.contains(part), "no `{part}` in {junit}");
        }
    }
}

#[test]
fn a_run_that_is_out_of_time_says_so_and_exits_as_timeout_does() {
    let scene = Scene::new();
    // One of them comes to its own end before.
    let run = zoo_run(&scene, "global-timeout = '10s'", "hangs|fails");
    scene
        .run(with_junit(&scene, run))
        .assert_code(exit_code::GLOBAL_TIMEOUT)
        .assert_says("Out of time the run took longer than its `global-timeout`")
        .assert_says("error: test run ran out of time");
    let finished = run_finished(&scene);
    assert_eq!(finished.cancelled, Some(CancelReason::GlobalTimeout));
    let junit = junit(&scene);
    for part in [
        "failures=\"1\" errors=\"1\"",
        "type=\"global-timeout\">",
        "name=\"run-cut-off\" value=\"the run took longer than its `global-timeout`\"",
    ] {
        assert!(junit.contains(part), "no `{part}` in {junit}");
    }
}

#[test]
fn a_run_with_a_failed_test_that_came_to_its_end_has_failed_and_nothing_else() {
    let scene = Scene::new();
    let run = scene.run(with_junit(&scene, zoo_run(&scene, "", "fails")));
    run.assert_code(exit_code::TEST_RUN_FAILED);
    assert!(!run.stderr.contains("Interrupted"), "{}", run.stderr);
    assert!(!junit(&scene).contains("run-cut-off"));
}

#[test]
fn what_a_test_left_behind_is_asked_to_go_by_the_first_interrupt() {
    for trace in ["process", "off"] {
        let scene = Scene::new();
        let leak = "leak-timeout = { period = '600s', result = 'fail' }";
        let mut run = zoo_run(&scene, leak, "leaves_a_child");
        run.args(["--trace", trace]);
        let run = scene.start(run);
        await_left(&scene, "leaves_a_child");
        // Before that, the interrupt is the test's.
        await_draining(&run, &scene);
        interrupt(run).assert_code(exit_code::ended_by(SIGINT));
        let last = last_attempt(&scene);
        assert_eq!((last.verdict, last.leak), (Verdict::Pass, None));
    }
}

#[test]
fn a_test_that_waits_for_its_retry_when_the_run_is_interrupted_has_failed() {
    let scene = Scene::new();
    let retries = "retries = { backoff = 'fixed', count = 3, delay = '600s' }";
    let run = scene.start(with_junit(&scene, zoo_run(&scene, retries, "fails")));
    await_event(&scene, "attempt-failed");
    interrupt(run)
        .assert_code(exit_code::ended_by(SIGINT))
        .assert_says("1 test run: 0 passed, 1 failed");
    let last = last_attempt(&scene);
    assert_eq!((last.number, last.verdict), (1, Verdict::Fail));
    assert_eq!(run_finished(&scene).stats.not_run(), 0);
    assert!(junit(&scene).contains("failures=\"1\" errors=\"0\""));
}

#[test]
fn the_second_interrupt_kills_what_ignored_the_first() {
    let scene = Scene::new();
    let grace = "slow-timeout = { period = '60s', grace-period = '600s' }";
    let run = scene.start(zoo_run(&scene, grace, "ignores_signals"));
    await_deaf(&scene);
    run.signal(Signal::SIGINT);
    await_event(&scene, "\"killing\":false");
    run.signal(Signal::SIGTERM);
    run.finish()
        .assert_code(exit_code::ended_by(SIGINT))
        .assert_says("Killing due to interrupt");
}

#[test]
fn the_third_interrupt_waits_for_nobody_and_loses_nothing() {
    let scene = Scene::new();
    let grace = "slow-timeout = { period = '60s', grace-period = '600s' }";
    let run = with_junit(&scene, zoo_run(&scene, grace, "ignores_signals"));
    let run = scene.start(run);
    await_deaf(&scene);
    let stubs = processes(&scene, "__double-spawn");
    run.signal(Signal::SIGINT);
    await_event(&scene, "\"killing\":false");
    // A stub that a debugger holds does nothing that it is asked for, and cannot be woken.
    for stub in &stubs {
        if let Err(error) = ptrace::attach(Pid::from_raw(*stub)) {
            run.signal(Signal::SIGKILL);
            run.finish();
            return scene::skip("the third interrupt", &format!("no ptrace: {error}"));
        }
        waitpid(Pid::from_raw(*stub), None).expect("it is traced");
    }
    run.signal(Signal::SIGINT);
    await_event(&scene, "\"killing\":true");
    let since = Instant::now();
    run.signal(Signal::SIGINT);
    let run = run.finish();
    let took = since.elapsed();
    for stub in &stubs {
        ptrace::detach(Pid::from_raw(*stub), None).expect("it is traced");
    }
    // Less than the limit for a stub that does not come to its end, which is 17 seconds.
    assert!(took < Duration::from_secs(15), "{took:?}");
    run.assert_code(exit_code::ended_by(SIGINT));
    scene.assert_no_strays();
    let last = last_attempt(&scene);
    assert_eq!(last.verdict, Verdict::Interrupted);
    assert_eq!(run_finished(&scene).stats.interrupted, 1);
    assert!(junit(&scene).contains("type=\"interrupted\">"));
}
