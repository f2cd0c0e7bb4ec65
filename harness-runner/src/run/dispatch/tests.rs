mod elsewhere;
mod scripts;
mod services;

use super::{
    cancel::{SIGINT, SIGTERM},
    *,
};
use crate::config::settings::{
    FlakyResult, LeakTimeout, RetryPolicy, SlowTimeout, TerminateMode, TestGroup, ThreadsRequired,
    TimeoutResult,
};
use fixture_kit::sample;
use harness_metadata::{
    Exit, Outcome, Verdict,
    event::{RunFinished, TestFinished},
};
use std::collections::VecDeque;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(in crate::run) fn settings() -> TestSettings {
    TestSettings {
        slow_timeout: SlowTimeout {
            period: secs(60),
            terminate_after: None,
            grace_period: secs(10),
            on_timeout: TimeoutResult::Fail,
        },
        leak_timeout: LeakTimeout {
            period: secs(1),
            result: None,
        },
        output: sample::POLICY,
        ..TestSettings::default()
    }
}

fn candidate(name: &str, settings: TestSettings) -> Candidate {
    Candidate {
        remote: false,
        id: sample::test("krate", name),
        location: None,
        settings: Arc::new(settings),
        memory: 0,
        quarantine: None,
        command: Vec::new(),
    }
}

fn candidates(count: usize) -> Vec<Candidate> {
    (0..count)
        .map(|at| candidate(&format!("t{at}"), settings()))
        .collect()
}

fn limits(slots: usize) -> Limits {
    Limits {
        remote_slots: 0,
        slots,
        cpus: 4,
        memory: None,
        groups: BTreeMap::new(),
        max_fail: MaxFail::All,
        stress: None,
        global_timeout: None,
        skipped: 0,
        started_at: chrono::DateTime::UNIX_EPOCH.fixed_offset(),
    }
}

fn dispatcher(tests: Vec<Candidate>, limits: Limits) -> Dispatcher {
    Dispatcher::new(tests, limits, || 0.0)
}

fn over(slot: usize, number: u32, verdict: Verdict) -> Input {
    let outcome = match verdict {
        Verdict::Interrupted => Outcome::Interrupted {
            by: Interruption::Signal(SIGINT),
            exit: None,
        },
        _ => Outcome::Exited(Exit::Code(i32::from(verdict != Verdict::Pass))),
    };
    Input::AttemptOver {
        slot,
        attempt: Box::new(sample::attempt(number, outcome, verdict)),
        refused: false,
    }
}

