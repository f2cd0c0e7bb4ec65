//! The iterations of a stress run.

use crate::stats::RunStats;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The iterations of a stress run. If neither their number nor the time is bounded, a failure or the user
/// ends the run.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct StressStarted {
    /// Their number, if it is known before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<usize>,
    /// The time after which no further one begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(with = "crate::seconds::optional")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub time: Option<Duration>,
    /// True if an iteration may begin before the one before is over.
    pub parallel: bool,
}

/// An iteration of a stress run that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct IterationFinished {
    /// Its number, from 0.
    pub iteration: usize,
    /// The time since its first test started.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub elapsed: Duration,
    /// The counts of its tests.
    pub stats: RunStats,
}
