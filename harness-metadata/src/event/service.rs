//! Services as events.

use super::OutputPolicy;
use crate::{id::TestId, outcome::Attempt};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// A service that starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct ServiceStarted {
    /// The service's name.
    pub service: String,
    /// The test group or the binary that it is for; `None` if it is for the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The id by which reports name it.
    pub test: TestId,
    /// The command, one string an argument.
    pub command: Vec<String>,
}

/// A service that is ready: the tests that want it can start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct ServiceReady {
    /// The service's name.
    pub service: String,
    /// The id by which reports name it.
    pub test: TestId,
    /// The time that it took.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub elapsed: Duration,
    /// The variables of the tests that want it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

/// A service that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct ServiceFinished {
    /// The service's name.
    pub service: String,
    /// The test group or the binary that it was for; `None` if it was for the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The id by which reports name it.
    pub test: TestId,
    /// The command, one string an argument.
    pub command: Vec<String>,
    /// The life of its process. A service that was ended because no test wanted it any more has
    /// passed.
    pub attempt: Attempt,
    /// The reason why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The variables of the tests that wanted it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The policy for its output.
    pub output: OutputPolicy,
}

/// A service that a test which did not pass has used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct UsedService {
    /// The service's name.
    pub service: String,
    /// The id by which reports name it.
    pub test: TestId,
    /// The reason why it has failed the test, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The last lines of its output when the test ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}
