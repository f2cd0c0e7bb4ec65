use super::{
    cancel::{SIGINT, SIGTERM},
    *,
};
use crate::config::settings::{
    LeakPolicy, LeakTimeout, RetryPolicy, SlowTimeout, TimeoutResult, TraceSetting,
};
use harness_metadata::{
    Exit, Outcome, RustBinaryId, TestCaseName, Usage,
    event::{OutputPolicy, OutputWhen},
    outcome::StreamSize,
};
use std::collections::VecDeque;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn settings() -> TestSettings {
    TestSettings {
        retries: RetryPolicy::NONE,
        flaky_result: FlakyResult::Pass,
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
        leak: LeakPolicy::Warn,
        limits: harness_metadata::Limits::default(),
        threads_required: ThreadsRequired::Count(1),
        test_group: TestGroup::Global,
        priority: 0,
        run_extra_args: Vec::new(),
        output: OutputPolicy {
            success: OutputWhen::Never,
            failure: OutputWhen::Immediate,
            junit_success: false,
            junit_failure: true,
            junit_flaky_fail_as_failure: true,
        },
        trace: TraceSetting::default(),
    }
}

fn candidate(name: &str, settings: TestSettings) -> Candidate {
    let id = TestId {
        binary: RustBinaryId::new("krate"),
        name: TestCaseName::new(name),
    };
    Candidate {
        id,
        settings: Arc::new(settings),
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
        slots,
        cpus: 4,
        groups: BTreeMap::new(),
        max_fail: MaxFail::All,
        global_timeout: None,
        skipped: 0,
    }
}

fn dispatcher(tests: Vec<Candidate>, limits: Limits) -> Dispatcher {
    Dispatcher::new(tests, limits, || 0.0)
}

fn over(slot: usize, number: u32, verdict: Verdict) -> Input {
    let code = i32::from(verdict != Verdict::Pass);
    Input::AttemptOver {
        slot,
        attempt: Box::new(Attempt {
            number,
            outcome: match verdict {
                Verdict::Interrupted => Outcome::Interrupted {
                    by: Interruption::Signal(SIGINT),
                    exit: None,
                },
                _ => Outcome::Exited(Exit::Code(code)),
            },
            leak: None,
            limits: Vec::new(),
            verdict,
            slow: false,
            started_at: chrono::DateTime::UNIX_EPOCH.fixed_offset(),
            elapsed: secs(1),
            usage: Usage::default(),
            stdout: StreamSize::default(),
            stderr: StreamSize::default(),
            pid: Some(7),
            stuck: Vec::new(),
            rerun: None,
            trace: None,
        }),
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
    assert!(matches!(actions.last(), Some(Action::Finish)));
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
fn the_third_interrupt_does_not_wait() {
    let mut run = dispatcher(candidates(1), limits(1));
    run.handle(secs(0), Input::Begin);
    for _ in 0..2 {
        run.handle(secs(1), Input::Shutdown { signal: SIGINT });
    }
    let actions = run.handle(secs(1), Input::Shutdown { signal: SIGINT });
    assert!(matches!(actions.last(), Some(Action::Finish)));
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
    let mut run = dispatcher(candidates(2), limits(2));
    run.handle(secs(0), Input::Begin);
    run.handle(secs(1), Input::Shutdown { signal: SIGINT });
    assert!(interrupts(&run.handle(secs(1), Input::ReportFailed)).is_empty());
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
