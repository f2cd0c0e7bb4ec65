//! The summary of an attempt's trace, in bounded space.

use super::{Address, Disturbance, Doubt, Injected, NetworkOperation, Operation, Reach, Sender};
use crate::{event::TraceLevel, outcome::Exit, raw::RawString};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// The mechanism that traces.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// ptrace(2) with a seccomp filter that stops at the calls of interest.
    Ptrace,
    /// seccomp user notification (seccomp_unotify(2)): leaves ptrace to the test.
    Notify,
    /// ptrace(2) without a filter: the lives of processes only.
    Lifecycle,
    /// Nothing: the subreaper and the process group.
    None,
    /// The tracer of an outer run, which reports the events of this run's tests: a process has one
    /// tracer (ptrace(2)).
    Outer,
}

impl Backend {
    /// Returns its word, as in the configuration if it can be requested there.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ptrace => "ptrace",
            Self::Notify => "notify",
            Self::Lifecycle => "lifecycle",
            Self::None => "none",
            Self::Outer => "outer",
        }
    }
}

/// The summary of an attempt's trace, in bounded space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct TraceSummary {
    /// The level.
    pub level: TraceLevel,
    /// The backend.
    pub backend: Backend,
    /// Reasons why the trace may be incomplete. Draw no conclusion from a trace that has one.
    pub doubts: Vec<Doubt>,
    /// The processes, in order of their creation; the first is the test's own.
    pub processes: Vec<ProcessSummary>,
    /// The files, by path.
    pub files: Vec<FileSummary>,
    /// The peers and own addresses.
    pub peers: Vec<PeerSummary>,
    /// The last calls that failed, in order, the dynamic loader's search left out.
    pub failures: Vec<Failure>,
    /// The first calls that failed because the user asked for that. `counts` has the number of all.
    #[serde(default)]
    pub injected: Vec<Injected>,
    /// The number of events by the name of their kind.
    pub counts: BTreeMap<String, u64>,
    /// The counts of entries that did not fit.
    pub dropped: Dropped,
}

impl TraceSummary {
    /// Returns true if nothing can be missing at this level.
    pub fn complete(&self) -> bool {
        self.doubts.is_empty()
    }

    /// Returns the ways in which the tracer disturbed the test, or may have.
    pub fn disturbances(&self) -> Vec<Disturbance> {
        let doubts = self.doubts.iter();
        let disturbances = doubts.filter_map(|doubt| match doubt {
            Doubt::Disturbed(disturbance) => Some(*disturbance),
            _ => None,
        });
        disturbances.collect()
    }
}

/// A process of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct ProcessSummary {
    /// Its id.
    pub pid: i32,
    /// The process that created it; `None` for the root.
    pub creator: Option<i32>,
    /// The time of its creation, since that of the root.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub started: Duration,
    /// The time of its end; `None` if it was alive at the end of the attempt.
    #[serde(default, with = "crate::seconds::optional")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub ended: Option<Duration>,
    /// Its wait status.
    pub exit: Option<Exit>,
    /// The sender of the signal that killed it.
    pub killed_by: Option<Sender>,
    /// The arguments of its last execution; those of its creator if it executed nothing.
    pub args: Vec<RawString>,
    /// The number of its executions.
    pub execs: u32,
}

/// The uses of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct FileSummary {
    /// Its absolute path where that is known.
    pub path: RawString,
    /// Its uses, without duplicates, in order of [`FileUse`].
    pub uses: Vec<FileUse>,
}

/// A use of a file.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum FileUse {
    /// Executed, or opened by the kernel to execute something.
    Executed,
    /// Opened for reading.
    Read,
    /// Opened for writing.
    Written,
    /// Created.
    Created,
    /// Emptied or cut.
    Truncated,
    /// Removed.
    Removed,
    /// Given another name.
    RenamedFrom,
    /// The new name of a file.
    RenamedTo,
    /// A link was made.
    Linked,
    /// Mode, owner, times or attributes changed.
    MetadataChanged,
    /// Asked for its existence or metadata.
    Queried,
    /// Its directory entries were read.
    Listed,
    /// Asked for, and not there.
    Missing,
    /// Asked for, and refused for another reason.
    Refused,
}

/// An address that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct PeerSummary {
    /// The operation.
    pub operation: NetworkOperation,
    /// The address.
    pub address: Address,
    /// Its reach.
    pub reach: Reach,
    /// The names that it was asked for: it is a name server.
    pub names: Vec<RawString>,
    /// The number of uses.
    pub count: u64,
    /// The last error, if it failed.
    pub error: Option<i32>,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Failure {
    /// Time since the root was created.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub at: Duration,
    /// The process.
    pub pid: i32,
    /// The call's name.
    pub call: String,
    /// Its operation; `None` in recordings of earlier versions.
    #[serde(default)]
    pub operation: Option<Operation>,
    /// The path or the address.
    pub target: RawString,
    /// The error.
    pub errno: i32,
}

/// Counts of entries that did not fit into a summary or a trace file.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Dropped {
    /// Events that are not in the trace file.
    pub events: u64,
    /// Processes that are not in the summary.
    pub processes: u64,
    /// Uses of files that are not in the summary.
    pub files: u64,
    /// Uses of addresses that are not in the summary.
    pub peers: u64,
}
