//! Reasons to trace a test at a lower level than requested. The words for them are the reports' business.

use super::Backend;
use crate::event::TraceLevel;
use serde::{Deserialize, Serialize};

/// A lower level of tracing than requested: the reasons and the remaining backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Less {
    /// The reasons, each once.
    pub because: Vec<Reason>,
    /// The remaining backend.
    pub left: Backend,
    /// True if /proc is available.
    pub has_proc: bool,
}

/// A reason to trace at a lower level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A backend does not work here.
    Unavailable(Missing),
    /// A filter needs no_new_privs, and the settings forbid that.
    NoNewPrivsForbidden,
    /// The run is part of another run, which traces at this level only.
    OuterLevel(TraceLevel),
    /// Tests are run by this program, whose file gives it privileges that a tracer takes away.
    PrivilegedRunner(String),
}

/// A reason why a backend does not work here. Numbers are errors of errno(3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// There is no /proc.
    Proc,
    /// The /proc is that of another PID namespace.
    OwnProc,
    /// ptrace is refused.
    PtraceRefused(i32),
    /// ptrace does not report what it should.
    PtraceUntrue,
    /// Filters stop a task for a tracer by ptrace, which is missing.
    Ptrace,
    /// seccomp is refused.
    FilterRefused(i32),
    /// A filter does not stop what it should.
    FilterUntrue,
    /// seccomp notification is refused.
    NotifyRefused(i32),
    /// Another program listens to system calls, and only one can.
    NotifyTaken,
    /// Notification does not tell what it should.
    NotifyUntrue,
    /// This run is part of a test that is traced, and a process has one tracer.
    TracedAlready,
    /// No other run traces this one.
    Outer,
    /// The tracer around this run cannot be reached, for this reason.
    OuterUnreachable(String),
    /// It has nothing to say to this process.
    OuterSilent,
    /// It refuses, in its own words.
    OuterRefuses(String),
    /// Nothing is known of the process at its socket.
    OuterUnknown(i32),
    /// Another user listens at its socket.
    OuterStranger(u32),
    /// Another process than the one at its socket traces this one.
    OuterElsewhere,
}
