use super::*;

fn remote(name: &str) -> Candidate {
    Candidate {
        remote: true,
        ..candidate(name, settings())
    }
}

fn shared(tests: Vec<Candidate>, here: usize, elsewhere: usize) -> Dispatcher {
    let limits = Limits {
        remote_slots: elsewhere,
        ..limits(here)
    };
    Dispatcher::new(tests, limits, || 0.0)
}

/// The tests that start elsewhere, and those that start here, with their slots.
fn places(actions: &[Action]) -> [Vec<(usize, usize)>; 2] {
    let of = |elsewhere: bool| {
        let starts = actions.iter().filter_map(|action| match action {
            Action::Start {
                slot, test, remote, ..
            } if *remote == elsewhere => Some((*slot, *test)),
            _ => None,
        });
        starts.collect()
    };
    [of(true), of(false)]
}

#[test]
fn tests_that_may_go_do_so_first_and_then_share_this_machine() {
    let tests = (0..5).map(|number| remote(&format!("t{number}"))).collect();
    let mut run = shared(tests, 1, 2);
    let [elsewhere, here] = places(&run.handle(secs(0), Input::Begin));
    assert_eq!(elsewhere, [(1, 0), (2, 1)]);
    assert_eq!(here, [(0, 2)]);
    let over_there = over(1, 1, Verdict::Pass);
    let [elsewhere, here] = places(&run.handle(secs(1), over_there));
    assert_eq!((elsewhere, here), (vec![(1, 3)], vec![]));
    let [elsewhere, here] = places(&run.handle(secs(1), over(0, 1, Verdict::Pass)));
    assert_eq!((elsewhere, here), (vec![], vec![(0, 4)]));
}

#[test]
fn a_test_that_has_to_stay_keeps_its_turn_and_nothing_waits_behind_it() {
    let tests = vec![
        candidate("here-0", settings()),
        candidate("here-1", settings()),
        remote("t2"),
        candidate("here-3", settings()),
        remote("t4"),
    ];
    let mut run = shared(tests, 1, 2);
    let [elsewhere, here] = places(&run.handle(secs(0), Input::Begin));
    assert_eq!(elsewhere, [(1, 2), (2, 4)]);
    assert_eq!(here, [(0, 0)]);
    // Elsewhere nothing is left to do, and those that wait here have their turns in order.
    let [elsewhere, here] = places(&run.handle(secs(1), over(1, 1, Verdict::Pass)));
    assert_eq!((elsewhere, here), (vec![], vec![]));
    let [_, here] = places(&run.handle(secs(1), over(0, 1, Verdict::Pass)));
    assert_eq!(here, [(0, 1)]);
    let [_, here] = places(&run.handle(secs(2), over(0, 1, Verdict::Pass)));
    assert_eq!(here, [(0, 3)]);
    run.handle(secs(3), over(2, 1, Verdict::Pass));
    let last = run.handle(secs(3), over(0, 1, Verdict::Pass));
    assert!(
        last.iter()
            .any(|action| matches!(action, Action::Finish { .. }))
    );
    assert_eq!(run.stats().passed, 5);
}

#[test]
fn a_heavy_test_that_waits_here_is_not_starved_by_lighter_ones() {
    let heavy = TestSettings {
        threads_required: ThreadsRequired::Count(2),
        ..settings()
    };
    let tests = vec![
        candidate("light", settings()),
        candidate("heavy", heavy),
        candidate("light-too", settings()),
        remote("t3"),
    ];
    let mut run = shared(tests, 2, 1);
    let [elsewhere, here] = places(&run.handle(secs(0), Input::Begin));
    assert_eq!((elsewhere, here), (vec![(2, 3)], vec![(0, 0)]));
    let [_, here] = places(&run.handle(secs(1), over(2, 1, Verdict::Pass)));
    assert_eq!(
        here,
        [],
        "one of two slots is free, and the heavy one has its turn"
    );
    let [_, here] = places(&run.handle(secs(1), over(0, 1, Verdict::Pass)));
    assert_eq!(here, [(0, 1)]);
}

#[test]
fn tests_that_wait_for_this_machine_are_reported_when_the_run_ends_before_them() {
    let tests = vec![
        candidate("a", settings()),
        candidate("b", settings()),
        remote("c"),
    ];
    let mut run = shared(tests, 1, 1);
    run.handle(secs(0), Input::Begin);
    run.handle(secs(1), Input::Shutdown { signal: SIGINT });
    run.handle(secs(2), over(0, 1, Verdict::Pass));
    let last = run.handle(secs(2), over(1, 1, Verdict::Pass));
    let finished = last.iter().find_map(|action| match action {
        Action::Emit(EventKind::RunFinished(finished)) => Some(finished),
        _ => None,
    });
    let not_run = &finished.expect("it is over").not_run;
    assert_eq!(
        not_run
            .iter()
            .map(|test| test.name.to_string())
            .collect::<Vec<_>>(),
        ["b"]
    );
}
