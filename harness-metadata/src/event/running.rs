//! Running tests, as events tell of them.

use crate::{id::TestId, outcome::StuckTask, raw::RawString};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A test that is running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct RunningTest {
    /// The test.
    pub test: TestId,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The slot.
    pub slot: usize,
    /// Its running time so far.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub elapsed: Duration,
    /// Its state.
    pub state: RunningState,
    /// Details; `None` if there are none, or they did not arrive in time.
    #[serde(default)]
    pub detail: Option<Box<RunningDetail>>,
}

/// Details of a running attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct RunningDetail {
    /// The process id of the test; `None` if its own process has ended.
    pub pid: Option<i32>,
    /// True if it has run for longer than its slow period.
    pub slow: bool,
    /// The time until the kill, if it is being terminated or its descendants are awaited.
    #[serde(default, with = "crate::seconds::optional")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub left: Option<Duration>,
    /// Its standard output so far; `None` if that is not captured.
    pub stdout: Option<OutputSoFar>,
    /// Its standard error so far; `None` if that is not captured.
    pub stderr: Option<OutputSoFar>,
    /// The states of its tasks.
    pub tasks: Vec<StuckTask>,
}

/// The output of a test to a stream so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct OutputSoFar {
    /// The number of bytes in all.
    pub written: u64,
    /// The last few lines.
    pub last: RawString,
}

/// The state of a running test.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum RunningState {
    /// Running.
    Running,
    /// Being terminated.
    Terminating,
    /// Its own process has exited; descendants or open output remain.
    Draining,
    /// Waiting for its next attempt.
    Waiting,
}
