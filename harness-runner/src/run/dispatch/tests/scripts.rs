//! Setup scripts and teardowns: what runs when.

use super::*;
use crate::run::dispatch::{ScriptCandidate, StepCandidate, Variables};

/// The units of the setups follow those of `tests` tests, each with that of its teardown behind it.
fn scripts(tests: usize, wanted: &[&[usize]]) -> Vec<ScriptCandidate> {
    let scripts = wanted.iter().enumerate().map(|(at, wanted)| {
        let name = format!("s{at}");
        let step = |unit: usize| StepCandidate {
            unit: tests + unit,
            id: candidate(&name, settings()).id,
            command: Vec::new(),
            uncaptured: false,
        };
        ScriptCandidate {
            setup: step(2 * at),
            teardown: Some(step(2 * at + 1)),
            tests: wanted.to_vec(),
            output: settings().output,
            name: name.clone(),
        }
    });
    scripts.collect()
}

/// Two slots, two tests and scripts. The setup of script `n` has slot `2 + 2n`.
fn with_scripts(wanted: &[&[usize]]) -> Dispatcher {
    dispatcher(candidates(2), limits(2)).with_scripts(scripts(2, wanted))
}

fn script_over(slot: usize, verdict: Verdict, variables: Variables) -> Input {
    match over(slot, 1, verdict) {
        Input::AttemptOver { slot, attempt, .. } => Input::ScriptOver {
            slot,
            attempt,
            variables,
        },
        other => other,
    }
}

fn passed(slot: usize) -> Input {
    script_over(slot, Verdict::Pass, Ok(BTreeMap::new()))
}

fn ended(slot: usize) -> Input {
    let survivors = Vec::new();
    Input::ScriptEnded { slot, survivors }
}

/// The slots in which actions start something, in order.
fn started(actions: &[Action]) -> Vec<usize> {
    starts(actions).iter().map(|(slot, ..)| *slot).collect()
}

fn ends(actions: &[Action]) -> Vec<usize> {
    let end = |action: &Action| match action {
        Action::End { slot } => Some(*slot),
        _ => None,
    };
    actions.iter().filter_map(end).collect()
}

fn finished(actions: &[Action]) -> Option<RunFinished> {
    actions.iter().find_map(|action| match action {
        Action::Emit(EventKind::RunFinished(finished)) => Some((**finished).clone()),
        _ => None,
    })
}

#[test]
fn scripts_run_one_by_one_before_tests_and_are_torn_down_in_reverse() {
    let mut run = with_scripts(&[&[0, 1], &[0, 1]]);
    assert_eq!(started(&run.handle(secs(0), Input::Begin)), [2]);
    assert_eq!(started(&run.handle(secs(1), passed(2))), [4]);
    assert_eq!(started(&run.handle(secs(2), passed(4))), [0, 1]);
    let one_left = run.handle(secs(3), over(0, 1, Verdict::Pass));
    assert_eq!(started(&one_left), [0; 0]);
    assert_eq!(
        started(&run.handle(secs(4), over(1, 1, Verdict::Pass))),
        [5]
    );
    assert_eq!(ends(&run.handle(secs(5), passed(5))), [4]);
    assert_eq!(started(&run.handle(secs(6), ended(4))), [3]);
    let last = run.handle(secs(7), passed(3));
    assert!(
        finished(&last).is_none(),
        "its last processes are still killed"
    );
    let last = finished(&run.handle(secs(8), ended(2))).expect("nothing is left");
    assert!(last.failed_scripts.is_empty() && last.cancelled.is_none());
}

#[test]
fn a_script_is_torn_down_when_no_test_wants_it_any_more() {
    let mut run = with_scripts(&[&[0]]);
    run.handle(secs(0), Input::Begin);
    run.handle(secs(1), passed(2));
    let actions = run.handle(secs(2), over(0, 1, Verdict::Fail));
    assert_eq!(started(&actions), [3], "while the other test still runs");
}

#[test]
fn a_failed_script_cancels_the_run_and_is_torn_down() {
    let mut run = with_scripts(&[&[0], &[1]]);
    run.handle(secs(0), Input::Begin);
    let failed = script_over(2, Verdict::Fail, Ok(BTreeMap::new()));
    let actions = run.handle(secs(1), failed);
    assert_eq!(started(&actions), [3], "neither the next script nor a test");
    run.handle(secs(2), passed(3));
    let last = finished(&run.handle(secs(3), ended(2))).expect("nothing is left");
    assert_eq!(last.cancelled, Some(CancelReason::SetupFailed));
    assert_eq!(last.failed_scripts, ["s0"]);
    assert_eq!(last.not_run.len(), 2);
}

