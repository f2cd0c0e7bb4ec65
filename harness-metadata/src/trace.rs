//! The events of a trace, and the summary of an attempt's trace.
//!
//! Events are ordered as the kernel reported them. Paths, arguments and names are bytes. Numbers of
//! signals and errors are the architecture's own (`signal(7)`, `errno(3)`).

use crate::{outcome::Exit, raw::RawString};
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

mod disturbance;
mod less;
mod operation;
mod summary;

pub use disturbance::{Disturbance, EarlierTime};
pub use less::{Less, Missing, Reason};
pub use operation::{FileOperation, NetworkOperation, Operation};
pub use summary::{
    Backend, Dropped, Failure, FileSummary, FileUse, PeerSummary, ProcessSummary, TraceSummary,
};

/// The version of this schema. It grows when a reader of the old one would go wrong.
///
/// 4: durations are numbers of seconds.
pub const TRACE_SCHEMA_VERSION: u32 = 4;

/// Something that a traced process did, or that was done to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct TraceEvent {
    /// Time since the attempt's root was created.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub at: Duration,
    /// The process (thread group).
    pub pid: i32,
    /// The thread. Equal to `pid` for a process's first thread.
    pub tid: i32,
    /// The kind of event.
    pub kind: TraceEventKind,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum TraceEventKind {
    /// It created a process or a thread.
    Created(Created),
    /// It executed a program, or tried to.
    Exec(Box<Exec>),
    /// The process has ended; for a thread that is not the last one, see [`Self::ThreadEnded`].
    Exited(Exited),
    /// A thread has ended, its process has not.
    ThreadEnded,
    /// A signal was delivered to it.
    Signal(Signal),
    /// It asked something of the file system, or changed it.
    File(Box<FileCall>),
    /// It used a socket.
    Network(Box<NetworkCall>),
    /// It asked a name server for an address.
    Lookup(NameLookup),
    /// It did something that hides its actions from the tracer.
    Doubt(Doubt),
    /// A call of it was not made, and failed, because the user asked for that. The call itself follows, if it is traced.
    Injected(Box<Injected>),
}

/// A call that failed because the user asked for that (`--inject`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Injected {
    /// The system call.
    pub call: String,
    /// The file, program or address; `None` if it names none.
    pub place: Option<RawString>,
    /// The error that it was answered with: errno(3).
    pub errno: i32,
    /// The request, as the user wrote it.
    pub request: String,
    /// The number of the call among those that the request is about, from 1.
    pub number: u64,
}

/// A new process or thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Created {
    /// Its id.
    pub child: i32,
    /// The way of its creation.
    pub how: Creation,
}

/// The way in which a task was created.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Creation {
    /// A process: `fork(2)`, or `clone(2)` with its own memory.
    Fork,
    /// A process whose creator waits for its exec or exit: `vfork(2)`, `posix_spawn(3)`.
    Vfork,
    /// A process by `clone(2)` with another exit signal than SIGCHLD.
    Clone,
    /// A thread.
    Thread,
    /// A process whose creation was not seen, by the backend or in time. Its parent stands in for
    /// its creator.
    Unknown,
}

/// An execution of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Exec {
    /// The program's path.
    pub program: TracedPath,
    /// The arguments, argument zero included.
    pub args: Vec<RawString>,
    /// The working directory.
    pub cwd: RawString,
    /// The environment, as a difference to the one that the process started with. Empty for a
    /// failed execution.
    pub environment: EnvironmentChange,
    /// Descriptors other than 0, 1, 2 that stay open in the new program.
    pub inherited: Vec<InheritedDescriptor>,
    /// Files that the kernel opened to run it: the script's interpreters (`#!`) and the dynamic
    /// loader.
    pub interpreters: Vec<RawString>,
    /// 0, or the error.
    pub result: CallResult,
    /// True if arguments or environment were too long to be recorded, or could not be read: always
    /// so if the caller was killed in the call, or the program could not be loaded.
    pub truncated: bool,
}

/// A difference of environments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct EnvironmentChange {
    /// Added or changed variables, in order of their names.
    pub set: Vec<(RawString, RawString)>,
    /// Variables that are gone.
    pub unset: Vec<RawString>,
}

