//! The events of a run: the one stream from which terminal, JUnit and JSON are made.
//!
//! Events are owned data. Captured output does not travel in them; a sink asks for it by
//! [`AttemptId`](crate::AttemptId) while the event is handled.

mod cached;
mod findings;
mod finished;
mod mode;
mod printed;
mod running;
mod script;
mod service;
mod source;
mod stress;

pub use cached::TestCached;
pub use findings::{CommonCause, CredentialsRead, Findings, Interference, ThingKind};
pub use finished::RunFinished;
pub use mode::RunMode;
pub use printed::{AttemptPrinted, OutputStream};
pub use running::{OutputSoFar, RunningDetail, RunningState, RunningTest};
pub use script::{ScriptFinished, ScriptStarted};
pub use service::{ServiceFinished, ServiceReady, ServiceStarted, UsedService};
pub use source::Source;
pub use stress::{IterationFinished, StressStarted};

use crate::{
    id::{RunId, TestId},
    location::Location,
    machine::Machine,
    outcome::{Attempt, Interruption, Quarantine, Survivor, Verdict},
    raw::RawString,
    stats::RunStats,
    trace::{Backend, TraceEvent},
    word::Word,
    words,
};
use chrono::{DateTime, FixedOffset};
use nextest_metadata::MismatchReason;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// The version of this schema. It grows when a reader of the old one would go wrong.
///
/// 2: durations are numbers of seconds.
pub const SCHEMA_VERSION: u32 = 2;

/// The oldest version whose events are read as well.
pub const OLDEST_SCHEMA_VERSION: u32 = 1;

/// Returns whether events of a version can be read.
pub fn is_readable(schema_version: u32) -> bool {
    (OLDEST_SCHEMA_VERSION..=SCHEMA_VERSION).contains(&schema_version)
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Event {
    /// Active time since the run started: time in which the run was stopped does not count.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub at: Duration,
    /// The outcome.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// The first event.
    RunStarted(Box<RunStarted>),
    /// A listed test that will not run. These follow the start of the run.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    TestSkipped {
        /// The test.
        test: TestId,
        /// The reason.
        #[cfg_attr(test, schemars(with = "String"))]
        reason: MismatchReason,
        /// True if the profile wants it in reports that may leave skipped tests out, such as JUnit.
        reported: bool,
        /// The reason of `#[ignore = "…"]`, for a test that is skipped because it is ignored.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ignore_reason: Option<String>,
        /// The place of its definition, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        location: Option<Location>,
    },
    /// A test that passed before and does not run, because nothing that it rests on has changed. These follow the
    /// skipped tests.
    TestCached(Box<TestCached>),
    /// An attempt was given to a slot.
    AttemptStarted(AttemptStarted),
    /// An attempt has run for another slow period.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    AttemptSlow {
        /// The test.
        test: TestId,
        /// The attempt's number, from 1.
        attempt: u32,
        /// Its running time so far.
        #[serde(with = "crate::seconds")]
        #[cfg_attr(test, schemars(with = "f64"))]
        elapsed: Duration,
        /// True if it has exceeded its time limit and is being terminated.
        terminating: bool,
    },
    /// Events of a live trace, in order. Only in runs with `--trace-live`, and never in files:
    /// their number has no bound.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    AttemptTraced {
        /// The test.
        test: TestId,
        /// The attempt's number, from 1.
        attempt: u32,
        /// The events.
        events: Vec<TraceEvent>,
        /// The number of events left out before these, because they came faster than they could be
        /// shown.
        dropped: u64,
    },
    /// An attempt has printed something. Only in runs with `--live`, and never in files.
    AttemptPrinted(Box<AttemptPrinted>),
    /// A process of an attempt is stopped at its execution, for a debugger. From now on the attempt
    /// has no limits, and the process is not traced.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    AttemptBroke {
        /// The test.
        test: TestId,
        /// The attempt's number, from 1.
        attempt: u32,
        /// The process.
        pid: i32,
        /// The arguments of the execution.
        args: Vec<RawString>,
    },
    /// An attempt failed and another will follow.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    AttemptFailed {
        /// The test.
        test: TestId,
        /// The failed attempt.
        attempt: Box<Attempt>,
        /// The greatest possible number of attempts.
        total_attempts: u32,
        /// The time until the next one.
        #[serde(with = "crate::seconds")]
        #[cfg_attr(test, schemars(with = "f64"))]
        delay: Duration,
        /// The policy for its output.
        output: OutputPolicy,
    },
    /// A test is finished and has its result.
    TestFinished(Box<TestFinished>),
    /// All tests of an iteration of a stress run have a result, or the run ends before they have.
    IterationFinished(Box<IterationFinished>),
    /// No further tests are started.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Cancelled {
        /// The reason.
        reason: CancelReason,
        /// The number of running tests.
        running: usize,
        /// True if running tests are killed at once.
        killing: bool,
    },
    /// From now on fewer tests run at the same time, because the system lacks resources for more.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    FewerSlots {
        /// The number of slots from now on.
        slots: usize,
        /// The missing resource, in a sentence.
        because: String,
    },
    /// As many tests run at the same time again as before the system had too little.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    MoreSlots {
        /// The number of slots from now on.
        slots: usize,
    },
    /// Nothing can be started now, because the system lacks resources. The run retries.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    AwaitsSystem {
        /// The missing resource, in a sentence.
        because: String,
        /// The time after which the run gives up.
        #[serde(with = "crate::seconds")]
        #[cfg_attr(test, schemars(with = "f64"))]
        limit: Duration,
    },
    /// Another process, such as a test, stopped the runner with SIGSTOP. Tests and clocks went on.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Stopped {
        /// The shortest possible duration of the stop.
        #[serde(with = "crate::seconds")]
        #[cfg_attr(test, schemars(with = "f64"))]
        elapsed: Duration,
        /// True if the harness itself had to continue it.
        continued: bool,
        /// The running tests.
        running: Vec<TestId>,
    },
    /// The run was stopped (Ctrl-Z); clocks stand still.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Paused {
        /// The number of running tests.
        running: usize,
    },
    /// The run goes on.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Continued {
        /// The number of running tests.
        running: usize,
    },
    /// The running tests, at the user's request.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Status {
        /// The running tests.
        running: Vec<RunningTest>,
        /// The counts so far.
        stats: RunStats,
    },
    /// The progress of the run, at the user's request.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Progress {
        /// The number of running tests.
        running: usize,
        /// The counts so far.
        stats: RunStats,
    },
    /// A setup script starts. These come before the first attempt.
    SetupStarted(Box<ScriptStarted>),
    /// A setup script, or its teardown, has run for another slow period.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    SetupSlow {
        /// The id by which reports name it.
        test: TestId,
        /// Its running time so far.
        #[serde(with = "crate::seconds")]
        #[cfg_attr(test, schemars(with = "f64"))]
        elapsed: Duration,
        /// True if it has exceeded its time limit and is being terminated.
        terminating: bool,
    },
    /// A setup script has ended.
    SetupFinished(Box<ScriptFinished>),
    /// The teardown of a setup script starts.
    TeardownStarted(Box<ScriptStarted>),
    /// The teardown of a setup script has ended.
    TeardownFinished(Box<ScriptFinished>),
    /// Processes that a setup script had left running were killed, because they are no longer wanted.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    SetupLeft {
        /// The setup script's name.
        script: String,
        /// The processes.
        survivors: Vec<Survivor>,
    },
    /// A service starts.
    ServiceStarted(Box<ServiceStarted>),
    /// A service is ready.
    ServiceReady(Box<ServiceReady>),
    /// A service has ended.
    ServiceFinished(Box<ServiceFinished>),
    /// The last event.
    RunFinished(Box<RunFinished>),
}

