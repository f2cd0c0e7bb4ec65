//! The work of a slot between attempts.

use super::{FromSlot, Slot, ToSlot, WatchedStub};
use crate::{protocol::Request, stub::link};
use harness_metadata::Survivor;
use std::thread;
use tokio::sync::oneshot;

impl Slot {
    /// Takes an order that is not the start of an attempt.
    pub(in crate::run) fn idle(&mut self, order: ToSlot) {
        match order {
            // The stub is to know that this run is about to stop, attempt or not.
            ToSlot::Signal { signal, passed_on } => {
                let ticket = self.last_ticket;
                let request = Request::Signal { ticket, signal };
                self.stub.ask(&request, "send a signal");
                drop(passed_on);
            }
            ToSlot::Look(looked) => {
                let stub = self.stub.current();
                if let Some(stopped) = stub.and_then(WatchedStub::runner_stopped) {
                    self.tell(FromSlot::Stopped(stopped));
                }
                drop(looked);
            }
            // These are meant for an attempt that is over.
            ToSlot::Start(_) | ToSlot::Interrupt(..) | ToSlot::Describe(_) => {}
        }
    }

    /// Ends a stub that is of no further use, with all that it has. That may take seconds, for which
    /// other slots need not wait. Returns what it had that did not end with it.
    pub(in crate::run) async fn end_stub(&mut self) -> Vec<Survivor> {
        let Some(stub) = self.stub.take() else {
            return Vec::new();
        };
        let (ended, has_ended) = oneshot::channel();
        let end = move || {
            // Closing its socket makes it kill what it has, and exit.
            drop(stub);
            let _ = ended.send(link::kill_orphans());
        };
        // Without a thread to be had the closure is dropped here, and the stub with it.
        drop(thread::Builder::new().spawn(end));
        has_ended.await.unwrap_or_default()
    }
}
