//! Services: the looks whether they are there, and their last lines.

use super::Driver;
use crate::run::slot::FromSlot;
use harness_metadata::{EventKind, Verdict};
use std::rc::Rc;
use tokio::sync::mpsc;

impl Driver {
    /// Adds the last lines of the services that a test has used.
    pub(super) fn add_tails(&self, kind: &mut EventKind) {
        if let EventKind::TestFinished(finished) = kind {
            for used in &mut finished.services {
                used.last_lines = self.shared.services.tail(&used.test);
            }
        }
    }

    /// Looks whether a service is there.
    pub(super) fn look_at_service(
        &self,
        service: usize,
        slot_tx: &mpsc::UnboundedSender<FromSlot>,
    ) {
        let (shared, tell) = (Rc::clone(&self.shared), slot_tx.clone());
        tokio::task::spawn_local(async move {
            let answer = shared.services.look(service).await;
            let _ = tell.send(FromSlot::Looked { service, answer });
        });
    }

    /// Has the services of a test that did not pass read what has arrived by now: their last lines are
    /// part of its result.
    pub(super) async fn look_at_services_of(
        &mut self,
        message: &FromSlot,
        slot_tx: &mpsc::UnboundedSender<FromSlot>,
    ) {
        if let FromSlot::Over(made) = message
            && made.attempt.verdict != Verdict::Pass
            && !self.shared.work.test(made.test).services.is_empty()
        {
            let once = self.shared.work.once(made.test);
            let mut slots = self.dispatcher.service_slots(once);
            slots.retain(|slot| self.slots.contains_key(slot));
            self.look_in(slots, slot_tx).await;
        }
    }
}
