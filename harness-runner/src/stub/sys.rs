//! The system calls of a stub behind safe functions. All ptrace and most unsafe code of the
//! project is here.

#![allow(unsafe_code)]

use harness_metadata::Exit;
use nix::errno::Errno;
use std::{
    ffi::{CStr, c_int, c_long, c_void},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
    time::Duration,
};

/// A process or thread id as the kernel gives it.
pub(crate) type Pid = libc::pid_t;

/// What wait4(2) told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The task is gone.
    Ended(Exit),
    /// The tracee is stopped.
    Stopped(Stop),
}

/// Why a seized tracee is stopped: see ptrace(2), "Stopped states".
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is about to receive a signal.
    Signal(c_int),
    /// It is in a group-stop by this signal.
    Group(c_int),
    /// A new tracee's first stop, the end of a group-stop, or PTRACE_INTERRUPT.
    Trap,
    /// It has created this task.
    Created,
    /// It has executed a new program.
    Exec,
    /// Anything else. It only needs to go on.
    Other,
}

/// What one wait4(2) call brought.
pub(crate) enum WaitAny {
    /// News of a task.
    News { pid: Pid, waited: Waited, usage: RawUsage },
    /// Tasks exist, none has news.
    Quiet,
    /// There is neither a child nor a tracee.
    Nobody,
}

/// The parts of `struct rusage` that are of interest.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct RawUsage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) max_rss_bytes: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

/// Asks for news of any child or tracee, threads included, without waiting.
pub(crate) fn wait_any() -> WaitAny {
    loop {
        let mut status: c_int = 0;
        // SAFETY: rusage is plain integers, for which zero is valid.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live locals of the right type.
        let pid = unsafe {
            libc::wait4(-1, &raw mut status, libc::__WALL | libc::WNOHANG, &raw mut usage)
        };
        match pid {
            0 => return WaitAny::Quiet,
            pid if pid > 0 => {
                let waited = decode_status(status);
                return WaitAny::News { pid, waited, usage: RawUsage::from_raw(&usage) };
            }
            _ if Errno::last() == Errno::EINTR => {}
            // ECHILD; the arguments leave no other error.
            _ => return WaitAny::Nobody,
        }
    }
}

fn decode_status(status: c_int) -> Waited {
    if libc::WIFEXITED(status) {
        return Waited::Ended(Exit::Code(libc::WEXITSTATUS(status)));
    }
    if libc::WIFSIGNALED(status) {
        return Waited::Ended(Exit::Signal {
            signal: libc::WTERMSIG(status),
            core_dumped: libc::WCOREDUMP(status),
        });
    }
    let signal = libc::WSTOPSIG(status);
    Waited::Stopped(match status >> 16 {
        0 => Stop::Signal(signal),
        libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Stop::Trap,
        libc::PTRACE_EVENT_STOP => Stop::Group(signal),
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
            Stop::Created
        }
        libc::PTRACE_EVENT_EXEC => Stop::Exec,
        _ => Stop::Other,
    })
}

impl RawUsage {
    fn from_raw(usage: &libc::rusage) -> Self {
        Self {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            max_rss_bytes: count(usage.ru_maxrss) * 1024,
            voluntary_switches: count(usage.ru_nvcsw),
            involuntary_switches: count(usage.ru_nivcsw),
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(count(time.tv_sec)) + Duration::from_micros(count(time.tv_usec))
}

fn count(value: c_long) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Returns what all descendants reaped so far have used (getrusage(2), RUSAGE_CHILDREN).
///
/// The kernel adds a process here when its real parent reaps it, never when only its tracer
/// does. So after a tree is gone the difference to before is what the whole tree used, orphans
/// included, each process once.
pub(crate) fn usage_of_reaped() -> RawUsage {
    // SAFETY: rusage is plain integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local of the right type.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    RawUsage::from_raw(&usage)
}

/// Seizes a child and follows everything that it will create.
pub(crate) fn seize(pid: Pid) -> Result<(), Errno> {
    let options = libc::PTRACE_O_EXITKILL
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC;
    let data = options as usize as *mut c_void;
    // SAFETY: PTRACE_SEIZE ignores the address; the data is a bit mask, not a pointer.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, ptr::null_mut::<c_void>(), data) })
        .map(drop)
}

/// Resumes a stopped tracee, delivering a signal unless it is 0. A tracee that was killed in the
/// meantime is no longer there to resume; its exit is reported like any other.
pub(crate) fn resume(pid: Pid, signal: c_int) {
    let data = signal as usize as *mut c_void;
    // SAFETY: PTRACE_CONT ignores the address; the data is a number, not a pointer.
    unsafe { libc::ptrace(libc::PTRACE_CONT, pid, ptr::null_mut::<c_void>(), data) };
}

/// Lets a tracee stay in its group-stop until SIGCONT, while its events are reported.
pub(crate) fn listen(pid: Pid) {
    let null = ptr::null_mut::<c_void>();
    // SAFETY: PTRACE_LISTEN ignores the address and data arguments, so no memory is read or
    // written through them.
    unsafe { libc::ptrace(libc::PTRACE_LISTEN, pid, null, null) };
}

/// Returns the message of an event stop: the created task's id, or the former id of the thread
/// that called execve.
pub(crate) fn event_message(pid: Pid) -> Option<Pid> {
    let mut message: libc::c_ulong = 0;
    let null = ptr::null_mut::<c_void>();
    // SAFETY: PTRACE_GETEVENTMSG writes one unsigned long to the data argument, a live local.
    let ret = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, null, &raw mut message) };
    (ret == 0).then(|| Pid::try_from(message).ok()).flatten()
}