/// The start of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct RunStarted {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The version of the program.
    pub harness_version: String,
    /// The run's id.
    pub run_id: RunId,
    /// The run that this one continues (`--rerun`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<RunId>,
    /// The kind of items that run.
    #[serde(default, skip_serializing_if = "RunMode::is_test")]
    pub mode: RunMode,
    /// The profile's name.
    pub profile: String,
    /// The command line, for the record.
    pub command_line: Vec<String>,
    /// The start time.
    pub started_at: DateTime<FixedOffset>,
    /// The root of the workspace.
    pub workspace_root: String,
    /// Tests that can run at the same time.
    pub slots: usize,
    /// The number of tests that will run: in all iterations of a stress run if their number is known, in
    /// one otherwise.
    pub tests: usize,
    /// The number of binaries that hold them.
    pub binaries: usize,
    /// The number of listed tests that will not run.
    pub skipped_tests: usize,
    /// Of these: because of the profile's `default-filter`.
    pub skipped_by_default_filter: usize,
    /// Of these: because they passed before, in a run that this one continues.
    #[serde(default)]
    pub skipped_passed_before: usize,
    /// The number of tests that passed before and do not run, because nothing that they rest on has changed.
    #[serde(default)]
    pub cached_tests: usize,
    /// The number of binaries that were left out as a whole.
    pub skipped_binaries: usize,
    /// Of these: because of the profile's `default-filter`.
    #[serde(default)]
    pub skipped_binaries_by_default_filter: usize,
    /// True if the command line selected a part of the workspace's tests.
    #[serde(default)]
    pub partial: bool,
    /// The seed of the random order in which the tests start; `None` for another order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shuffle_seed: Option<u64>,
    /// The iterations of a stress run; `None` for a run of another kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stress: Option<StressStarted>,
    /// The tracing in force.
    pub trace: TraceInForce,
    /// The machine; `None` in recordings that are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// The limits of tests that are not enforced, and the reason, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits_missing: Option<String>,
    /// Binaries with `harness = false` that listed no tests, so that nothing of them runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub silent_binaries: Vec<nextest_metadata::RustBinaryId>,
    /// For each binary that has tests in the run: its source, for reports.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, Source>"))]
    pub sources: BTreeMap<nextest_metadata::RustBinaryId, Source>,
}

