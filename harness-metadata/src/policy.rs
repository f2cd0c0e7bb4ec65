//! The findings of a policy in an attempt.

use crate::{raw::RawString, words};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The effect of a policy.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyMode {
    /// None.
    #[default]
    Observe,
    /// Violations are reported.
    Audit,
    /// Violations are denied.
    Enforce,
}

words!(PolicyMode {
    Observe = "observe",
    Audit = "audit",
    Enforce = "enforce",
});

/// The violations of an attempt's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Violations {
    /// The effect of the policy.
    pub mode: PolicyMode,
    /// The first violations, in order, each once.
    pub found: Vec<Violation>,
    /// The number of further ones.
    pub more: u64,
}

impl Violations {
    /// Returns true if a call succeeded that the policy should have denied.
    pub fn escaped(&self) -> bool {
        self.mode == PolicyMode::Enforce && self.found.iter().any(|it| it.errno.is_none())
    }
}

/// A use that a policy does not allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Violation {
    /// Time since the root was created.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub at: Duration,
    /// The process.
    pub pid: i32,
    /// The program that it executed last; empty if that was not seen.
    pub program: RawString,
    /// The system call.
    pub call: String,
    /// The file or the address.
    pub target: RawString,
    /// The setting that does not allow it, such as `policy.fs.read`.
    pub rule: String,
    /// The entry that would allow it, as it is written in that setting.
    pub allow: String,
    /// The error of the call; `None` if it succeeded.
    pub errno: Option<i32>,
}
