//! Goes on with fewer slots where the system does not have enough for all: open files, processes,
//! memory. Where it does not even have enough for one test, waits for a while.

use super::{Action, Dispatcher, Occupancy, Occupant, group::smallest_free};
use crate::config::settings::TestGroup;
use harness_metadata::{Attempt, EventKind, Outcome};
use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

/// How long the system may have nothing for a run. Others of the machine may be done by then.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// How long until the system is asked again: at first, and at most.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// What a run could not have.
#[derive(Debug, Default)]
pub(super) struct Scarcity {
    /// Tests that were refused what they need, with the slots that they had. They come before all
    /// others.
    refused: VecDeque<(usize, Occupant)>,
    /// Slots that nothing is started in any more.
    closed: BTreeSet<usize>,
    /// Why there are fewer slots, until that is told: others may be refused at the same moment.
    because: Option<String>,
    /// While there is nothing to be had: since when, and how long it was waited last.
    nothing: Option<(Duration, Duration)>,
}

impl Scarcity {
    /// An attempt has begun.
    pub(super) fn is_over(&mut self) {
        self.nothing = None;
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Returns the slots that are closed.
    pub(super) fn is_closed(&self, slot: usize) -> bool {
        self.closed.contains(&slot)
    }

    /// Gives up all tests that wait.
    pub(super) fn give_up(&mut self) -> VecDeque<(usize, Occupant)> {
        std::mem::take(&mut self.refused)
    }
}

/// Returns what the system has refused, in words.
fn refusal(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::HarnessFault(fault) => &fault.message,
        Outcome::StartFailed(failure) => &failure.message,
        Outcome::Exited(_)
        | Outcome::TimedOut { .. }
        | Outcome::Interrupted { .. }
        | Outcome::NoResult(_)
        | Outcome::BinaryChanged(_) => "",
    }
}

impl Dispatcher {
    /// Returns whether something runs that will give back what it has, so that a test that could
    /// not start need not be given up.
    pub(super) fn others_run(&self, slot: usize) -> bool {
        let running = |occupant: &Occupant| matches!(occupant.state, Occupancy::Running { .. });
        let mut others = self.slots.iter().filter(|(other, _)| **other != slot);
        others.any(|(_, occupant)| running(occupant))
    }

    /// Closes the slot of a test that could not be started, and has the test wait for another one.
    /// The attempt does not count.
    pub(super) fn close_slot(&mut self, slot: usize, outcome: &Outcome, actions: &mut Vec<Action>) {
        let Some(occupant) = self.vacate(slot) else {
            return;
        };
        if occupant.attempts.is_empty() {
            self.started[occupant.test] = false;
        }
        self.limits.slots = self.used.max(1);
        self.scarcity.refused.push_back((slot, occupant));
        self.scarcity.closed.insert(slot);
        let because = &mut self.scarcity.because;
        because.get_or_insert_with(|| refusal(outcome).to_owned());
        actions.push(Action::Close { slot });
    }

    /// A test could not be started, and nothing runs that would give something back. Tries again
    /// after a while, until the limit; the attempt does not count until then.
    pub(super) fn nothing_to_be_had(
        &mut self,
        now: Duration,
        slot: usize,
        mut attempt: Attempt,
        actions: &mut Vec<Action>,
    ) {
        let (since, delay) = match self.scarcity.nothing {
            Some((since, last)) => (since, (2 * last).min(LONGEST_DELAY)),
            None => (now, FIRST_DELAY),
        };
        let until = now + delay;
        if until > since + LIMIT {
            let limit = humantime::format_duration(LIMIT);
            let message = format!("{}; it was tried for {limit}", refusal(&attempt.outcome));
            match &mut attempt.outcome {
                Outcome::HarnessFault(fault) => fault.message = message,
                Outcome::StartFailed(failure) => failure.message = message,
                Outcome::Exited(_)
                | Outcome::TimedOut { .. }
                | Outcome::Interrupted { .. }
                | Outcome::NoResult(_)
                | Outcome::BinaryChanged(_) => {}
            }
            return self.attempt_over(now, slot, attempt, actions);
        }
        let Some(occupant) = self.slots.get_mut(&slot) else {
            return;
        };
        occupant.state = Occupancy::Waiting { until };
        if self.scarcity.nothing.replace((since, delay)).is_none() {
            actions.push(Action::Emit(EventKind::AwaitsSystem {
                because: refusal(&attempt.outcome).to_owned(),
                limit: LIMIT,
            }));
        }
    }

    /// Says once that there are fewer slots, when the system has refused what it had to.
    pub(super) fn tell_of_scarcity(&mut self, actions: &mut Vec<Action>) {
        if let Some(because) = self.scarcity.because.take() {
            let slots = self.limits.slots;
            actions.push(Action::Emit(EventKind::FewerSlots { slots, because }));
        }
    }

    /// Starts a test that was refused what it needs, if there is a slot for it now. Returns whether
    /// others may have theirs.
    pub(super) fn start_refused(&mut self, now: Duration, actions: &mut Vec<Action>) -> bool {
        while let Some((_, occupant)) = self.scarcity.refused.front() {
            let weight = occupant.weight.min(self.limits.slots);
            let group = match &self.tests[occupant.test].settings.test_group {
                TestGroup::Named(name) => self.groups.get_mut(name),
                TestGroup::Global => None,
            };
            let room = group.as_ref().is_none_or(|group| group.has_room(weight));
            if !room || self.used + weight > self.limits.slots {
                return false;
            }
            let group_slot = group.map(|group| group.enter(weight));
            let Some((_, occupant)) = self.scarcity.refused.pop_front() else {
                return false;
            };
            let slot = self.free_slot();
            self.used += weight;
            self.started[occupant.test] = true;
            let occupant = Occupant {
                weight,
                group_slot,
                ..occupant
            };
            self.slots.insert(slot, occupant);
            self.start(now, slot, actions);
        }
        true
    }

    pub(super) fn free_slot(&self) -> usize {
        smallest_free(|slot| self.slots.contains_key(&slot) || self.scarcity.is_closed(slot))
    }
}
