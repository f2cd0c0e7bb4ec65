//! Services: what starts when, and what waits for what.

use super::*;
use crate::run::dispatch::{Conditions, Said, ServiceCandidate, StepCandidate, Variables};

/// A service with these tests, behind `tests` tests and `index` other services.
fn service(
    index: usize,
    tests: usize,
    instance: Option<&str>,
    wanted: &[usize],
) -> ServiceCandidate {
    let name = format!("v{index}");
    ServiceCandidate {
        process: StepCandidate {
            unit: tests + index,
            id: candidate(&name, settings()).id,
            command: Vec::new(),
            uncaptured: false,
        },
        name,
        instance: instance.map(str::to_owned),
        conditions: Conditions {
            looks: true,
            timeout: secs(60),
            interval: secs(1),
            ..Conditions::default()
        },
        stop_signal: 15,
        tests: wanted.to_vec(),
        scripts: Vec::new(),
        output: settings().output,
    }
}

/// Two slots and three tests. Service `n` has slot `2 + n`.
fn with_services(wanted: &[(Option<&str>, &[usize])]) -> Dispatcher {
    let services = wanted.iter().enumerate();
    let services = services.map(|(at, (instance, tests))| service(at, 3, *instance, tests));
    dispatcher(candidates(3), limits(2)).with_services(services.collect())
}

/// The slots in which actions start something, in order.
fn started(actions: &[Action]) -> Vec<usize> {
    starts(actions).iter().map(|(slot, ..)| *slot).collect()
}

fn stopped(actions: &[Action]) -> Vec<usize> {
    let stop = |action: &Action| match action {
        Action::Interrupt { slot, .. } => Some(*slot),
        _ => None,
    };
    actions.iter().filter_map(stop).collect()
}

fn is_finished(actions: &[Action]) -> bool {
    let finish = |action: &Action| matches!(action, Action::Finish { .. });
    actions.iter().any(finish)
}

/// Lets a service become ready. Returns the actions of the last step.
fn up(run: &mut Dispatcher, now: u64, service: usize) -> Vec<Action> {
    let slot = 2 + service;
    let what = Said::Begun;
    let looks = run.handle(secs(now), Input::ServiceSaid { slot, what });
    assert!(
        looks
            .iter()
            .any(|action| matches!(action, Action::Look { .. }))
    );
    let answer = Ok(());
    run.handle(secs(now), Input::ServiceLooked { service, answer });
    let variables: Variables = Ok(BTreeMap::new());
    run.handle(secs(now), Input::ServicePublished { service, variables })
}

fn service_over(slot: usize, verdict: Verdict) -> Input {
    match over(slot, 1, verdict) {
        Input::AttemptOver { slot, attempt, .. } => Input::ScriptOver {
            slot,
            attempt,
            variables: Ok(BTreeMap::new()),
        },
        other => other,
    }
}

#[test]
fn services_start_together_and_only_their_tests_wait() {
    let mut run = with_services(&[(None, &[0]), (None, &[1])]);
    assert_eq!(started(&run.handle(secs(0), Input::Begin)), [0, 2, 3]);
    assert_eq!(starts(&up(&mut run, 1, 1)), [(1, 1, 1)]);
    assert_eq!(
        stopped(&run.handle(secs(2), over(1, 1, Verdict::Pass))),
        [3]
    );
    assert_eq!(starts(&up(&mut run, 3, 0)), [(1, 0, 1)]);
    run.handle(secs(4), over(0, 1, Verdict::Pass));
    assert_eq!(
        stopped(&run.handle(secs(4), over(1, 1, Verdict::Pass))),
        [2]
    );
    assert!(!is_finished(
        &run.handle(secs(5), service_over(3, Verdict::Interrupted))
    ));
    assert!(is_finished(
        &run.handle(secs(5), service_over(2, Verdict::Interrupted))
    ));
    assert!(run.services.failed().is_empty());
}

#[test]
fn instances_start_with_their_tests_and_are_no_more_than_slots() {
    let mut run = with_services(&[(Some("a"), &[0]), (Some("b"), &[1]), (Some("c"), &[2])]);
    assert_eq!(started(&run.handle(secs(0), Input::Begin)), [2, 3]);
    up(&mut run, 1, 0);
    let ends = run.handle(secs(2), over(0, 1, Verdict::Pass));
    assert_eq!((started(&ends), stopped(&ends)), (vec![], vec![2]));
    let room = run.handle(secs(3), service_over(2, Verdict::Interrupted));
    assert_eq!(started(&room), [4]);
}

