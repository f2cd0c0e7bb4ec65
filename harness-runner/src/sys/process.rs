//! The life of processes: signals, waits by descriptor, and how a stub treats itself.

use super::Pid;
use nix::errno::Errno;
use std::{
    ffi::{c_int, c_long, c_void},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Waits for a child if it has ended. Returns whether it has.
pub(crate) fn reap(pid: Pid) -> bool {
    // SAFETY: the status is not asked for; the rest are plain numbers.
    unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG | libc::__WALL) == pid }
}

/// Returns whether this is a live child of this process. Only a child can be waited for, so an id
/// that has been given to another process is none.
pub(crate) fn is_live_child(pid: Pid) -> bool {
    let Ok(pid) = libc::id_t::try_from(pid) else {
        return false;
    };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    let waited = unsafe { libc::waitid(libc::P_PID, pid, &raw mut info, flags) };
    // SAFETY: waitid(2) has filled it in, or it is all zero.
    let ended = unsafe { info.si_pid() } != 0;
    waited == 0 && !ended
}

/// Waits until a child that is being killed has ended.
pub(crate) fn wait_for_end_of(pid: Pid) {
    loop {
        // SAFETY: the status is not asked for; the rest are plain numbers.
        let waited = unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) };
        if waited == pid || Errno::last() != Errno::EINTR {
            return;
        }
    }
}

/// Gives up the controlling terminal, for this process and what it creates from now on (tty_ioctl(2),
/// TIOCNOTTY). The session stays.
pub(crate) fn give_up_terminal(tty: BorrowedFd<'_>) {
    // SAFETY: plain numbers.
    unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCNOTTY) };
}

/// Makes orphaned descendants children of this process (prctl(2), PR_SET_CHILD_SUBREAPER).
pub(crate) fn become_subreaper() -> Result<(), Errno> {
    // SAFETY: the arguments are plain numbers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Has this process continued, should it be stopped, when its parent dies: it must see that and clean
/// up. Also when the thread that started it ends, which does no harm (prctl(2), PR_SET_PDEATHSIG).
pub(crate) fn continue_when_parent_dies() {
    // SAFETY: the arguments are plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGCONT, 0, 0, 0) };
}

/// Returns the time of CLOCK_MONOTONIC, which is the same for all processes.
pub(crate) fn monotonic() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Has this process continued every so often, should it be stopped, even if all others are stopped
/// that might do it: the kernel's timers go on. The timer is armed again when its signal has been
/// delivered (timer_create(2)), so SIGCONT must be neither blocked nor ignored for long.
pub(crate) fn continue_every(time: Duration) {
    // SAFETY: sigevent is plain data, for which zero is valid.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGCONT;
    let mut timer: libc::timer_t = ptr::null_mut();
    // SAFETY: both pointers are to live locals.
    let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    if made != 0 {
        // The runner continues a stub that does not answer, though later.
        return;
    }
    let time = libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos() as c_long,
    };
    let every = libc::itimerspec {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: the timer has just been made, and the time is a live local.
    unsafe { libc::timer_settime(timer, 0, &raw const every, ptr::null_mut()) };
}

/// Undoes what a careless parent may have left: blocked signals, by which a run could not be
/// interrupted, and an ignored SIGCHLD, by which the kernel would reap children itself and no exit
/// status would ever be seen (sigaction(2)).
pub(crate) fn restore_signals() {
    // SAFETY: sigset_t is plain integers; the function below initializes it.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::sigemptyset(&raw mut none) };
    // SAFETY: the pointer is to a live local; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
    restore_default_action(libc::SIGCHLD);
    survive_file_size_limit();
}

/// Has a write past the limit of file sizes (RLIMIT_FSIZE) fail with EFBIG, of which a user can be
/// told, rather than end this process by SIGXFSZ. What is executed starts with the default again, or
/// goes on ignoring it.
fn survive_file_size_limit() {
    extern "C" fn nothing(_: c_int) {}
    if is_ignored(libc::SIGXFSZ) {
        return;
    }
    // SAFETY: sigaction is plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(c_int) as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler does nothing.
    unsafe { libc::sigaction(libc::SIGXFSZ, &raw const action, ptr::null_mut()) };
}

/// Gives a signal its default action.
pub(crate) fn restore_default_action(signal: c_int) {
    // SAFETY: the default action runs no code of this process.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Returns whether a signal is ignored.
pub(crate) fn is_ignored(signal: c_int) -> bool {
    // SAFETY: sigaction is plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local; nothing is changed.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    action.sa_sigaction == libc::SIG_IGN
}

/// A set of signals.
#[derive(Copy, Clone)]
pub(crate) struct SignalMask(pub(super) libc::sigset_t);

impl SignalMask {
    /// Returns whether a signal is blocked.
    pub(crate) fn blocks(&self, signal: c_int) -> bool {
        // SAFETY: the pointer is to an initialized set.
        unsafe { libc::sigismember(&raw const self.0, signal) == 1 }
    }
}

/// Blocks every signal of the calling thread while a child is created, which starts with the
/// thread's mask and shares its memory: no handler may run in it. Restored on drop.
pub(crate) struct Blocked(libc::sigset_t);

impl Blocked {
    pub(crate) fn new() -> Self {
        // SAFETY: sigset_t is plain integers; the functions below initialize it.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a live local.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: both pointers are to live locals.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
        Self(before)
    }

    /// Returns the mask that there was before.
    pub(crate) fn before(&self) -> SignalMask {
        SignalMask(self.0)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the pointer is to live data; the old mask is not asked for.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut());
        }
    }
}

