//! Setup scripts as events.

use super::OutputPolicy;
use crate::{id::TestId, outcome::Attempt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A setup script, or its teardown, that starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct ScriptStarted {
    /// The setup script's name.
    pub script: String,
    /// The id by which reports name it.
    pub test: TestId,
    /// Its number among the setup scripts of the run, from 1.
    pub number: usize,
    /// The number of setup scripts of the run.
    pub total: usize,
    /// The command, one string an argument.
    pub command: Vec<String>,
    /// True if it writes to where the run itself writes.
    pub uncaptured: bool,
}

/// A setup script, or its teardown, with its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct ScriptFinished {
    /// The setup script's name.
    pub script: String,
    /// The id by which reports name it.
    pub test: TestId,
    /// Its number among the setup scripts of the run, from 1.
    pub number: usize,
    /// The number of setup scripts of the run.
    pub total: usize,
    /// The command, one string an argument.
    pub command: Vec<String>,
    /// The attempt, with its verdict.
    pub attempt: Attempt,
    /// The reason why it failed although its process did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The variables that it sets for the tests that want it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The policy for its output.
    pub output: OutputPolicy,
}
