//! The work of a slot between attempts.

use super::{FromSlot, Slot, ToSlot, WatchedStub};
use crate::{
    protocol::{Request, Response, Ticket},
    stub::link,
};
use harness_metadata::Survivor;
use std::{thread, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// The time that a stub has to kill what a setup script has left. Longer than its own limit.
const KILL_LIMIT: Duration = Duration::from_secs(15);

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
            ToSlot::Start(_) | ToSlot::Interrupt(..) | ToSlot::Describe(_) | ToSlot::End => {}
        }
    }

    /// Kills what a setup script has left, and has the stub forget its teardown. Returns what was
    /// killed.
    pub(in crate::run) async fn end_script(&mut self) -> Vec<Survivor> {
        let survivors = match self.lingering.take() {
            Some(ticket) => self.kill_lingering(ticket).await,
            None => Vec::new(),
        };
        self.stub.ask(&Request::RevokeWill, "forget the teardown");
        self.end_stub().await;
        survivors
    }

    async fn kill_lingering(&mut self, ticket: Ticket) -> Vec<Survivor> {
        // Answered in order: without the first answer there is nothing to kill.
        self.stub
            .ask(&Request::Inspect { ticket }, "say what is left");
        self.stub.ask(&Request::Beat, "say that it is there");
        let until = Instant::now() + KILL_LIMIT;
        let mut killing = false;
        loop {
            let Some(stub) = self.stub.current() else {
                return Vec::new();
            };
            match timeout_at(until, stub.receive()).await {
                Ok(Ok(Response::Inspected { .. })) => {
                    killing = true;
                    self.bounds.spoil();
                    self.stub
                        .ask(&Request::Kill { ticket }, "kill what is left");
                }
                Ok(Ok(Response::Beat)) if !killing => return Vec::new(),
                Ok(Ok(Response::Gone { survivors, .. })) => return survivors,
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return Vec::new(),
            }
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
