//! The life of attempts, step by step.

use super::*;
use std::num::NonZeroU32;

const PASS: Exit = Exit::Code(0);
const SIGINT: i32 = 2;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn unit(terminate_after: Option<u32>, grace: u64) -> Unit {
    let slow = SlowTimeout {
        period: secs(60),
        terminate_after: terminate_after.and_then(NonZeroU32::new),
        grace_period: secs(grace),
        on_timeout: TimeoutResult::Fail,
    };
    let leak = LeakTimeout {
        period: secs(1),
        result: None,
    };
    Unit::new(secs(0), slow, leak)
}

fn exited(descendants_alive: bool) -> Input {
    Input::Exited {
        exit: PASS,
        descendants_alive,
    }
}

fn ended(actions: Vec<Action>) -> Ending {
    match <[Action; 1]>::try_from(actions) {
        Ok([Action::Finish(ending)]) => ending,
        other => panic!("not an end: {other:?}"),
    }
}

fn survivor() -> Survivor {
    Survivor {
        pid: 7,
        parent: 1,
        command: "sleep 60".to_owned(),
        outlived: secs(1),
        killed: true,
        age: None,
        ancestry: Vec::new(),
        holds: Vec::new(),
    }
}

#[test]
fn a_test_that_exits_and_closes_its_output_is_finished() {
    let mut unit = unit(None, 10);
    assert_eq!(unit.handle(secs(1), exited(false)), []);
    let ending = ended(unit.handle(secs(1), Input::OutputClosed));
    assert_eq!(ending.outcome, Outcome::Exited(PASS));
    assert_eq!(ending.leak, None);
    assert!(ending.stub_free && !ending.slow);
}

#[test]
fn output_may_close_before_the_exit() {
    let mut unit = unit(None, 10);
    assert_eq!(unit.handle(secs(1), Input::OutputClosed), []);
    assert_eq!(
        ended(unit.handle(secs(2), exited(false))).outcome,
        Outcome::Exited(PASS)
    );
}

#[test]
fn a_slow_test_is_reported_at_every_period() {
    let mut unit = unit(None, 10);
    for period in 1..4 {
        assert_eq!(unit.deadline(), secs(60 * period));
        let actions = unit.handle(secs(60 * period), Input::Deadline);
        assert_eq!(actions, [Action::Slow { terminating: false }]);
    }
    unit.handle(secs(200), Input::OutputClosed);
    assert!(ended(unit.handle(secs(200), exited(false))).slow);
}

#[test]
fn a_test_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let mut unit = unit(Some(1), 10);
    assert_eq!(
        unit.handle(secs(60), Input::Deadline),
        [
            Action::Slow { terminating: true },
            Action::Inspect,
            Action::Signal(SIGTERM)
        ]
    );
    assert_eq!(unit.deadline(), secs(70));
    assert_eq!(unit.handle(secs(70), Input::Deadline), [Action::Kill]);
    let exit = Exit::Signal {
        signal: 9,
        core_dumped: false,
    };
    unit.handle(secs(70), Input::OutputClosed);
    let ending = ended(unit.handle(
        secs(70),
        Input::Exited {
            exit,
            descendants_alive: false,
        },
    ));
    assert_eq!(ending.outcome, Outcome::TimedOut { exit: Some(exit) });
}

#[test]
fn without_a_grace_period_a_test_is_killed_at_once_and_silently() {
    let mut unit = unit(Some(1), 0);
    assert_eq!(
        unit.handle(secs(60), Input::Deadline),
        [Action::Inspect, Action::Kill]
    );
}

#[test]
fn descendants_that_ignore_sigterm_are_killed_after_the_leak_window() {
    let mut unit = unit(Some(1), 10);
    unit.handle(secs(60), Input::Deadline);
    assert_eq!(unit.handle(secs(61), exited(true)), []);
    assert_eq!(unit.deadline(), secs(62));
    assert_eq!(unit.handle(secs(62), Input::Deadline), [Action::Kill]);
    let ending = ended(unit.handle(
        secs(62),
        Input::Gone {
            survivors: vec![survivor()],
        },
    ));
    assert_eq!(ending.outcome, Outcome::TimedOut { exit: Some(PASS) });
    assert_eq!(ending.leak.unwrap().survivors, [survivor()]);
}

