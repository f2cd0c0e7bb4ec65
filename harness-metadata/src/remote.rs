//! An attempt that did not run on this machine.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The place of an attempt that did not run on this machine, and the time of each part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Remote {
    /// The address of the engine.
    pub engine: String,
    /// The name of the worker; empty if the engine says none.
    pub worker: String,
    /// The time to look for and to upload the inputs that the engine lacked.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub upload: Duration,
    /// The time in the engine's queue. All that the engine does not tell apart is in here.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub queue: Duration,
    /// The time to lay out the inputs at the worker.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub staging: Duration,
    /// The time of the agent at the worker, the test included.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub execution: Duration,
    /// The time to fetch the result.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub fetch: Duration,
    /// The number of bytes that were uploaded for it.
    pub uploaded: u64,
    /// The number of inputs.
    pub inputs: usize,
    /// Whether a second copy of it was started, because the first one took long. The first result counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// The reasons of its earlier tries, in order. The test is not to blame for any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<String>,
}
