//! Stops that nobody is going to end.
//!
//! A child that is to be traced by its parent asks for that (PTRACE_TRACEME) and stops itself. Its
//! tracer are we, so the kernel refuses it. If the child ignores that, it stops all the same, and its
//! parent waits for a stop of which the kernel tells a tracer only: both would wait for ever.

use super::Tasks;
use crate::sys::{self, Pid};
use harness_metadata::{
    TraceEventKind,
    trace::{Disturbance, Doubt},
};

impl Tasks {
    /// Returns whether a process waits for what will not happen, because of us.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// As [`Self::is_stuck`], once.
    pub(crate) fn take_stuck(&mut self) -> bool {
        std::mem::take(&mut self.stuck)
    }

    /// Takes notice of a refusal that we have caused.
    pub(super) fn heed_refusal(&mut self, process: Pid, kind: &TraceEventKind) {
        if matches!(
            kind,
            TraceEventKind::Doubt(Doubt::Disturbed(Disturbance::PtraceRefused))
        ) {
            self.refused.insert(process, ());
        }
    }

    /// A task is about to receive a signal. Who stops itself after a refusal waits for a tracer.
    pub(super) fn heed_stop(&mut self, tid: Pid, signal: i32) {
        let process = self.process_of(tid);
        if signal == libc::SIGSTOP && self.refused.contains_key(&process) {
            let by_itself = |(_, sender)| sender == process;
            self.stuck |= sys::signal_origin(tid).is_some_and(by_itself);
        }
    }
}
