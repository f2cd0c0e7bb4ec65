//! Stops that nothing is going to end.
//!
//! A child that is to be traced by its parent asks for that (PTRACE_TRACEME) and stops itself. We are
//! its tracer, so the kernel refuses. A child that ignores the refusal stops all the same, and its
//! parent waits for a stop of which the kernel tells a tracer only: both would wait for ever.

use super::Tasks;
use crate::{
    sys::Tgid,
    tracer::stop::{Kernel, Tracee},
};
use harness_metadata::{
    TraceEventKind,
    trace::{Disturbance, Doubt},
};
use std::collections::HashSet;

/// What we are in the way of.
#[derive(Default)]
pub(super) struct Refusals {
    /// Processes that were refused to be tracers or tracees of others, because they are ours.
    refused: HashSet<Tgid>,
    /// Whether a process waits for a tracer that cannot come.
    stuck: bool,
}

impl Refusals {
    /// Takes notice of a refusal that we have caused.
    pub(super) fn heed(&mut self, process: Tgid, kind: &TraceEventKind) {
        if matches!(
            kind,
            TraceEventKind::Doubt(Doubt::Disturbed(Disturbance::PtraceRefused))
        ) {
            self.refused.insert(process);
        }
    }

    /// A process ended.
    pub(super) fn forget(&mut self, process: Tgid) {
        self.refused.remove(&process);
    }
}

impl<K: Kernel> Tasks<K> {
    /// Returns whether a process waits for what will not happen, because of us.
    pub(crate) fn is_stuck(&self) -> bool {
        self.refusals.stuck
    }

    /// As [`Self::is_stuck`], once.
    pub(crate) fn take_stuck(&mut self) -> bool {
        std::mem::take(&mut self.refusals.stuck)
    }

    /// A task is about to receive a signal. A process that stops itself after a refusal waits for a
    /// tracer.
    pub(super) fn heed_stop(&mut self, tracee: Tracee, signal: i32) {
        if signal == libc::SIGSTOP && self.refusals.refused.contains(&tracee.process) {
            let by_itself = |(_, sender)| sender == tracee.process.raw();
            let origin = self.kernel.signal_origin(tracee.tid);
            self.refusals.stuck |= origin.is_some_and(by_itself);
        }
    }
}
