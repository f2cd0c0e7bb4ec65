//! What comes in another order than it should.

use super::*;
use std::process::{Command, Stdio};

#[test]
fn what_is_told_before_its_event_comes_does_not_pretend_to_know_how_it_was_created() {
    let own = std::process::id().cast_signed();
    let mut tasks = Tasks::new(Root {
        pid: own,
        started: Instant::now(),
        level: TraceLevel::Process,
        program: Vec::new(),
        args: Vec::new(),
        environment: Vec::new(),
        cwd: Vec::new(),
        breakpoint: None,
        loader: None,
        loads: None,
        options: Options::default(),
    });
    // It waits until its input ends.
    let mut child = Command::new("/bin/cat")
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let pid = child.id().cast_signed();
    let mut told = Vec::new();
    let mut observer = |event: &TraceEvent| told.push((event.pid, event.kind.clone()));
    tasks.suppose_created(own, pid, &mut observer);
    tasks.created(own, pid, Some(CreatedBy::Vfork), &mut observer);
    drop(child.stdin.take());
    child.wait().expect("it ends");
    let how = Creation::Unknown;
    let created = TraceEventKind::Created(Created { child: pid, how });
    assert_eq!(told, [(own, created)], "once, and without a guess");
}
