//! The near side's handle on a stub.

use super::{survivors, sys};
use crate::protocol::{
    Available, Request, Response,
    packet::{self, receive_response, send_request},
};
use nix::sys::signal::{SigSet, Signal};
use std::{
    cell::OnceCell,
    collections::BTreeSet,
    env, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;

/// How long a stub may take to say that it is ready. It takes a few milliseconds.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How often a stub is asked whether it has ended where there are no pidfds.
const POLL: Duration = Duration::from_millis(5);

/// A running stub. When it is dropped, the stub kills whatever it runs, exits, and is reaped.
#[derive(Debug)]
pub struct Stub {
    /// `None` only while dropping.
    socket: Option<OwnedFd>,
    process: Child,
    /// What it said when it was ready; `None` before.
    ready: OnceCell<Available>,
}

/// The stubs of this process, by which it tells them from orphans.
static STUBS: Mutex<BTreeSet<sys::Pid>> = Mutex::new(BTreeSet::new());

fn stubs() -> MutexGuard<'static, BTreeSet<sys::Pid>> {
    STUBS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the processes of this run: its own, and its stubs.
pub(super) fn own_processes() -> BTreeSet<sys::Pid> {
    let mut own = stubs().clone();
    own.insert(std::process::id().cast_signed());
    own
}

/// Makes this process the one that descendants of a stub come to if the stub is killed. To be
/// called when tests begin to run: what a build leaves behind is none of a run's business.
pub fn adopt_orphans() {
    // Without it they come to init, as with any other runner.
    let _ = sys::become_subreaper();
}

/// Kills what has come to this process from stubs that were killed, until nothing is left. What a
/// stub traced has died with it; this is for what it did not trace.
pub fn kill_orphans() {
    let deadline = Instant::now() + super::KILL_LIMIT;
    while Instant::now() < deadline {
        // Held so that no stub is started that is not in the set yet.
        let stubs = stubs();
        // What this process itself has started stays in its group; every test leads its own.
        let orphans = survivors::children_in_other_groups();
        let orphans: Vec<_> = orphans.into_iter().filter(|p| !stubs.contains(p)).collect();
        if orphans.is_empty() {
            return;
        }
        for orphan in orphans {
            // A child's id is its own until it has been waited for.
            let _ = sys::kill(orphan, libc::SIGKILL);
            sys::reap(orphan);
        }
        drop(stubs);
        thread::sleep(POLL);
    }
}

/// Why a stub could not be used.
#[derive(Debug, Error)]
pub enum StubError {
    /// It could not be started.
    #[error("failed to start the double-spawn stub `{program}`")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The socket failed.
    #[error("failed to talk to the double-spawn stub")]
    Talk {
        /// Why.
        #[from]
        source: io::Error,
    },
    /// It ended.
    #[error("the double-spawn stub ended unexpectedly")]
    Gone,
    /// It does not answer.
    #[error("the double-spawn stub did not answer within {}", humantime::format_duration(*limit))]
    Silent {
        /// How long was waited.
        limit: Duration,
    },
}

impl Stub {
    /// Starts a stub from this executable. Does not wait for it: see [`Stub::ready`].
    ///
    /// SIGTSTP is blocked for this thread until the stub exists and stays blocked in the stub, so
    /// that Ctrl-Z cannot stop it half-made. The calling thread's other signals are inherited.
    ///
    /// # Errors
    ///
    /// When there is no socket, or no process.
    pub fn launch() -> Result<Self, StubError> {
        let (near, far) = packet::pair()?;
        let tstp = SigSet::from(Signal::SIGTSTP);
        let before = tstp
            .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
            .map_err(io::Error::from)?;
        let program = executable();
        let mut stubs = stubs();
        let spawned = Command::new(&program)
            .arg0("cargo-harness")
            .arg(super::ARGUMENT)
            .stdin(Stdio::from(far))
            .stdout(Stdio::null())
            .spawn();
        before.thread_set_mask().map_err(io::Error::from)?;
        let process = spawned.map_err(|source| StubError::Start {
            program: program.display().to_string(),
            source,
        })?;
        stubs.insert(process.id().cast_signed());
        Ok(Self {
            socket: Some(near),
            process,
            ready: OnceCell::new(),
        })
    }

    /// Waits until the stub has said that it is ready. Returns what tracing works here.
    ///
    /// # Errors
    ///
    /// When it does not say so.
    pub fn ready(&self) -> Result<Available, StubError> {
        if let Some(available) = self.ready.get() {
            return Ok(available.clone());
        }
        match self.receive(READY_LIMIT)? {
            Response::Ready { available } => Ok(self.ready.get_or_init(|| available).clone()),
            _ => Err(StubError::Gone),
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// When the stub is gone.
    pub fn send(&self, request: &Request<'_>, fds: &[BorrowedFd<'_>]) -> Result<(), StubError> {
        Ok(send_request(self.as_fd(), request, fds)?)
    }

    /// Waits for a response.
    ///
    /// # Errors
    ///
    /// When the stub is gone or the limit has passed.
    pub fn receive(&self, limit: Duration) -> Result<Response, StubError> {
        if !packet::readable(self, limit)? {
            return Err(StubError::Silent { limit });
        }
        receive_response(self.as_fd())?.ok_or(StubError::Gone)
    }

    /// Has the stub go on if somebody has stopped it. Tests can: it is their parent.
    pub fn wake(&self) {
        // It is not reaped before this is dropped, so the id is its own.
        let _ = sys::kill(self.process.id().cast_signed(), libc::SIGCONT);
    }

    fn ends_within(&mut self, limit: Duration) -> bool {
        match sys::pidfd_open(self.process.id().cast_signed()) {
            Some(pidfd) => packet::readable(pidfd, limit).unwrap_or(false),
            None => {
                let deadline = Instant::now() + limit;
                while self.process.try_wait().is_ok_and(|status| status.is_none()) {
                    if Instant::now() >= deadline {
                        return false;
                    }
                    thread::sleep(POLL);
                }
                true
            }
        }
    }

    /// The stub's process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl AsFd for Stub {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket
            .as_ref()
            .expect("the socket is there until drop")
            .as_fd()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        drop(self.socket.take());
        self.wake();
        // The stub bounds its own killing. One that does not come to it is killed, and takes what
        // it traces along (PTRACE_O_EXITKILL).
        if !self.ends_within(super::KILL_LIMIT + Duration::from_secs(2)) {
            let _ = self.process.kill();
        }
        let mut stubs = stubs();
        // A stub that somebody else has reaped is gone, too.
        let _ = self.process.wait();
        stubs.remove(&self.process.id().cast_signed());
    }
}

/// This executable, even if its file has been replaced since (by a build of itself).
fn executable() -> PathBuf {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() {
        return own;
    }
    env::args_os().next().map_or(own, PathBuf::from)
}
