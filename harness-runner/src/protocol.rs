//! The messages between the runner and a stub.
//!
//! One SOCK_SEQPACKET pair a slot, one message a packet, encoded with postcard. File descriptors
//! travel beside a message as SCM_RIGHTS (unix(7)). A message that does not fit into a packet
//! travels in a memfd whose descriptor comes first among the rights. Both sides are the same
//! executable, so there is no version to negotiate. End of file on the socket means that the
//! other side is gone: a stub then kills its whole tree and exits; the runner reports a fault
//! and starts another stub.

pub mod broker;
mod command;
pub mod packet;

pub use crate::sys::{Identity, Recording};
pub(crate) use command::terminated;
pub use command::{Command, CommandBlocks, Environment, RawCommand, push_variable};

use harness_metadata::{
    Exit, LimitHit, RawString, StartFailure, Survivor, TraceEvent, TraceSummary, Usage, Violations,
    event::TraceLevel,
    outcome::StuckTask,
    trace::{Backend, Missing},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Number of an attempt; an answer carries the number of its request.
pub type Ticket = u64;

/// A message from the runner.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives until it is sent, and the large one is the usual one"
)]
pub enum Request<'a> {
    /// Start a process. Comes with three descriptors: standard input, output and error. If it has a
    /// [`Farewell`], the reading ends of its output may follow.
    #[serde(borrow)]
    Spawn(Spawn<'a>),
    /// Send a signal to the process group of the attempt.
    Signal {
        /// The attempt.
        ticket: Ticket,
        /// The signal.
        signal: i32,
    },
    /// Say that you are there.
    Beat,
    /// Say what the attempt's tasks wait for. Answered before anything that is asked later.
    Inspect {
        /// The attempt.
        ticket: Ticket,
    },
    /// Put the runner's terminal back when the runner is gone. Comes with the two descriptors of a
    /// [`Guard`](crate::keys::Guard).
    GuardTerminal,
    /// Run this if the runner dies, once the attempt is gone. Replaces what was to be run before. Comes
    /// with three descriptors, as [`Request::Spawn`].
    #[serde(borrow)]
    Will(Will<'a>),
    /// Run nothing if the runner dies.
    RevokeWill,
    /// Name what is alive of the attempt and kill it, until nothing is left.
    Kill {
        /// The attempt.
        ticket: Ticket,
    },
}

/// A process to start.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn<'a> {
    /// The attempt's number.
    pub ticket: Ticket,
    /// The command.
    #[serde(borrow)]
    pub command: RawCommand<'a>,
    /// The level of tracing, and the treatment of the trace.
    pub trace: Trace<'a>,
    /// Its cgroup.
    pub cgroup: Cgroup<'a>,
    /// Whether it is to have the terminal, where the stub lends it.
    pub foreground: bool,
    /// The file that must not have changed when the process executes; `None` for no such file.
    #[serde(borrow)]
    pub image: Option<Image<'a>>,
    /// The end that it is given if the runner dies; `None` if it is killed at once.
    #[serde(borrow)]
    pub farewell: Option<Farewell<'a>>,
    /// Its policy, as [`Bounds::to_bytes`](crate::policy::Bounds::to_bytes) writes it; empty for none.
    #[serde(with = "serde_bytes")]
    pub policy: &'a [u8],
    /// The calls that fail, as [`inject::to_bytes`](crate::tracer::inject::to_bytes) writes them; empty for none.
    #[serde(with = "serde_bytes")]
    pub inject: &'a [u8],
    /// The functions that are recorded when they are entered; `None` for none.
    pub entries: Option<Entries<'a>>,
}

/// The record of the functions that a test enters.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries<'a> {
    /// The file that lists the executables: see [`Executables`](crate::tracer::entries::Executables).
    pub executables: &'a str,
    /// The beginning of the names of the files to write.
    pub prefix: &'a str,
}

/// The end that a process is given if the runner dies.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Farewell<'a> {
    /// The signal that asks its process group to end.
    pub signal: i32,
    /// The time until all that is left is killed.
    pub grace: Duration,
    /// The folder that is removed afterwards; empty for none.
    #[serde(with = "serde_bytes")]
    pub folder: &'a [u8],
}

/// As [`Farewell`], with a folder of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFarewell {
    /// The signal.
    pub signal: i32,
    /// The time.
    pub grace: Duration,
    /// The folder.
    pub folder: Vec<u8>,
}

