//! Finds out how processes can be traced here, by tracing some.

use super::{
    outer::Outer,
    spawn::take_listener,
    sys::{self, Filter, HandOver, Options, Stop, SyscallInfo, WaitAny, Waited},
};
use crate::{
    proc,
    protocol::Available,
    sys::{End, RawSignal, Tid, notify::Received},
    tracer::{
        decode::Syscall,
        filter::{self, Action},
    },
};
use harness_metadata::{Exit, event::TraceLevel, trace::Missing};
use nix::errno::Errno;
use std::{
    ffi::CStr,
    fs::File,
    io::Write,
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

/// The time limit of the probe. It takes well below a millisecond.
const LIMIT: Duration = Duration::from_secs(5);

/// The path that the probe's child looks up. It need not exist.
const PATH: &CStr = c"/cargo-harness looks whether a filter works";

/// The reason why a backend does not work.
enum Why {
    /// There was no process or no pipe to try it with, so nothing is known.
    Scarce(Errno),
    Missing(Missing),
}

impl From<Missing> for Why {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

/// Returns what is missing, if something is.
fn missing(probed: Result<(), Why>) -> Result<Option<Missing>, Errno> {
    match probed {
        Ok(()) => Ok(None),
        Err(Why::Missing(why)) => Ok(Some(why)),
        Err(Why::Scarce(errno)) => Err(errno),
    }
}

/// Finds out what works. Returns the tracer around this run too, if there is one.
///
/// # Errors
///
/// When there is no process or no pipe for it.
pub(super) fn available() -> Result<(Available, Option<Outer>), Errno> {
    let no_outer = match Outer::find() {
        // To try what cannot work would look suspicious in the outer trace.
        Some(Ok((outer, level))) => return Ok((traced(level)?, Some(outer))),
        Some(Err(why)) => Some(why),
        None => None,
    };
    let no_ptrace = missing(tracing())?;
    let no_paths = no_paths();
    let no_filter = match (&no_ptrace, &no_paths) {
        (_, Some(why)) => Some(why.clone()),
        // It would not be asked for.
        (Some(_), _) => Some(Missing::Ptrace),
        (None, None) => missing(filtering())?,
    };
    let no_notify = match no_paths {
        Some(why) => Some(why),
        None => missing(notifying())?,
    };
    let available = Available {
        no_ptrace,
        no_filter,
        no_notify,
        outer: None,
        no_outer,
    };
    Ok((available, None))
}

/// Returns why the paths that tests ask for cannot be looked up, if so: a path is relative to what
/// /proc says.
pub(super) fn no_paths() -> Option<Missing> {
    proc::mounted().lacks()
}

/// Returns what works in a run that is traced at this level itself.
fn traced(level: TraceLevel) -> Result<Available, Errno> {
    // One that sees the probe would wonder about a filter and a descriptor that is taken.
    let no_notify = match level {
        _ if no_paths().is_some() => no_paths(),
        TraceLevel::Off | TraceLevel::Process => missing(notifying())?,
        TraceLevel::Io | TraceLevel::Full => Some(Missing::TracedAlready),
    };
    Ok(Available {
        no_ptrace: Some(Missing::TracedAlready),
        no_filter: Some(Missing::TracedAlready),
        no_notify,
        outer: Some(level),
        no_outer: None,
    })
}

/// Traces a child that forks, and compares what is seen with what is expected.
///
/// # Errors
///
/// The reason why tracing does not work.
fn tracing() -> Result<(), Why> {
    let (seized, seen) = trace(false, sys::fork_and_reap)?;
    match (seized, seen) {
        (Err(errno), _) => Err(Missing::PtraceRefused(errno as i32).into()),
        (Ok(()), Some(seen)) if seen.forked && seen.grandchild && seen.exit == Exit::Code(0) => {
            Ok(())
        }
        (
            Ok(()),
            Some(Seen {
                exit: Exit::Code(errno @ (libc::EAGAIN | libc::ENOMEM)),
                ..
            }),
        ) => Err(Why::Scarce(Errno::from_raw(errno))),
        (Ok(()), _) => Err(Missing::PtraceUntrue.into()),
    }
}

/// Traces a child that installs a filter and opens a known path, and compares what is seen with
/// what is expected.
///
/// # Errors
///
/// The reason why filters do not work.
fn filtering() -> Result<(), Why> {
    let filter = Filter {
        program: filter::program(TraceLevel::Io, Action::Trace).into(),
        no_new_privs: true,
        required: false,
        listener: None,
    };
    let (seized, seen) = trace(true, || sys::filter_and_open(&filter, PATH))?;
    match (seized, seen) {
        (Ok(()), Some(seen)) if seen.path && seen.exit == Exit::Code(0) => Ok(()),
        (
            Ok(()),
            Some(Seen {
                exit: Exit::Code(errno),
                ..
            }),
        ) if errno > 0 => Err(Missing::FilterRefused(errno).into()),
        _ => Err(Missing::FilterUntrue.into()),
    }
}

/// Listens to a child that opens a known path, and compares what is heard with what is expected.
///
/// # Errors
///
/// The reason why notification does not work.
fn notifying() -> Result<(), Why> {
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(Why::Scarce);
    let (go, ready) = (pipe()?, pipe()?);
    let filter = Filter {
        program: filter::program(TraceLevel::Io, Action::Notify).into(),
        no_new_privs: true,
        required: false,
        listener: Some(HandOver {
            ready: ready.1.as_raw_fd(),
            taken: go.0.as_raw_fd(),
        }),
    };
    let child = sys::fork_probe(go.0.as_fd(), || sys::filter_and_open(&filter, PATH))
        .map_err(Why::Scarce)?;
    let heard = listen(child, File::from(go.1), File::from(ready.0));
    if heard != Ok(true) {
        let _ = sys::kill(child, libc::SIGKILL);
    }
    let exit = watch(child).map(|seen| seen.exit);
    match (heard, exit) {
        (Ok(true), Some(Exit::Code(0))) => Ok(()),
        (Err(Errno::EBUSY), _) => Err(Missing::NotifyTaken.into()),
        (Err(errno), _) => Err(Missing::NotifyRefused(errno as i32).into()),
        _ => Err(Missing::NotifyUntrue.into()),
    }
}

/// Returns whether the probe's child is heard to look for [`PATH`].
fn listen(child: sys::Pid, mut go: File, mut ready: File) -> Result<bool, Errno> {
    let pidfd = sys::pidfd_open(child).ok_or(Errno::ENOSYS)?;
    let mut go_on = || go.write_all(&[1]).map_err(|_| Errno::EPIPE);
    go_on()?;
    let Some(listener) = take_listener(&mut ready, pidfd.as_fd())? else {
        return Ok(false);
    };
    go_on()?;
    let [called, _] = sys::either([listener.as_fd(), pidfd.as_fd()], LIMIT);
    let Some(Received::Call(call)) = called.then(|| listener.receive()).transpose()? else {
        return Ok(false);
    };
    let heard = names_path(Tid::new(call.tid), &call.call) && listener.is_waiting(&call);
    listener.go_on(&call);
    Ok(heard)
}

/// Runs a child and watches it.
fn trace(
    filtered: bool,
    main: impl FnOnce() -> i32,
) -> Result<(Result<(), Errno>, Option<Seen>), Why> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(Why::Scarce)?;
    let child = sys::fork_probe(reader.as_fd(), main).map_err(Why::Scarce)?;
    let options = Options {
        filtered,
        ..Options::default()
    };
    let seized = sys::seize(Tid::new(child), options);
    let _ = File::from(writer).write_all(&[1]);
    Ok((seized, watch(child)))
}

/// The probe's observations.
struct Seen {
    forked: bool,
    grandchild: bool,
    /// Whether it was stopped when it looked for [`PATH`], and the path could be read.
    path: bool,
    exit: Exit,
}

fn watch(child: sys::Pid) -> Option<Seen> {
    let deadline = Instant::now() + LIMIT;
    let mut seen = Seen {
        forked: false,
        grandchild: false,
        path: false,
        exit: Exit::Code(-1),
    };
    loop {
        match sys::wait_for_news() {
            WaitAny::News {
                pid,
                waited: Waited::Ended(exit),
                ..
            } if pid == child => {
                seen.exit = exit;
            }
            WaitAny::News {
                waited: Waited::Ended(_),
                ..
            } => {}
            WaitAny::News {
                pid,
                waited: Waited::Stopped(stopped),
                ..
            } => {
                let (tid, stop) = (stopped.tid(), stopped.at());
                seen.forked |= matches!(stop, Stop::Created(_));
                seen.path |= stop == Stop::Filtered && opens_path(tid);
                seen.grandchild |= stop == Stop::Trap && pid != child;
                let signal = match stop {
                    Stop::Signal(signal) => Some(RawSignal::new(signal)),
                    _ => None,
                };
                // If it was killed, its end comes.
                let _ = stopped.end(End::Resume(signal));
            }
            WaitAny::Nobody => return Some(seen),
            WaitAny::Quiet if Instant::now() < deadline => {}
            WaitAny::Quiet => {
                let _ = sys::kill(child, libc::SIGKILL);
                return None;
            }
        }
    }
}

/// Returns whether a stopped task is about to open [`PATH`].
fn opens_path(task: Tid) -> bool {
    match sys::syscall_info(task) {
        Some(SyscallInfo::Entry(call)) => names_path(task, &call),
        _ => false,
    }
}

fn names_path(task: Tid, call: &Syscall) -> bool {
    let expected = PATH.to_bytes_with_nul();
    let mut path = vec![0; expected.len()];
    // openat(2) has the path second.
    sys::read_memory(task, call.args[1], &mut path) == Ok(expected.len()) && path == expected
}
