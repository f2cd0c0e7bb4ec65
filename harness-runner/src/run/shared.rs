//! The state that the slots and the dispatcher of a run share.

use super::{
    Capture, StandardInput, Tracing,
    clock::Clock,
    environment, live,
    road::Road,
    scripts,
    work::{Binary, Test},
};
use crate::{store::TraceFiles, stub::cgroup::Cgroups};
use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

/// The state that slots and the dispatcher share.
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) work: SharedWork,
    pub(super) road: Road,
    /// The tracing of tests that this run has found to need another backend.
    pub(super) learned: RefCell<BTreeMap<usize, Tracing>>,
    pub(super) scripts: scripts::Shared,
}

/// The parts of [`Work`] that slots need.
pub(super) struct SharedWork {
    pub(super) tests: Vec<Test>,
    pub(super) binaries: Vec<Binary>,
    pub(super) blocks: environment::Blocks,
    pub(super) output_cap: u64,
    pub(super) capture: Capture,
    pub(super) stdin: StandardInput,
    pub(super) live: Option<live::Road>,
    /// Empty for none.
    pub(super) break_exec: String,
    pub(super) trace_files: Option<TraceFiles>,
    pub(super) cgroups: Option<Arc<Cgroups>>,
    pub(super) started_at: chrono::DateTime<chrono::FixedOffset>,
}