/// Returns whether a task is a thread of the process `tgid` (tgkill(2) with no signal).
pub(crate) fn is_thread_of(tgid: Pid, tid: Pid) -> bool {
    // SAFETY: the arguments are plain numbers; signal 0 only checks.
    unsafe { libc::syscall(libc::SYS_tgkill, tgid, tid, 0) == 0 }
}

/// Sends a signal to a process, or to a process group if negative. The ids of init and of "all
/// processes" are refused, so that a wrong number can never become a broadcast.
pub(crate) fn kill(pid: Pid, signal: c_int) -> Result<(), Errno> {
    if (-1..=1).contains(&pid) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the arguments are plain numbers.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Makes orphaned descendants children of this process (prctl(2), PR_SET_CHILD_SUBREAPER).
pub(crate) fn become_subreaper() -> Result<(), Errno> {
    // SAFETY: the arguments are plain numbers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Signals that are blocked while the stub works, and what to restore in its children.
pub(crate) struct Signals {
    inherited: libc::sigset_t,
    /// For ppoll(2): everything blocked but SIGCHLD.
    waiting: libc::sigset_t,
}

/// Blocks every signal, and has SIGCHLD interrupt [`Signals::wait`] and nothing else.
///
/// A stub ends when its runner does, so what a terminal or a user sends to the process group is
/// not for it. SIGTSTP has been blocked since before the stub was spawned, and stays so.
pub(crate) fn block_signals() -> Signals {
    // SAFETY: sigset_t is plain integers; the functions below initialize it.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut inherited: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both pointers are to live locals.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut inherited) };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::sigdelset(&raw mut inherited, libc::SIGTSTP) };
    let mut waiting = all;
    // SAFETY: the pointer is to a live local.
    unsafe { libc::sigdelset(&raw mut waiting, libc::SIGCHLD) };

    extern "C" fn interrupt(_: c_int) {}
    // An inherited SIG_IGN would make the kernel reap our children itself. SA_NOCLDSTOP must not
    // be set: stops of tracees have to interrupt the wait, too.
    // SAFETY: sigaction is plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = interrupt as extern "C" fn(c_int) as usize;
    // SAFETY: the handler does nothing, which is async-signal-safe.
    unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, ptr::null_mut()) };
    Signals { inherited, waiting }
}

/// Why a wait ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The socket has a message, or is at its end.
    Socket,
    /// A child or tracee may have news.
    Child,
    /// The limit has passed.
    Limit,
}

impl Signals {
    /// Waits for the socket, for SIGCHLD, or for the limit. SIGCHLD is only ever delivered in
    /// here, so none can slip in between a look for news and the wait.
    pub(crate) fn wait(&self, socket: BorrowedFd<'_>, limit: Option<Duration>) -> Woken {
        let mut fd = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: limit.subsec_nanos() as c_long,
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: all pointers are to live locals or null where ppoll(2) allows it.
        let ready = unsafe { libc::ppoll(&raw mut fd, 1, limit, &raw const self.waiting) };
        match ready {
            0 => Woken::Limit,
            ready if ready > 0 => Woken::Socket,
            _ => Woken::Child,
        }
    }
}

impl Signals {
    /// Waits for SIGCHLD or for the limit.
    pub(crate) fn wait_for_child(&self, limit: Duration) {
        let limit = libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: limit.subsec_nanos() as c_long,
        };
        let mask = &raw const self.waiting;
        // SAFETY: no descriptors; the other pointers are to live data.
        unsafe { libc::ppoll(ptr::null_mut(), 0, &raw const limit, mask) };
    }
}

/// Takes ownership of the socket's new descriptor and closes all other inherited ones but the
/// standard streams.
pub(crate) fn keep_only(socket: c_int) -> OwnedFd {
    // SAFETY: plain numbers. The stub calls this at its start, when it owns no other descriptor.
    unsafe { libc::syscall(libc::SYS_close_range, 3, socket - 1, 0) };
    // SAFETY: as above. Before Linux 5.9 nothing is closed; what was not inherited on purpose
    // then stays open, as with any other runner.
    unsafe { libc::syscall(libc::SYS_close_range, socket + 1, c_int::MAX, 0) };
    // SAFETY: fcntl(2) has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(socket) }
}

