//! The end of a run as an event.

use super::{CancelReason, Findings};
use crate::{id::TestId, stats::RunStats};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct RunFinished {
    /// Its duration, in active time.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub elapsed: Duration,
    /// The counts.
    pub stats: RunStats,
    /// The reason for a cancelled run.
    pub cancelled: Option<CancelReason>,
    /// Tests that were never started, in the order in which they would have been.
    pub not_run: Vec<TestId>,
    /// The setup scripts that failed, or whose teardown did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_scripts: Vec<String>,
    /// The services that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_services: Vec<String>,
    /// Findings of its traces.
    #[serde(default, skip_serializing_if = "Findings::is_empty")]
    pub findings: Findings,
}
