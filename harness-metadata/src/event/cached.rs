//! Tests that do not run because nothing has changed since they passed.

use crate::{
    id::{RunId, TestId},
    location::Location,
};
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A test whose earlier pass counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct TestCached {
    /// The test.
    pub test: TestId,
    /// The place of its definition, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The run that had the pass.
    pub run: RunId,
    /// The start of the test in that run.
    pub started_at: DateTime<FixedOffset>,
    /// Its running time then.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub elapsed: Duration,
}