/// What a forked child does before it becomes the test. All pointers stay valid until then.
pub(crate) struct Child<'a> {
    pub(crate) program: &'a CStr,
    /// Ended by a null pointer.
    pub(crate) argv: &'a [*const libc::c_char],
    /// Ended by a null pointer.
    pub(crate) envp: &'a [*const libc::c_char],
    pub(crate) cwd: &'a CStr,
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// If it is to be traced: a byte can be read from here once it has been seized.
    pub(crate) go: Option<BorrowedFd<'a>>,
    /// Report a failure here.
    pub(crate) failed: BorrowedFd<'a>,
    pub(crate) signals: &'a Signals,
    pub(crate) stub: Pid,
}

/// Where a child failed before it became the test.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Stage {
    Stdio = 1,
    Chdir = 2,
    Exec = 3,
    Orphaned = 4,
}

/// A child's report: the stage and the errno, native-endian.
pub(crate) const REPORT_LEN: usize = 8;

impl Stage {
    pub(crate) fn from_raw(raw: i32) -> Option<Self> {
        [Self::Stdio, Self::Chdir, Self::Exec, Self::Orphaned]
            .into_iter()
            .find(|stage| *stage as i32 == raw)
    }
}

/// Forks a child that becomes the test. Returns its pid.
pub(crate) fn fork_into(child: &Child<'_>) -> Result<Pid, Errno> {
    // SAFETY: the stub has one thread, so the child's copy of memory is in a consistent state.
    // Before exec it makes plain system calls only, allocates nothing and never returns.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        0 => become_test(child),
        pid => Ok(pid),
    }
}

/// Forks a child that waits for `go` and then runs `main` and exits with what it returns. For the
/// probe; `main` must make plain system calls only.
pub(crate) fn fork_probe(go: BorrowedFd<'_>, main: fn() -> c_int) -> Result<Pid, Errno> {
    // SAFETY: as in `fork_into`.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        0 => {
            wait_for_go(go.as_raw_fd());
            exit_now(main())
        }
        pid => Ok(pid),
    }
}

/// Ends this process without running anything of the standard library's.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Forks a process that exits at once, and waits for it. For the probe's child.
pub(crate) fn fork_and_reap() -> c_int {
    // SAFETY: as in `fork_into`; the child only exits.
    match unsafe { libc::fork() } {
        -1 => 1,
        0 => exit_now(0),
        pid => {
            let mut status = 0;
            // SAFETY: the pointer is to a live local.
            let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            c_int::from(reaped != pid || status != 0)
        }
    }
}

fn wait_for_go(go: c_int) {
    let mut byte = 0u8;
    loop {
        // SAFETY: reads at most one byte into a live local.
        let read = unsafe { libc::read(go, (&raw mut byte).cast(), 1) };
        match read {
            -1 if Errno::last() == Errno::EINTR => {}
            1 => return,
            // The stub is gone.
            _ => exit_now(70),
        }
    }
}

fn become_test(child: &Child<'_>) -> ! {
    // SAFETY: plain numbers. A process that has just been forked can always lead a group.
    unsafe { libc::setpgid(0, 0) };
    // Dies with the stub even where it is not traced; a belt, prctl(2) PR_SET_PDEATHSIG.
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    // SAFETY: no preconditions.
    if unsafe { libc::getppid() } != child.stub {
        fail(child, Stage::Orphaned);
    }
    for (fd, target) in child.stdio.iter().zip(0..) {
        // SAFETY: plain numbers. The stub keeps its own descriptors above 2.
        if unsafe { libc::dup2(fd.as_raw_fd(), target) } == -1 {
            fail(child, Stage::Stdio);
        }
    }
    // SAFETY: the string is valid and ended by NUL.
    if unsafe { libc::chdir(child.cwd.as_ptr()) } == -1 {
        fail(child, Stage::Chdir);
    }
    // Rust's runtime ignores SIGPIPE in the stub, and ignored signals survive exec.
    // SAFETY: sets a disposition; no handler is involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: the set was initialized by sigprocmask.
    unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &raw const child.signals.inherited, ptr::null_mut())
    };
    if let Some(go) = child.go {
        wait_for_go(go.as_raw_fd());
    }
    // SAFETY: the strings and the arrays are valid, ended by NUL and null.
    unsafe {
        libc::execve(child.program.as_ptr(), child.argv.as_ptr(), child.envp.as_ptr());
    }
    fail(child, Stage::Exec)
}

fn fail(child: &Child<'_>, stage: Stage) -> ! {
    let errno = Errno::last_raw();
    let mut report = [0; REPORT_LEN];
    report[..4].copy_from_slice(&(stage as i32).to_ne_bytes());
    report[4..].copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: writes from a live local of that length. A write this small to a pipe is atomic.
    unsafe { libc::write(child.failed.as_raw_fd(), report.as_ptr().cast(), report.len()) };
    exit_now(70)
}

/// Opens a process by pidfd, so that a signal through it can never reach a successor with the
/// same pid (pidfd_open(2)).
pub(crate) fn pidfd_open(pid: Pid) -> Option<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = c_int::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends SIGKILL through a pidfd.
pub(crate) fn kill_by_pidfd(pidfd: BorrowedFd<'_>) {
    // SAFETY: plain numbers and a null siginfo, which the call allows.
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            ptr::null::<c_void>(),
            0,
        )
    };
}
