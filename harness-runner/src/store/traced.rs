//! The results whose traces a run has, so that the last trace of a test that passed and of one that failed
//! are not deleted.
//!
//! A result is a hash of the test's name and of its colour. Two that are the same by chance cost a trace of an
//! earlier run, if anything.

use super::{PastRun, TRACED, files::Files};
use crate::own_files;
use camino::Utf8Path;
use harness_metadata::{TestId, Verdict};
use std::collections::HashSet;
use xxhash_rust::xxh64::xxh64;

/// A note is shorter.
pub(super) const LONGEST: u64 = 16 * 1024 * 1024;

/// Results of tests that are traced.
#[derive(Clone, Debug, Default)]
pub(super) struct Traced(HashSet<u64>);

impl Traced {
    pub(super) fn add(&mut self, test: &TestId, verdict: Verdict) {
        let colour = match verdict {
            Verdict::Pass => 0,
            Verdict::Fail | Verdict::Quarantined => 1,
            Verdict::Interrupted => return,
        };
        let test = test.without_iteration().0.to_string();
        self.0.insert(xxh64(test.as_bytes(), colour));
    }

    /// Notes them in the run's folder. Without the note the run is one that has none.
    pub(super) fn note(&self, folder: &Utf8Path) {
        if !self.0.is_empty() {
            let bytes = self.0.iter().flat_map(|result| result.to_le_bytes());
            let bytes: Vec<u8> = bytes.collect();
            let _ = own_files::replace_in(&folder.join(TRACED), &bytes);
        }
    }

    /// Reads those of a run; none if it has no note.
    fn of(run: &PastRun) -> Self {
        let noted = Files::of(&run.path).and_then(|files| files.note(TRACED, LONGEST));
        let noted = noted.unwrap_or_default();
        let results = noted.chunks_exact(8);
        let results = results.filter_map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes));
        Self(results.collect())
    }
}

/// Returns for each run whether it has the last trace of a test in one of its colours. The latest run comes
/// first.
pub(super) fn last_traces<'a>(runs: impl Iterator<Item = &'a PastRun>) -> Vec<bool> {
    let mut seen = HashSet::new();
    runs.map(|run| {
        let before = seen.len();
        seen.extend(Traced::of(run).0);
        seen.len() > before
    })
    .collect()
}