/// A descriptor that a program was started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct InheritedDescriptor {
    /// Its number.
    pub fd: i32,
    /// Its target in `/proc/PID/fd`.
    pub target: RawString,
}

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Exited {
    /// Its wait status.
    pub exit: Exit,
    /// CPU time in user mode, its own only. By `ptrace`, up to the start of its exit.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub user: Duration,
    /// CPU time in the kernel, its own only.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub system: Duration,
    /// Its largest resident set, in bytes. By `ptrace`, that of the program it executed last.
    pub peak_memory: u64,
}

/// A signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Signal {
    /// Its number.
    pub signal: i32,
    /// `si_code` of `sigaction(2)`.
    pub code: i32,
    /// Its sender.
    pub sender: Sender,
}

/// The sender of a signal.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Sender {
    /// The kernel: a fault, a timer, a child's end, a closed pipe.
    Kernel,
    /// A process of the same attempt.
    Tree(i32),
    /// The harness.
    Harness,
    /// A process outside.
    Outside(i32),
}

/// The result of a call.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum CallResult {
    /// Not known: the caller was killed in the call, or the backend sees entries only.
    #[default]
    Unknown,
    /// It succeeded with this value.
    Ok(i64),
    /// It failed with this `errno(3)`.
    Err(i32),
    /// Not seen, but foreseen: an exec that a backend without results takes to succeed.
    Found,
}

impl CallResult {
    /// Returns the error, if it is known to have failed.
    pub fn error(self) -> Option<i32> {
        match self {
            Self::Err(errno) => Some(errno),
            _ => None,
        }
    }
}

/// A path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct TracedPath {
    /// As the program gave it.
    pub asked: RawString,
    /// Absolute, without `.`, `..` and double slashes, links not followed; `None` if it is the same
    /// as `asked`, or if the directory that it is relative to is not known.
    pub absolute: Option<RawString>,
}

impl TracedPath {
    /// Returns the absolute path where it is known, else the path as given.
    pub fn path(&self) -> &RawString {
        self.absolute.as_ref().unwrap_or(&self.asked)
    }
}

/// A call that names files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct FileCall {
    /// The system call's name, as in its manual page.
    pub call: String,
    /// The operation.
    pub operation: FileOperation,
    /// The file.
    pub path: TracedPath,
    /// The second path of a rename or link, the new name. For a symbolic link, `path` is the link
    /// and this is its text.
    pub to: Option<TracedPath>,
    /// The access mode. Only for [`FileOperation::Open`].
    pub access: Option<Access>,
    /// The result.
    pub result: CallResult,
    /// The file that it concerned, where it exists.
    pub file: Option<FileId>,
}

/// A file's identity while it exists.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct FileId {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// True for a directory.
    pub directory: bool,
}

/// The access mode of an open file (`open(2)`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Access {
    /// It can be read.
    pub read: bool,
    /// It can be written.
    pub write: bool,
    /// Created if it was not there.
    pub create: bool,
    /// Must not have been there.
    pub exclusive: bool,
    /// Emptied.
    pub truncate: bool,
    /// A file without a name (`O_TMPFILE`).
    pub unnamed: bool,
    /// A directory.
    pub directory: bool,
    /// For its path only (`O_PATH`).
    pub path_only: bool,
}

/// A call on a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct NetworkCall {
    /// The system call's name.
    pub call: String,
    /// The operation.
    pub operation: NetworkOperation,
    /// The socket's descriptor.
    pub fd: i32,
    /// The address: the peer's, or for bind and listen its own.
    pub address: Option<Address>,
    /// The reach of the address.
    pub reach: Reach,
    /// The result.
    pub result: CallResult,
}

/// An address of a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// IPv4 or IPv6 (`ip(7)`, `ipv6(7)`).
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Ip {
        /// The address.
        ip: IpAddr,
        /// The port.
        port: u16,
    },
    /// A unix socket with a path (`unix(7)`).
    Unix(RawString),
    /// A unix socket with an abstract name, without its leading NUL.
    UnixAbstract(RawString),
    /// A unix socket without a name.
    UnixUnnamed,
    /// Netlink (`netlink(7)`).
    Netlink,
    /// A virtual machine's host or guest (`vsock(7)`).
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    Vsock {
        /// The context id.
        cid: u32,
        /// The port.
        port: u32,
    },
    /// Another family, by its number (`socket(2)`).
    Other(u16),
}

