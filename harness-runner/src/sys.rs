//! The system calls that we make, behind safe functions with typed arguments.

#![allow(unsafe_code)]

pub(crate) mod arch;
mod clocks;
mod files;

pub(crate) use clocks::cpu_time;
pub(crate) use files::{Looked, Version, look, look_closely, open_in_root};

use arch::{NATIVE_ARCHITECTURE, PAGE};
use harness_metadata::Exit;
use nix::errno::Errno;
use std::{
    ffi::{c_int, c_long, c_void},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
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
    /// It has created a task.
    Created(CreatedBy),
    /// It has executed a new program.
    Exec,
    /// Its filter has stopped it at the entry of a system call.
    Filtered,
    /// It is at the exit of a system call, or at the entry of one: [`syscall_info`] knows.
    Syscall,
    /// It is about to exit ([`Options::exits`]).
    Exit,
    /// Anything else. It only needs to go on.
    Other,
}

/// The kind of event by which a creation is reported. It depends on the exit signal and on
/// CLONE_VFORK, and does not tell a thread from a process.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum CreatedBy {
    Fork,
    Vfork,
    Clone,
}

/// What one wait4(2) call brought.
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
    wait4(-1, libc::WNOHANG)
}

/// Asks for news of one child or tracee, without waiting.
pub(crate) fn news_of(task: Pid) -> Option<(Waited, RawUsage)> {
    match wait4(task, libc::WNOHANG) {
        WaitAny::News { waited, usage, .. } => Some((waited, usage)),
        WaitAny::Quiet | WaitAny::Nobody => None,
    }
}

/// Returns whether there is news of a task. It stays there.
pub(crate) fn has_news(task: Pid) -> bool {
    let kinds = libc::WEXITED | libc::WSTOPPED;
    let flags = kinds | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let task = task.cast_unsigned();
    // SAFETY: the pointer is to a live local.
    let result = unsafe { libc::waitid(libc::P_PID, task, &raw mut info, flags) };
    // SAFETY: the kernel has set it, or it is still zero.
    result == 0 && unsafe { info.si_pid() } != 0
}

/// Returns a child of which there is news. It stays there. Waits for it if it may `block`, until a
/// signal comes.
pub(crate) fn child_with_news(block: bool) -> Option<Pid> {
    let kinds = libc::WEXITED | libc::WSTOPPED;
    let blocking = if block { 0 } else { libc::WNOHANG };
    let flags = kinds | blocking | libc::WNOWAIT | libc::__WALL;
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
    // SAFETY: the kernel has set it, or it is still zero.
    let pid = unsafe { info.si_pid() };
    (result == 0 && pid != 0).then_some(pid)
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
            waited: decode_status(status),
            usage: RawUsage::from_raw(&usage),
        },
        _ if Errno::last() == Errno::EINTR => WaitAny::Quiet,
        // ECHILD; the arguments leave no other error.
        _ => WaitAny::Nobody,
    }
}

/// Set in the signal of a stop at a system call (PTRACE_O_TRACESYSGOOD).
const SYSCALL_STOP: c_int = 0x80;

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

/// Everything that is created is followed, and nothing outlives its tracer.
const FOLLOWED: c_int = libc::PTRACE_O_EXITKILL
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESYSGOOD;

/// A filter stops its task. Without this option it has the calls fail.
const FILTERED: c_int = libc::PTRACE_O_TRACESECCOMP;

/// What stops a tracee, beside its signals, its executions and what it creates. A new task has the
/// options of the thread that created it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// It has, or is going to have, a filter that stops it.
    pub(crate) filtered: bool,
    /// It stops when it exits, before it is a zombie.
    pub(crate) exits: bool,
    /// It goes on without its filters (PTRACE_O_SUSPEND_SECCOMP).
    pub(crate) suspended: bool,
}

impl Options {
    fn bits(self) -> *mut c_void {
        let bit = |set: bool, bits: c_int| if set { bits } else { 0 };
        let bits = FOLLOWED
            | bit(self.filtered, FILTERED)
            | bit(self.exits, libc::PTRACE_O_TRACEEXIT)
            | bit(self.suspended, libc::PTRACE_O_SUSPEND_SECCOMP);
        bits as usize as *mut c_void
    }
}

