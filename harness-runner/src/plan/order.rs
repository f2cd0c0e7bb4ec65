//! The order in which the tests of a plan start.
//!
//! Priority comes first in every order. A test that needs all slots comes after the others in the
//! order by recorded results: the slots are emptied for it once, and not in the middle of the run.

use super::{Plan, PlannedTest};
use crate::{
    config::settings::ThreadsRequired,
    history::{History, Past},
};
use std::cmp::Reverse;
use xxhash_rust::xxh64::xxh64;

/// Shorter differences count for nothing, so that the order of short tests does not change from run to
/// run.
const STEP_MILLIS: u128 = 100;

/// The reason for a test's turn. Earlier ones start earlier.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    FailedLastTime,
    NeverRun,
    /// The longest first.
    Lasts(Reverse<u128>),
}

impl Turn {
    fn of(past: Option<&Past>) -> Self {
        match past {
            None => Self::NeverRun,
            Some(past) if past.failed => Self::FailedLastTime,
            Some(past) => Self::Lasts(Reverse(past.elapsed().as_millis() / STEP_MILLIS)),
        }
    }
}

impl Plan {
    /// Lets tests start that failed last time, then those without a recorded result, then the others,
    /// the longest first. Among equals the order stays.
    pub fn longest_first(&mut self, history: &History) {
        self.tests.sort_by_cached_key(|test| {
            let priority = Reverse(test.settings.priority);
            (priority, needs_all(test), Turn::of(history.of(&test.id)))
        });
    }

    /// Lets tests start in an order that depends on nothing but this seed and their own ids: two
    /// tests have the same order whichever others run.
    pub fn shuffle(&mut self, seed: u64) {
        self.tests.sort_by_cached_key(|test| {
            let place = xxh64(test.id.to_string().as_bytes(), seed);
            (Reverse(test.settings.priority), place)
        });
    }
}

fn needs_all(test: &PlannedTest) -> bool {
    let settings = &test.settings;
    settings.exclusive || settings.threads_required == ThreadsRequired::NumTestThreads
}
