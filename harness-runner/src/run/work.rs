//! What a run is given.

use super::BreakExec;
use crate::{
    config::settings::{MaxFail, TestSettings},
    protocol::Environment,
    store::TraceFiles,
    stub::cgroup::Cgroups,
    stub::link::Stub,
};
use harness_metadata::{RunId, TestId, event::TraceLevel, trace::Backend};
use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

/// Everything that a run needs. Complete before the first test starts.
#[derive(Debug)]
pub struct Work {
    /// The run's id.
    pub run_id: RunId,
    /// The profile's name, for the tests' environment.
    pub profile: String,
    /// When the run started.
    pub started_at: chrono::DateTime<chrono::FixedOffset>,
    /// The tests, in the order in which they start.
    pub tests: Vec<Test>,
    /// The binaries that hold them.
    pub binaries: Vec<Binary>,
    /// Tests that can run at the same time; at least 1.
    pub slots: usize,
    /// CPUs of the machine.
    pub cpus: usize,
    /// Limits of test groups.
    pub groups: BTreeMap<String, usize>,
    /// When the run gives up.
    pub max_fail: MaxFail,
    /// When the run as a whole is out of time.
    pub global_timeout: Option<Duration>,
    /// How many listed tests do not run, for the counts.
    pub skipped: usize,
    /// How many bytes of a stream are kept.
    pub output_cap: u64,
    /// Whether output is captured or goes where the run's own goes.
    pub capture: Capture,
    /// Whether every event of a trace is told at once: [`harness_metadata::EventKind::AttemptTraced`].
    pub trace_live: bool,
    /// Which processes to stop for a debugger, and what to do then.
    pub break_exec: Option<BreakExec>,
    /// Where traces are written; `None` to write none.
    pub trace_files: Option<TraceFiles>,
    /// Where attempts are born; `None` if cgroups cannot be had.
    pub cgroups: Option<Arc<Cgroups>>,
    /// Stubs that have been started already.
    pub stubs: Vec<Stub>,
}

/// Where the tests' output goes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Capture {
    /// Into pipes that the run reads.
    Pipes,
    /// Where the run's own goes.
    Inherit,
}

/// A test to run.
#[derive(Debug)]
pub struct Test {
    /// Its id.
    pub id: TestId,
    /// What it runs under.
    pub settings: Arc<TestSettings>,
    /// Index of its binary.
    pub binary: usize,
    /// Whether it is marked as ignored.
    pub ignored: bool,
    /// Whether it is a benchmark.
    pub bench: bool,
    /// How it is traced.
    pub tracing: Tracing,
    /// The number of the trace of its first attempt, if it is traced; that of the next one is the
    /// next.
    pub trace_number: Option<u64>,
}

/// How a test is traced, by what it asks for and what works here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// How closely.
    pub level: TraceLevel,
    /// By what.
    pub backend: Backend,
    /// Whether no_new_privs may be set for it.
    pub no_new_privs: bool,
    /// By what it is run again if the tracer was in its way and it failed; `None` for never.
    pub otherwise: Option<Backend>,
}

/// A binary that holds tests.
#[derive(Debug)]
pub struct Binary {
    /// The program and its first arguments: a target runner, if there is one, then the binary.
    pub program: Vec<OsString>,
    /// Where its tests run.
    pub cwd: PathBuf,
    /// What its tests see, but for what depends on the run and the test.
    pub environment: Environment,
    /// Whether the standard test harness is linked into it.
    pub libtest: bool,
}