/// Seizes a child and follows everything that it will create.
pub(crate) fn seize(pid: Pid, options: Options) -> Result<(), Errno> {
    let data = options.bits();
    // SAFETY: PTRACE_SEIZE ignores the address; the data is a bit mask, not a pointer.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, ptr::null_mut::<c_void>(), data) })
        .map(drop)
}

/// Changes the options of a stopped tracee.
///
/// # Errors
///
/// ESRCH if it is gone. To suspend filters, EPERM for who is not allowed to (CAP_SYS_ADMIN) or has a
/// filter of its own, EINVAL if the kernel has not been built for it (CONFIG_CHECKPOINT_RESTORE).
pub(crate) fn set_options(pid: Pid, options: Options) -> Result<(), Errno> {
    let (request, null) = (libc::PTRACE_SETOPTIONS, ptr::null_mut::<c_void>());
    // SAFETY: PTRACE_SETOPTIONS ignores the address; the data is a bit mask, not a pointer.
    Errno::result(unsafe { libc::ptrace(request, pid, null, options.bits()) }).map(drop)
}

/// Resumes a stopped tracee, delivering a signal unless it is 0. A tracee that was killed in the
/// meantime is no longer there to resume; its exit is reported like any other.
pub(crate) fn resume(pid: Pid, signal: c_int) {
    let data = signal as usize as *mut c_void;
    // SAFETY: PTRACE_CONT ignores the address; the data is a number, not a pointer.
    unsafe { libc::ptrace(libc::PTRACE_CONT, pid, ptr::null_mut::<c_void>(), data) };
}

/// Resumes a stopped tracee until the exit of the system call that it is in, or until something
/// else stops it.
pub(crate) fn resume_to_exit(pid: Pid) {
    let null = ptr::null_mut::<c_void>();
    // SAFETY: PTRACE_SYSCALL ignores the address; the data is the number of no signal.
    unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, null, null) };
}

/// Resumes a stopped tracee until it enters or leaves a system call, or until something else stops
/// it, delivering a signal unless it is 0.
pub(crate) fn resume_to_call(pid: Pid, signal: c_int) {
    let data = signal as usize as *mut c_void;
    // SAFETY: PTRACE_SYSCALL ignores the address; the data is a number, not a pointer.
    unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, ptr::null_mut::<c_void>(), data) };
}

