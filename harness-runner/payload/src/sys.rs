//! System calls, behind safe functions. Those for the guardian allocate nothing and take no lock: it is
//! forked from a process with threads, of which only one goes on.

#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr,
    time::Duration,
};

/// A process id as the kernel gives it.
pub(crate) type Pid = libc::pid_t;

fn result(returned: c_int) -> io::Result<c_int> {
    match returned {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// Waits until one of the descriptors has news or the time is over. Returns which have: `true` for each
/// that can be read, written or is closed. No entry waits for nothing.
pub(crate) fn poll<const N: usize>(
    wanted: [Option<(BorrowedFd<'_>, i16)>; N],
    limit: Option<Duration>,
) -> [bool; N] {
    let mut polled = wanted.map(|entry| libc::pollfd {
        fd: entry.map_or(-1, |(fd, _)| fd.as_raw_fd()),
        events: entry.map_or(0, |(_, events)| events),
        revents: 0,
    });
    // Rounded up, so that a wait does not end just before its deadline, again and again.
    let limit = limit.map_or(-1, |limit| {
        c_int::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
    });
    // SAFETY: the array lives as long as the call, and its length is given.
    unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, limit) };
    // An interrupted wait has no news, and the caller comes again.
    polled.map(|entry| entry.revents != 0)
}

/// Has reads and writes return rather than wait.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain numbers.
    let flags = result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: plain numbers.
    result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// Has a function run in the child, before it executes its program.
pub(crate) fn before_exec(
    command: &mut Command,
    run: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the only caller gives `guardian::stand_between`, which makes system calls by this module,
    // and reads and writes nothing but its own stack and what was prepared for it.
    unsafe { command.pre_exec(run) };
}

/// A child's own view, or its parent's.
pub(crate) enum Forked {
    Child,
    Parent(Pid),
}

/// Flag of clone3(2): the child is in the cgroup from the start.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// The argument of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks, into a cgroup if one is given. The second value is true if the child still has to enter it.
pub(crate) fn fork_into(cgroup: Option<RawFd>) -> io::Result<(Forked, bool)> {
    let args = CloneArgs {
        flags: cgroup.map_or(0, |_| CLONE_INTO_CGROUP),
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |fd| fd as u64),
        ..CloneArgs::default()
    };
    let size = size_of::<CloneArgs>();
    // SAFETY: reads a live struct of that size. Without CLONE_VM and with no stack given it is a fork.
    // The caller has one thread, and both sides make system calls only, so nothing of the C library's
    // that a fork would prepare is missed.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size) } {
        0 => return Ok((Forked::Child, false)),
        pid @ 1.. => return Ok((Forked::Parent(pid as Pid), false)),
        _ => {}
    }
    // Old kernels and some sandboxes have no clone3(2), or not this flag. Another reason is found again.
    // SAFETY: as above.
    match result(unsafe { libc::fork() })? {
        0 => Ok((Forked::Child, cgroup.is_some())),
        pid => Ok((Forked::Parent(pid), cgroup.is_some())),
    }
}

