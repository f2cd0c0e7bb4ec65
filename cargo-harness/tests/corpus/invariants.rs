//! The invariants of every trace.

use crate::trace::Trace;
use harness_metadata::{
    TraceEvent, TraceEventKind,
    trace::{Creation, FileOperation},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Returns what does not hold.
pub(crate) fn violations(trace: &Trace) -> Vec<String> {
    let mut state = State {
        notified: trace.notified(),
        ..State::default()
    };
    let Some(first) = trace.events.first() else {
        return vec!["it is empty".to_owned()];
    };
    state.processes.insert(first.pid);
    if !matches!(first.kind, TraceEventKind::Exec(_)) {
        state.say(first, "the first event is no execution");
    }
    for event in &trace.events {
        state.see(event);
    }
    for pid in &state.processes {
        if trace.notified() && *pid != first.pid {
            continue;
        }
        state.violations.push(format!("{pid} never ends"));
    }
    state.violations
}

#[derive(Default)]
struct State {
    /// Of descendants only those that are left behind are seen to end; who created them and is gone
    /// is replaced by the root, which may be gone itself.
    notified: bool,
    /// Those that live, and the threads of them that are not the first.
    processes: BTreeSet<i32>,
    threads: BTreeMap<i32, i32>,
    /// When something was last seen of a task.
    last: BTreeMap<i32, Duration>,
    violations: Vec<String>,
}

impl State {
    fn see(&mut self, event: &TraceEvent) {
        let TraceEvent { at, pid, tid, .. } = *event;
        let of_nobody = match event.kind {
            // It concerns the attempt.
            TraceEventKind::Doubt(_) => true,
            TraceEventKind::Created(_) => self.notified,
            _ => false,
        };
        if !self.processes.contains(&pid) && !of_nobody {
            self.say(event, "a process that was not created, or has ended");
        }
        if tid != pid && self.threads.get(&tid) != Some(&pid) {
            self.say(event, "a thread that was not created by its process");
        }
        if self.last.insert(tid, at).is_some_and(|last| last > at) {
            self.say(event, "time goes backwards");
        }
        match &event.kind {
            TraceEventKind::Created(created) if created.how == Creation::Thread => {
                self.threads.insert(created.child, pid);
            }
            TraceEventKind::Created(created) => {
                // The id of a process that has ended, or of a thread that an execution ended.
                self.threads.remove(&created.child);
                self.last.remove(&created.child);
                // The end of the one that had this id may not have been seen.
                if !self.processes.insert(created.child) && !self.notified {
                    self.say(event, "a child that is there already");
                }
            }
            TraceEventKind::Exited(_) => {
                self.processes.remove(&pid);
                self.threads.retain(|_, process| *process != pid);
            }
            TraceEventKind::ThreadEnded if tid != pid => {
                self.threads.remove(&tid);
            }
            TraceEventKind::File(file) => {
                let path = file.path.path().to_string();
                if path.contains("/harness/runs/") || path.ends_with("/cargo-harness") {
                    self.say(event, "a file of the harness");
                }
                let opens = file.operation == FileOperation::Open;
                if opens != file.access.is_some() {
                    self.say(event, "access without opening, or the reverse");
                }
                let absolute = file.path.absolute.as_ref();
                if absolute.is_some_and(|path| path.as_bytes().first() != Some(&b'/')) {
                    self.say(event, "an absolute path that is none");
                }
            }
            _ => {}
        }
    }

    fn say(&mut self, event: &TraceEvent, what: &str) {
        let TraceEvent { pid, tid, kind, .. } = event;
        self.violations
            .push(format!("{what}: {pid} {tid} {kind:?}"));
    }
}
