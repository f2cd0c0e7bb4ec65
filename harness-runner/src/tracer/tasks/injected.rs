//! Calls that fail because the user asked for that.

use super::{Tasks, skipped};
use crate::{
    sys::Syscall,
    tracer::{
        decode::{Entry, Task},
        inject::descriptor,
        stop::{Kernel, Tracee},
    },
};
use harness_metadata::{RawString, TraceEventKind, trace::Injected};
use syscalls::Sysno;

/// The standard streams.
const STANDARD: std::ops::RangeInclusive<i32> = 0..=2;

impl<K: Kernel> Tasks<K> {
    /// Counts a call in front of which a task stands, and has it fail if that was asked for.
    pub(super) fn inject(&mut self, tracee: Tracee, call: &Syscall, entry: &Entry) {
        let Some(mut injections) = self.root.inject.take() else {
            return;
        };
        if let Some(number) = injections.of_interest(call) {
            let (places, is_standard) = self.named(tracee, number, call, entry);
            let due = injections.count(number, &places, is_standard);
            // Without it the call is made, and nothing is said.
            let due = due.filter(|due| skipped::skip(tracee.tid, due.errno).is_ok());
            if let Some(due) = due {
                let kind = TraceEventKind::Injected(Box::new(Injected {
                    call: number.name().to_owned(),
                    place: places.into_iter().next().map(RawString::from),
                    errno: due.errno,
                    request: due.request,
                    number: due.number,
                }));
                self.outbox.event(tracee, kind);
            }
        }
        self.root.inject = Some(injections);
    }

    /// Returns the files or addresses that a call names, and whether it is about a standard stream.
    fn named(
        &self,
        tracee: Tracee,
        number: Sysno,
        call: &Syscall,
        entry: &Entry,
    ) -> (Vec<Vec<u8>>, bool) {
        if let Some(fd) = descriptor(number, &call.args) {
            let target = self.live(tracee).descriptor(fd);
            return (target.into_iter().collect(), STANDARD.contains(&fd));
        }
        match entry {
            Entry::Await(pending) => (pending.places(), false),
            Entry::Done => (Vec::new(), false),
        }
    }
}
