//! Reasons to trace a test at a lower level than requested.

use super::Backend;
use crate::event::TraceLevel;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A lower level of tracing than requested: the reasons and the remaining backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A backend does not work here; a sentence fragment says why.
    Unavailable(String),
    /// A filter needs no_new_privs, and the settings forbid that.
    NoNewPrivsForbidden,
    /// The run is part of another run, which traces at this level only.
    OuterLevel(TraceLevel),
    /// Tests are run by this program, whose file gives it privileges that a tracer takes away.
    PrivilegedRunner(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => f.write_str(why),
            Self::NoNewPrivsForbidden => f.write_str(
                "a filter of system calls needs no_new_privs, which `trace.no-new-privs` forbids",
            ),
            Self::OuterLevel(level) => write!(
                f,
                "the run that this run is part of traces at level {} only",
                level.as_str()
            ),
            Self::PrivilegedRunner(runner) => write!(
                f,
                "`{runner}`, which runs the tests, gets privileges from its file that a tracer would take \
                 from it"
            ),
        }
    }
}

/// Shows it as a sentence fragment.
impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.because.iter().map(ToString::to_string).collect();
        let cost = match (self.left, self.has_proc) {
            // It tells what ours would see, if it looks as closely.
            (Backend::Outer, _) => None,
            (Backend::Ptrace, _) => Some("nothing is lost"),
            (Backend::Notify, _) => Some(
                "seccomp notification is used instead, which sees the questions to the kernel but \
                 not the answers",
            ),
            (Backend::Lifecycle, true) => {
                Some("processes are followed, but files and the network are not seen")
            }
            (Backend::Lifecycle, false) => Some(
                "processes are followed, but files and the network are not seen; what a test leaves \
                 behind is killed, but cannot be named",
            ),
            (Backend::None, true) => Some(
                "descendants are known by the subreaper and the process group only, and processes \
                 are not counted",
            ),
            (Backend::None, false) => Some(
                "processes are not counted; what a test leaves behind is killed, but cannot be named",
            ),
        };
        parts.extend(cost.map(str::to_owned));
        f.write_str(&parts.join("; "))
    }
}
