//! The binaries of a run.

use serde::{Deserialize, Serialize};

/// The source of a binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Source {
    /// The package's name.
    pub package: String,
    /// The crate root's file, relative to the workspace root where it is inside.
    pub file: String,
    /// The binary's name, such as `tests`.
    #[serde(default)]
    pub binary: String,
    /// The binary's kind, such as `lib` or `test`.
    #[serde(default)]
    pub kind: String,
    /// The number of its tests that will run.
    #[serde(default)]
    pub tests: usize,
}
