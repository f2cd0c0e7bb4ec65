//! The outcome of a test, and the profile's verdict.

use crate::{
    budget::BudgetFinding,
    limit::LimitHit,
    metric::Metrics,
    policy::Violations,
    remote::Remote,
    trace::{Disturbance, EarlierTime, TraceSummary},
    usage::Usage,
};
use chrono::{DateTime, FixedOffset, NaiveDate};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The end of a process, exactly as in its wait status.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal killed it.
    Signal {
        /// The signal's number, real-time signals included.
        signal: i32,
        /// True if the kernel wrote a core dump.
        core_dumped: bool,
    },
}

impl Exit {
    /// Returns true for exit code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// A failure to start a test's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct StartFailure {
    /// A sentence fragment: the mistake, the file concerned, and the remedy if known.
    pub message: String,
    /// The `errno(3)` of the call that failed.
    pub errno: i32,
}

/// A failure of the harness itself, never the test's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Fault {
    /// A sentence about it.
    pub message: String,
}

/// The reason why a test was ended early.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Interruption {
    /// The run received this signal.
    Signal(i32),
    /// Another test failed, and fail-fast ends running tests immediately.
    FailFast,
    /// The run as a whole ran out of time.
    GlobalTimeout,
    /// The results could no longer be reported.
    ReportFailed,
    /// A service that the test uses has ended.
    ServiceLost,
    /// No test wants the service any more.
    NotWanted,
}

/// The outcome of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The test's process came to its end by itself, or by a limit: see [`Attempt::limits`].
    Exited(Exit),
    /// The process could not be started.
    StartFailed(StartFailure),
    /// The test exceeded its time limit and was terminated.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    TimedOut {
        /// The wait status after that; `None` if the process could not be killed.
        exit: Option<Exit>,
    },
    /// The run was cancelled, and the test with it.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Interrupted {
        /// The reason for the cancellation.
        by: Interruption,
        /// The wait status after that; `None` if the process could not be killed.
        exit: Option<Exit>,
    },
    /// The harness failed; the test has no result.
    HarnessFault(Fault),
    /// It exited with code 0, but its test harness did not say that the test passed.
    NoResult(NoResult),
    /// The binary is not the one that listed the test, which therefore did not run.
    BinaryChanged(Fault),
}

/// The reason why exit code 0 is not a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct NoResult {
    /// The kind of reason.
    pub kind: NoResultKind,
    /// A sentence fragment whose subject is the test's process.
    pub message: String,
}

/// The kinds of reasons why exit code 0 is not a pass.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum NoResultKind {
    /// The process ended before its test harness reported a result.
    Unreported,
    /// The test harness ran no test.
    RanNothing,
    /// The test ran and reported itself as ignored. This counts as a success.
    Ignored,
}

/// A process that was alive when its test's own process had ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Survivor {
    /// Its process id.
    pub pid: i32,
    /// Its parent when it was found.
    pub parent: i32,
    /// Its command line, arguments separated by spaces and quoted as a shell would need it. Bytes
    /// that are not UTF-8 are shown as U+FFFD.
    pub command: String,
    /// The time between the end of the test's own process and its own.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub outlived: Duration,
    /// True if it was killed, false if it ended by itself within the leak window.
    pub killed: bool,
    /// Its age at that time; `None` if unknown.
    #[serde(default)]
    #[serde(with = "crate::seconds::optional")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub age: Option<Duration>,
    /// Its parents, the nearest first, up to the test's own process as far as they are known: those
    /// that are gone only if the test was traced.
    #[serde(default)]
    pub ancestry: Vec<Ancestor>,
    /// Open files and sockets that others may need.
    #[serde(default)]
    pub holds: Vec<Held>,
}

/// A parent of a survivor, or a parent of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Ancestor {
    /// Its process id.
    pub pid: i32,
    /// Its command line, as in [`Survivor`]; empty if it is not known.
    pub command: String,
}

/// An open file or socket of a survivor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// The test's standard output.
    Stdout,
    /// The test's standard error.
    Stderr,
    /// A socket.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Socket {
        /// The address on which it listens or to which it is connected.
        what: String,
    },
    /// A file or folder of the workspace.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    File {
        /// Its path.
        path: String,
    },
}

/// Processes and output that remained past the leak window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Leak {
    /// A captured output stream was still open.
    pub output_open: bool,
    /// Descendants that were still alive.
    pub survivors: Vec<Survivor>,
    /// The number of bytes that its leftovers wrote after the end of the test's own process.
    #[serde(default)]
    pub late_output: u64,
    /// True if the profile allows the test to leak (`leak = "allow"`).
    #[serde(default)]
    pub allowed: bool,
}

/// A task (a thread, or a process with one thread) of a test when the test's time was up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct StuckTask {
    /// Its process.
    pub pid: i32,
    /// Its own id; equal to `pid` for a process's first thread.
    pub tid: i32,
    /// The parent of its process.
    pub parent: i32,
    /// The command line of its process, as in [`Survivor`].
    pub command: String,
    /// Its name.
    pub thread: String,
    /// Its state.
    pub doing: Doing,
}

