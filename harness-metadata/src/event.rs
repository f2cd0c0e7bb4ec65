//! The events of a run: the one stream from which terminal, JUnit and JSON are made.
//!
//! Events are owned data. Captured output does not travel in them; a sink asks for it by
//! [`AttemptId`](crate::AttemptId) while the event is handled.

use crate::{
    id::{RunId, TestId},
    machine::Machine,
    outcome::{Attempt, Interruption, StuckTask, Verdict},
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
pub const SCHEMA_VERSION: u32 = 1;

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Event {
    /// Active time since the run started: time in which the run was stopped does not count.
    pub at: Duration,
    /// What happened.
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
        /// Why it does not run.
        #[cfg_attr(test, schemars(with = "String"))]
        reason: MismatchReason,
        /// Whether the profile wants it in reports that may leave skipped tests out, such as
        /// JUnit.
        reported: bool,
    },
    /// An attempt was handed to a slot.
    AttemptStarted(AttemptStarted),
    /// An attempt has run for another slow period.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    AttemptSlow {
        /// The test.
        test: TestId,
        /// The attempt's number, from 1.
        attempt: u32,
        /// How long it has run.
        elapsed: Duration,
        /// Whether its time is up and it is being terminated.
        terminating: bool,
    },
    /// What a live trace saw, in order. Only in runs that asked for it, and only for people: there
    /// can be any number of these, so they are not written to files.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    AttemptTraced {
        /// The test.
        test: TestId,
        /// The attempt's number, from 1.
        attempt: u32,
        /// What it saw.
        events: Vec<TraceEvent>,
        /// How many events before these were left out, because they came faster than they could
        /// be shown.
        dropped: u64,
    },
    /// A process of an attempt is stopped at its execution, for a debugger. The attempt has no
    /// limits from now on, and what the process does is not seen any more.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    AttemptBroke {
        /// The test.
        test: TestId,
        /// The attempt's number, from 1.
        attempt: u32,
        /// The process.
        pid: i32,
        /// The arguments of what it executes.
        args: Vec<RawString>,
    },
    /// An attempt failed and another will follow.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    AttemptFailed {
        /// The test.
        test: TestId,
        /// The failed attempt.
        attempt: Box<Attempt>,
        /// How many attempts there can be in all.
        total_attempts: u32,
        /// How long until the next one.
        delay: Duration,
        /// When to show its output.
        output: OutputPolicy,
    },
    /// A test has its result.
    TestFinished(Box<TestFinished>),
    /// No further tests are started.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Cancelled {
        /// Why.
        reason: CancelReason,
        /// How many tests are running.
        running: usize,
        /// Whether running tests are being killed outright.
        killing: bool,
    },
    /// From now on fewer tests run at the same time, because the system does not have enough for more.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    FewerSlots {
        /// How many.
        slots: usize,
        /// Of what, in a sentence.
        because: String,
    },
    /// As many tests run at the same time again as before the system had too little.
    MoreSlots {
        /// How many.
        slots: usize,
    },
    /// Nothing can be started now, because the system does not have enough. It is tried again.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    AwaitsSystem {
        /// Of what, in a sentence.
        because: String,
        /// For how long it is tried.
        limit: Duration,
    },
    /// The runner was stopped (SIGSTOP) by something that had not asked it to, as a test can do it.
    /// Tests went on meanwhile, and so did the clocks.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Stopped {
        /// For how long, at least.
        elapsed: Duration,
        /// Whether the harness itself had to let it go on.
        continued: bool,
        /// The tests that were running.
        running: Vec<TestId>,
    },
    /// The run was stopped (Ctrl-Z); clocks stand still.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Paused {
        /// How many tests were running.
        running: usize,
    },
    /// The run goes on.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Continued {
        /// How many tests are running.
        running: usize,
    },
    /// What is running now, because the user asked.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Status {
        /// The running tests.
        running: Vec<RunningTest>,
        /// The counts so far.
        stats: RunStats,
    },
    /// How far the run is, because the user asked.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Progress {
        /// How many tests are running.
        running: usize,
        /// The counts so far.
        stats: RunStats,
    },
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
    /// The profile's name.
    pub profile: String,
    /// The command line, for the record.
    pub command_line: Vec<String>,
    /// When it started.
    pub started_at: DateTime<FixedOffset>,
    /// The root of the workspace.
    pub workspace_root: String,
    /// Tests that can run at the same time.
    pub slots: usize,
    /// How many tests will run.
    pub tests: usize,
    /// How many binaries hold them.
    pub binaries: usize,
    /// How many listed tests will not run.
    pub skipped_tests: usize,
    /// Of these: because of the profile's `default-filter`.
    pub skipped_by_default_filter: usize,
    /// How many binaries were left out as a whole.
    pub skipped_binaries: usize,
    /// Of these: because of the profile's `default-filter`.
    #[serde(default)]
    pub skipped_binaries_by_default_filter: usize,
    /// Whether the command line chose a part of the workspace's tests.
    #[serde(default)]
    pub partial: bool,
    /// The tracing in force.
    pub trace: TraceInForce,
    /// The machine; `None` in what was recorded before this was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// Which limits of tests are not enforced and why, in a sentence, if so.
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

