//! The state that the slots and the dispatcher of a run share.

use super::{
    BreakExec, Capture, StandardInput, Tracing,
    clock::Clock,
    engine::Away,
    environment, live,
    road::Road,
    scripts, services,
    work::{Binary, Role, Test, Work},
};
use crate::{store::TraceFiles, stub::cgroup::Cgroups, tracer::entries::EntryFiles};
use harness_metadata::TestId;
use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

/// The state that slots and the dispatcher share.
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) work: SharedWork,
    pub(super) road: Road,
    /// The tracing of tests that this run has found to need another backend.
    pub(super) learned: RefCell<BTreeMap<usize, Tracing>>,
    pub(super) scripts: scripts::Shared,
    pub(super) services: services::Shared,
    pub(super) remote: Option<Away>,
}

/// The parts of [`Work`] that slots need.
pub(super) struct SharedWork {
    /// Those of one iteration, and the processes of scripts behind them.
    pub(super) tests: Vec<Test>,
    pub(super) is_stress: bool,
    pub(super) binaries: Vec<Binary>,
    pub(super) blocks: environment::Blocks,
    pub(super) output_cap: u64,
    pub(super) capture: Capture,
    pub(super) stdin: StandardInput,
    pub(super) live: Option<live::Road>,
    /// The way of what tests print, if that is shown live.
    pub(super) printed: Option<live::Road>,
    /// Empty for none.
    pub(super) break_exec: String,
    pub(super) trace_files: Option<TraceFiles>,
    pub(super) entries: Option<EntryFiles>,
    pub(super) cgroups: Option<Arc<Cgroups>>,
    pub(super) started_at: chrono::DateTime<chrono::FixedOffset>,
}

impl Shared {
    /// The state of a run that begins now. The processes of its scripts and services are among its tests.
    pub(super) fn new(work: Work, services: services::Shared) -> Self {
        Self {
            clock: Clock::start(),
            road: Road::default(),
            learned: RefCell::default(),
            scripts: scripts::Shared::default(),
            services,
            work: SharedWork {
                blocks: environment::Blocks::new(&work),
                tests: work.tests,
                binaries: work.binaries,
                is_stress: work.stress.is_some(),
                output_cap: work.output_cap,
                capture: work.capture,
                stdin: work.stdin,
                trace_files: work.trace_files,
                entries: work.entries,
                cgroups: work.cgroups,
                break_exec: BreakExec::pattern(work.break_exec.as_ref()),
                live: work.trace_live.then(live::Road::default),
                printed: work.output_live.then(live::Road::default),
                started_at: work.started_at,
            },
            remote: work.remote,
        }
    }
}

impl SharedWork {
    /// Returns the test of an instance. A stress run has all tests again in each iteration.
    pub(super) fn test(&self, instance: usize) -> &Test {
        &self.tests[self.once(instance)]
    }

    /// Returns the id of an instance.
    pub(super) fn id(&self, instance: usize) -> TestId {
        let test = self.test(instance);
        match self.is_stress && test.role == Role::Test {
            true => test.id.of_iteration(self.iteration(instance)),
            false => test.id.clone(),
        }
    }

    /// Returns the index of the test of an instance.
    pub(super) fn once(&self, instance: usize) -> usize {
        instance % self.tests.len()
    }

    /// Returns the iteration of an instance, from 0.
    pub(super) fn iteration(&self, instance: usize) -> usize {
        instance / self.tests.len()
    }
}
