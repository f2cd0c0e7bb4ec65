//! The messages between a run and an agent elsewhere: a file each.

use crate::{
    config::budget::Budget,
    config::settings::{
        FlakyResult, LeakPolicy, LeakTimeout, MemoryRequired, RemoteSetting, RetryPolicy,
        SlowTimeout, TestGroup, TestSettings, ThreadsRequired, TraceSetting,
    },
    policy::Policy,
    run::{
        Tracing,
        work::{Role, Test},
    },
};
use chrono::{DateTime, FixedOffset};
use harness_metadata::{
    Attempt, Limits, RunId, TestId,
    event::{OutputPolicy, OutputWhen, RunMode},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf, sync::Arc,
};

/// The folder of all that is ours in the input root. A sandbox has no mounts below it.
pub(super) const TOP: &str = "harness-remote";

/// The argument by which the executable is asked to be an agent.
pub const AGENT_ARGUMENT: &str = "__remote";

/// The files in it.
pub(super) const AGENT: &str = "harness-remote/cargo-harness";
pub(super) const JOB: &str = "harness-remote/job";
pub(super) const REPORT: &str = "harness-remote/report.json";
pub(super) const STDOUT: &str = "harness-remote/stdout";
pub(super) const STDERR: &str = "harness-remote/stderr";
pub(super) const TRACE: &str = "harness-remote/trace";

/// The folder of the files of the other machine, by their absolute paths.
pub(super) const FILES: &str = "harness-remote/files";

/// The files that an agent leaves.
pub(super) const OUTPUTS: [&str; 4] = [REPORT, STDERR, STDOUT, TRACE];

/// An attempt to make.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) run_id: RunId,
    pub(super) profile: String,
    pub(super) mode: RunMode,
    /// The number of slots of the run.
    pub(super) threads: usize,
    pub(super) started_at: DateTime<FixedOffset>,
    pub(super) test: TestId,
    pub(super) ignored: bool,
    pub(super) settings: Settings,
    pub(super) tracing: Tracing,
    /// Whether less tracing than that is an error.
    pub(super) trace_required: bool,
    pub(super) keeps_trace: bool,
    /// The program and its first arguments.
    pub(super) program: Vec<Vec<u8>>,
    pub(super) cwd: Vec<u8>,
    pub(super) environment: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) libtest: bool,
    pub(super) attempt: u32,
    pub(super) total_attempts: u32,
    pub(super) slot: usize,
    pub(super) group_slot: Option<usize>,
    pub(super) output_cap: u64,
    /// The folders whose paths are those of the machine that sent it.
    pub(super) roots: Vec<PathBuf>,
}

/// The settings of a test that count where it runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    slow_timeout: SlowTimeout,
    leak_timeout: LeakTimeout,
    leak: LeakPolicy,
    test_group: TestGroup,
    run_extra_args: Vec<String>,
    require_result: bool,
}

impl Settings {
    pub(super) fn of(settings: &TestSettings) -> Self {
        Self {
            slow_timeout: settings.slow_timeout,
            leak_timeout: settings.leak_timeout,
            leak: settings.leak,
            test_group: settings.test_group.clone(),
            run_extra_args: settings.run_extra_args.clone(),
            require_result: settings.require_result,
        }
    }

    /// The others are for the machine that sent them.
    fn into_settings(self) -> TestSettings {
        TestSettings {
            retries: RetryPolicy::NONE,
            flaky_result: FlakyResult::default(),
            slow_timeout: self.slow_timeout,
            leak_timeout: self.leak_timeout,
            leak: self.leak,
            limits: Limits::default(),
            threads_required: ThreadsRequired::Count(1),
            exclusive: false,
            memory_required: MemoryRequired::None,
            test_group: self.test_group,
            priority: 0,
            run_extra_args: self.run_extra_args,
            env: BTreeMap::new(),
            require_result: self.require_result,
            output: OutputPolicy {
                success: OutputWhen::Never,
                failure: OutputWhen::Never,
                junit_success: false,
                junit_failure: false,
                junit_flaky_fail_as_failure: false,
            },
            trace: TraceSetting::default(),
            policy: Policy::default(),
            budget: Budget::default(),
            remote: RemoteSetting::default(),
        }
    }
}

impl Job {
    /// Returns the test, and its program, working directory and environment.
    pub(super) fn take_test(&mut self) -> (Test, Vec<OsString>) {
        let settings = Settings {
            run_extra_args: std::mem::take(&mut self.settings.run_extra_args),
            test_group: self.settings.test_group.clone(),
            ..self.settings
        };
        let test = Test {
            id: self.test.clone(),
            settings: Arc::new(settings.into_settings()),
            memory: 0,
            quarantine: None,
            binary: 0,
            ignored: self.ignored,
            location: None,
            tracing: self.tracing,
            policy: None,
            inject: None,
            keeps_trace: self.keeps_trace,
            role: Role::Test,
            measured: false,
            scripts: Vec::new(),
            services: Vec::new(),
            wrapped: None,
        };
        let program = std::mem::take(&mut self.program).into_iter();
        (test, program.map(OsString::from_vec).collect())
    }
}

/// An attempt that an agent has made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) attempt: Attempt,
    pub(super) stdout: Kept,
    pub(super) stderr: Kept,
    /// The time that the agent took, the attempt included, in milliseconds.
    pub(super) millis: u64,
    /// Whether the paths of the machine that sent the job lead to its files there.
    pub(super) same_paths: bool,
}

/// The sizes of a stream: the bytes are in a file of their own.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) written: u64,
    /// The number of bytes before the gap, if there is one.
    pub(super) head: u64,
}

/// The reason why an agent could not make an attempt.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) refused: String,
}
