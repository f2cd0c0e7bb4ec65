//! Tests of differences, from events that were made by hand.

use super::{Weight, compared, observed::Observed};
use crate::answers::{
    rules::Roots,
    tests::{bind, file, open, roots},
};
use fixture_kit::sample::{exec, seen};
use harness_metadata::{
    Exit, TraceEvent, TraceEventKind,
    noise::Names,
    trace::{Access, CallResult, Created, Creation, Exited, FileOperation},
};
use std::time::Duration;

const ROOT: i32 = 10;

fn observed(events: &[TraceEvent], workspace: &str, roots: &Roots) -> Observed<'static> {
    let names = Names {
        workspace: workspace.into(),
        temp: roots.temp.as_str().into(),
        pids: [ROOT].into(),
    };
    let mut observed = Observed::new(names, &|_| true);
    events.iter().for_each(|event| observed.event(ROOT, event));
    observed
}

/// Returns the differences as lines.
fn lines(failing: Vec<TraceEvent>, passing: Vec<TraceEvent>) -> Vec<String> {
    let roots = roots();
    let failing = observed(&failing, "/srv/it", &roots);
    let passing = observed(&passing, "/srv/it", &roots);
    let all = compared(&failing, &passing);
    let line = |it: &super::Difference| {
        let passing = it.passing.as_ref().map(|it| &it.said);
        let asked = &it.asked;
        format!(
            "{:?}: {} {}: {:?} {passing:?}",
            it.weight, asked.verb, asked.name, it.failing.said
        )
    };
    all.iter().map(line).collect()
}

fn stat(millis: u64, name: &str, result: CallResult) -> TraceEvent {
    file(millis, FileOperation::Stat, name, None, result)
}

fn absent(millis: u64, name: &str) -> TraceEvent {
    stat(millis, name, CallResult::Err(libc::ENOENT))
}

fn child(pid: i32, program: &str, exit: Exit) -> Vec<TraceEvent> {
    let how = Creation::Fork;
    let exited = Exited {
        exit,
        user: Duration::ZERO,
        system: Duration::ZERO,
        peak_memory: 0,
    };
    vec![
        seen(
            ROOT,
            1,
            TraceEventKind::Created(Created { child: pid, how }),
        ),
        seen(
            pid,
            2,
            TraceEventKind::Exec(Box::new(exec(program, &[], CallResult::Ok(0)))),
        ),
        seen(pid, 3, TraceEventKind::Exited(exited)),
    ]
}

#[test]
fn an_answer_that_differs_is_found_whatever_else_is_new() {
    let read = Access {
        read: true,
        ..Access::default()
    };
    let failing = vec![
        open(1, "/srv/it/a", read),
        absent(2, "/srv/it/new"),
        absent(9, "/srv/it/b"),
        open(10, "/srv/it/only", read),
    ];
    let passing = vec![
        open(1, "/srv/it/a", read),
        stat(2, "/srv/it/b", CallResult::Ok(0)),
        stat(3, "/srv/it/later", CallResult::Ok(0)),
    ];
    let expected = [
        "Refused: ask about {workspace}/b: {Failed(2)} Some({Worked})",
        "NewFailure: ask about {workspace}/new: {Failed(2)} None",
        "OnlyFailing: open to read {workspace}/only: {Worked} None",
    ];
    assert_eq!(lines(failing.clone(), passing), expected);
    assert_eq!(lines(failing.clone(), failing), [""; 0]);
}

#[test]
fn a_file_that_never_came_is_told_from_one_that_was_waited_for() {
    let waits = vec![absent(1, "/srv/it/a"), absent(2, "/srv/it/a")];
    let mut comes = waits.clone();
    comes.push(stat(3, "/srv/it/a", CallResult::Ok(0)));
    let expected = ["Refused: ask about {workspace}/a: {Failed(2)} Some({Worked, Failed(2)})"];
    assert_eq!(lines(waits.clone(), comes.clone()), expected);
    // That it came only when the test failed is a difference, too.
    assert_eq!(lines(comes, waits)[0].split(':').next(), Some("Other"));
}

#[test]
fn an_interrupted_call_and_one_without_a_known_result_are_no_answers() {
    let failing = vec![
        stat(1, "/srv/it/a", CallResult::Err(libc::EINTR)),
        stat(2, "/srv/it/a", CallResult::Unknown),
        stat(3, "/srv/it/a", CallResult::Ok(0)),
    ];
    let passing = vec![stat(1, "/srv/it/a", CallResult::Ok(0))];
    assert_eq!(lines(failing, passing), [""; 0]);
}

#[test]
fn children_are_known_by_their_programs_and_files_by_names_that_last() {
    let killed = Exit::Signal {
        signal: libc::SIGKILL,
        core_dumped: false,
    };
    let mut failing = child(11, "/bin/server", killed);
    failing.push(stat(5, "/tmp/server-11.sock", CallResult::Ok(0)));
    failing.push(bind(6, 40_001, CallResult::Ok(0)));
    let mut passing = child(12, "/bin/server", Exit::Code(0));
    passing.push(stat(5, "/tmp/server-12.sock", CallResult::Ok(0)));
    passing.push(bind(6, 40_002, CallResult::Ok(0)));
    let expected = ["Ended: the child /bin/server: {Signal(9)} Some({Exited(0)})"];
    assert_eq!(lines(failing, passing), expected);
    // That a port was taken is no matter of its number.
    let taken = vec![bind(6, 40_003, CallResult::Err(libc::EADDRINUSE))];
    let free = vec![bind(6, 40_004, CallResult::Ok(0))];
    let found = lines(taken, free);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("Refused: bind 127.0.0.1 at a port from 32768 on"),
        "{found:?}"
    );
}

#[test]
fn the_place_of_the_workspace_is_no_difference() {
    let roots = roots();
    let here = observed(&[absent(1, "/srv/it/a")], "/srv/it", &roots);
    let there = observed(&[absent(1, "/home/ci/it/a")], "/home/ci/it", &roots);
    assert!(compared(&here, &there).is_empty());
    assert_eq!(Weight::Refused.min(Weight::Ended), Weight::Refused);
}