#[test]
fn descendants_that_go_within_the_leak_window_are_no_leak() {
    let mut unit = unit(None, 10);
    unit.handle(secs(1), exited(true));
    assert_eq!(
        unit.handle(
            secs(1),
            Input::Gone {
                survivors: Vec::new()
            }
        ),
        []
    );
    assert_eq!(ended(unit.handle(secs(1), Input::OutputClosed)).leak, None);
}

#[test]
fn a_daemon_without_our_output_is_a_leak() {
    let mut unit = unit(None, 10);
    unit.handle(secs(1), exited(true));
    assert_eq!(unit.handle(secs(1), Input::OutputClosed), []);
    assert_eq!(unit.handle(secs(2), Input::Deadline), [Action::Kill]);
    let ending = ended(unit.handle(
        secs(2),
        Input::Gone {
            survivors: vec![survivor()],
        },
    ));
    assert_eq!(
        ending.leak,
        Some(Leak {
            survivors: vec![survivor()],
            ..Leak::default()
        })
    );
}

#[test]
fn output_that_stays_open_in_a_stranger_is_a_leak_and_not_waited_for() {
    let mut unit = unit(None, 10);
    unit.handle(secs(1), exited(false));
    let ending = ended(unit.handle(secs(2), Input::Deadline));
    assert_eq!(
        ending.leak,
        Some(Leak {
            output_open: true,
            ..Leak::default()
        })
    );
}

#[test]
fn an_interrupted_test_gets_the_signal_and_its_grace_period() {
    let mut unit = unit(None, 10);
    let by = Interruption::Signal(SIGINT);
    let interrupt = Input::Interrupt(by, Force::Signal(SIGINT));
    assert_eq!(unit.handle(secs(5), interrupt), [Action::Signal(SIGINT)]);
    assert_eq!(unit.deadline(), secs(15));
    assert_eq!(
        unit.handle(secs(6), Input::Interrupt(by, Force::Kill)),
        [Action::Kill]
    );
    unit.handle(secs(6), Input::OutputClosed);
    let outcome = ended(unit.handle(secs(6), exited(false))).outcome;
    assert_eq!(
        outcome,
        Outcome::Interrupted {
            by,
            exit: Some(PASS)
        }
    );
}

#[test]
fn an_interrupt_in_the_leak_window_asks_what_is_left_to_go_and_bounds_the_window() {
    let by = Interruption::Signal(SIGINT);
    let interrupt = Input::Interrupt(by, Force::Signal(SIGINT));
    let in_window = |grace, descendants| {
        let mut unit = unit(None, grace);
        unit.leak_timeout.period = secs(600);
        unit.handle(secs(1), exited(descendants));
        unit
    };

    let mut asked = in_window(10, true);
    assert_eq!(
        asked.handle(secs(2), interrupt.clone()),
        [Action::Signal(SIGINT)]
    );
    assert_eq!(asked.deadline(), secs(12));
    let gone = Input::Gone {
        survivors: Vec::new(),
    };
    asked.handle(secs(3), gone);
    let ending = ended(asked.handle(secs(3), Input::OutputClosed));
    assert_eq!((ending.outcome, ending.leak), (Outcome::Exited(PASS), None));

    let mut killed = in_window(10, true);
    killed.handle(secs(2), interrupt.clone());
    let kill = Input::Interrupt(by, Force::Kill);
    assert_eq!(killed.handle(secs(3), kill), [Action::Kill]);

    let mut graceless = in_window(0, true);
    assert_eq!(graceless.handle(secs(2), interrupt.clone()), [Action::Kill]);

    // The holder of the output is not one of ours.
    let mut stranger = in_window(10, false);
    assert_eq!(stranger.handle(secs(2), interrupt), []);
    let ending = ended(stranger.handle(secs(12), Input::Deadline));
    assert!(ending.leak.is_some_and(|leak| leak.output_open));
}

#[test]
fn a_test_that_timed_out_stays_timed_out_when_the_run_is_interrupted() {
    let mut unit = unit(Some(1), 10);
    unit.handle(secs(60), Input::Deadline);
    let by = Interruption::Signal(SIGINT);
    assert_eq!(
        unit.handle(secs(61), Input::Interrupt(by, Force::Signal(SIGINT))),
        []
    );
    assert_eq!(
        unit.handle(secs(61), Input::Interrupt(by, Force::Kill)),
        [Action::Kill]
    );
    unit.handle(secs(61), Input::OutputClosed);
    let outcome = ended(unit.handle(secs(61), exited(false))).outcome;
    assert_eq!(outcome, Outcome::TimedOut { exit: Some(PASS) });
}

