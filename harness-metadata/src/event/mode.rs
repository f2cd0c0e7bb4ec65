//! The kind of items that a run has.

use crate::words;
use serde::{Deserialize, Serialize};

/// The kind of items that a run has. Its words are the values of `HARNESS_RUN_MODE`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum RunMode {
    /// Tests, and benchmarks as if they were tests: each runs once, and nothing is measured.
    #[default]
    Test,
    /// Benchmarks only, and they measure.
    Benchmark,
}

words!(RunMode {
    Test = "test",
    Benchmark = "benchmark",
});

impl RunMode {
    /// Returns true for tests.
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub fn is_test(&self) -> bool {
        *self == Self::Test
    }
}
