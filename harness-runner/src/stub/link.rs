//! The near side's handle on a stub.

use super::{
    holds::Interest,
    reaping::Lasting,
    status,
    survivors::{self, Chase, ChildList, Survived},
    sys::{self, HeldChild, Pace},
};
use crate::protocol::{
    Available, Request, Response,
    packet::{self, receive_response, send_request},
};
use harness_metadata::Survivor;
use nix::sys::signal::{SigSet, Signal};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    env, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;

/// The time limit for a stub to report that it is ready. It takes a few milliseconds.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// The time without a message after which a stub is continued, in case that it was stopped.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time limit for a killed stub to end.
const KILLED_LIMIT: Duration = Duration::from_secs(2);

/// The time limit for reaping a stub that has ended.
const REAP_LIMIT: Duration = Duration::from_millis(500);

/// The interval for checking whether a stub has ended, where there are no pidfds.
const POLL: Duration = Duration::from_millis(5);

/// The time for which orphans are chased at once.
const CHASE_LIMIT: Duration = Duration::from_secs(2);

/// A running stub. When it is dropped, the stub kills whatever it runs, exits, and is reaped.
#[derive(Debug)]
pub struct Stub {
    /// `None` only while dropping.
    socket: Option<OwnedFd>,
    process: Child,
    /// The kernel may reap it.
    held: HeldChild,
    /// Its report of readiness; `None` before.
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

/// A variable, as `NAME=value`, that all tests of the run have.
static MARK: OnceLock<String> = OnceLock::new();

/// Children in other process groups that this process had before tests began to run, and their
/// groups: this process started them before it became this program.
static STRANGERS: OnceLock<BTreeSet<sys::Pid>> = OnceLock::new();

fn is_stranger(pid: sys::Pid) -> bool {
    let known = |strangers: &BTreeSet<sys::Pid>| {
        let of_group = || status::stat(pid).is_some_and(|stat| strangers.contains(&stat.group));
        !strangers.is_empty() && (strangers.contains(&pid) || of_group())
    };
    STRANGERS.get().is_some_and(known)
}

/// Makes this process the one that descendants of a stub come to if the stub is killed. All of them
/// were given this variable, as `NAME=value`. To be called when tests begin to run: what a build
/// leaves behind is none of a run's business. While the answer lives, the kernel reaps the dead: nothing else
/// in this process may depend on how its child ended.
pub fn adopt_orphans(variable: String) -> Lasting {
    // A process has one run.
    let mark = MARK.get_or_init(|| variable);
    let stubs = stubs();
    STRANGERS.get_or_init(|| {
        let before = survivors::adopted_children(mark).into_iter();
        let strangers = before.filter(|pid| !stubs.contains(pid));
        let groups = |pid| [Some(pid), status::stat(pid).map(|stat| stat.group)];
        strangers.flat_map(groups).flatten().collect()
    });
    drop(stubs);
    // Without it they come to init, as with any other runner.
    let _ = sys::become_subreaper();
    Lasting::run()
}

/// Kills what has come to this process from stubs that were killed, until nothing is left. What a
/// stub traced has died with it; this is for what it did not trace. Returns what did not die by
/// itself.
///
/// To be called on a thread of its own, which is given priority if there is something to kill.
pub fn kill_orphans() -> Vec<Survivor> {
    let since = Instant::now();
    let _killing = Lasting::killing();
    let mut killed = BTreeMap::new();
    let mut looked = false;
    let deadline = Instant::now() + super::KILL_LIMIT;
    while Instant::now() < deadline {
        // Held so that no stub is started that is not in the set yet.
        let stubs = stubs();
        let orphans = Orphans {
            stubs: &stubs,
            mark: MARK.get().map_or("", String::as_str),
        };
        if orphans.all().is_empty() {
            break;
        }
        // What died with its stub needs a moment for it, and is not to be named.
        if !std::mem::replace(&mut looked, true) {
            sys::set_pace(Pace::Insistent);
            drop(stubs);
            thread::sleep(POLL);
            continue;
        }
        // They may multiply, and must not do that while they are named.
        orphans.chase(libc::SIGSTOP);
        let alive = orphans.all().into_iter();
        let alive = alive.filter(|pid| !killed.contains_key(pid) && !survivors::is_dying(*pid));
        let survived = Survived {
            // It went with its stub, and what is known of it.
            root: 0,
            at: since,
            interest: &Interest::default(),
            trace: None,
        };
        for survivor in survivors::name(&alive.collect(), &survived) {
            killed.insert(survivor.pid, survivor);
        }
        orphans.chase(libc::SIGKILL);
        drop(stubs);
        thread::sleep(POLL);
    }
    killed.into_values().collect()
}

/// The processes that have come to this one and are neither a stub nor a child that it has started itself. What
/// that has started stays in its group; every test leads its own, and what a test starts can go to
/// ours but hardly without its environment.
struct Orphans<'a> {
    stubs: &'a BTreeSet<sys::Pid>,
    mark: &'a str,
}