/// The tracing in force, and the reason if it is less than requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct TraceInForce {
    /// The highest level of the run's tests.
    pub level: TraceLevel,
    /// The backend.
    pub backend: Backend,
    /// The reason for less than requested, in a sentence.
    pub degraded: Option<String>,
}

/// A level of tracing.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum TraceLevel {
    /// No tracing. Descendants are known by the subreaper and the process group only.
    Off,
    /// The life of every descendant: fork, exec, exit.
    Process,
    /// Also opened and changed files, and the network, with results where they matter.
    #[default]
    Io,
    /// Also every look-up: everything that a result can depend on.
    Full,
}

words!(TraceLevel {
    Off = "off",
    Process = "process",
    Io = "io",
    Full = "full",
});

impl TraceLevel {
    /// Returns its word in the configuration.
    pub fn as_str(self) -> &'static str {
        self.word()
    }
}

/// The times at which captured output is shown.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum OutputWhen {
    /// When the test finishes.
    Immediate,
    /// When the test finishes, and again at the end of the run.
    ImmediateFinal,
    /// At the end of the run.
    Final,
    /// Not at all.
    Never,
}

words!(OutputWhen {
    Immediate = "immediate",
    ImmediateFinal = "immediate-final",
    Final = "final",
    Never = "never",
});

impl OutputWhen {
    /// Returns true if output is shown when the test finishes.
    pub fn immediate(self) -> bool {
        matches!(self, Self::Immediate | Self::ImmediateFinal)
    }

    /// Returns true if output is shown at the end of the run.
    pub fn at_end(self) -> bool {
        matches!(self, Self::Final | Self::ImmediateFinal)
    }
}

/// The policy for a test's output, from the profile and its overrides.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct OutputPolicy {
    /// On the terminal, if the test passes.
    pub success: OutputWhen,
    /// On the terminal, if the test fails.
    pub failure: OutputWhen,
    /// In JUnit, if the test passes.
    pub junit_success: bool,
    /// In JUnit, if the test fails.
    pub junit_failure: bool,
    /// In JUnit, a test that passed in the end but fails as flaky is a failure.
    pub junit_flaky_fail_as_failure: bool,
}

/// An attempt that starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct AttemptStarted {
    /// The test.
    pub test: TestId,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The greatest possible number of attempts.
    pub total_attempts: u32,
    /// The slot it runs in, from 0.
    pub slot: usize,
    /// The number of running tests, this one included.
    pub running: usize,
    /// The command, one string an argument.
    pub command: Vec<String>,
}

/// A test with its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct TestFinished {
    /// The test.
    pub test: TestId,
    /// The place of its definition, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Its attempts in order, at least one.
    pub attempts: Vec<Attempt>,
    /// The greatest possible number of attempts.
    pub total_attempts: u32,
    /// The profile's verdict over all attempts.
    pub verdict: Verdict,
    /// The entry of the profile's quarantine that has the test; `None` if it is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Box<Quarantine>>,
    /// The slot of the last attempt.
    pub slot: usize,
    /// The policy for its output.
    pub output: OutputPolicy,
    /// The counts of the run, this test included.
    pub stats: RunStats,
    /// The number of tests that are still running.
    pub running: usize,
    /// If it did not pass: the services that it used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<UsedService>,
}

impl TestFinished {
    /// Returns true if the last attempt passed and an earlier one did not.
    pub fn flaky(&self) -> bool {
        self.attempts.len() > 1
            && self
                .attempts
                .last()
                .is_some_and(|last| last.verdict == Verdict::Pass)
    }
}

/// A reason to start no further tests. Ordered: a later reason replaces an earlier one only if it
/// is greater.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum CancelReason {
    /// A setup script failed, or a service was not ready in time.
    SetupFailed,
    /// Enough tests failed.
    TestFailure,
    /// Results could no longer be reported.
    ReportFailed,
    /// The run as a whole ran out of time.
    GlobalTimeout,
    /// Enough tests failed, and running ones are ended at once.
    TestFailureImmediate,
    /// A signal other than SIGINT.
    Signal(i32),
    /// SIGINT (Ctrl-C).
    Interrupt,
}

impl CancelReason {
    /// Returns the signal that ended the run, if one did.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Interrupt => Some(2),
            Self::Signal(signal) => Some(signal),
            Self::SetupFailed
            | Self::TestFailure
            | Self::TestFailureImmediate
            | Self::ReportFailed
            | Self::GlobalTimeout => None,
        }
    }

    /// Returns the interruption that is reported for the tests that it ends.
    pub fn interruption(self) -> Interruption {
        match self {
            Self::SetupFailed | Self::TestFailure | Self::TestFailureImmediate => {
                Interruption::FailFast
            }
            Self::ReportFailed => Interruption::ReportFailed,
            Self::GlobalTimeout => Interruption::GlobalTimeout,
            Self::Signal(signal) => Interruption::Signal(signal),
            Self::Interrupt => Interruption::Signal(2),
        }
    }
}