/// Lets go of a stopped tracee, delivering a signal unless it is 0. If a signal stops its process, it
/// stays stopped.
///
/// # Errors
///
/// ESRCH if it is not stopped any more, because it was killed: it is still traced then.
pub(crate) fn detach(pid: Pid, signal: c_int) -> Result<(), Errno> {
    let (request, null) = (libc::PTRACE_DETACH, ptr::null_mut::<c_void>());
    let data = signal as usize as *mut c_void;
    // SAFETY: PTRACE_DETACH ignores the address; the data is a number, not a pointer.
    Errno::result(unsafe { libc::ptrace(request, pid, null, data) }).map(drop)
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

/// Returns how a task that is stopped at its exit is going to have ended: what wait4(2) tells of a
/// process that has no other thread by then. `None` if it is gone.
pub(crate) fn exit_to_be(pid: Pid) -> Option<Exit> {
    match decode_status(event_message(pid)?) {
        Waited::Ended(exit) => Some(exit),
        Waited::Stopped(_) => None,
    }
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

/// A system call as a stop shows it (ptrace(2), PTRACE_GET_SYSCALL_INFO; seccomp_unotify(2)).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// AUDIT_ARCH_* of the call.
    pub arch: u32,
    /// Its number in that architecture.
    pub number: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// Where a tracee is in a system call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyscallInfo {
    /// At its entry, stopped by PTRACE_SYSCALL or by a filter.
    Entry(Syscall),
    /// At its exit, with what it returns: a value, or a negated errno.
    Exit(i64),
    /// In none.
    None,
}

/// `struct ptrace_syscall_info` with the longest member of its union, that of a filter's stop.
#[repr(C)]
#[derive(Default)]
struct RawSyscallInfo {
    op: u8,
    reserved: u8,
    flags: u16,
    arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    /// At an entry the call's number and arguments; at an exit the result and whether it is an
    /// error, which its value tells as well.
    words: [u64; 7],
    action: u32,
    reserved2: u32,
}

impl RawSyscallInfo {
    fn of(pid: Pid) -> Option<Self> {
        let mut raw = Self::default();
        let size = size_of::<Self>() as *mut c_void;
        let request = libc::PTRACE_GET_SYSCALL_INFO;
        // SAFETY: the kernel writes at most as many bytes as the address argument says to the data
        // argument, a live local of that size.
        let written = unsafe { libc::ptrace(request, pid, size, &raw mut raw) };
        (written > 0).then_some(raw)
    }
}

/// Asks where a tracee is in a system call (ptrace(2), PTRACE_GET_SYSCALL_INFO). `None` if it is
/// gone.
pub(crate) fn syscall_info(pid: Pid) -> Option<SyscallInfo> {
    const OP_ENTRY: u8 = 1;
    const OP_EXIT: u8 = 2;
    const OP_SECCOMP: u8 = 3;
    let raw = RawSyscallInfo::of(pid)?;
    Some(match raw.op {
        OP_ENTRY | OP_SECCOMP => {
            let [number, args @ ..] = raw.words;
            SyscallInfo::Entry(Syscall {
                arch: raw.arch,
                number,
                args,
            })
        }
        OP_EXIT => SyscallInfo::Exit(raw.words[0].cast_signed()),
        _ => SyscallInfo::None,
    })
}

/// Returns the stack pointer of a tracee, which is in any stop. `None` if it is gone, or if it is not
/// of the machine's own architecture.
pub(crate) fn stack_pointer(pid: Pid) -> Option<u64> {
    let raw = RawSyscallInfo::of(pid)?;
    (raw.arch == NATIVE_ARCHITECTURE).then_some(raw.stack_pointer)
}

/// Who sent the signal that a tracee is about to receive: its `si_code`, and for codes of
/// kill(2) and the like the sender's id.
pub(crate) fn signal_origin(pid: Pid) -> Option<(c_int, Pid)> {
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let null = ptr::null_mut::<c_void>();
    // SAFETY: PTRACE_GETSIGINFO writes one siginfo_t to the data argument, a live local.
    let ret = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, pid, null, &raw mut info) };
    // SAFETY: every kind of siginfo is initialized, since it was zeroed. Where the code is none
    // that has a sender, the caller does not use it.
    let sender = unsafe { info.si_pid() };
    (ret == 0).then_some((info.si_code, sender))
}

/// Reads memory of a task (process_vm_readv(2)), up to the first page that cannot be read.
pub(crate) fn read_memory(tid: Pid, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    // The kernel stops between two of these rather than within one.
    const PIECES: usize = 16;
    let mut remote = [libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }; PIECES];
    let mut wanted = 0;
    let mut pieces = 0;
    for piece in &mut remote {
        let at = address.wrapping_add(wanted as u64);
        let to_page_end = (PAGE - at % PAGE) as usize;
        let len = to_page_end.min(buffer.len() - wanted);
        if len == 0 {
            break;
        }
        piece.iov_base = at as usize as *mut c_void;
        piece.iov_len = len;
        wanted += len;
        pieces += 1;
    }
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: wanted,
    };
    // SAFETY: the kernel writes to `buffer` no more than `wanted` bytes, which is no longer than
    // it; the other addresses are the task's and are checked by the kernel.
    let read =
        unsafe { libc::process_vm_readv(tid, &raw const local, 1, remote.as_ptr(), pieces, 0) };
    Errno::result(read).map(isize::cast_unsigned)
}

/// Gets a copy of a descriptor of another process (pidfd_getfd(2)).
pub(crate) fn descriptor_of(process: Pid, fd: c_int) -> Option<OwnedFd> {
    // SAFETY: plain numbers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    let pidfd = c_int::try_from(pidfd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // SAFETY: plain numbers.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
    let copy = c_int::try_from(copy).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: as above.
    Some(unsafe { OwnedFd::from_raw_fd(copy) })
}