impl OwnFarewell {
    /// Returns it as a part of a message.
    pub fn to_protocol(&self) -> Farewell<'_> {
        Farewell {
            signal: self.signal,
            grace: self.grace,
            folder: &self.folder,
        }
    }
}

impl From<Farewell<'_>> for OwnFarewell {
    fn from(farewell: Farewell<'_>) -> Self {
        Self {
            signal: farewell.signal,
            grace: farewell.grace,
            folder: farewell.folder.to_vec(),
        }
    }
}

/// A command that a stub runs if the runner dies.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Will<'a> {
    /// The command.
    #[serde(borrow)]
    pub command: RawCommand<'a>,
    /// The time after which it is killed.
    pub limit: Duration,
}

/// A file in a known state.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image<'a> {
    /// Its path, ended by NUL.
    #[serde(with = "serde_bytes")]
    pub path: &'a [u8],
    /// Its state.
    pub identity: Identity,
}

/// The cgroup of an attempt. Empty where there is none.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup<'a> {
    /// Its folder in the hierarchy of version 2, ended by NUL.
    #[serde(with = "serde_bytes")]
    pub unified: &'a [u8],
    /// The files of version 1 by which it is joined, each ended by NUL.
    #[serde(with = "serde_bytes")]
    pub tasks: &'a [u8],
    /// Whether it has limits, without which the attempt must not run.
    pub limited: bool,
}

/// The tracing of an attempt.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace<'a> {
    /// The level.
    pub level: TraceLevel,
    /// By what. Levels above [`TraceLevel::Process`] need [`Backend::Ptrace`],
    /// [`Backend::Notify`] or [`Backend::Outer`].
    pub backend: Backend,
    /// Whether calls are recorded. Needs [`Backend::Ptrace`].
    pub recording: Recording,
    /// The file to write the whole trace to, absolute, without NUL; empty for none.
    #[serde(with = "serde_bytes")]
    pub file: &'a [u8],
    /// Whether to tell every event at once: [`Response::Seen`].
    pub live: bool,
    /// Whether no_new_privs may be set, without which only root can install a filter, and with
    /// which set-user-id programs do not work.
    pub no_new_privs: bool,
    /// The descendants to stop at their execution and to let go of, as a
    /// [`Breakpoint`](crate::tracer::breakpoint::Breakpoint) is written; empty for none. Needs
    /// [`Backend::Lifecycle`].
    #[serde(with = "serde_bytes")]
    pub break_exec: &'a [u8],
}

impl Trace<'_> {
    /// No trace.
    pub const NONE: Trace<'static> = Trace {
        level: TraceLevel::Off,
        backend: Backend::None,
        ..Trace::LIFECYCLE
    };

    /// The life of every descendant, and nothing written down.
    pub const LIFECYCLE: Trace<'static> = Trace {
        level: TraceLevel::Process,
        backend: Backend::Lifecycle,
        recording: Recording::Off,
        file: &[],
        live: false,
        no_new_privs: true,
        break_exec: &[],
    };
}

/// A message from a stub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// The stub is ready. The first message.
    Ready {
        /// The backends that work here.
        available: Available,
    },
    /// The stub ends, because the system refused it a process or an open file. The first and last
    /// message.
    Refused {
        /// The reason, as in errno(3).
        errno: i32,
    },
    /// The stub is there.
    Beat,
    /// Events of a live trace, in order.
    Seen {
        /// The attempt.
        ticket: Ticket,
        /// The events.
        events: Vec<TraceEvent>,
    },
    /// The states of the attempt's tasks.
    Inspected {
        /// The attempt.
        ticket: Ticket,
        /// The test's own process; `None` if it has ended.
        pid: Option<i32>,
        /// The tasks.
        tasks: Vec<StuckTask>,
    },
    /// The runner has been stopped, and not by Ctrl-Z, of which it says something before.
    RunnerStopped(RunnerStopped),
    /// A process of the attempt waits for what will not happen, because of the tracer.
    Stuck {
        /// The attempt.
        ticket: Ticket,
    },
    /// A descendant is stopped at its execution, and is not traced any more.
    Broke {
        /// The attempt.
        ticket: Ticket,
        /// The process.
        pid: i32,
        /// The arguments of what it executes.
        args: Vec<RawString>,
    },
    /// The process could not be started. The attempt is over.
    StartFailed {
        /// The attempt.
        ticket: Ticket,
        /// The reason.
        failure: StartFailure,
    },
    /// The process has ended. Unless descendants are alive, the attempt is over.
    Exited {
        /// The attempt.
        ticket: Ticket,
        /// Its end.
        exited: Exited,
    },
    /// The last descendant is gone. The attempt is over.
    Gone {
        /// The attempt.
        ticket: Ticket,
        /// The state of the tree.
        so_far: SoFar,
        /// Descendants that were alive when [`Request::Kill`] came. Empty if they went by
        /// themselves before.
        survivors: Vec<Survivor>,
        /// The rest of its tree. The stub exits after this message if there is one.
        left: Left,
    },
}

