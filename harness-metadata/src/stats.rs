//! The counts of a run.

use crate::{
    event::TestFinished,
    outcome::{NoResultKind, Outcome, Verdict},
};
use serde::{Deserialize, Serialize};

/// Counts over the finished tests of a run. A test counts once, by its last attempt.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct RunStats {
    /// Tests that were to run.
    pub selected: usize,
    /// Tests that were listed but not selected.
    pub skipped: usize,
    /// Tests that have a result.
    pub finished: usize,
    /// Passed, flaky, slow and leaky ones included.
    pub passed: usize,
    /// Of the passed: took longer than the slow period, and ended in time.
    pub passed_slow: usize,
    /// Of the passed: only after a failed attempt.
    pub flaky: usize,
    /// Of the passed: timed out, and the profile lets that pass.
    pub passed_timed_out: usize,
    /// Of the passed: left something behind.
    pub passed_leaky: usize,
    /// Of the passed: reported themselves as ignored while they ran.
    #[serde(default)]
    pub passed_ignored: usize,
    /// Failed by exit code or signal, or because the profile fails a flaky or leaky test.
    pub failed: usize,
    /// Of the failed: took longer than the slow period.
    pub failed_slow: usize,
    /// Of the failed: exited successfully but left something behind.
    pub failed_leaky: usize,
    /// Of the failed: passed at last, and the profile fails flaky tests.
    pub failed_flaky: usize,
    /// Timed out.
    pub timed_out: usize,
    /// Could not be started.
    pub start_failed: usize,
    /// Failed in quarantine, which does not fail the run.
    #[serde(default)]
    pub quarantined: usize,
    /// Ended because the run was cancelled.
    pub interrupted: usize,
    /// Lost to a failure of the harness.
    pub faults: usize,
    /// Did not run, because their binary is not the one that listed them.
    #[serde(default)]
    pub binary_changed: usize,
    /// Exited with code 0 without a result from their test harness.
    #[serde(default)]
    pub no_result: usize,
    /// Of all with a result: run again, because the tracer was in the way or may have been.
    #[serde(default)]
    pub run_again: usize,
    /// Of all with a result: the tracer was in the way or may have been, and the result stands all the
    /// same.
    #[serde(default)]
    pub disturbed: usize,
}

impl RunStats {
    /// Counts a finished test.
    pub fn add(&mut self, test: &TestFinished) {
        self.finished += 1;
        let Some(last) = test.attempts.last() else {
            self.faults += 1;
            return;
        };
        let again = test
            .attempts
            .iter()
            .any(|attempt| !attempt.earlier.is_empty());
        self.run_again += usize::from(again);
        self.disturbed += usize::from(!last.disturbances().is_empty());
        match test.verdict {
            Verdict::Pass => {
                self.passed += 1;
                let timed_out = matches!(last.outcome, Outcome::TimedOut { .. });
                self.passed_timed_out += usize::from(timed_out);
                let ignored = matches!(last.outcome, Outcome::NoResult(_));
                self.passed_ignored += usize::from(ignored);
                self.passed_slow += usize::from(last.slow && !timed_out);
                self.flaky += usize::from(test.attempts.len() > 1);
                self.passed_leaky += usize::from(last.leaked().is_some());
            }
            Verdict::Interrupted => self.interrupted += 1,
            Verdict::Quarantined => self.quarantined += 1,
            Verdict::Fail => match &last.outcome {
                Outcome::Exited(exit) => {
                    self.failed += 1;
                    self.failed_slow += usize::from(last.slow);
                    let passed_at_last = last.verdict == Verdict::Pass;
                    self.failed_flaky += usize::from(passed_at_last);
                    let limited = !last.limits.is_empty();
                    let leak_failed = exit.success() && !passed_at_last && !limited;
                    self.failed_leaky += usize::from(leak_failed);
                }
                Outcome::TimedOut { .. } if last.verdict == Verdict::Pass => {
                    self.failed += 1;
                    self.failed_flaky += 1;
                }
                Outcome::TimedOut { .. } => self.timed_out += 1,
                Outcome::StartFailed(_) => self.start_failed += 1,
                // A further attempt was interrupted: it had failed before.
                Outcome::Interrupted { .. } => self.failed += 1,
                Outcome::HarnessFault(_) => self.faults += 1,
                Outcome::BinaryChanged(_) => self.binary_changed += 1,
                Outcome::NoResult(_) if last.verdict == Verdict::Pass => {
                    self.failed += 1;
                    self.failed_flaky += 1;
                }
                Outcome::NoResult(no) if no.kind == NoResultKind::Ignored => {
                    self.failed += 1;
                    self.failed_leaky += usize::from(last.limits.is_empty());
                }
                Outcome::NoResult(_) => self.no_result += 1,
            },
        }
    }

    /// Returns how many tests count as failures: the run's exit code depends on it.
    pub fn failures(&self) -> usize {
        self.failed
            + self.timed_out
            + self.start_failed
            + self.faults
            + self.no_result
            + self.binary_changed
    }

    /// Returns how many selected tests have no result.
    pub fn not_run(&self) -> usize {
        self.selected.saturating_sub(self.finished)
    }

    /// Returns true if every selected test ran and counts as a success.
    pub fn success(&self) -> bool {
        self.failures() == 0 && self.interrupted == 0 && self.not_run() == 0
    }
}