/// Shows `IP:PORT`, a path, `@NAME` for an abstract name.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip {
                ip: IpAddr::V4(ip),
                port,
            } => write!(f, "{ip}:{port}"),
            Self::Ip {
                ip: IpAddr::V6(ip),
                port,
            } => write!(f, "[{ip}]:{port}"),
            Self::Unix(path) => write!(f, "{path}"),
            Self::UnixAbstract(name) => write!(f, "@{name}"),
            Self::UnixUnnamed => f.write_str("unnamed unix socket"),
            Self::Netlink => f.write_str("netlink"),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Other(family) => write!(f, "address family {family}"),
        }
    }
}

/// The distance of an address.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// A socket of the same attempt.
    Tree,
    /// Something else on this machine.
    Machine,
    /// Another machine.
    Outside,
    /// Not known.
    #[default]
    Unknown,
}

/// A question to a name server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct NameLookup {
    /// The name.
    pub name: RawString,
    /// The server.
    pub server: Address,
}

/// A reason why a trace may lack something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// `io_uring_setup(2)`: its operations are not system calls.
    IoUring,
    /// System calls of another architecture (`int 0x80`, x32).
    ForeignArchitecture,
    /// A task was created with CLONE_UNTRACED, or could not be followed.
    UntracedTask,
    /// A seccomp filter of its own, which hides calls from ours.
    OwnFilter,
    /// Memory that may not be read (PR_SET_DUMPABLE).
    Undumpable,
    /// Memory that could not be read, for another reason.
    Unreadable,
    /// A path or an address was rewritten while a call was made with it, or led elsewhere afterwards.
    Rewritten,
    /// A descriptor came from a process outside, or went there (SCM_RIGHTS, `pidfd_getfd(2)`).
    ForeignDescriptor,
    /// The meaning of paths was changed (mount, namespaces) in a way that could not be followed.
    ChangedNamespace,
    /// A file was opened by handle, not by path.
    OpenedByHandle,
    /// It traces or reads other processes (`ptrace(2)`, `process_vm_readv(2)`).
    TracesOthers,
    /// BPF, perf events, userfaultfd, keys: state that is no file.
    KernelFacility,
    /// A call whose effects and answers are not recorded, such as `syslog`, or something else of that
    /// kind, such as a netlink socket.
    Untold(String),
    /// A signal came from outside.
    ForeignSignal,
    /// More happened than the limits of a trace allow to record.
    Overflow,
    /// The backend cannot see this.
    Backend(String),
    /// The tracer ended before the attempt did.
    Interrupted,
    /// The tracer disturbed the test, or may have.
    Disturbed(Disturbance),
}

/// Shows it as a sentence fragment.
impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring was used, whose operations are not system calls",
            Self::ForeignArchitecture => "system calls of another architecture were made",
            Self::UntracedTask => "a task could not be followed",
            Self::OwnFilter => "a seccomp filter of the test's own may hide calls",
            Self::Undumpable => "a process forbade reading its memory",
            Self::Unreadable => "memory of a process could not be read",
            Self::Rewritten => "a path or an address changed while a call was made with it",
            Self::ForeignDescriptor => "a descriptor came from outside or went there",
            Self::ChangedNamespace => "mounts or namespaces changed what paths mean",
            Self::OpenedByHandle => "a file was opened by handle",
            Self::TracesOthers => "a process traced or read another one",
            Self::KernelFacility => "BPF, perf events, userfaultfd or keys were used",
            Self::Untold(what) => return write!(f, "what is done by {what} is not recorded"),
            Self::ForeignSignal => "a signal came from outside",
            Self::Overflow => "more happened than is recorded",
            Self::Backend(missing) => return write!(f, "the backend does not see {missing}"),
            Self::Interrupted => "the tracer ended before the attempt did",
            Self::Disturbed(how) => return how.fmt(f),
        })
    }
}
