//! A group of tests with a limit of its own.

use std::collections::{BTreeSet, VecDeque};

/// The free places of a group, and the tests that wait for one.
#[derive(Debug, Default)]
pub(super) struct Group {
    limit: usize,
    used: usize,
    slots: BTreeSet<usize>,
    /// Tests that had their turn while the group was full.
    pub(super) waiting: VecDeque<usize>,
}

impl Group {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Returns whether a test of this weight can start. One that is heavier than the group allows
    /// runs alone.
    pub(super) fn has_room(&self, weight: usize) -> bool {
        self.used == 0 || self.used + weight <= self.limit
    }

    /// Lets a test in. Returns its slot within the group.
    pub(super) fn enter(&mut self, weight: usize) -> usize {
        self.used += weight;
        let slot = smallest_free(|slot| self.slots.contains(&slot));
        self.slots.insert(slot);
        slot
    }

    /// Lets a test out.
    pub(super) fn leave(&mut self, weight: usize, slot: usize) {
        self.used -= weight;
        self.slots.remove(&slot);
    }
}

pub(super) fn smallest_free(taken: impl Fn(usize) -> bool) -> usize {
    (0..)
        .find(|slot| !taken(*slot))
        .expect("fewer slots than numbers are taken")
}