#[test]
fn a_test_that_cannot_be_killed_is_not_waited_for() {
    let mut unit = unit(Some(1), 0);
    unit.handle(secs(60), Input::Deadline);
    let ending = ended(unit.handle(unit.deadline(), Input::Deadline));
    assert_eq!(ending.outcome, Outcome::TimedOut { exit: None });
    assert!(!ending.stub_free);
}

#[test]
fn a_lost_stub_is_a_fault_in_every_phase() {
    let mut running = unit(None, 10);
    let mut draining = unit(None, 10);
    draining.handle(secs(1), exited(true));
    for unit in [&mut running, &mut draining] {
        let ending = ended(unit.handle(secs(1), Input::StubLost("gone".to_owned())));
        assert!(matches!(ending.outcome, Outcome::HarnessFault(_)));
        assert!(!ending.stub_free);
    }
}

#[test]
fn a_test_that_a_debugger_looks_into_has_no_limits_but_can_be_interrupted() {
    let mut unit = unit(Some(1), 10);
    assert_eq!(unit.handle(secs(5), Input::Broke), []);
    assert_eq!(unit.deadline(), Duration::MAX);
    assert_eq!(unit.handle(secs(6), exited(true)), []);
    assert_eq!(unit.deadline(), Duration::MAX);
    let killed = unit.handle(
        secs(7),
        Input::Interrupt(Interruption::Signal(SIGINT), Force::Kill),
    );
    assert_eq!(killed, [Action::Kill]);
}

#[test]
fn a_test_whose_time_is_up_is_killed_even_if_it_starts_something_for_a_debugger() {
    let mut unit = unit(Some(1), 10);
    unit.handle(secs(60), Input::Deadline);
    assert_eq!(unit.handle(secs(61), Input::Broke), []);
    assert_eq!(unit.deadline(), secs(70));
}

#[test]
fn an_interrupted_test_is_over_whoever_looks_into_its_processes() {
    let mut unit = unit(None, 10);
    unit.handle(secs(5), Input::Broke);
    let interrupt = Input::Interrupt(Interruption::Signal(SIGINT), Force::Signal(SIGINT));
    unit.handle(secs(6), interrupt.clone());
    unit.handle(secs(7), exited(true));
    assert_eq!(unit.deadline(), secs(8));

    let mut unit = self::unit(None, 10);
    unit.handle(secs(5), Input::Broke);
    unit.handle(secs(6), exited(true));
    assert_eq!(unit.handle(secs(7), interrupt), [Action::Kill]);
}

#[test]
fn a_test_that_was_refused_processes_has_a_moment_to_say_so_and_is_killed_then() {
    let mut unit = unit(None, 10);
    assert_eq!(unit.handle(secs(1), Input::LimitHit), []);
    assert_eq!(unit.deadline(), secs(1) + LIMIT_GRACE);
    assert_eq!(unit.handle(secs(2), Input::Deadline), [Action::Kill]);
    let killed = Exit::Signal {
        signal: 9,
        core_dumped: false,
    };
    unit.handle(secs(2), Input::OutputClosed);
    let ending = ended(unit.handle(
        secs(2),
        Input::Exited {
            exit: killed,
            descendants_alive: false,
        },
    ));
    assert_eq!(ending.outcome, Outcome::Exited(killed));
}

#[test]
fn a_refusal_does_not_change_why_a_test_is_being_ended() {
    let mut unit = unit(Some(1), 10);
    unit.handle(secs(60), Input::Deadline);
    assert_eq!(unit.handle(secs(61), Input::LimitHit), []);
    assert_eq!(unit.deadline(), secs(70));
    unit.handle(secs(62), Input::OutputClosed);
    let ending = ended(unit.handle(secs(62), exited(false)));
    assert_eq!(ending.outcome, Outcome::TimedOut { exit: Some(PASS) });
}

#[test]
fn a_test_that_waits_for_another_tracer_is_killed_at_once() {
    let mut unit = unit(None, 10);
    assert_eq!(unit.handle(secs(1), Input::Stuck), [Action::Kill]);
}

#[test]
fn descendants_that_may_live_on_are_reported_and_not_killed() {
    let mut unit = unit(None, 10).with_lingering(true);
    assert_eq!(unit.handle(secs(1), exited(true)), []);
    let ending = ended(unit.handle(secs(2), Input::Deadline));
    assert!(ending.lingers && ending.stub_free && ending.leak.is_some());
}