/// Makes this process the parent of its descendants' orphans.
pub(crate) fn become_subreaper() -> io::Result<()> {
    // SAFETY: plain numbers.
    result(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Has this process killed when its parent, which has one thread, dies. False if that is so already.
pub(crate) fn die_with(parent: Pid) -> bool {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    parent_pid() == parent
}

/// Names this process, for `ps`.
pub(crate) fn set_name(name: &CStr) {
    // SAFETY: the string is valid and ended by NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

pub(crate) fn own_pid() -> Pid {
    // SAFETY: no arguments. Never cached, so right after a fork as well.
    unsafe { libc::getpid() }
}

pub(crate) fn parent_pid() -> Pid {
    // SAFETY: no arguments.
    unsafe { libc::getppid() }
}

/// Makes a process the leader of a group of its own; 0 is this one.
pub(crate) fn lead_group(pid: Pid) {
    // It fails if the process has executed by now: then it has done this itself.
    // SAFETY: plain numbers.
    unsafe { libc::setpgid(pid, pid) };
}

/// Blocks all signals, or none.
pub(crate) fn block_signals(all: bool) {
    // SAFETY: all zero is a valid set, and is written over.
    let mut set = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: a live local.
    unsafe { libc::sigemptyset(&raw mut set) };
    if all {
        // SAFETY: a live local.
        unsafe { libc::sigfillset(&raw mut set) };
    }
    // SAFETY: reads a live local; the old set is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) };
}

/// Undoes an ignored SIGCHLD, with which children vanish without a status, and which survives exec.
pub(crate) fn restore_child_signal() {
    // SAFETY: the default action runs no code.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Opens a descriptor that can be read when a child has ended. SIGCHLD is blocked.
pub(crate) fn child_signals() -> RawFd {
    // SAFETY: all zero is a valid set, and is written over.
    let mut set = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: a live local.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: a live local.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: reads a live local.
    unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) }
}

/// Opens a descriptor that can be read once a process has ended. `None` before Linux 5.3, and where the call
/// is not allowed.
pub(crate) fn process_end(pid: Pid) -> Option<RawFd> {
    // SAFETY: plain numbers. The descriptor is closed on exec by itself.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)
}

/// Waits until one of the descriptors can be read, or is closed. Returns whether the first one is. One that is
/// negative is not waited for, and so many milliseconds that are negative have no end.
pub(crate) fn wait_for_any(descriptors: [RawFd; 3], milliseconds: c_int) -> bool {
    let mut polled = descriptors.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: the array lives as long as the call, and its length is given.
    unsafe { libc::poll(polled.as_mut_ptr(), 3, milliseconds) };
    polled[0].revents != 0
}

/// Reads what is there into a buffer. `None` at the end, or if it cannot be read.
pub(crate) fn read(fd: RawFd, into: &mut [u8]) -> Option<usize> {
    // SAFETY: writes to a live buffer of that length.
    let count = unsafe { libc::read(fd, into.as_mut_ptr().cast::<c_void>(), into.len()) };
    usize::try_from(count).ok().filter(|count| *count > 0)
}

/// Writes all bytes, which are few enough for one call. False if they could not be written.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> bool {
    // SAFETY: reads from a live buffer of that length.
    let count = unsafe { libc::write(fd, bytes.as_ptr().cast::<c_void>(), bytes.len()) };
    usize::try_from(count) == Ok(bytes.len())
}

/// Opens a file to read.
pub(crate) fn open(path: &CStr) -> Option<RawFd> {
    // SAFETY: the path is valid and ended by NUL.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    (fd >= 0).then_some(fd)
}

pub(crate) fn close(fd: RawFd) {
    // SAFETY: the caller owns the descriptor, which no Rust object does after a fork.
    unsafe { libc::close(fd) };
}

/// Closes all descriptors but these, which are sorted.
pub(crate) fn close_all_but(kept: &[RawFd]) {
    let mut first = 0u32;
    for fd in kept {
        let fd = *fd as u32;
        if fd > first {
            close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX);
}

/// The most descriptors that are closed one by one.
const MOST_CLOSED: u32 = 65_536;

fn close_range(first: u32, last: u32) {
    // SAFETY: no Rust object of this process, which is a fork, uses a descriptor again.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed != 0 {
        // Before Linux 5.9, and in some sandboxes.
        (first..=last.min(MOST_CLOSED)).for_each(|fd| close(fd as RawFd));
    }
}

pub(crate) fn remove_folder(path: &CStr) {
    // SAFETY: the path is valid and ended by NUL.
    unsafe { libc::rmdir(path.as_ptr()) };
}

/// Sends a signal to a process, or to the group of a negative id.
pub(crate) fn kill(pid: Pid, signal: c_int) {
    // SAFETY: plain numbers.
    unsafe { libc::kill(pid, signal) };
}

/// Returns a child that has ended, without reaping it: `Ok(None)` if none has, an error if there are no
/// children.
pub(crate) fn ended_child() -> io::Result<Option<Pid>> {
    ended(libc::P_ALL, 0)
}

/// Returns whether a child has ended.
pub(crate) fn has_ended(pid: Pid) -> bool {
    ended(libc::P_PID, pid as libc::id_t).is_ok_and(|ended| ended.is_some())
}

/// Returns whether a process is a child, alive or dead.
pub(crate) fn is_child(pid: Pid) -> bool {
    ended(libc::P_PID, pid as libc::id_t).is_ok()
}

fn ended(kind: libc::idtype_t, id: libc::id_t) -> io::Result<Option<Pid>> {
    // SAFETY: all zero is a valid value, and the kernel writes over it.
    let mut info = unsafe { std::mem::zeroed::<libc::siginfo_t>() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: writes to a live local.
    result(unsafe { libc::waitid(kind, id, &raw mut info, options) })?;
    // SAFETY: waitid(2) has set the field, or left it zero.
    let pid = unsafe { info.si_pid() };
    Ok((pid != 0).then_some(pid))
}

/// The end of a process: its status as waitpid(2) gives it, and the resources it used.
#[derive(Copy, Clone)]
pub(crate) struct Reaped {
    pub(crate) status: c_int,
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) peak_kib: u64,
}

/// Reaps a child that has ended.
pub(crate) fn reap(pid: Pid) -> Option<Reaped> {
    let mut status = 0;
    // SAFETY: all zero is a valid value, and the kernel writes over it.
    let mut usage = unsafe { std::mem::zeroed::<libc::rusage>() };
    // SAFETY: writes to live locals.
    let reaped = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
    let time = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    (reaped == pid).then(|| Reaped {
        status,
        user_us: time(usage.ru_utime),
        system_us: time(usage.ru_stime),
        peak_kib: usage.ru_maxrss as u64,
    })
}

/// Strings as execve(2) takes them: pointers, ended by a null pointer.
pub(crate) struct Strings {
    #[expect(dead_code, reason = "the pointers lead into it")]
    owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the strings are owned by the value and never change.
unsafe impl Send for Strings {}
// SAFETY: as above.
unsafe impl Sync for Strings {}

impl Strings {
    pub(crate) fn new(owned: Vec<CString>) -> Self {
        // Each string has memory of its own, which does not move with the list.
        let pointers = owned.iter().map(|string| string.as_ptr());
        let pointers = pointers.chain([ptr::null()]).collect();
        Self { owned, pointers }
    }
}

/// Executes a program. Returns the error if it cannot be.
pub(crate) fn execute(program: &CStr, args: &Strings, environment: &Strings) -> io::Error {
    let (args, environment) = (args.pointers.as_ptr(), environment.pointers.as_ptr());
    // SAFETY: both arrays are ended by a null pointer, and all strings by NUL.
    unsafe { libc::execve(program.as_ptr(), args, environment) };
    io::Error::last_os_error()
}

/// Enters a folder.
pub(crate) fn enter(folder: &CStr) -> io::Result<()> {
    // SAFETY: the path is valid and ended by NUL.
    result(unsafe { libc::chdir(folder.as_ptr()) }).map(drop)
}

/// Sets the soft and the hard limit of a resource.
pub(crate) fn limit(resource: u32, value: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: value as libc::rlim_t,
        rlim_max: value as libc::rlim_t,
    };
    // The type of the resource differs between C libraries.
    // SAFETY: reads a live local.
    result(unsafe { libc::setrlimit(resource as _, &raw const limit) }).map(drop)
}

/// The limits that can be set, in a type that does not depend on the C library.
pub(crate) use limits::{ADDRESS_SPACE, CORE, CPU, FILE_SIZE, OPEN_FILES};

#[allow(clippy::unnecessary_cast, reason = "it is necessary with musl")]
mod limits {
    pub(crate) const ADDRESS_SPACE: u32 = libc::RLIMIT_AS as u32;
    pub(crate) const CORE: u32 = libc::RLIMIT_CORE as u32;
    pub(crate) const CPU: u32 = libc::RLIMIT_CPU as u32;
    pub(crate) const FILE_SIZE: u32 = libc::RLIMIT_FSIZE as u32;
    pub(crate) const OPEN_FILES: u32 = libc::RLIMIT_NOFILE as u32;
}

/// Milliseconds of a clock that only goes on.
pub(crate) fn now_ms() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to a live local.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Ends this process without running anything of the standard library's.
pub(crate) fn exit(code: c_int) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}