/// Signals that are blocked while the stub works, and what to restore in its children.
pub(crate) struct Signals {
    /// The initial state of children.
    pub(crate) inherited: SignalMask,
    /// For ppoll(2): everything blocked but SIGCHLD.
    waiting: libc::sigset_t,
    /// The same without a child, whose end is known already.
    idle: libc::sigset_t,
}

/// Whether a signal has come that may mean that the socket has something.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Returns whether the socket may have something since this was asked last.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.swap(false, Ordering::Relaxed)
}

/// As [`interrupted`], but it can be asked again.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// The greatest delay of a message that arrives between the last look at the socket and
/// [`wait_for_news`].
const TICK: Duration = Duration::from_millis(50);

/// Has [`wait_for_news`] interrupted when something arrives at the socket (SIGIO, fcntl(2)
/// O_ASYNC), and now and then besides (SIGALRM): a signal that comes just before the wait does not
/// interrupt it.
pub(crate) fn interrupt_waits_for(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let fd = socket.as_raw_fd();
    // SAFETY: no arguments.
    let own = unsafe { libc::getpid() };
    // SAFETY: plain numbers.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETOWN, own) })?;
    // SAFETY: plain numbers.
    let flags = Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: plain numbers.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC) })?;
    let tick = libc::timeval {
        tv_sec: 0,
        tv_usec: TICK.subsec_micros() as libc::suseconds_t,
    };
    let every = libc::itimerval {
        it_interval: tick,
        it_value: tick,
    };
    // SAFETY: reads a live local.
    Errno::result(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const every, ptr::null_mut()) })
        .map(drop)
}

/// Blocks every signal but those of [`interrupt_waits_for`], and has SIGCHLD interrupt
/// [`Signals::wait`] and nothing else.
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
    let mut waiting = all;
    for signal in [libc::SIGIO, libc::SIGALRM, libc::SIGCONT] {
        // SAFETY: the pointer is to a live local.
        unsafe { libc::sigdelset(&raw mut all, signal) };
    }
    // SAFETY: the pointer is to a live local.
    unsafe { libc::sigdelset(&raw mut waiting, libc::SIGCONT) };
    // SAFETY: both pointers are to live locals.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut inherited) };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::sigdelset(&raw mut inherited, libc::SIGTSTP) };
    let idle = waiting;
    // SAFETY: the pointer is to a live local.
    unsafe { libc::sigdelset(&raw mut waiting, libc::SIGCHLD) };

    // What the runner listens to, tests start with the default action of, whenever their stub was
    // started. A SIGHUP that is ignored stays so: nohup(1) is meant for them, too.
    for signal in [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGUSR1,
    ] {
        restore_default_action(signal);
    }

    extern "C" fn interrupt(_: c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    // SIGIO and SIGALRM must not restart the wait, so SA_RESTART is not set. For SIGCHLD, an
    // inherited SIG_IGN would make the kernel reap our children itself; and without SA_NOCLDSTOP
    // a stop would wake us by its signal, and not where it happens: see `wait_for_news`.
    let actions = [
        (
            libc::SIGCHLD,
            ended as extern "C" fn(c_int),
            libc::SA_NOCLDSTOP,
        ),
        (libc::SIGIO, interrupt, 0),
        (libc::SIGALRM, interrupt, 0),
        // Taken, or its timer would expire once only: see `continue_every`.
        (libc::SIGCONT, ended, libc::SA_RESTART),
    ];
    for (signal, handler, flags) in actions {
        handle(signal, handler, flags);
    }
    Signals {
        inherited: SignalMask(inherited),
        waiting,
        idle,
    }
}

/// The handler of a signal that has nothing to do but to interrupt.
extern "C" fn ended(_: c_int) {}

fn handle(signal: c_int, handler: extern "C" fn(c_int), flags: c_int) {
    // SAFETY: sigaction is plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = flags;
    // SAFETY: the handlers do nothing that is not async-signal-safe.
    unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
}

/// The reason for the end of a wait.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The socket has a message, or is at its end.
    Socket,
    /// A child or tracee may have news.
    Child,
    /// A call waits at the listener.
    Call,
    /// No process is left that could make a call.
    Deserted,
    /// The limit has passed.
    Limit,
}

/// Waits until one of two descriptors is readable or at its end. Returns which are; neither if the
/// limit has passed.
pub(crate) fn either(fds: [BorrowedFd<'_>; 2], limit: Duration) -> [bool; 2] {
    let deadline = Instant::now() + limit;
    let mut polled = fds.map(readable);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.as_millis().min(1000) as c_int;
        // SAFETY: the pointer is to live locals, as many as it says.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), 2, left) };
        if ready > 0 || Instant::now() >= deadline {
            return polled.map(|fd| ready > 0 && fd.revents != 0);
        }
    }
}

