//! The machine that a run runs on.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Properties of the machine and of the user that a test may depend on without a call that a trace
/// shows. Environment and working directory are in the trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Machine {
    /// The kernel's release (`uname(2)`).
    pub kernel: Option<String>,
    /// The host's name.
    pub host: Option<String>,
    /// The architecture that the runner was built for, as Rust calls it.
    pub architecture: String,
    /// The processors that may be used, as numbers and ranges: `0-3,6`.
    pub processors: Option<String>,
    /// The memory, in bytes.
    pub memory: Option<u64>,
    /// The effective user.
    pub user: u32,
    /// The effective group.
    pub group: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
    /// The bits that new files do not have (`umask(2)`).
    pub umask: Option<u32>,
    /// The limits of resources, by their names: `nofile` for `RLIMIT_NOFILE` (`getrlimit(2)`). Limits of
    /// a test's own are its settings.
    pub limits: BTreeMap<String, Limit>,
}

/// A limit of a resource.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Limit {
    /// The limit in force; `None` for no limit.
    pub soft: Option<u64>,
    /// The most that it can be raised to; `None` for no limit.
    pub hard: Option<u64>,
}