impl Orphans<'_> {
    fn all(&self) -> Vec<sys::Pid> {
        let mut all = survivors::adopted_children(self.mark);
        all.retain(|pid| self.is_one(*pid));
        all
    }

    /// Returns whether an adopted child is one.
    fn is_one(&self, pid: sys::Pid) -> bool {
        !self.stubs.contains(&pid) && !is_stranger(pid)
    }

    /// Sends a signal to all of them and to those that come meanwhile, and reaps those that had died
    /// before the kernel was to do that. The stub would have done the same: see `Tree::kill_all`.
    fn chase(&self, signal: i32) {
        let mut list = ChildList::open();
        let mut chase = Chase::new(None, signal);
        let deadline = Instant::now() + CHASE_LIMIT;
        while Instant::now() < deadline {
            let orphans = match list.as_mut().map(ChildList::read) {
                Some(Ok(mut children)) => {
                    let adopted = |pid| survivors::is_adopted(pid, self.mark);
                    children.retain(|pid| self.is_one(*pid) && adopted(*pid));
                    children
                }
                _ => self.all(),
            };
            let go_on = chase.look(&orphans);
            let most = survivors::most_reaped(orphans.len());
            let dead = orphans.into_iter().filter(|orphan| sys::reap(*orphan));
            let dead: Vec<_> = dead.take(most).collect();
            dead.iter().for_each(|orphan| chase.reaped(*orphan));
            if !go_on && dead.is_empty() {
                break;
            }
        }
    }
}

/// An error that makes a stub unusable.
#[derive(Debug, Error)]
pub enum StubError {
    /// It could not be started.
    #[error("failed to start the double-spawn stub `{program}`")]
    Start {
        /// The program.
        program: String,
        /// The reason.
        source: io::Error,
    },
    /// The socket failed.
    #[error("failed to talk to the double-spawn stub")]
    Talk {
        /// The reason.
        #[from]
        source: io::Error,
    },
    /// It ended.
    #[error("the double-spawn stub ended unexpectedly")]
    Gone,
    /// It does not answer.
    #[error("the double-spawn stub (process {pid}) did not {what} within {}", humantime::format_duration(*limit))]
    Silent {
        /// Its process id.
        pid: u32,
        /// Its task.
        what: &'static str,
        /// The time spent waiting.
        limit: Duration,
    },
}

impl StubError {
    /// The stub could not start a process of its own.
    pub fn refused(errno: i32) -> Self {
        Self::Start {
            program: executable().display().to_string(),
            source: io::Error::from_raw_os_error(errno),
        }
    }

    /// Returns whether the system did not have enough of something, which it may have later or for
    /// fewer.
    pub fn is_scarcity(&self) -> bool {
        let (Self::Start { source, .. } | Self::Talk { source }) = self else {
            return false;
        };
        // A socket that is full would block, which has the number of a process that is refused.
        let full = matches!(self, Self::Talk { .. }) && source.kind() == io::ErrorKind::WouldBlock;
        !full && source.raw_os_error().is_some_and(is_scarcity)
    }
}

/// Returns whether an error means that there are not enough processes, open files, or memory.
pub fn is_scarcity(errno: i32) -> bool {
    matches!(
        errno,
        libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ETOOMANYREFS
    )
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
            .args(super::open_files::argument())
            .args(super::terminal::argument())
            .stdin(Stdio::from(far))
            .stdout(Stdio::null())
            .spawn();
        before.thread_set_mask().map_err(io::Error::from)?;
        let process = spawned.map_err(|source| StubError::Start {
            program: program.display().to_string(),
            source,
        })?;
        let pid = process.id().cast_signed();
        stubs.insert(pid);
        Ok(Self {
            socket: Some(near),
            process,
            held: HeldChild::of_new(pid),
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
            Response::Refused { errno } => Err(StubError::refused(errno)),
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
        let deadline = Instant::now() + limit;
        while !packet::readable(self, PATIENCE.min(limit))? {
            // It may have answered while this process had no CPU.
            if Instant::now() >= deadline && !packet::readable(self, Duration::ZERO)? {
                let (pid, what) = (self.pid(), "answer");
                return Err(StubError::Silent { pid, what, limit });
            }
            self.wake();
        }
        receive_response(self.as_fd())?.ok_or(StubError::Gone)
    }

    /// Continues the stub if it was stopped. Tests can stop it: it is their parent.
    pub fn wake(&self) {
        self.held.signal(libc::SIGCONT);
    }

    /// Kills a stub that is lost, and what it traces with it (PTRACE_O_EXITKILL).
    pub fn kill(&self) {
        self.held.signal(libc::SIGKILL);
    }

    fn ends_within(&mut self, limit: Duration) -> bool {
        match self.held.pidfd() {
            Some(pidfd) => packet::readable(pidfd, limit).unwrap_or(false),
            None => self.reaped_within(limit),
        }
    }

    fn reaped_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        // A stub that the kernel or another thread has reaped is gone, too.
        while !self.held.reap() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL);
        }
        true
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
        let _ending = self.held.lives().then(Lasting::ending);
        drop(self.socket.take());
        self.wake();
        // The stub bounds its own killing. One that does not come to it is killed, and takes what
        // it traces along (PTRACE_O_EXITKILL).
        if !self.ends_within(super::KILL_LIMIT + Duration::from_secs(2)) {
            self.kill();
            let _ = self.ends_within(KILLED_LIMIT);
        }
        let mut stubs = stubs();
        // One that the kernel keeps, or a debugger that has seized it, is not waited for without end.
        // It is init's when this process has ended.
        if self.reaped_within(REAP_LIMIT) {
            stubs.remove(&self.process.id().cast_signed());
        }
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
