//! The facts about a run by which it is found.

use camino::Utf8PathBuf;
use chrono::{DateTime, FixedOffset};
use harness_metadata::{RunId, event::RunMode};
use serde::{Deserialize, Serialize};

/// The facts about a run that its first event has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHeader {
    /// The run.
    pub run_id: RunId,
    /// When it started.
    pub started_at: DateTime<FixedOffset>,
    /// The root of the workspace.
    pub workspace_root: Utf8PathBuf,
    /// The number of tests that were to run.
    pub tests: usize,
    /// Whether they are tests or benchmarks.
    #[serde(default, skip_serializing_if = "RunMode::is_test")]
    pub mode: RunMode,
}
