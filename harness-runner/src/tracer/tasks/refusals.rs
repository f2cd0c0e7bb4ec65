//! What shows that the tracer is in the way, beside calls that a filter stops.

use super::{Call, Tasks};
use crate::sys::Pid;
use crate::tracer::{
    Observer,
    decode::{self, Entry, Syscall},
    imports,
};
use harness_metadata::{
    TraceEventKind,
    event::TraceLevel,
    trace::{Disturbance, Doubt},
};

impl Tasks {
    /// Returns whether a task is stopped at each of its calls, because there is no filter that stops it
    /// at those of interest, and its program may meet the tracer.
    pub(super) fn is_watched(&self, pid: Pid) -> bool {
        self.root.level == TraceLevel::Process
            && self.root.breakpoint.is_none()
            && self
                .context
                .processes
                .get(&self.process_of(pid))
                .is_some_and(|process| process.may_meet_tracer)
    }

    /// A watched task is in front of a call.
    pub(super) fn at_any_call(&mut self, pid: Pid, call: Syscall, observer: &mut dyn Observer) {
        let process = self.process_of(pid);
        let mut events = std::mem::take(&mut self.decoded);
        let entry = decode::meeting(&call, &self.live(pid, process), &mut events);
        self.tell(pid, process, &mut events, observer);
        self.decoded = events;
        let call = match entry {
            Entry::Done => Call::None,
            Entry::Await(pending) => Call::Awaited(call, pending),
        };
        self.set_call(pid, call);
        // To its exit, and not past it.
        self.go_to_exit(pid);
    }

    /// Looks at a program that has just been executed.
    pub(super) fn look_at_program(&mut self, pid: Pid, observer: &mut dyn Observer) {
        if self.root.level == TraceLevel::Process
            && self.root.breakpoint.is_none()
            && let Some(process) = self.context.processes.get_mut(&pid)
        {
            process.may_meet_tracer = imports::may_meet_tracer(pid);
        }
        if self.live(pid, pid).was_withheld() {
            let doubt = Doubt::Disturbed(Disturbance::PrivilegesWithheld);
            self.tell_one(pid, pid, TraceEventKind::Doubt(doubt), observer);
        }
    }
}
