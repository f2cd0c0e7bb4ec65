//! Signs of a disturbance by the tracer, beside calls that a filter stops.

use super::{Call, Tasks};
use crate::{
    sys::{Syscall, Tgid, Tid},
    tracer::{
        decode::{self, Entry},
        imports,
        stop::{Kernel, Next, Tracee},
    },
};
use harness_metadata::{
    TraceEventKind,
    event::TraceLevel,
    trace::{Disturbance, Doubt},
};

impl<K: Kernel> Tasks<K> {
    /// Returns whether a task is stopped at each of its calls, because there is no filter that stops it
    /// at those of interest, and its program may meet the tracer.
    pub(super) fn is_watched(&self, tid: Tid) -> bool {
        self.root.level == TraceLevel::Process
            && self.root.breakpoint.is_none()
            && (self.context.processes.get(&self.tree.tracee(tid).process))
                .is_some_and(|process| process.may_meet_tracer)
    }

    /// A watched task is in front of a call.
    pub(super) fn at_any_call(&mut self, tracee: Tracee, call: Syscall) -> Next {
        let mut events = std::mem::take(&mut self.decoded);
        let entry = decode::meeting(&call, &self.live(tracee), &mut events);
        self.report(tracee, &mut events);
        self.decoded = events;
        match entry {
            Entry::Done => drop(self.calls.take(tracee.tid)),
            Entry::Await(pending) => self.calls.set(tracee.tid, Call::Awaited(call, pending)),
        }
        // To its exit, and not past it.
        Next::ToExit
    }

    /// Looks at a program that has just been executed.
    pub(super) fn look_at_program(&mut self, process: Tgid) {
        if self.root.level == TraceLevel::Process
            && self.root.breakpoint.is_none()
            && let Some(known) = self.context.processes.get_mut(&process)
        {
            known.may_meet_tracer = imports::may_meet_tracer(process);
        }
        let tracee = Tracee::leader_of(process);
        if self.live(tracee).was_withheld() {
            let doubt = Doubt::Disturbed(Disturbance::PrivilegesWithheld);
            self.outbox.event(tracee, TraceEventKind::Doubt(doubt));
        }
    }
}
