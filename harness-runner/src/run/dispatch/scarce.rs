//! Goes on with fewer slots where the system does not have enough for all: open files, processes,
//! memory. After a while, tries whether it has enough for one more. Where it does not even have enough
//! for one test, waits for a while.

use super::{Action, Dispatcher, Occupancy, Occupant, group::smallest_free};
use crate::config::settings::TestGroup;
use harness_metadata::{Attempt, EventKind, Outcome};
use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

/// A time in which the system has nothing for a run, and is asked again and again.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Shortage {
    since: Duration,
    delay: Duration,
}

impl Shortage {
    /// The longest time that it may last. Others of the machine may be done by then.
    pub(crate) const LIMIT: Duration = Duration::from_secs(30);

    /// The pauses between two tries: the first and the longest.
    const FIRST_DELAY: Duration = Duration::from_millis(50);
    const LONGEST_DELAY: Duration = Duration::from_secs(2);

    /// The system has refused something, maybe not for the first time. `None` if that has been so for
    /// too long.
    pub(crate) fn go_on(before: Option<Self>, now: Duration) -> Option<Self> {
        let next = match before {
            Some(Self { since, delay }) => Self {
                since,
                delay: (2 * delay).min(Self::LONGEST_DELAY),
            },
            None => Self {
                since: now,
                delay: Self::FIRST_DELAY,
            },
        };
        (now + next.delay <= next.since + Self::LIMIT).then_some(next)
    }

    /// The wait before the system is asked again.
    pub(crate) fn delay(self) -> Duration {
        self.delay
    }

    /// Returns what the system has refused, if it has done so to the end.
    pub(crate) fn lasted(refusal: &str) -> String {
        let limit = humantime::format_duration(Self::LIMIT);
        format!("{refusal}; it was tried for {limit}")
    }
}

/// The time until a closed slot is opened again: at first, and at most after it was refused again.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(16);

/// A resource that a run could not get.
#[derive(Debug, Default)]
pub(super) struct Scarcity {
    /// Tests that were refused what they need, with the slots that they had. They come before all
    /// others.
    refused: VecDeque<(usize, Occupant)>,
    /// Slots that nothing is started in any more.
    closed: BTreeSet<usize>,
    /// The reason for fewer slots, until it is reported: several slots may be refused at the same
    /// moment.
    because: Option<String>,
    /// The number of slots that it was last given.
    told: Option<usize>,
    /// While slots are closed, or have just been opened again.
    reopening: Option<Reopening>,
    /// While there is nothing to be had.
    nothing: Option<Shortage>,
}

/// Opens closed slots again, one at a time.
#[derive(Copy, Clone, Debug)]
struct Reopening {
    /// The number of slots before the shortage.
    all: usize,
    /// When the next one is opened.
    at: Duration,
    /// The wait of the last time.
    rest: Duration,
    /// Whether the last one that was opened has not been refused anything so far.
    tried: bool,
}

impl Scarcity {
    /// An attempt has begun.
    pub(super) fn is_over(&mut self) {
        self.nothing = None;
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Returns when a closed slot may be opened again. While there is nothing at all to be had, one
    /// test asks for all.
    pub(super) fn reopens_at(&self) -> Option<Duration> {
        let reopening = self.reopening.filter(|_| self.nothing.is_none());
        reopening.map(|reopening| reopening.at)
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
    pub(super) fn close_slot(
        &mut self,
        now: Duration,
        slot: usize,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
    ) {
        let Some(occupant) = self.vacate(slot) else {
            return;
        };
        if occupant.attempts.is_empty() {
            self.unstarted.insert(occupant.test);
        }
        let before = self.scarcity.reopening;
        let rest = match before {
            // What was tried was too early.
            Some(Reopening {
                rest, tried: true, ..
            }) => (2 * rest).min(LONGEST_REST),
            Some(Reopening { rest, .. }) => rest,
            None => FIRST_REST,
        };
        self.scarcity.reopening = Some(Reopening {
            all: before.map_or(self.limits.slots, |before| before.all),
            at: now + rest,
            rest,
            tried: false,
        });
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
        let Some(shortage) = Shortage::go_on(self.scarcity.nothing, now) else {
            let message = Shortage::lasted(refusal(&attempt.outcome));
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
        };
        let Some(occupant) = self.slots.get_mut(&slot) else {
            return;
        };
        occupant.state = Occupancy::Waiting {
            until: now + shortage.delay(),
        };
        if self.scarcity.nothing.replace(shortage).is_none() {
            actions.push(Action::Emit(EventKind::AwaitsSystem {
                because: refusal(&attempt.outcome).to_owned(),
                limit: Shortage::LIMIT,
            }));
        }
    }

    /// Opens a closed slot if it is time: the shortage may have passed. The next one is opened if this
    /// one has been refused nothing by then.
    pub(super) fn reopen(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let due = self.scarcity.reopens_at().is_some_and(|at| at <= now);
        let Some(reopening) = self.scarcity.reopening.as_mut().filter(|_| due) else {
            return;
        };
        if self.scarcity.closed.pop_first().is_none() {
            let slots = reopening.all;
            self.scarcity.reopening = None;
            if self.scarcity.told.take().is_some() {
                actions.push(Action::Emit(EventKind::MoreSlots { slots }));
            }
            return;
        }
        if reopening.tried {
            reopening.rest = FIRST_REST;
        }
        reopening.at = now + FIRST_REST;
        reopening.tried = true;
        self.limits.slots = match self.scarcity.closed.is_empty() {
            true => reopening.all,
            false => (self.limits.slots + 1).min(reopening.all),
        };
    }

    /// Says once that there are fewer slots, when the system has refused what it had to.
    pub(super) fn tell_of_scarcity(&mut self, actions: &mut Vec<Action>) {
        let slots = self.limits.slots;
        let news = self.scarcity.told != Some(slots);
        if let Some(because) = self.scarcity.because.take().filter(|_| news) {
            self.scarcity.told = Some(slots);
            actions.push(Action::Emit(EventKind::FewerSlots { slots, because }));
        }
    }

    /// Starts a test that was refused what it needs, if there is a slot for it now. Returns whether
    /// others may have theirs.
    pub(super) fn start_refused(&mut self, now: Duration, actions: &mut Vec<Action>) -> bool {
        while let Some((_, occupant)) = self.scarcity.refused.front() {
            let weight = occupant.weight.min(self.limits.slots);
            let has_room = self.has_room(occupant.test, weight);
            let once = self.once(occupant.test);
            let group = match &self.tests[once].settings.test_group {
                TestGroup::Named(name) => self.groups.get_mut(name),
                TestGroup::Global => None,
            };
            let room = group.as_ref().is_none_or(|group| group.has_room(weight));
            if !room || !has_room {
                return false;
            }
            let group_slot = group.map(|group| group.enter(weight));
            let Some((_, occupant)) = self.scarcity.refused.pop_front() else {
                return false;
            };
            let slot = self.free_slot();
            self.used += weight;
            self.used_memory += self.candidate(occupant.test).memory;
            self.unstarted.remove(&occupant.test);
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