/// Where a binary comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Source {
    /// The package's name.
    pub package: String,
    /// The crate root's file, relative to the workspace root where it is inside.
    pub file: String,
}

/// The tracing in force, and what is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct TraceInForce {
    /// The highest level of the run's tests.
    pub level: TraceLevel,
    /// How it is done.
    pub backend: Backend,
    /// If less than what was asked for: why, in a sentence.
    pub degraded: Option<String>,
}

/// How closely the tests' processes are watched.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum TraceLevel {
    /// Not traced. Descendants are known by the subreaper and the process group only.
    Off,
    /// The life of every descendant: fork, exec, exit.
    Process,
    /// Also what changes or opens files, and the network, with results where they matter.
    #[default]
    Io,
    /// Also every look-up: all that an answer can depend on.
    Full,
}

words!(TraceLevel {
    Off = "off",
    Process = "process",
    Io = "io",
    Full = "full",
});

impl TraceLevel {
    /// Returns the word for it, as in the configuration.
    pub fn as_str(self) -> &'static str {
        self.word()
    }
}

/// When captured output is shown.
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

/// What becomes of a test's output, by the profile and its overrides.
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
    /// How many attempts there can be in all.
    pub total_attempts: u32,
    /// The slot it runs in, from 0.
    pub slot: usize,
    /// How many tests are running, this one included.
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
    /// Its attempts in order, at least one.
    pub attempts: Vec<Attempt>,
    /// How many attempts there could have been.
    pub total_attempts: u32,
    /// What the profile makes of it all.
    pub verdict: Verdict,
    /// The slot of the last attempt.
    pub slot: usize,
    /// When to show its output.
    pub output: OutputPolicy,
    /// The counts of the run, this test included.
    pub stats: RunStats,
    /// How many tests are still running.
    pub running: usize,
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

/// Why no further tests are started. Ordered: a later reason replaces an earlier one only if it
/// is greater.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum CancelReason {
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
            Self::TestFailure
            | Self::TestFailureImmediate
            | Self::ReportFailed
            | Self::GlobalTimeout => None,
        }
    }

    /// Returns what the tests that are ended by it are told to have been ended by.
    pub fn interruption(self) -> Interruption {
        match self {
            Self::TestFailure | Self::TestFailureImmediate => Interruption::FailFast,
            Self::ReportFailed => Interruption::ReportFailed,
            Self::GlobalTimeout => Interruption::GlobalTimeout,
            Self::Signal(signal) => Interruption::Signal(signal),
            Self::Interrupt => Interruption::Signal(2),
        }
    }
}

/// A test that is running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct RunningTest {
    /// The test.
    pub test: TestId,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The slot.
    pub slot: usize,
    /// How long it has run.
    pub elapsed: Duration,
    /// What it is doing.
    pub state: RunningState,
    /// More of it; `None` if nobody could say in time, or there is nothing to say.
    #[serde(default)]
    pub detail: Option<Box<RunningDetail>>,
}

/// What is known of an attempt while it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct RunningDetail {
    /// The process id of the test; `None` if its own process has ended.
    pub pid: Option<i32>,
    /// Whether it has run for longer than its slow period.
    pub slow: bool,
    /// If it is being terminated or its descendants are waited for: how long until they are killed.
    pub left: Option<Duration>,
    /// What it has written to standard output so far; `None` if that is not captured.
    pub stdout: Option<OutputSoFar>,
    /// What it has written to standard error so far; `None` if that is not captured.
    pub stderr: Option<OutputSoFar>,
    /// What its tasks are doing.
    pub tasks: Vec<StuckTask>,
}

/// What a test has written to a stream so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct OutputSoFar {
    /// How many bytes in all.
    pub written: u64,
    /// The last of them, a few lines.
    pub last: RawString,
}

/// What a running test is doing.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum RunningState {
    /// Running.
    Running,
    /// Being terminated.
    Terminating,
    /// Its own process has exited; descendants or open output remain.
    Draining,
    /// Waiting for its next attempt.
    Waiting,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct RunFinished {
    /// How long it took, in active time.
    pub elapsed: Duration,
    /// The counts.
    pub stats: RunStats,
    /// Why the run was cancelled, if it was.
    pub cancelled: Option<CancelReason>,
    /// Tests that were never started, in the order in which they would have been.
    pub not_run: Vec<TestId>,
}
