//! Ends a run before its time.

use super::{Action, Dispatcher, Occupancy, Occupant};
use crate::run::unit::Force;
use harness_metadata::{EventKind, Interruption, Outcome, Verdict, event::CancelReason};
use std::time::Duration;

/// SIGINT and SIGTERM, as every Linux architecture numbers them.
pub(super) const SIGINT: i32 = 2;
pub(super) const SIGTERM: i32 = 15;

impl Occupancy {
    /// Returns whether the next attempt is to start now.
    fn is_due(&self, now: Duration) -> bool {
        matches!(self, Self::Waiting { until } if *until <= now)
    }
}

impl Dispatcher {
    pub(super) fn deadline_reached(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let due: Vec<usize> = self
            .slots
            .iter()
            .filter(|(_, occupant)| occupant.state.is_due(now))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in due {
            self.start(now, slot, actions);
        }
        self.reopen(now, actions);
        self.end_bereft(now, actions);
        if self.has_tests() && self.limits.global_timeout.is_some_and(|limit| limit <= now) {
            self.cancel(CancelReason::GlobalTimeout, actions);
        }
    }

    pub(super) fn shutdown(&mut self, now: Duration, signal: i32, actions: &mut Vec<Action>) {
        self.shutdowns += 1;
        let reason = match signal {
            SIGINT => CancelReason::Interrupt,
            signal => CancelReason::Signal(signal),
        };
        match self.shutdowns {
            1 => self.cancel(reason, actions),
            2 => {
                actions.push(Action::Emit(EventKind::Cancelled {
                    reason: self.cancelled.unwrap_or(reason),
                    running: self.slots.len(),
                    killing: true,
                }));
                self.interrupt_all(reason.interruption(), Force::Kill, actions);
            }
            _ => {
                // The stubs kill what is left when the runner is gone.
                self.impatient = Some(signal);
                let by = reason.interruption();
                let slots: Vec<usize> = self.slots.keys().copied().collect();
                for slot in slots {
                    let outcome = Outcome::Interrupted { by, exit: None };
                    match self.lost_attempt(now, slot, outcome, Verdict::Interrupted) {
                        Some(lost) => self.attempt_over(now, slot, lost, actions),
                        None => self.test_over(slot, actions),
                    }
                }
            }
        }
    }

    /// Starts no further tests. A reason replaces a lesser one.
    pub(super) fn cancel(&mut self, reason: CancelReason, actions: &mut Vec<Action>) {
        if self.cancelled.is_some_and(|before| before >= reason) {
            return;
        }
        self.cancelled = Some(reason);
        // What waits for another attempt keeps the result it has.
        let waiting: Vec<usize> = self
            .slots
            .iter()
            .filter(|(_, occupant)| matches!(occupant.state, Occupancy::Waiting { .. }))
            .map(|(slot, _)| *slot)
            .collect();
        actions.push(Action::Emit(EventKind::Cancelled {
            reason,
            running: self.slots.len() - waiting.len(),
            killing: false,
        }));
        for slot in waiting {
            let begun = |occupant: &Occupant| !occupant.attempts.is_empty();
            if self.slots.get(&slot).is_some_and(begun) {
                self.test_over(slot, actions);
            } else if let Some(occupant) = self.vacate(slot) {
                // The system did not have enough to start it.
                self.unstarted.insert(occupant.test);
            }
        }
        for (slot, occupant) in self.scarcity.give_up() {
            if !occupant.attempts.is_empty() {
                self.result(slot, occupant, actions);
            }
        }
        let signal = match reason {
            CancelReason::SetupFailed | CancelReason::TestFailure => return,
            CancelReason::Interrupt => SIGINT,
            CancelReason::Signal(signal) => signal,
            CancelReason::ReportFailed
            | CancelReason::GlobalTimeout
            | CancelReason::TestFailureImmediate => SIGTERM,
        };
        self.interrupt_all(reason.interruption(), Force::Signal(signal), actions);
    }

    fn interrupt_all(&self, by: Interruption, force: Force, actions: &mut Vec<Action>) {
        let interrupt = |slot: &usize| Action::Interrupt {
            slot: *slot,
            by,
            force,
        };
        // A teardown runs whatever happens.
        let setting_up = self.scripts.setting_up();
        let slots = self.slots.keys().chain(&setting_up);
        actions.extend(slots.map(interrupt));
    }
}
