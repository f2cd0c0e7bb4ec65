//! The calls whose results are awaited.

use super::Tasks;
use crate::{
    sys::{Syscall, Tid},
    tracer::{
        Map,
        decode::{self, Entry, Pending},
        live::Live,
        stop::{Kernel, Tracee},
    },
};
use harness_metadata::TraceEventKind;

/// A call that did not return yet.
pub(super) enum Call {
    /// The stop at its exit is still to come.
    Awaited(Syscall, Pending),
    /// It was interrupted, and is going to be made again or to fail with EINTR: that depends on the
    /// signal's handler (signal(7)).
    Interrupted(Syscall, Pending),
}

/// The calls that are awaited, by task.
#[derive(Default)]
pub(super) struct Calls(Map<Tid, Call>);

impl Calls {
    pub(super) fn set(&mut self, tid: Tid, call: Call) {
        self.0.insert(tid, call);
    }

    pub(super) fn take(&mut self, tid: Tid) -> Option<Call> {
        if self.0.is_empty() {
            return None;
        }
        self.0.remove(&tid)
    }

    /// Returns whether a call of a task has not returned yet.
    pub(super) fn has(&self, tid: Tid) -> bool {
        self.0.contains_key(&tid)
    }

    /// Returns whether the exit of the call that a task is in is awaited.
    pub(super) fn awaits(&self, tid: Tid) -> bool {
        matches!(self.0.get(&tid), Some(Call::Awaited(..)))
    }
}

impl<K: Kernel> Tasks<K> {
    /// Reports a call whose end will not be seen.
    pub(super) fn abandon_call(&mut self, tid: Tid) {
        if let Some(Call::Awaited(_, pending) | Call::Interrupted(_, pending)) =
            self.calls.take(tid)
        {
            let tracee = self.tree.tracee(tid);
            self.complete(tracee, pending, decode::unfinished);
        }
    }

    /// Reports a call that returned, or will not return.
    pub(super) fn complete(
        &mut self,
        tracee: Tracee,
        pending: Pending,
        how: impl FnOnce(Pending, &dyn decode::Task, &mut Vec<TraceEventKind>),
    ) {
        let mut events = std::mem::take(&mut self.decoded);
        how(pending, &self.live(tracee), &mut events);
        if !self.keeps_for_comparison(tracee.tid, &mut events) {
            self.report(tracee, &mut events);
        }
        self.decoded = events;
    }

    /// Reports what can be told at a call's entry.
    pub(super) fn report_entry(
        &mut self,
        tracee: Tracee,
        entry: &Entry,
        events: &mut Vec<TraceEventKind>,
    ) {
        // What is awaited is compared as a whole.
        let is_done = matches!(entry, Entry::Done);
        if !is_done || !self.keeps_for_comparison(tracee.tid, events) {
            self.report(tracee, events);
        }
    }

    /// Reports what a call was decoded to, after taking notice of it.
    pub(super) fn report(&mut self, tracee: Tracee, events: &mut Vec<TraceEventKind>) {
        for kind in events.drain(..) {
            self.context.heed(&kind);
            self.refusals.heed(tracee.process, &kind);
            self.loaders.heed(tracee.process, &kind);
            self.outbox.event(tracee, kind);
        }
        self.stop_recording_elsewhere();
    }

    pub(super) fn live(&self, tracee: Tracee) -> Live<'_> {
        Live::new(tracee, &self.context)
    }
}

/// Returns whether a call's result asks the kernel to make it again or to fail with EINTR
/// (ERESTARTSYS and its like, which no program sees).
pub(super) fn is_interruption(result: i64) -> bool {
    matches!(result, -516 | -514..=-512)
}
