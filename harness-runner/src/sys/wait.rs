//! Waiting for children and tracees, with what they used (wait4(2), which nix and rustix lack).

use super::{CreatedBy, Pid, Stop, Stopped, Tgid, Tid, ended};
use harness_metadata::Exit;
use nix::errno::Errno;
use std::{
    ffi::{c_int, c_long},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// The status from wait4(2).
#[derive(Debug)]
pub(crate) enum Waited {
    /// The task is gone.
    Ended(Exit),
    /// The task is stopped: see [`Stopped`].
    Stopped(Stopped),
}

/// The result of one wait4(2) call.
pub(crate) enum WaitAny {
    /// News of a task.
    News {
        pid: Pid,
        waited: Waited,
        usage: RawUsage,
    },
    /// Tasks exist, none has news.
    Quiet,
    /// There is neither a child nor a tracee.
    Nobody,
}

/// The unit of `ru_inblock` and `ru_oublock`, whatever the file system's is.
const BLOCK: u64 = 512;

/// The parts of `struct rusage` that are of interest.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawUsage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) max_rss_bytes: u64,
    pub(crate) disk_read: u64,
    pub(crate) disk_written: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

/// Asks for news of any child or tracee, threads included, without waiting.
pub(crate) fn wait_any() -> WaitAny {
    wait4(-1, libc::WNOHANG)
}

/// Asks for news of one child or tracee, without waiting.
pub(crate) fn news_of(process: Tgid) -> Option<(Waited, RawUsage)> {
    match wait4(process.raw(), libc::WNOHANG) {
        WaitAny::News { waited, usage, .. } => Some((waited, usage)),
        WaitAny::Quiet | WaitAny::Nobody => None,
    }
}

/// Returns whether there is news of a task. It stays there.
pub(crate) fn has_news(tid: Tid) -> bool {
    let kinds = libc::WEXITED | libc::WSTOPPED;
    let flags = kinds | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let task = tid.raw().cast_unsigned();
    // SAFETY: the pointer is to a live local.
    let result = unsafe { libc::waitid(libc::P_PID, task, &raw mut info, flags) };
    // SAFETY: the kernel has set it, or it is still zero.
    result == 0 && unsafe { info.si_pid() } != 0
}

/// Returns a child of which there is news, for [`news_at`]. It stays there. Waits for it if it may
/// `block`, until a signal comes.
///
/// # Errors
///
/// The answer of a wait without news.
pub(crate) fn child_with_news(block: bool) -> Result<Pid, WaitAny> {
    let stops = if STOPS.load(Ordering::Relaxed) {
        libc::WSTOPPED
    } else {
        0
    };
    let blocking = if block { 0 } else { libc::WNOHANG };
    let flags = libc::WEXITED | stops | blocking | libc::WNOWAIT | libc::__WALL;
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
    // SAFETY: the kernel has set it, or it is still zero.
    let pid = unsafe { info.si_pid() };
    match result {
        0 if pid != 0 => Ok(pid),
        0 => Err(WaitAny::Quiet),
        _ if Errno::last() == Errno::EINTR => Err(WaitAny::Quiet),
        _ => Err(WaitAny::Nobody),
    }
}

/// Takes the news that [`child_with_news`] has found.
pub(crate) fn news_at(pid: Pid) -> WaitAny {
    wait4(pid, libc::WNOHANG)
}

/// Waits for news of any child or tracee. `Quiet` if a signal came instead: see [`interrupted`].
///
/// The kernel wakes who waits here on the CPU of the task that has the news, which is about to
/// stop (a synchronous wake-up). A wait by ppoll(2) and SIGCHLD is woken on whichever CPU is idle,
/// and a stop then costs several times as much.
pub(crate) fn wait_for_news() -> WaitAny {
    wait4(-1, 0)
}

/// As [`wait_for_news`], of children and tracees of the calling thread only.
pub(crate) fn wait_for_own(block: bool) -> WaitAny {
    wait4(
        -1,
        libc::__WNOTHREAD | if block { 0 } else { libc::WNOHANG },
    )
}

/// Returns whether the calling thread has children or tracees. Leaves them as they are.
pub(crate) fn has_own_children() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) == 0 }
}

/// Whether stops of children that are not tracees are news, too.
static STOPS: AtomicBool = AtomicBool::new(false);

/// From now on, stops of children that are not tracees are news, too.
pub(crate) fn report_stops() {
    STOPS.store(true, Ordering::Relaxed);
}

fn wait4(task: Pid, flags: c_int) -> WaitAny {
    let flags = match STOPS.load(Ordering::Relaxed) {
        true => flags | libc::WUNTRACED,
        false => flags,
    };
    let mut status: c_int = 0;
    // SAFETY: rusage is plain integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals of the right type.
    let pid = unsafe { libc::wait4(task, &raw mut status, libc::__WALL | flags, &raw mut usage) };
    match pid {
        0 => WaitAny::Quiet,
        pid if pid > 0 => WaitAny::News {
            pid,
            waited: match ended(status) {
                Some(exit) => Waited::Ended(exit),
                None => Waited::Stopped(Stopped::reported(Tid::new(pid), stop(status))),
            },
            usage: RawUsage::from_raw(&usage),
        },
        _ if Errno::last() == Errno::EINTR => WaitAny::Quiet,
        // ECHILD; the arguments leave no other error.
        _ => WaitAny::Nobody,
    }
}

/// Set in the signal of a stop at a system call (PTRACE_O_TRACESYSGOOD).
const SYSCALL_STOP: c_int = 0x80;

fn stop(status: c_int) -> Stop {
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        0 if signal == libc::SIGTRAP | SYSCALL_STOP => Stop::Syscall,
        0 => Stop::Signal(signal),
        libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Stop::Trap,
        libc::PTRACE_EVENT_STOP => Stop::Group(signal),
        libc::PTRACE_EVENT_FORK => Stop::Created(CreatedBy::Fork),
        libc::PTRACE_EVENT_VFORK => Stop::Created(CreatedBy::Vfork),
        libc::PTRACE_EVENT_CLONE => Stop::Created(CreatedBy::Clone),
        libc::PTRACE_EVENT_SECCOMP => Stop::Filtered,
        libc::PTRACE_EVENT_EXEC => Stop::Exec,
        libc::PTRACE_EVENT_EXIT => Stop::Exit,
        _ => Stop::Other,
    }
}

impl RawUsage {
    fn from_raw(usage: &libc::rusage) -> Self {
        Self {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            max_rss_bytes: count(usage.ru_maxrss) * 1024,
            disk_read: count(usage.ru_inblock) * BLOCK,
            disk_written: count(usage.ru_oublock) * BLOCK,
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
