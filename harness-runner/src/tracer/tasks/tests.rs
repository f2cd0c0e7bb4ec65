//! Events that come in another order than they should.

use super::*;
use harness_metadata::TraceEvent;
use std::process::{Command, Stdio};

mod kernel;

/// A root that nothing is known of but its id.
fn root(pid: i32) -> Root {
    Root {
        pid: Tgid::new(pid),
        started: Instant::now(),
        level: TraceLevel::Process,
        program: Vec::new(),
        args: Vec::new(),
        environment: Vec::new(),
        cwd: Vec::new(),
        breakpoint: None,
        policy: None,
        inject: None,
        loader: None,
        loads: None,
        recording: crate::sys::Recording::Off,
        entries: None,
        options: Options::default(),
        reaped: RawUsage::default(),
    }
}

#[test]
fn what_is_told_before_its_event_comes_does_not_pretend_to_know_how_it_was_created() {
    let own = Tgid::new(std::process::id().cast_signed());
    let mut tasks = Tasks::new(root(own.raw()));
    // It waits until its input ends.
    let mut child = Command::new("/bin/cat")
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let pid = child.id().cast_signed();
    let mut told = Vec::new();
    let mut observer = |event: &TraceEvent| told.push((event.pid, event.kind.clone()));
    let tid = Tid::new(pid);
    tasks.suppose_created(own, tid);
    tasks.created(own.leader(), tid, Some(CreatedBy::Vfork));
    tasks.outbox.deliver(&mut observer);
    drop(child.stdin.take());
    child.wait().expect("it ends");
    let how = Creation::Unknown;
    let created = TraceEventKind::Created(Created { child: pid, how });
    assert_eq!(told, [(own.raw(), created)], "once, and without a guess");
}
