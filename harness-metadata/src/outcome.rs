//! What happened to a test, and what the profile makes of it.

use crate::{
    limit::LimitHit,
    trace::{Disturbance, EarlierTime, TraceSummary},
    usage::Usage,
};
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a process ended, exactly as its wait status told.
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
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
    },
}

impl Exit {
    /// Returns true for exit code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Why a test's process could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct StartFailure {
    /// A sentence fragment: what is wrong, with the file concerned, and what to do if known.
    pub message: String,
    /// The `errno(3)` of the call that failed.
    pub errno: i32,
}

/// A failure of the harness itself, never the test's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Fault {
    /// What broke.
    pub message: String,
}

/// Why a test was ended before its time.
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
}

/// What happened to one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The test's process came to its end by itself, or by a limit: see [`Attempt::limits`].
    Exited(Exit),
    /// The process was never there.
    StartFailed(StartFailure),
    /// The test exceeded its time limit and was terminated.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    TimedOut {
        /// How the process ended then; `None` if it could not be killed.
        exit: Option<Exit>,
    },
    /// The run was cancelled, and the test with it.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Interrupted {
        /// What cancelled it.
        by: Interruption,
        /// How the process ended then; `None` if it could not be killed.
        exit: Option<Exit>,
    },
    /// The harness failed; nothing is known of the test.
    HarnessFault(Fault),
    /// It exited with code 0, but its test harness did not say that the test passed.
    NoResult(NoResult),
    /// The binary is not the one that listed the test, which therefore did not run.
    BinaryChanged(Fault),
}

/// Why exit code 0 is not a pass.
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
    /// How long it outlived the test's own process.
    pub outlived: Duration,
    /// Whether it was killed, rather than gone by itself within the leak window.
    pub killed: bool,
    /// How old it was then; `None` if that cannot be told.
    #[serde(default)]
    pub age: Option<Duration>,
    /// Its parents, the nearest first, up to the test's own process as far as they are known: those
    /// that are gone only if the test was traced.
    #[serde(default)]
    pub ancestry: Vec<Ancestor>,
    /// What it had open that others may miss.
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

/// What a survivor had open.
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
        /// What it listens on or is connected to.
        what: String,
    },
    /// A file or folder of the workspace.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    File {
        /// Its path.
        path: String,
    },
}

/// What a test left behind past the leak window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Leak {
    /// A captured output stream was still open.
    pub output_open: bool,
    /// Descendants that were still alive.
    pub survivors: Vec<Survivor>,
    /// How many bytes of output came when the test's own process had ended, from what it left behind.
    #[serde(default)]
    pub late_output: u64,
    /// Whether the profile allows the test to leave something behind (`leak = "allow"`).
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
    /// What it was doing.
    pub doing: Doing,
}

/// What a task was doing.
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
        /// For what; empty if that cannot be told.
        on: Vec<WaitsOn>,
    },
    /// It waited elsewhere, or may not be looked at.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Unknown {
        /// The kernel's function that it waited in.
        wchan: Option<String>,
    },
}

/// What a task waits for.
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
        /// Which one; `None` for any.
        pid: Option<i32>,
    },
    /// Another thread, or a process with shared memory.
    Thread,
    /// Time to pass.
    Time,
}

/// What the profile makes of an outcome.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Counts as a success.
    Pass,
    /// Counts as a failure.
    Fail,
    /// Neither: the run was cancelled before the test could tell.
    Interrupted,
}

/// How much a stream carried.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct StreamSize {
    /// Bytes written by the test.
    pub written: u64,
    /// Bytes not kept, between the kept head and the kept tail.
    pub dropped: u64,
    /// Whether that is because they could not be written to the temporary folder.
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
    /// What happened.
    pub outcome: Outcome,
    /// What was left behind, if anything was.
    pub leak: Option<Leak>,
    /// The limits that it hit; each fails it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitHit>,
    /// What the profile makes of it.
    pub verdict: Verdict,
    /// Whether it ran longer than the slow period.
    pub slow: bool,
    /// When it started.
    pub started_at: DateTime<FixedOffset>,
    /// How long the test's own process ran. Time in which the run was stopped (Ctrl-Z) does not
    /// count.
    pub elapsed: Duration,
    /// What it used. All zero when the process was never there.
    pub usage: Usage,
    /// Size of the standard output.
    pub stdout: StreamSize,
    /// Size of the standard error.
    pub stderr: StreamSize,
    /// The process id; `None` if there was none.
    pub pid: Option<i32>,
    /// What its tasks were waiting for when its time was up; empty if it was not.
    #[serde(default)]
    pub stuck: Vec<StuckTask>,
    /// What the trace says; `None` if it was not traced.
    pub trace: Option<Box<TraceSummary>>,
    /// The times before this one that the tracer was in the way of, in order. They are not held
    /// against the test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierTime>,
}

impl Attempt {
    /// Returns what was left behind and should not have been.
    pub fn leaked(&self) -> Option<&Leak> {
        self.leak.as_ref().filter(|leak| !leak.allowed)
    }

    /// Returns how the tracer was in the way of it all the same, or may have been.
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
            stuck: self.stuck.clone(),
            trace: None,
            earlier: self.earlier.clone(),
            ..*self
        }
    }
}
