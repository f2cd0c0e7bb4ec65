//! The ending of a run, by which some runs are kept longer than others.
//!
//! Ten runs of a single test must not push out the one whole run before them. The latest run, the
//! last one that failed and the last whole one that passed are kept before all others.

use super::PastRun;
use crate::own_files;
use camino::Utf8Path;
use harness_metadata::{EventKind, RunStats, event::CancelReason};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The note of a run's end, or of its lack, so that a recording is read once at most: a
/// run of 1,000 tests looks at as many recordings as are kept, and to read one takes a twentieth of it.
const ENDING: &str = "ending.json";

/// A note is shorter.
const LONGEST_ENDING: u64 = 64 * 1024;

/// The ending of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// Its duration, in active time.
    pub elapsed: Duration,
    /// The counts.
    pub stats: RunStats,
    /// The reason of its cancellation.
    pub cancelled: Option<CancelReason>,
    /// Whether it was to run only a part of the workspace's tests.
    pub partial: bool,
}

impl Ending {
    /// Returns whether a test failed.
    pub fn failed(&self) -> bool {
        let stats = &self.stats;
        stats.failed + stats.timed_out + stats.start_failed + stats.faults > 0
    }

    /// Returns whether all tests of the workspace ran and passed.
    pub(super) fn whole_and_passed(&self) -> bool {
        self.whole() && self.stats.success()
    }

    /// Returns whether all tests of the workspace ran.
    pub(super) fn whole(&self) -> bool {
        !self.partial && self.cancelled.is_none()
    }

    /// Notes it in the run's folder.
    pub(super) fn note(&self, folder: &Utf8Path) {
        note(Some(self), folder);
    }

    /// Returns how a run ended; `None` if it did not.
    pub(super) fn of(run: &PastRun) -> Option<Self> {
        if run.is_packed() {
            return match run.facts() {
                Some(facts) => facts.ending,
                None => Self::recorded(run),
            };
        }
        let noted = own_files::read(run.path.join(ENDING), LONGEST_ENDING).ok();
        if let Some(ending) = noted.and_then(|text| serde_json::from_slice(&text).ok()) {
            return ending;
        }
        if run.in_progress() {
            return None;
        }
        let ending = Self::recorded(run);
        note(ending.as_ref(), &run.path);
        ending
    }

    fn recorded(run: &PastRun) -> Option<Self> {
        let partial = run.first()?.partial;
        run.events().ok()?.find_map(|line| match line.event.kind {
            EventKind::RunFinished(finished) => Some(Self {
                elapsed: finished.elapsed,
                stats: finished.stats,
                cancelled: finished.cancelled,
                partial,
            }),
            _ => None,
        })
    }
}

fn note(ending: Option<&Ending>, folder: &Utf8Path) {
    if let Ok(text) = serde_json::to_vec(&ending) {
        // Without it the recording is read.
        let _ = own_files::replace_in(&folder.join(ENDING), &text);
    }
}