fn readable(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    }
}

impl Signals {
    /// Waits for the socket, for SIGCHLD, for a listener if there is one, or for the limit. SIGCHLD
    /// is only ever delivered in here, so none can slip in between a look for news and the wait.
    pub(crate) fn wait(
        &self,
        socket: BorrowedFd<'_>,
        listener: Option<BorrowedFd<'_>>,
        limit: Option<Duration>,
    ) -> Woken {
        Self::poll(socket, listener, limit, &self.waiting)
    }

    /// Waits for the socket or for the limit, without a child.
    pub(crate) fn wait_idle(&self, socket: BorrowedFd<'_>, limit: Option<Duration>) -> Woken {
        Self::poll(socket, None, limit, &self.idle)
    }

    fn poll(
        socket: BorrowedFd<'_>,
        listener: Option<BorrowedFd<'_>>,
        limit: Option<Duration>,
        mask: &libc::sigset_t,
    ) -> Woken {
        let mut fds = [readable(socket), readable(listener.unwrap_or(socket))];
        let count = if listener.is_some() { 2 } else { 1 };
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: limit.subsec_nanos() as c_long,
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: all pointers are to live locals or null where ppoll(2) allows it.
        let ready = unsafe { libc::ppoll(fds.as_mut_ptr(), count, limit, ptr::from_ref(mask)) };
        match ready {
            0 => Woken::Limit,
            ready if ready > 0 => match fds.map(|fd| fd.revents) {
                [0, call] if call & libc::POLLIN != 0 => Woken::Call,
                [0, _] => Woken::Deserted,
                _ => Woken::Socket,
            },
            _ => Woken::Child,
        }
    }

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

/// Owns a descriptor that the kernel has just made for us.
pub(crate) fn owned(fd: c_int) -> OwnedFd {
    // SAFETY: the callers have it from a system call that makes one, and it has no other owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
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
    let _ = signal_by_pidfd(pidfd, libc::SIGKILL, 0);
}

/// Stops a process through a pidfd.
pub(crate) fn stop_by_pidfd(pidfd: BorrowedFd<'_>) {
    let _ = signal_by_pidfd(pidfd, libc::SIGSTOP, 0);
}

/// Stops the process group that a process leads, through a pidfd: no fork escapes that. Stops the process
/// alone where the kernel cannot do that (before Linux 6.9).
pub(crate) fn stop_group_by_pidfd(leader: BorrowedFd<'_>) {
    /// pidfd_send_signal(2).
    const PROCESS_GROUP: libc::c_uint = 1 << 2;
    if signal_by_pidfd(leader, libc::SIGSTOP, PROCESS_GROUP).is_err() {
        stop_by_pidfd(leader);
    }
}

pub(super) fn signal_by_pidfd(
    pidfd: BorrowedFd<'_>,
    signal: c_int,
    flags: libc::c_uint,
) -> std::io::Result<()> {
    // SAFETY: plain numbers and a null siginfo, which the call allows.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<c_void>(),
            flags,
        )
    };
    match sent {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The scheduling of this thread. Forked processes have the usual slice and niceness.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It runs soon after it is woken, rather than when the test that has the CPU has used up its own
    /// slice.
    Prompt,
    /// It runs for long when it runs, and before others where that is allowed: processes that fork
    /// as fast as they can must not leave it too little time to kill and reap them.
    Insistent,
}

/// Sets the pace. A scheduler that knows no slices (before Linux 6.12) ignores them.
///
/// A chosen policy or negative niceness stays: forked processes would lose it.
///
/// `struct sched_attr` of sched_setattr(2), its first version.
pub(crate) fn set_pace(pace: Pace) {
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    const RESET_ON_FORK: u64 = 1;
    /// The original scheduling of this process, if it was changed.
    static GIVEN: LazyLock<Option<i32>> = LazyLock::new(|| {
        // SAFETY: getpriority has no preconditions.
        let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        // SAFETY: sched_getscheduler has no preconditions.
        let policy = unsafe { libc::sched_getscheduler(0) };
        (nice >= 0 && policy == libc::SCHED_OTHER).then_some(nice)
    });
    let Some(given) = *GIVEN else { return };
    // The shortest and the longest slice that the kernel allows, in nanoseconds; and the highest
    // priority, or else the same as before.
    let (runtime, niceness): (_, &[i32]) = match pace {
        Pace::Prompt => (100_000, &[given]),
        Pace::Insistent => (100_000_000, &[-20, given]),
    };
    for &nice in niceness {
        let attr = SchedAttr {
            size: size_of::<SchedAttr>() as u32,
            policy: libc::SCHED_OTHER as u32,
            flags: RESET_ON_FORK,
            nice,
            priority: 0,
            runtime,
            deadline: 0,
            period: 0,
        };
        // SAFETY: reads a live local of the size that it states.
        let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
        if set == 0 {
            return;
        }
    }
}
