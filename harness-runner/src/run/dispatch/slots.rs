//! Gives tests their slots: of this machine, or of an engine that runs tests elsewhere.

use super::{Action, Candidate, Dispatcher, Limits, Occupancy, Occupant, group::smallest_free};
use crate::config::settings::{TestGroup, ThreadsRequired};
use std::{collections::VecDeque, time::Duration};

/// The slots of an engine.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Their number.
    limit: usize,
    used: usize,
    /// The number of the first of them: those of this machine come before.
    first: usize,
    /// Tests that have to run here and had their turn when nothing was free here.
    pub(super) waiting: VecDeque<usize>,
}

impl Elsewhere {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            limit: limits.remote_slots,
            first: limits.slots,
            ..Self::default()
        }
    }

    fn has_room(&self) -> bool {
        self.used < self.limit
    }
}

impl Dispatcher {
    /// Starts what can be started, here and elsewhere.
    pub(super) fn fill_slots(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let may_start = self.cancelled.is_none() && self.scripts.are_up();
        // False once a test waits for a slot of this machine that it cannot have yet.
        let mut here = true;
        while may_start && self.cancelled.is_none() {
            here = here && self.used < self.limits.slots;
            here = here && self.start_refused(now, actions) && self.start_waiting(now, actions);
            here = here && self.used < self.limits.slots;
            let elsewhere = self.elsewhere.has_room();
            if !here && !elsewhere {
                break;
            }
            let Some(test) = self.next_test() else {
                match self.begin_iteration(now) {
                    true => continue,
                    false => break,
                }
            };
            let weight = self.weight(test);
            if elsewhere && self.candidate(test).remote {
                self.occupy(now, test, weight, true, actions);
            } else if here && self.has_room(test, weight) {
                self.occupy(now, test, weight, false, actions);
            } else if elsewhere {
                // Those that can run elsewhere need not wait behind it.
                self.elsewhere.waiting.push_back(test);
                here = false;
            } else {
                // It keeps its turn, so that lighter tests behind it cannot starve it.
                self.put_back(test);
                break;
            }
        }
    }

    /// Starts the tests that wait for a slot of this machine, in order. Returns whether none is left.
    fn start_waiting(&mut self, now: Duration, actions: &mut Vec<Action>) -> bool {
        while let Some(&test) = self.elsewhere.waiting.front() {
            let weight = self.weight(test);
            let group = match &self.candidate(test).settings.test_group {
                TestGroup::Named(name) => self.groups.get(name),
                TestGroup::Global => None,
            };
            let group_has_room = group.is_none_or(|group| group.has_room(weight));
            if !group_has_room || !self.has_room(test, weight) {
                return false;
            }
            self.elsewhere.waiting.pop_front();
            self.occupy(now, test, weight, false, actions);
        }
        true
    }

    /// Takes the next test whose group has room. Groups that were full come first: their tests
    /// had their turn before.
    fn next_test(&mut self) -> Option<usize> {
        let tests = self.tests.len();
        let earliest = self
            .groups
            .values_mut()
            .filter(|group| {
                let Some(&test) = group.waiting.front() else {
                    return false;
                };
                group.has_room(weight(&self.tests[test % tests], &self.limits))
            })
            .min_by_key(|group| group.waiting.front().copied());
        if let Some(test) = earliest.and_then(|group| group.waiting.pop_front()) {
            return Some(test);
        }
        while let Some(test) = self.next_turn() {
            if self.services.hold(test, test % tests) {
                continue;
            }
            let weight = self.weight(test);
            let TestGroup::Named(name) = &self.tests[test % tests].settings.test_group else {
                return Some(test);
            };
            let Some(group) = self.groups.get_mut(name) else {
                return Some(test);
            };
            if group.has_room(weight) && group.waiting.is_empty() {
                return Some(test);
            }
            group.waiting.push_back(test);
        }
        None
    }

    /// Takes the next test that has its turn: one that waited for services, or one that had none.
    fn next_turn(&mut self) -> Option<usize> {
        if let Some(test) = self.services.take_ready() {
            return Some(test);
        }
        let next = self.unstarted.range(self.next..).next().copied();
        self.next = next.map_or(self.instances, |next| next + 1);
        next
    }

    fn put_back(&mut self, test: usize) {
        let once = self.once(test);
        match &self.tests[once].settings.test_group {
            TestGroup::Named(name) if self.groups.contains_key(name) => {
                if let Some(group) = self.groups.get_mut(name) {
                    group.waiting.push_front(test);
                }
            }
            _ if test + 1 == self.next => self.next = test,
            _ => self.services.put_back(test, once),
        }
    }

    /// Returns whether there are slots and memory for a test.
    pub(super) fn has_room(&self, test: usize, weight: usize) -> bool {
        let needed = self.used_memory + self.candidate(test).memory;
        // Alone, a test may need more than there is.
        let alone = self.used == 0;
        self.used + weight <= self.limits.slots
            && (alone || self.limits.memory.is_none_or(|there| needed <= there))
    }

    fn weight(&self, test: usize) -> usize {
        weight(self.candidate(test), &self.limits)
    }

    fn occupy(
        &mut self,
        now: Duration,
        test: usize,
        weight: usize,
        remote: bool,
        actions: &mut Vec<Action>,
    ) {
        let slot = match remote {
            true => self.free_remote_slot(),
            false => self.free_slot(),
        };
        let once = self.once(test);
        let group = match &self.tests[once].settings.test_group {
            TestGroup::Named(name) => self.groups.get_mut(name),
            TestGroup::Global => None,
        };
        let group_slot = group.map(|group| group.enter(weight));
        match remote {
            true => self.elsewhere.used += 1,
            false => {
                self.used += weight;
                self.used_memory += self.candidate(test).memory;
            }
        }
        self.unstarted.remove(&test);
        self.iteration_started(now, test);
        let state = Occupancy::Running { since: now };
        let occupant = Occupant {
            test,
            weight,
            remote,
            group_slot,
            attempts: Vec::new(),
            state,
        };
        self.slots.insert(slot, occupant);
        self.start(now, slot, actions);
    }

    /// Returns how many slots tests have at first, here and elsewhere.
    pub(super) fn all_slots(&self) -> usize {
        self.limits.slots + self.limits.remote_slots
    }

    /// Returns the smallest number of a slot elsewhere.
    fn free_remote_slot(&self) -> usize {
        let first = self.elsewhere.first;
        first + smallest_free(|slot| self.slots.contains_key(&(first + slot)))
    }

    pub(super) fn vacate(&mut self, slot: usize) -> Option<Occupant> {
        let occupant = self.slots.remove(&slot)?;
        let once = self.once(occupant.test);
        match occupant.remote {
            true => self.elsewhere.used -= 1,
            false => {
                self.used -= occupant.weight;
                self.used_memory -= self.tests[once].memory;
            }
        }
        if let TestGroup::Named(name) = &self.tests[once].settings.test_group
            && let Some(group) = self.groups.get_mut(name)
            && let Some(group_slot) = occupant.group_slot
        {
            group.leave(occupant.weight, group_slot);
        }
        Some(occupant)
    }
}

fn weight(test: &Candidate, limits: &Limits) -> usize {
    let too_large = limits.memory.is_some_and(|there| test.memory > there);
    if test.settings.exclusive || too_large {
        return limits.slots;
    }
    let weight = match test.settings.threads_required {
        ThreadsRequired::Count(count) => count,
        ThreadsRequired::NumCpus => limits.cpus,
        ThreadsRequired::NumTestThreads => limits.slots,
    };
    weight.clamp(1, limits.slots)
}