/// The state of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// It was running.
    Running,
    /// It was stopped by a signal or a tracer.
    Stopped,
    /// It waited in a system call.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Waits {
        /// The call's name.
        call: String,
        /// The things that it waited for; empty if unknown.
        on: Vec<WaitsOn>,
    },
    /// It waited elsewhere, or the kernel refused to show it.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Unknown {
        /// The kernel's function that it waited in.
        wchan: Option<String>,
    },
}

/// A thing that a task waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum WaitsOn {
    /// A descriptor.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Descriptor {
        /// Its number.
        fd: i32,
        /// A path, a pipe, a socket with its addresses.
        what: String,
        /// Other processes of the test that have the same pipe or socket open.
        others: Vec<i32>,
    },
    /// The end of a child.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Child {
        /// Its process id; `None` for any child.
        pid: Option<i32>,
    },
    /// Another thread, or a process with shared memory.
    Thread,
    /// Time to pass.
    Time,
}

/// The profile's verdict on an outcome.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Counts as a success.
    Pass,
    /// Counts as a failure.
    Fail,
    /// Neither: the run was cancelled before the test had a result.
    Interrupted,
    /// A failure that does not fail the run, because the profile has the test in quarantine. The verdict of
    /// a test, never of an attempt.
    Quarantined,
}

/// An entry of a profile's quarantine: failures of a test do not fail the run until a date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Quarantine {
    /// The reason.
    pub reason: String,
    /// The person or team that is to mend the test.
    pub owner: String,
    /// The last day on which failures do not fail the run.
    #[cfg_attr(test, schemars(with = "String"))]
    pub expires: NaiveDate,
    /// True if that day has passed: failures count.
    pub expired: bool,
}

/// The size of an output stream.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct StreamSize {
    /// Bytes written by the test.
    pub written: u64,
    /// Bytes not kept, between the kept head and the kept tail.
    pub dropped: u64,
    /// True if they are not kept because the temporary folder was full or not writable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_room: bool,
}

/// The record of one finished attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Attempt {
    /// The number of the attempt, from 1.
    pub number: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// The leak, if there was one.
    pub leak: Option<Leak>,
    /// The limits that it hit; each fails it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitHit>,
    /// The violations of its policy; `None` if there were none, or it has no policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Box<Violations>>,
    /// The budgets that it did not keep to, or of which that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budget: Vec<BudgetFinding>,
    /// The profile's verdict.
    pub verdict: Verdict,
    /// True if it ran for longer than the slow period.
    pub slow: bool,
    /// The start time.
    pub started_at: DateTime<FixedOffset>,
    /// The running time of the test's own process. Time in which the run was stopped (Ctrl-Z) does
    /// not count.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub elapsed: Duration,
    /// Its resource usage. All zero if the process could not be started.
    pub usage: Usage,
    /// Size of the standard output.
    pub stdout: StreamSize,
    /// Size of the standard error.
    pub stderr: StreamSize,
    /// The process id; `None` if there was none.
    pub pid: Option<i32>,
    /// The states of its tasks when it exceeded its time limit; empty if it did not.
    #[serde(default)]
    pub stuck: Vec<StuckTask>,
    /// The states of its tasks when it was last reported as slow; empty if it was not, or was ended by its time limit then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow_tasks: Vec<StuckTask>,
    /// The metrics that it, or a program that it ran, has recorded.
    #[serde(default, skip_serializing_if = "Metrics::is_empty")]
    pub metrics: Metrics,
    /// The summary of its trace; `None` if it was not traced.
    pub trace: Option<Box<TraceSummary>>,
    /// Earlier times that the tracer disturbed, in order. They do not count against the test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierTime>,
    /// The engine that ran it; `None` if it ran on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Box<Remote>>,
}

impl Attempt {
    /// Returns the leak, if the profile does not allow it.
    pub fn leaked(&self) -> Option<&Leak> {
        self.leak.as_ref().filter(|leak| !leak.allowed)
    }

    /// Returns the ways in which the tracer disturbed it, or may have.
    pub fn disturbances(&self) -> Vec<Disturbance> {
        self.trace
            .as_ref()
            .map(|trace| trace.disturbances())
            .unwrap_or_default()
    }

    /// Returns a copy without the trace, which is the only part that can be large.
    pub fn without_trace(&self) -> Self {
        Self {
            outcome: self.outcome.clone(),
            leak: self.leak.clone(),
            limits: self.limits.clone(),
            policy: self.policy.clone(),
            budget: self.budget.clone(),
            stuck: self.stuck.clone(),
            slow_tasks: self.slow_tasks.clone(),
            metrics: self.metrics.clone(),
            trace: None,
            earlier: self.earlier.clone(),
            remote: self.remote.clone(),
            ..*self
        }
    }
}