#[test]
fn tests_that_want_more_instances_than_there_are_slots_run_at_last() {
    // Test 0 wants two, and each of the others shares one of them and wants another.
    let mut run = with_services(&[
        (Some("a"), &[0, 1]),
        (Some("b"), &[0, 2]),
        (Some("c"), &[1, 2]),
    ]);
    assert_eq!(started(&run.handle(secs(0), Input::Begin)), [2, 3]);
    up(&mut run, 1, 0);
    assert_eq!(starts(&up(&mut run, 1, 1)), [(0, 0, 1)]);
    assert_eq!(
        started(&run.handle(secs(2), over(0, 1, Verdict::Pass))),
        [4]
    );
    assert_eq!(started(&up(&mut run, 3, 2)), [0, 1]);
}

#[test]
fn a_service_that_is_not_ready_in_time_is_ended_and_cancels_the_run() {
    let mut run = with_services(&[(None, &[0, 1, 2])]);
    run.handle(secs(0), Input::Begin);
    assert_eq!(run.deadline(), Some(secs(60)));
    assert_eq!(stopped(&run.handle(secs(60), Input::Deadline)), [2]);
    let last = run.handle(secs(61), service_over(2, Verdict::Interrupted));
    assert!(is_finished(&last));
    let told = last.iter().find_map(|action| match action {
        Action::Emit(EventKind::ServiceFinished(finished)) => finished.problem.clone(),
        _ => None,
    });
    let told = told.expect("it has failed");
    assert!(told.starts_with("was not ready after 1m: "), "{told}");
    assert_eq!(run.services.failed(), ["v0"]);
}

#[test]
fn tests_fail_with_the_service_that_they_want() {
    let mut run = dispatcher(
        candidates(3),
        Limits {
            max_fail: MaxFail::All,
            ..limits(1)
        },
    )
    .with_services(vec![service(0, 3, None, &[0, 1])]);
    // With one slot, service 0 has slot 1.
    run.handle(secs(0), Input::Begin);
    run.handle(secs(0), over(0, 1, Verdict::Pass));
    let slot = 1;
    let what = Said::Begun;
    run.handle(secs(1), Input::ServiceSaid { slot, what });
    run.handle(
        secs(1),
        Input::ServiceLooked {
            service: 0,
            answer: Ok(()),
        },
    );
    let variables: Variables = Ok(BTreeMap::new());
    let ready = run.handle(
        secs(1),
        Input::ServicePublished {
            service: 0,
            variables,
        },
    );
    assert_eq!(starts(&ready), [(0, 0, 1)]);
    let lost = run.handle(secs(2), service_over(1, Verdict::Fail));
    let results = |actions: &[Action]| -> Vec<(String, Verdict, usize)> {
        let result = |action: &Action| match action {
            Action::Emit(EventKind::TestFinished(test)) => Some((
                test.test.name.as_str().to_owned(),
                test.verdict,
                test.services.len(),
            )),
            _ => None,
        };
        actions.iter().filter_map(result).collect()
    };
    let unstarted = results(&lost);
    assert_eq!(
        (unstarted.len(), unstarted[0].1, unstarted[0].2),
        (1, Verdict::Fail, 1)
    );
    assert_eq!(run.deadline(), Some(secs(7)));
    assert_eq!(stopped(&run.handle(secs(7), Input::Deadline)), [0]);
    let last = run.handle(secs(8), over(0, 1, Verdict::Pass));
    assert_eq!(
        results(&last)[0].1,
        Verdict::Fail,
        "whatever it says itself"
    );
    assert!(is_finished(&last));
}

#[test]
fn ctrl_c_ends_services_once_their_tests_have_ended() {
    let mut run = with_services(&[(None, &[0]), (None, &[1])]);
    run.handle(secs(0), Input::Begin);
    up(&mut run, 1, 0);
    let actions = run.handle(secs(2), Input::Shutdown { signal: SIGINT });
    assert_eq!(stopped(&actions), [0, 1, 3], "tests, and what is not ready");
    let actions = run.handle(secs(3), over(1, 1, Verdict::Interrupted));
    assert_eq!(stopped(&actions), [2]);
}