#[test]
fn variables_that_cannot_be_taken_fail_the_script() {
    let mut run = with_scripts(&[&[0]]);
    run.handle(secs(0), Input::Begin);
    let wrong = Err("line 1 is wrong".to_owned());
    let actions = run.handle(secs(1), script_over(2, Verdict::Pass, wrong));
    let told = actions.iter().find_map(|action| match action {
        Action::Emit(EventKind::SetupFinished(finished)) => Some(finished),
        _ => None,
    });
    let told = told.expect("it has ended");
    assert_eq!(told.problem.as_deref(), Some("line 1 is wrong"));
    assert_eq!(told.attempt.verdict, Verdict::Fail);
}

#[test]
fn ctrl_c_interrupts_a_setup_but_no_teardown() {
    let mut run = with_scripts(&[&[0]]);
    run.handle(secs(0), Input::Begin);
    let actions = run.handle(secs(1), Input::Shutdown { signal: SIGINT });
    let interrupted = |actions: &[Action]| {
        let mut actions = actions.iter();
        actions.any(|action| matches!(action, Action::Interrupt { .. }))
    };
    assert!(interrupted(&actions));
    let over = script_over(2, Verdict::Interrupted, Ok(BTreeMap::new()));
    assert_eq!(started(&run.handle(secs(2), over)), [3]);
    let again = run.handle(secs(3), Input::Shutdown { signal: SIGINT });
    assert!(!interrupted(&again), "{again:?}");
    run.handle(secs(4), passed(3));
    let last = finished(&run.handle(secs(5), ended(2))).expect("nothing is left");
    assert_eq!(last.cancelled, Some(CancelReason::Interrupt));
    assert!(last.failed_scripts.is_empty(), "it was interrupted");
}

#[test]
fn an_impatient_user_waits_for_no_teardown() {
    let mut run = with_scripts(&[&[0]]);
    run.handle(secs(0), Input::Begin);
    for _ in 0..2 {
        let actions = run.handle(secs(1), Input::Shutdown { signal: SIGINT });
        assert!(finished(&actions).is_none());
    }
    let last = run.handle(secs(1), Input::Shutdown { signal: SIGINT });
    assert!(finished(&last).is_some());
}

#[test]
fn a_failed_teardown_is_told_and_hides_no_result() {
    let mut run = with_scripts(&[&[0, 1]]);
    run.handle(secs(0), Input::Begin);
    run.handle(secs(1), passed(2));
    run.handle(secs(2), over(0, 1, Verdict::Pass));
    run.handle(secs(2), over(1, 1, Verdict::Pass));
    run.handle(secs(3), script_over(3, Verdict::Fail, Ok(BTreeMap::new())));
    let last = finished(&run.handle(secs(4), ended(2))).expect("nothing is left");
    assert!(last.stats.success() && last.cancelled.is_none());
    assert_eq!(last.failed_scripts, ["s0"]);
}

#[test]
fn the_time_limit_of_the_run_is_that_of_its_tests() {
    let limits = Limits {
        global_timeout: Some(secs(3)),
        ..limits(2)
    };
    let mut run = dispatcher(candidates(2), limits).with_scripts(scripts(2, &[&[0, 1]]));
    run.handle(secs(0), Input::Begin);
    run.handle(secs(1), passed(2));
    assert_eq!(run.deadline(), Some(secs(3)));
    run.handle(secs(2), over(0, 1, Verdict::Pass));
    run.handle(secs(2), over(1, 1, Verdict::Pass));
    assert_eq!(
        run.deadline(),
        None,
        "only a teardown is left, with a limit of its own"
    );
    assert!(!run.is_out_of_time(secs(9)));
}

#[test]
fn in_a_stress_run_scripts_last_through_all_iterations() {
    let limits = Limits {
        stress: Some(Stress {
            until: Until::Count(std::num::NonZeroU32::new(2).expect("it is 2")),
            mode: StressMode::Serial,
        }),
        ..limits(1)
    };
    let mut run = dispatcher(candidates(1), limits).with_scripts(scripts(1, &[&[0]]));
    assert_eq!(started(&run.handle(secs(0), Input::Begin)), [1]);
    assert_eq!(
        starts(&run.handle(secs(1), passed(1))),
        [(0, 0, 1)],
        "the first iteration"
    );
    // Behind the test, its script and the teardown.
    assert_eq!(
        starts(&run.handle(secs(2), over(0, 1, Verdict::Pass))),
        [(0, 3, 1)],
        "the second iteration"
    );
    let last = run.handle(secs(3), over(0, 1, Verdict::Pass));
    assert_eq!(started(&last), [2]);
    assert_eq!(ends(&run.handle(secs(4), passed(2))), [1]);
    let end = finished(&run.handle(secs(5), ended(1))).expect("nothing is left");
    assert_eq!(end.stats.passed, 2);
}
