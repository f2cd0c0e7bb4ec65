//! Finds out whether processes can be traced here, by tracing one.

use super::sys::{self, Stop, WaitAny, Waited};
use harness_metadata::Exit;
use std::{
    fs::File,
    io::Write,
    os::fd::AsFd,
    time::{Duration, Instant},
};

/// How long the probe may take. It takes well below a millisecond.
const LIMIT: Duration = Duration::from_secs(5);

/// Traces a child that forks, and compares what is seen with what is expected.
///
/// # Errors
///
/// A sentence fragment that says why tracing does not work.
pub(super) fn tracing() -> Result<(), String> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|errno| format!("no pipe for the probe: {}", errno.desc()))?;
    let child = sys::fork_probe(reader.as_fd(), sys::fork_and_reap)
        .map_err(|errno| format!("no process for the probe: {}", errno.desc()))?;
    let seized = sys::seize(child);
    let _ = File::from(writer).write_all(&[1]);
    let seen = watch(child);
    match (seized, seen) {
        (Err(errno), _) => Err(format!("ptrace is refused here: {}", errno.desc())),
        (Ok(()), Some(seen)) if seen.forked && seen.grandchild && seen.exit == Exit::Code(0) => {
            Ok(())
        }
        (Ok(()), _) => Err("ptrace does not report what it should here".to_owned()),
    }
}

/// What the probe saw.
struct Seen {
    forked: bool,
    grandchild: bool,
    exit: Exit,
}

fn watch(child: sys::Pid) -> Option<Seen> {
    let deadline = Instant::now() + LIMIT;
    let mut seen = Seen {
        forked: false,
        grandchild: false,
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
                waited: Waited::Stopped(stop),
                ..
            } => {
                seen.forked |= stop == Stop::Created;
                seen.grandchild |= stop == Stop::Trap && pid != child;
                let signal = if let Stop::Signal(signal) = stop {
                    signal
                } else {
                    0
                };
                sys::resume(pid, signal);
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
