//! Results of earlier runs, for a report that shows a test against the last one.

use super::Outputs;
use chrono::{DateTime, FixedOffset};
use harness_metadata::{RunId, TestId, event::TestFinished};
use std::fmt;

/// An earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierRun {
    /// The run.
    pub id: RunId,
    /// When it started.
    pub started_at: DateTime<FixedOffset>,
}

/// The runs before one.
pub trait EarlierRuns: fmt::Debug {
    /// Hands over the results that are wanted, of runs before this one, the latest run first. What cannot
    /// be read is left out.
    fn look(&self, before: RunId, wanted: &mut dyn Wanted);
}

/// A search for the last result of each of some tests.
pub trait Wanted {
    /// Returns whether a result of this test is still wanted.
    fn wants(&self, test: &TestId) -> bool;

    /// Takes a result.
    fn take(&mut self, run: &EarlierRun, finished: &TestFinished, outputs: &dyn Outputs);

    /// Returns whether all of them are there.
    fn is_complete(&self) -> bool;
}