/// The (slot, test, attempt) triples that actions start.
fn starts(actions: &[Action]) -> Vec<(usize, usize, u32)> {
    let start = |action: &Action| match action {
        Action::Start {
            slot,
            test,
            attempt,
            ..
        } => Some((*slot, *test, *attempt)),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

fn interrupts(actions: &[Action]) -> Vec<(usize, Force)> {
    let interrupt = |action: &Action| match action {
        Action::Interrupt { slot, force, .. } => Some((*slot, *force)),
        _ => None,
    };
    actions.iter().filter_map(interrupt).collect()
}

fn finished_tests(actions: &[Action]) -> Vec<TestFinished> {
    let finished = |action: &Action| match action {
        Action::Emit(EventKind::TestFinished(finished)) => Some((**finished).clone()),
        _ => None,
    };
    actions.iter().filter_map(finished).collect()
}

fn run_finished(actions: &[Action]) -> Option<RunFinished> {
    actions.iter().find_map(|action| match action {
        Action::Emit(EventKind::RunFinished(finished)) => Some((**finished).clone()),
        _ => None,
    })
}

#[test]
fn tests_start_in_order_as_slots_become_free() {
    let mut run = dispatcher(candidates(3), limits(2));
    assert_eq!(
        starts(&run.handle(secs(0), Input::Begin)),
        [(0, 0, 1), (1, 1, 1)]
    );
    let actions = run.handle(secs(1), over(1, 1, Verdict::Pass));
    assert_eq!(starts(&actions), [(1, 2, 1)]);
}

#[test]
fn a_run_without_tests_is_over_at_once() {
    let actions = dispatcher(Vec::new(), limits(2)).handle(secs(0), Input::Begin);
    assert!(run_finished(&actions).is_some());
    assert!(matches!(
        actions.last(),
        Some(Action::Finish { impatient: None })
    ));
}

#[test]
fn a_run_is_over_with_its_last_test() {
    let mut run = dispatcher(candidates(1), limits(2));
    run.handle(secs(0), Input::Begin);
    let actions = run.handle(secs(1), over(0, 1, Verdict::Pass));
    let finished = run_finished(&actions).unwrap();
    assert!(finished.stats.success());
    assert_eq!(finished.stats.passed, 1);
    assert!(run.handle(secs(2), Input::Deadline).is_empty());
}

#[test]
fn a_failed_test_is_tried_again_in_the_same_slot_after_its_delay() {
    let mut retried = settings();
    retried.retries = RetryPolicy::Exponential {
        count: 2,
        delay: secs(4),
        jitter: false,
        max_delay: Some(secs(5)),
    };
    let mut run = dispatcher(vec![candidate("a", retried)], limits(1));
    run.handle(secs(0), Input::Begin);
    assert!(starts(&run.handle(secs(1), over(0, 1, Verdict::Fail))).is_empty());
    assert_eq!(run.deadline(), Some(secs(5)));
    assert_eq!(starts(&run.handle(secs(5), Input::Deadline)), [(0, 0, 2)]);
    run.handle(secs(6), over(0, 2, Verdict::Fail));
    assert_eq!(run.deadline(), Some(secs(11)), "the second delay is capped");
    run.handle(secs(11), Input::Deadline);
    let actions = run.handle(secs(12), over(0, 3, Verdict::Pass));
    let [test] = &finished_tests(&actions)[..] else {
        panic!("one test ends")
    };
    assert!(test.flaky());
    assert_eq!(
        (test.verdict, test.attempts.len(), test.stats.flaky),
        (Verdict::Pass, 3, 1)
    );
}

#[test]
fn a_flaky_test_fails_where_the_profile_says_so() {
    let mut strict = settings();
    strict.retries = RetryPolicy::Fixed {
        count: 1,
        delay: Duration::ZERO,
        jitter: false,
    };
    strict.flaky_result = FlakyResult::Fail;
    let mut run = dispatcher(vec![candidate("a", strict)], limits(1));
    run.handle(secs(0), Input::Begin);
    let actions = run.handle(secs(1), over(0, 1, Verdict::Fail));
    assert_eq!(
        starts(&actions),
        [(0, 0, 2)],
        "without a delay it starts at once"
    );
    let stats = run_finished(&run.handle(secs(2), over(0, 2, Verdict::Pass)))
        .unwrap()
        .stats;
    assert_eq!((stats.failed, stats.failed_flaky, stats.passed), (1, 1, 0));
}

#[test]
fn fail_fast_starts_nothing_more_and_lets_running_tests_finish() {
    let max_fail = MaxFail::Count {
        max_fail: 1,
        terminate: TerminateMode::Wait,
    };
    let mut run = dispatcher(
        candidates(5),
        Limits {
            max_fail,
            ..limits(2)
        },
    );
    run.handle(secs(0), Input::Begin);
    let actions = run.handle(secs(1), over(0, 1, Verdict::Fail));
    assert!(starts(&actions).is_empty() && interrupts(&actions).is_empty());
    let finished = run_finished(&run.handle(secs(2), over(1, 1, Verdict::Pass))).unwrap();
    assert_eq!(finished.cancelled, Some(CancelReason::TestFailure));
    assert_eq!(finished.not_run.len(), 3);
    assert_eq!(finished.stats.not_run(), 3);
}

#[test]
fn immediate_fail_fast_terminates_running_tests() {
    let max_fail = MaxFail::Count {
        max_fail: 1,
        terminate: TerminateMode::Immediate,
    };
    let mut run = dispatcher(
        candidates(5),
        Limits {
            max_fail,
            ..limits(2)
        },
    );
    run.handle(secs(0), Input::Begin);
    let actions = run.handle(secs(1), over(0, 1, Verdict::Fail));
    assert_eq!(interrupts(&actions), [(1, Force::Signal(SIGTERM))]);
}

#[test]
fn the_first_interrupt_asks_and_the_second_kills() {
    let mut run = dispatcher(candidates(3), limits(2));
    run.handle(secs(0), Input::Begin);
    let signal = SIGINT;
    let actions = run.handle(secs(1), Input::Shutdown { signal });
    assert_eq!(
        interrupts(&actions),
        [(0, Force::Signal(SIGINT)), (1, Force::Signal(SIGINT))]
    );
    let actions = run.handle(secs(2), Input::Shutdown { signal });
    assert_eq!(interrupts(&actions), [(0, Force::Kill), (1, Force::Kill)]);
    run.handle(secs(3), over(0, 1, Verdict::Interrupted));
    let finished = run_finished(&run.handle(secs(3), over(1, 1, Verdict::Interrupted))).unwrap();
    assert_eq!(finished.cancelled, Some(CancelReason::Interrupt));
    assert_eq!((finished.stats.interrupted, finished.not_run.len()), (2, 1));
    assert!(!finished.stats.success());
}

#[test]
fn the_third_interrupt_does_not_wait_and_loses_no_test() {
    let mut run = dispatcher(candidates(1), limits(1));
    run.handle(secs(0), Input::Begin);
    for _ in 0..2 {
        run.handle(secs(1), Input::Shutdown { signal: SIGINT });
    }
    let actions = run.handle(secs(1), Input::Shutdown { signal: SIGTERM });
    assert!(matches!(
        actions.last(),
        Some(Action::Finish {
            impatient: Some(SIGTERM)
        })
    ));
    let finished = finished_tests(&actions);
    assert_eq!(finished[0].attempts.len(), 1);
    assert_eq!(finished[0].verdict, Verdict::Interrupted);
    let run = run_finished(&actions).unwrap();
    assert_eq!((run.stats.interrupted, run.stats.faults), (1, 0));
    assert_eq!(run.cancelled, Some(CancelReason::Interrupt));
}

#[test]
fn the_attempt_of_a_lost_slot_is_a_fault_and_retried_by_policy() {
    let mut retried = settings();
    retried.retries = RetryPolicy::Fixed {
        count: 1,
        delay: Duration::ZERO,
        jitter: false,
    };
    let mut run = dispatcher(vec![candidate("a", retried)], limits(1));
    run.handle(secs(0), Input::Begin);
    let lost = || Input::SlotLost {
        slot: 0,
        message: "its slot panicked".to_owned(),
    };
    assert_eq!(starts(&run.handle(secs(1), lost())), [(0, 0, 2)]);
    let actions = run.handle(secs(2), lost());
    let attempts = &finished_tests(&actions)[0].attempts;
    assert!(
        attempts
            .iter()
            .all(|a| matches!(a.outcome, Outcome::HarnessFault(_)))
    );
    assert_eq!(attempts[1].number, 2);
    assert_eq!(run_finished(&actions).unwrap().stats.faults, 1);
}

#[test]
fn a_test_that_waits_for_its_retry_keeps_its_result_when_the_run_is_cancelled() {
    let mut retried = settings();
    retried.retries = RetryPolicy::Fixed {
        count: 3,
        delay: secs(60),
        jitter: false,
    };
    let mut run = dispatcher(vec![candidate("a", retried)], limits(1));
    run.handle(secs(0), Input::Begin);
    run.handle(secs(1), over(0, 1, Verdict::Fail));
    let actions = run.handle(secs(2), Input::Shutdown { signal: SIGINT });
    let [test] = &finished_tests(&actions)[..] else {
        panic!("one test ends")
    };
    assert_eq!((test.verdict, test.attempts.len()), (Verdict::Fail, 1));
    assert_eq!(run_finished(&actions).unwrap().stats.failed, 1);
}

#[test]
fn a_retry_that_is_interrupted_stays_a_failure() {
    let mut retried = settings();
    retried.retries = RetryPolicy::Fixed {
        count: 1,
        delay: Duration::ZERO,
        jitter: false,
    };
    let mut run = dispatcher(vec![candidate("a", retried)], limits(1));
    run.handle(secs(0), Input::Begin);
    run.handle(secs(1), over(0, 1, Verdict::Fail));
    run.handle(secs(2), Input::Shutdown { signal: SIGINT });
    let actions = run.handle(secs(2), over(0, 2, Verdict::Interrupted));
    assert_eq!(finished_tests(&actions)[0].verdict, Verdict::Fail);
    let stats = run_finished(&actions).unwrap().stats;
    assert_eq!((stats.failed, stats.interrupted), (1, 0));
}

#[test]
fn the_global_timeout_terminates_what_runs() {
    let global_timeout = Some(secs(100));
    let mut run = dispatcher(
        candidates(2),
        Limits {
            global_timeout,
            ..limits(1)
        },
    );
    run.handle(secs(0), Input::Begin);
    assert_eq!(run.deadline(), Some(secs(100)));
    let actions = run.handle(secs(100), Input::Deadline);
    assert_eq!(interrupts(&actions), [(0, Force::Signal(SIGTERM))]);
    assert_eq!(run.deadline(), None);
    let finished = run_finished(&run.handle(secs(101), over(0, 1, Verdict::Interrupted))).unwrap();
    assert_eq!(finished.cancelled, Some(CancelReason::GlobalTimeout));
}

#[test]
fn a_run_that_gave_up_is_still_bounded_by_the_global_timeout() {
    let mut run = dispatcher(
        candidates(2),
        Limits {
            global_timeout: Some(secs(100)),
            max_fail: MaxFail::Count {
                max_fail: 1,
                terminate: TerminateMode::Wait,
            },
            ..limits(2)
        },
    );
    run.handle(secs(0), Input::Begin);
    run.handle(secs(1), over(0, 1, Verdict::Fail));
    assert_eq!(run.deadline(), Some(secs(100)));
    let actions = run.handle(secs(100), Input::Deadline);
    assert_eq!(interrupts(&actions), [(1, Force::Signal(SIGTERM))]);
}

#[test]
fn a_lesser_reason_does_not_replace_a_greater_one() {
    let timed = Limits {
        global_timeout: Some(secs(10)),
        ..limits(1)
    };
    let mut run = dispatcher(candidates(2), timed);
    run.handle(secs(0), Input::Begin);
    run.handle(secs(10), Input::Deadline);
    assert!(run.handle(secs(10), Input::ReportFailed).is_empty());
    run.handle(secs(11), Input::Shutdown { signal: SIGTERM });
    assert!(run.handle(secs(11), Input::ReportFailed).is_empty());
    let finished = run_finished(&run.handle(secs(12), over(0, 1, Verdict::Interrupted)));
    assert_eq!(
        finished.unwrap().cancelled,
        Some(CancelReason::Signal(SIGTERM))
    );
}

#[test]
fn a_heavy_test_waits_for_its_slots_and_is_not_overtaken() {
    let mut heavy = settings();
    heavy.threads_required = ThreadsRequired::Count(2);
    let mut tests = candidates(2);
    tests.insert(1, candidate("heavy", heavy));
    let mut run = dispatcher(tests, limits(2));
    assert_eq!(starts(&run.handle(secs(0), Input::Begin)), [(0, 0, 1)]);
    assert_eq!(
        starts(&run.handle(secs(1), over(0, 1, Verdict::Pass))),
        [(0, 1, 1)]
    );
    assert_eq!(
        starts(&run.handle(secs(2), over(0, 1, Verdict::Pass))),
        [(0, 2, 1)]
    );
}

#[test]
fn a_test_that_wants_more_slots_than_there_are_gets_all() {
    let mut heavy = settings();
    heavy.threads_required = ThreadsRequired::Count(10);
    let mut run = dispatcher(vec![candidate("heavy", heavy)], limits(2));
    assert_eq!(starts(&run.handle(secs(0), Input::Begin)), [(0, 0, 1)]);
}

#[test]
fn an_exclusive_test_runs_beside_no_other_whatever_its_group() {
    let mut alone = settings();
    alone.exclusive = true;
    let mut grouped = settings();
    grouped.test_group = TestGroup::Named("db".to_owned());
    let tests = vec![
        candidate("free", settings()),
        candidate("alone", alone),
        candidate("grouped", grouped),
    ];
    let limits = Limits {
        groups: BTreeMap::from([("db".to_owned(), 4)]),
        ..limits(4)
    };
    let mut run = dispatcher(tests, limits);
    assert_eq!(starts(&run.handle(secs(0), Input::Begin)), [(0, 0, 1)]);
    assert_eq!(
        starts(&run.handle(secs(1), over(0, 1, Verdict::Pass))),
        [(0, 1, 1)]
    );
    assert_eq!(
        starts(&run.handle(secs(2), over(0, 1, Verdict::Pass))),
        [(0, 2, 1)]
    );
}

#[test]
fn tests_start_as_long_as_there_is_memory_for_them() {
    let needs = |memory| Candidate {
        memory,
        ..candidate(&format!("needs{memory}"), settings())
    };
    let tests = vec![needs(60), needs(50), needs(40), needs(0)];
    let limits = Limits {
        memory: Some(100),
        ..limits(4)
    };
    let mut run = dispatcher(tests, limits);
    assert_eq!(
        starts(&run.handle(secs(0), Input::Begin)),
        [(0, 0, 1)],
        "the second one keeps its turn"
    );
    assert_eq!(
        starts(&run.handle(secs(1), over(0, 1, Verdict::Pass))),
        [(0, 1, 1), (1, 2, 1), (2, 3, 1)]
    );
}

#[test]
fn a_test_that_needs_more_memory_than_there_is_runs_alone() {
    let mut tests = candidates(2);
    let large = Candidate {
        memory: 101,
        ..candidate("large", settings())
    };
    tests.insert(1, large);
    let limits = Limits {
        memory: Some(100),
        ..limits(4)
    };
    let mut run = dispatcher(tests, limits);
    assert_eq!(starts(&run.handle(secs(0), Input::Begin)), [(0, 0, 1)]);
    assert_eq!(
        starts(&run.handle(secs(1), over(0, 1, Verdict::Pass))),
        [(0, 1, 1)]
    );
    assert_eq!(
        starts(&run.handle(secs(2), over(0, 1, Verdict::Pass))),
        [(0, 2, 1)]
    );
}

#[test]
fn a_full_group_is_overtaken_by_tests_outside_it() {
    let mut grouped = settings();
    grouped.test_group = TestGroup::Named("db".to_owned());
    let tests = vec![
        candidate("db1", grouped.clone()),
        candidate("db2", grouped.clone()),
        candidate("db3", grouped),
        candidate("free", settings()),
    ];
    let groups = BTreeMap::from([("db".to_owned(), 1)]);
    let mut run = dispatcher(
        tests,
        Limits {
            groups,
            ..limits(2)
        },
    );
    assert_eq!(
        starts(&run.handle(secs(0), Input::Begin)),
        [(0, 0, 1), (1, 3, 1)]
    );
    assert_eq!(
        starts(&run.handle(secs(1), over(0, 1, Verdict::Pass))),
        [(0, 1, 1)]
    );
    assert!(starts(&run.handle(secs(2), over(1, 1, Verdict::Pass))).is_empty());
    let actions = run.handle(secs(3), over(0, 1, Verdict::Pass));
    assert_eq!(starts(&actions), [(0, 2, 1)]);
    assert!(run_finished(&run.handle(secs(4), over(0, 1, Verdict::Pass))).is_some());
}

#[test]
fn every_test_is_started_once_whatever_the_weights_and_groups() {
    let groups = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    let tests: Vec<_> = (0..40)
        .map(|at| {
            let mut settings = settings();
            settings.threads_required = ThreadsRequired::Count(1 + at % 3);
            settings.test_group = match at % 4 {
                0 => TestGroup::Named("a".to_owned()),
                1 => TestGroup::Named("b".to_owned()),
                _ => TestGroup::Global,
            };
            candidate(&format!("t{at}"), settings)
        })
        .collect();
    let mut run = dispatcher(
        tests,
        Limits {
            groups,
            ..limits(3)
        },
    );
    let mut running = VecDeque::new();
    let mut started = Vec::new();
    let mut actions = run.handle(secs(0), Input::Begin);
    loop {
        for (slot, test, _) in starts(&actions) {
            running.push_back(slot);
            started.push(test);
        }
        let Some(slot) = running.pop_front() else {
            break;
        };
        actions = run.handle(secs(1), over(slot, 1, Verdict::Pass));
    }
    assert!(run_finished(&actions).is_some());
    started.sort_unstable();
    assert_eq!(started, (0..40).collect::<Vec<_>>());
}

#[test]
fn jitter_shortens_a_delay_by_less_than_half() {
    let mut retried = settings();
    retried.retries = RetryPolicy::Fixed {
        count: 1,
        delay: secs(10),
        jitter: true,
    };
    let mut run = Dispatcher::new(vec![candidate("a", retried)], limits(1), || 0.5);
    run.handle(secs(0), Input::Begin);
    run.handle(secs(0), over(0, 1, Verdict::Fail));
    assert_eq!(run.deadline(), Some(Duration::from_millis(7500)));
}

fn refused(slot: usize, number: u32) -> Input {
    let Input::AttemptOver {
        slot, mut attempt, ..
    } = over(slot, number, Verdict::Fail)
    else {
        unreachable!("it is over");
    };
    let message = "no process".to_owned();
    attempt.outcome = Outcome::HarnessFault(harness_metadata::Fault { message });
    Input::AttemptOver {
        slot,
        attempt,
        refused: true,
    }
}

fn closes(actions: &[Action]) -> Vec<usize> {
    let close = |action: &Action| match action {
        Action::Close { slot } => Some(*slot),
        _ => None,
    };
    actions.iter().filter_map(close).collect()
}

fn fewer(actions: &[Action]) -> Vec<usize> {
    let fewer = |action: &Action| match action {
        Action::Emit(EventKind::FewerSlots { slots, .. }) => Some(*slots),
        _ => None,
    };
    actions.iter().filter_map(fewer).collect()
}

#[test]
fn tests_that_are_refused_a_process_wait_for_the_slots_that_there_are() {
    let mut run = dispatcher(candidates(6), limits(4));
    assert_eq!(starts(&run.handle(secs(0), Input::Begin)).len(), 4);
    for slot in [1, 3] {
        let actions = run.handle(secs(1), refused(slot, 1));
        assert_eq!((closes(&actions), starts(&actions)), (vec![slot], vec![]));
        assert!(
            fewer(&actions).is_empty(),
            "said once, when it is known how many"
        );
    }
    let mut order = Vec::new();
    let actions = run.handle(secs(2), over(0, 1, Verdict::Pass));
    assert_eq!(fewer(&actions), [2]);
    order.extend(starts(&actions));
    for (at, slot) in [2, 0, 2].into_iter().enumerate() {
        let actions = run.handle(secs(3 + at as u64), over(slot, 1, Verdict::Pass));
        assert!(fewer(&actions).is_empty());
        order.extend(starts(&actions));
    }
    // Those that were refused come first, with the same attempt, in the slots that are left.
    assert_eq!(order, [(0, 1, 1), (2, 3, 1), (0, 4, 1), (2, 5, 1)]);
    run.handle(secs(7), over(0, 1, Verdict::Pass));
    run.handle(secs(7), over(2, 1, Verdict::Pass));
    assert_eq!(run.stats().passed, 6);
}

fn more(actions: &[Action]) -> Vec<usize> {
    let more = |action: &Action| match action {
        Action::Emit(EventKind::MoreSlots { slots }) => Some(*slots),
        _ => None,
    };
    actions.iter().filter_map(more).collect()
}

#[test]
fn slots_that_a_shortage_has_closed_open_again_when_it_has_passed() {
    let mut run = dispatcher(candidates(20), limits(4));
    run.handle(secs(0), Input::Begin);
    for slot in [1, 2, 3] {
        assert_eq!(closes(&run.handle(secs(1), refused(slot, 1))), [slot]);
    }
    assert_eq!(
        fewer(&run.handle(secs(1), over(0, 1, Verdict::Pass))),
        [1],
        "what runs goes on"
    );
    // Tried too early: what was refused waits again, and longer.
    assert_eq!(run.deadline(), Some(secs(2)));
    assert_eq!(starts(&run.handle(secs(2), Input::Deadline)).len(), 1);
    assert_eq!(closes(&run.handle(secs(2), refused(1, 1))), [1]);
    assert_eq!(run.deadline(), Some(secs(4)));
    for (now, slot) in [(4, 1), (5, 2), (6, 3)] {
        assert_eq!(run.deadline(), Some(secs(now)));
        let actions = run.handle(secs(now), Input::Deadline);
        assert_eq!(starts(&actions).len(), 1, "slot {slot}");
        assert!(more(&actions).is_empty() && fewer(&actions).is_empty());
    }
    assert_eq!(more(&run.handle(secs(7), Input::Deadline)), [4]);
    assert_eq!(run.running(), 4);
    assert_eq!(run.deadline(), None);
}

#[test]
fn a_shortage_that_stays_is_looked_at_more_and_more_seldom_and_told_once() {
    let mut run = dispatcher(candidates(4), limits(2));
    run.handle(secs(0), Input::Begin);
    run.handle(secs(0), refused(1, 1));
    let (mut told, mut now, mut rests) = (0, secs(0), Vec::new());
    for _ in 0..7 {
        let next = run.deadline().expect("it is tried again");
        rests.push((next - now).as_secs());
        now = next;
        told += fewer(&run.handle(now, Input::Deadline)).len();
        told += fewer(&run.handle(now, refused(1, 1))).len();
        told += fewer(&run.handle(now, over(0, 1, Verdict::Fail))).len();
        if run.stats().failed == 3 {
            break;
        }
    }
    assert_eq!((rests, told), (vec![1, 2, 4], 1));
}

/// The interval between messages that the run waits for the system.
fn awaits(actions: &[Action]) -> usize {
    let awaits = |action: &&Action| matches!(action, Action::Emit(EventKind::AwaitsSystem { because, .. }) if because == "no process");
    actions.iter().filter(awaits).count()
}

#[test]
fn a_passing_shortage_is_waited_for() {
    let mut run = dispatcher(candidates(3), limits(2));
    run.handle(secs(0), Input::Begin);
    assert_eq!(closes(&run.handle(secs(1), refused(0, 1))), [0]);
    let (mut said, mut now) = (0, secs(1));
    for _ in 0..8 {
        let actions = run.handle(now, refused(1, 1));
        said += awaits(&actions);
        assert_eq!(starts(&actions), [], "not at once");
        let later = run.deadline().expect("it is tried again");
        assert!(later > now && later - now <= secs(2));
        now = later;
        assert_eq!(starts(&run.handle(now, Input::Deadline)), [(1, 1, 1)]);
    }
    assert_eq!(said, 1);
    run.handle(now, over(1, 1, Verdict::Pass));
    run.handle(now, over(1, 1, Verdict::Pass));
    run.handle(now, over(1, 1, Verdict::Pass));
    assert_eq!((run.stats().passed, run.stats().failures()), (3, 0));
}

#[test]
fn a_shortage_that_lasts_fails_a_test_when_the_limit_is_over() {
    let mut run = dispatcher(candidates(2), limits(1));
    run.handle(secs(0), Input::Begin);
    let mut now = secs(1);
    let actions = loop {
        let actions = run.handle(now, refused(0, 1));
        if run.stats().failures() > 0 {
            break actions;
        }
        now = run.deadline().expect("it is tried again");
        run.handle(now, Input::Deadline);
    };
    let limit = scarce::Shortage::LIMIT;
    assert!(now <= secs(1) + limit && now >= secs(1) + limit - secs(2));
    let failed = &finished_tests(&actions)[0].attempts[0].outcome;
    let Outcome::HarnessFault(fault) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(fault.message, "no process; it was tried for 30s");
    assert_eq!(starts(&actions), [(0, 1, 1)], "the other has its turn");
    run.handle(now, refused(0, 1));
    assert_eq!(run.stats().failures(), 2, "it does not wait as long again");
}

#[test]
fn a_test_that_waits_for_the_system_has_not_run_when_the_run_is_cancelled() {
    let mut run = dispatcher(candidates(1), limits(1));
    run.handle(secs(0), Input::Begin);
    run.handle(secs(1), refused(0, 1));
    let actions = run.handle(secs(2), Input::Shutdown { signal: SIGINT });
    let finished = actions.iter().find_map(|action| match action {
        Action::Emit(EventKind::RunFinished(run)) => Some(run),
        _ => None,
    });
    assert_eq!(finished.expect("the run is over").not_run.len(), 1);
}

#[test]
fn a_test_that_waits_for_a_process_keeps_the_result_it_had_when_the_run_is_cancelled() {
    let retried = TestSettings {
        retries: RetryPolicy::Fixed {
            count: 1,
            delay: Duration::ZERO,
            jitter: false,
        },
        ..settings()
    };
    let tests = vec![
        candidate("a", retried),
        candidate("b", settings()),
        candidate("c", settings()),
    ];
    let mut run = dispatcher(tests, limits(3));
    run.handle(secs(0), Input::Begin);
    run.handle(secs(1), over(0, 1, Verdict::Fail));
    assert_eq!(closes(&run.handle(secs(2), refused(0, 2))), [0]);
    assert_eq!(closes(&run.handle(secs(2), refused(1, 1))), [1]);
    run.handle(secs(3), Input::Shutdown { signal: SIGINT });
    let actions = run.handle(secs(4), over(2, 1, Verdict::Interrupted));
    assert_eq!(run.stats().failed, 1, "its first attempt");
    let finished = actions.iter().find_map(|action| match action {
        Action::Emit(EventKind::RunFinished(run)) => Some(run),
        _ => None,
    });
    let not_run = &finished.expect("the run is over").not_run;
    assert_eq!(not_run.len(), 1, "{not_run:?}");
}

#[test]
fn a_failure_in_quarantine_ends_no_run_until_it_has_expired() {
    let quarantined = |expired| Candidate {
        quarantine: Some(Box::new(Quarantine {
            reason: "a race".to_owned(),
            owner: "net".to_owned(),
            expires: "2026-12-31".parse().expect("it is a day"),
            expired,
        })),
        ..candidate("shaky", settings())
    };
    for (expired, verdict, cancelled) in [
        (false, Verdict::Quarantined, false),
        (true, Verdict::Fail, true),
    ] {
        let limits = Limits {
            max_fail: MaxFail::from_fail_fast(true),
            ..limits(1)
        };
        let mut run = dispatcher(
            vec![quarantined(expired), candidate("t", settings())],
            limits,
        );
        run.handle(secs(0), Input::Begin);
        let actions = run.handle(secs(1), over(0, 1, Verdict::Fail));
        let finished = &finished_tests(&actions)[0];
        assert_eq!(finished.verdict, verdict);
        assert_eq!(finished.attempts[0].verdict, Verdict::Fail);
        assert_eq!(run.stats().failures(), usize::from(expired));
        assert_eq!(run.cancelled.is_some(), cancelled);
    }
}

fn stressed(until: Until, mode: StressMode, tests: usize, slots: usize) -> Dispatcher {
    let limits = Limits {
        stress: Some(Stress { until, mode }),
        max_fail: MaxFail::from_fail_fast(true),
        ..limits(slots)
    };
    dispatcher(candidates(tests), limits)
}

fn started_names(actions: &[Action]) -> Vec<String> {
    let started = actions.iter().filter_map(|action| match action {
        Action::Emit(EventKind::AttemptStarted(started)) => Some(started.test.to_string()),
        _ => None,
    });
    started.collect()
}

/// Returns the number of each ended iteration, its time, and how many of its tests passed.
fn iterations(actions: &[Action]) -> Vec<(usize, Duration, usize)> {
    let ended = actions.iter().filter_map(|action| match action {
        Action::Emit(EventKind::IterationFinished(it)) => {
            Some((it.iteration, it.elapsed, it.stats.passed))
        }
        _ => None,
    });
    ended.collect()
}

#[test]
fn an_iteration_that_a_failure_breaks_off_ends_with_the_run() {
    let mut run = stressed(Until::Ended, StressMode::Serial, 2, 1);
    run.handle(secs(0), Input::Begin);
    let actions = run.handle(secs(1), over(0, 1, Verdict::Fail));
    assert_eq!(iterations(&actions), [(0, secs(1), 0)]);
    let end = run_finished(&actions).expect("it failed");
    let left: Vec<_> = end.not_run.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["krate@stress-0 t1"]);
}

#[test]
fn serial_iterations_wait_for_each_other_and_parallel_ones_fill_the_slots() {
    let twice = || Until::Count(std::num::NonZeroU32::new(2).expect("it is 2"));
    let mut run = stressed(twice(), StressMode::Serial, 1, 4);
    assert_eq!(
        started_names(&run.handle(secs(0), Input::Begin)),
        ["krate@stress-0 t0"]
    );
    let actions = run.handle(secs(1), over(0, 1, Verdict::Pass));
    assert_eq!(started_names(&actions), ["krate@stress-1 t0"]);
    let actions = run.handle(secs(2), over(0, 1, Verdict::Pass));
    assert_eq!(iterations(&actions), [(1, secs(1), 1)]);
    let end = run_finished(&actions);
    assert_eq!(end.expect("it ends").stats.finished, 2);

    let mut run = stressed(twice(), StressMode::Parallel, 1, 4);
    assert_eq!(
        started_names(&run.handle(secs(0), Input::Begin)),
        ["krate@stress-0 t0", "krate@stress-1 t0"]
    );
}

#[test]
fn iterations_without_a_count_end_with_the_time_or_with_a_failure() {
    let mut run = stressed(Until::Time(secs(2)), StressMode::Parallel, 1, 1);
    run.handle(secs(0), Input::Begin);
    assert_eq!(
        started_names(&run.handle(secs(1), over(0, 1, Verdict::Pass))),
        ["krate@stress-1 t0"]
    );
    let end = run_finished(&run.handle(secs(3), over(0, 1, Verdict::Pass)));
    let end = end.expect("the time is over");
    assert_eq!((end.stats.selected, end.stats.passed), (2, 2));
    assert_eq!(end.cancelled, None);

    let mut run = stressed(Until::Ended, StressMode::Parallel, 1, 1);
    run.handle(secs(0), Input::Begin);
    run.handle(secs(1), over(0, 1, Verdict::Pass));
    let end = run_finished(&run.handle(secs(2), over(0, 1, Verdict::Fail)));
    assert_eq!(
        end.expect("it failed").cancelled,
        Some(CancelReason::TestFailure)
    );
}

#[test]
fn parallel_iterations_do_not_pile_up_behind_a_full_group() {
    let mut grouped = settings();
    grouped.test_group = TestGroup::Named("db".to_owned());
    let limits = Limits {
        groups: BTreeMap::from([("db".to_owned(), 1)]),
        stress: Some(Stress {
            until: Until::Ended,
            mode: StressMode::Parallel,
        }),
        ..limits(4)
    };
    let mut run = dispatcher(vec![candidate("db", grouped)], limits);
    run.handle(secs(0), Input::Begin);
    for second in 1..100 {
        run.handle(secs(second), over(0, 1, Verdict::Pass));
    }
    assert!(run.instances <= 102, "{} instances", run.instances);
    // Memory is taken by those that are not over.
    assert_eq!(run.tests.len(), 1);
    assert!(run.unstarted.len() <= 2, "{:?}", run.unstarted);
    assert!(run.iterations.running() <= 2, "{:?}", run.iterations);
}
