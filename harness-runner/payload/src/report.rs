//! The result of a program.

use crate::{check::Failure, metric::Metric, output::Output, status::Status};
use std::{fmt, time::Duration};

/// The resources that a program and those of its descendants used that it waited for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The time from its start until the last of its descendants was gone.
    pub elapsed: Duration,
    /// The CPU time in user mode.
    pub user: Duration,
    /// The CPU time in the kernel.
    pub system: Duration,
    /// The most memory that one of the processes used, in bytes.
    pub peak_memory: u64,
}

/// A process that a program left behind when it ended, and that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftBehind {
    /// Its process id.
    pub pid: i32,
    /// Its command line, up to 200 bytes; empty if /proc does not show it.
    pub command: String,
}

/// The result of a program: how it ended, what it printed, and which checks failed.
#[derive(Clone, Debug)]
#[must_use = "checks that nothing looks at fail no test: call `assert_passed`"]
#[non_exhaustive]
pub struct Report {
    /// The name of the payload.
    pub name: String,
    /// Its end.
    pub status: Status,
    /// All checks that failed, in the order in which they were given.
    pub failures: Vec<Failure>,
    /// The metrics that it printed.
    pub metrics: Vec<Metric>,
    /// Remarks about metrics that could not be read or were left out.
    pub notes: Vec<String>,
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// The resources that it used.
    pub usage: Usage,
    /// The processes that outlived it, the first 16 of them. All were killed.
    pub left_behind: Vec<LeftBehind>,
    /// Processes that did not end though they were killed: the kernel holds them in a call.
    pub unkillable: u64,
}

impl Report {
    /// Returns true if no check failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// Fails the test with all checks that failed, if any did.
    ///
    /// # Panics
    ///
    /// If a check failed.
    #[track_caller]
    #[allow(clippy::must_use_candidate, reason = "it is called for its panic")]
    pub fn assert_passed(&self) -> &Self {
        assert!(self.passed(), "{self}");
        self
    }

    /// Returns the value of a metric.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let metric = self.metrics.iter().find(|metric| metric.name == name)?;
        Some(metric.value)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            status,
            failures,
            ..
        } = self;
        // Readers of the first line know the failure.
        match failures.as_slice() {
            [] => write!(f, "payload `{name}` passed: {status}")?,
            [one] => write!(f, "payload `{name}` failed a check: {one}")?,
            all => {
                write!(f, "payload `{name}` failed {} checks: {status}", all.len())?;
                for failure in all {
                    write!(f, "\n  {failure}")?;
                }
            }
        }
        for note in &self.notes {
            write!(f, "\n  note: {note}")?;
        }
        for LeftBehind { pid, command } in &self.left_behind {
            write!(
                f,
                "\n  note: it left the process {pid} (`{command}`) behind, which was killed"
            )?;
        }
        if self.unkillable > 0 {
            let count = self.unkillable;
            write!(
                f,
                "\n  note: {count} processes did not end though they were killed"
            )?;
        }
        Ok(())
    }
}