impl Response {
    /// Returns the attempt that it is about, if it is about one.
    pub fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Ready { .. } | Self::Refused { .. } | Self::Beat | Self::RunnerStopped(_) => None,
            Self::Seen { ticket, .. }
            | Self::Inspected { ticket, .. }
            | Self::Stuck { ticket }
            | Self::Broke { ticket, .. }
            | Self::StartFailed { ticket, .. }
            | Self::Exited { ticket, .. }
            | Self::Gone { ticket, .. } => Some(*ticket),
        }
    }
}

/// The end of a test's own process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exited {
    /// The process.
    pub pid: i32,
    /// Its wait status.
    pub exit: Exit,
    /// Its lifetime, from fork to exit, by CLOCK_MONOTONIC.
    pub elapsed: Duration,
    /// Whether descendants are still alive. If so, the stub waits for them to go by themselves or
    /// for [`Request::Kill`], and then says [`Response::Gone`].
    pub descendants_alive: bool,
    /// The state of the tree.
    pub so_far: SoFar,
}

/// The state of an attempt's tree at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SoFar {
    /// Its use of resources.
    pub usage: Usage,
    /// The trace. `None` if it was not traced.
    pub trace: Option<Box<TraceSummary>>,
    /// By what its limits did not hold.
    pub escapes: Vec<Escape>,
    /// The violations of its policy, if there were any.
    pub violations: Option<Box<Violations>>,
}

/// By what the limits of an attempt did not hold, as a stub sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Escape {
    /// [`LimitHit::LeftCgroup`].
    Left {
        /// The process or thread.
        pid: i32,
        /// The cgroup in which it was.
        found: String,
    },
    /// [`LimitHit::CgroupOpened`].
    Opened {
        /// The process.
        pid: i32,
        /// The file.
        file: String,
    },
}

impl From<Escape> for LimitHit {
    fn from(escape: Escape) -> Self {
        match escape {
            Escape::Left { pid, found } => Self::LeftCgroup { pid, found },
            Escape::Opened { pid, file } => Self::CgroupOpened { pid, file },
        }
    }
}

/// A stop of the runner. Times are those of CLOCK_MONOTONIC.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerStopped {
    /// When it was first seen to be stopped.
    pub since: Duration,
    /// When it was continued, or was seen to be.
    pub until: Duration,
    /// Whether the stub continues it now.
    pub continued: bool,
}

/// The remains of a killed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Left {
    /// All is gone.
    Nothing,
    /// SIGKILL did not end everything within the limit. Those that are known: they are in
    /// uninterruptible sleep, or held by a debugger.
    Unkillable(Vec<i32>),
}

/// The backends that work here, each found by tracing a known child.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Available {
    /// The reason why [`Backend::Lifecycle`] does not work, if there is one. Without it [`Backend::Ptrace`] does not
    /// either.
    pub no_ptrace: Option<Missing>,
    /// The reason why a process cannot have a filter that stops it for its tracer, if there is one.
    pub no_filter: Option<Missing>,
    /// The reason why [`Backend::Notify`] does not work, if there is one.
    pub no_notify: Option<Missing>,
    /// At which level the tracer around this run traces it; `None` if it is not there.
    pub outer: Option<TraceLevel>,
    /// The reason why [`Backend::Outer`] does not work, if there seems to be such a tracer.
    pub no_outer: Option<Missing>,
}

impl Available {
    /// Returns why a backend does not work here, if so.
    pub fn missing(&self, backend: Backend) -> Option<&Missing> {
        match backend {
            Backend::None => None,
            Backend::Lifecycle => self.no_ptrace.as_ref(),
            Backend::Ptrace => self.no_ptrace.as_ref().or(self.no_filter.as_ref()),
            Backend::Notify => self.no_notify.as_ref(),
            Backend::Outer if self.outer.is_some() => None,
            Backend::Outer => Some(self.no_outer.as_ref().unwrap_or(&Missing::Outer)),
        }
    }
}
