//! Attempts of which there is no report.

use super::{Action, Dispatcher, Occupancy};
use crate::run::unreported;
use harness_metadata::{Attempt, Fault, Outcome, Verdict};
use std::time::Duration;

impl Dispatcher {
    pub(super) fn slot_lost(
        &mut self,
        now: Duration,
        slot: usize,
        message: String,
        actions: &mut Vec<Action>,
    ) {
        if self.service_slot_lost(now, slot, &message, actions) {
            return;
        }
        if self.script_lost(now, slot, &message, actions) {
            return;
        }
        let outcome = Outcome::HarnessFault(Fault { message });
        if let Some(lost) = self.lost_attempt(now, slot, outcome, Verdict::Fail) {
            self.attempt_over(now, slot, lost, actions);
        }
    }

    /// Returns the facts about the attempt in a slot that sent no report; `None` if it had none.
    pub(super) fn lost_attempt(
        &self,
        now: Duration,
        slot: usize,
        outcome: Outcome,
        verdict: Verdict,
    ) -> Option<Attempt> {
        let occupant = self.slots.get(&slot)?;
        let Occupancy::Running { since } = occupant.state else {
            return None;
        };
        let number = self.attempt_number(occupant);
        Some(self.attempt_without_report(now, since, number, outcome, verdict))
    }

    pub(super) fn attempt_without_report(
        &self,
        now: Duration,
        since: Duration,
        number: u32,
        outcome: Outcome,
        verdict: Verdict,
    ) -> Attempt {
        let started_at = self.limits.started_at + since;
        unreported::attempt(
            number,
            (outcome, verdict),
            started_at,
            now.saturating_sub(since),
        )
    }
}
