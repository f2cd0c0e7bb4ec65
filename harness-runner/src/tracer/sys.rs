//! The system calls of a tracer behind safe functions.

#![allow(unsafe_code)]

use super::{arch::PAGE, decode::Syscall};
use harness_metadata::{Exit, trace::FileId};
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
    /// It has created a task.
    Created(CreatedBy),
    /// It has executed a new program.
    Exec,
    /// Its filter has stopped it at the entry of a system call.
    Filtered,
    /// It is at the exit of a system call, or at the entry of one: [`syscall_info`] knows.
    Syscall,
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
    wait4(libc::WNOHANG)
}

/// Waits for news of any child or tracee. `Quiet` if a signal came instead: see [`interrupted`].
///
/// The kernel wakes who waits here on the CPU of the task that has the news, which is about to
/// stop (a synchronous wake-up). A wait by ppoll(2) and SIGCHLD is woken on whichever CPU is idle,
/// and a stop then costs several times as much.
pub(crate) fn wait_for_news() -> WaitAny {
    wait4(0)
}

/// As [`wait_for_news`], of children and tracees of the calling thread only.
pub(crate) fn wait_for_own(block: bool) -> WaitAny {
    wait4(libc::__WNOTHREAD | if block { 0 } else { libc::WNOHANG })
}

/// Returns whether the calling thread has children or tracees. Leaves them as they are.
pub(crate) fn has_own_children() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) == 0 }
}

fn wait4(flags: c_int) -> WaitAny {
    let mut status: c_int = 0;
    // SAFETY: rusage is plain integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals of the right type.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::__WALL | flags, &raw mut usage) };
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
    | libc::PTRACE_O_TRACEEXEC;

/// A filter stops its task. Without these options it has the calls fail.
const FILTERED: c_int = FOLLOWED | libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_TRACESYSGOOD;

/// Seizes a child and follows everything that it will create. If `filtered`, it is going to have a
/// filter that stops it.
pub(crate) fn seize(pid: Pid, filtered: bool) -> Result<(), Errno> {
    let options = if filtered { FILTERED } else { FOLLOWED };
    let data = options as usize as *mut c_void;
    // SAFETY: PTRACE_SEIZE ignores the address; the data is a bit mask, not a pointer.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, ptr::null_mut::<c_void>(), data) })
        .map(drop)
}

/// Has a filtered tracee, which is stopped, go on without its filters, or with them again
/// (PTRACE_O_SUSPEND_SECCOMP).
///
/// # Errors
///
/// EPERM for who is not allowed to (CAP_SYS_ADMIN) or has a filter of its own, EINVAL if the kernel
/// has not been built for it (CONFIG_CHECKPOINT_RESTORE).
pub(crate) fn suspend_filters(pid: Pid, suspend: bool) -> Result<(), Errno> {
    let suspended = if suspend {
        libc::PTRACE_O_SUSPEND_SECCOMP
    } else {
        0
    };
    let data = (FILTERED | suspended) as usize as *mut c_void;
    let (request, null) = (libc::PTRACE_SETOPTIONS, ptr::null_mut::<c_void>());
    // SAFETY: PTRACE_SETOPTIONS ignores the address; the data is a bit mask, not a pointer.
    Errno::result(unsafe { libc::ptrace(request, pid, null, data) }).map(drop)
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
pub(crate) fn detach(pid: Pid, signal: c_int) {
    let data = signal as usize as *mut c_void;
    // SAFETY: PTRACE_DETACH ignores the address; the data is a number, not a pointer.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, ptr::null_mut::<c_void>(), data) };
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

/// Asks where a tracee is in a system call (ptrace(2), PTRACE_GET_SYSCALL_INFO). `None` if it is
/// gone.
pub(crate) fn syscall_info(pid: Pid) -> Option<SyscallInfo> {
    /// `struct ptrace_syscall_info` with the longest member of its union, that of a filter's stop.
    #[repr(C)]
    #[derive(Default)]
    struct Raw {
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
    const OP_ENTRY: u8 = 1;
    const OP_EXIT: u8 = 2;
    const OP_SECCOMP: u8 = 3;
    let mut raw = Raw::default();
    let size = size_of::<Raw>() as *mut c_void;
    let request = libc::PTRACE_GET_SYSCALL_INFO;
    // SAFETY: the kernel writes at most as many bytes as the address argument says to the data
    // argument, a live local of that size.
    let written = unsafe { libc::ptrace(request, pid, size, &raw mut raw) };
    if written <= 0 {
        return None;
    }
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

/// What statx(2) says of a file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) file: FileId,
    pub(crate) regular: bool,
    /// Its kind and permissions.
    pub(crate) mode: u32,
    owner: u32,
    /// The mount that it is in; 0 before Linux 5.8.
    pub(crate) mount: u64,
}

impl Looked {
    fn from_raw(stat: &libc::statx) -> Self {
        let kind = u32::from(stat.stx_mode) & libc::S_IFMT;
        Self {
            file: FileId {
                device: libc::makedev(stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
                directory: kind == libc::S_IFDIR,
            },
            regular: kind == libc::S_IFREG,
            mode: u32::from(stat.stx_mode),
            owner: stat.stx_uid,
            mount: stat.stx_mnt_id,
        }
    }

    /// Returns whether a task of this user (geteuid(2)) may read the file for sure, and enter it if it
    /// is a directory: if everybody may, or its owner, who that is. Those who are denied are an access
    /// list's exception. What root may says nothing: a task can have given that up.
    pub(crate) fn is_readable_by(&self, user: impl FnOnce() -> u32) -> bool {
        let may = if self.file.directory { 0o5 } else { 0o4 };
        let has = |bits: u32| self.mode & bits == bits;
        let by_owner = |user| user != 0 && user == self.owner;
        has(may << 6 | may << 3 | may) || has(may << 6) && by_owner(user())
    }

    /// Returns whether who executes the file may become somebody else by that.
    pub(crate) fn gives_rights(&self) -> bool {
        self.mode & (libc::S_ISUID | libc::S_ISGID) != 0
    }

    /// Returns whether anybody may execute the file: what nobody may, root may not either.
    pub(crate) fn is_executable(&self) -> bool {
        const ANY: u32 = libc::S_IXUSR | libc::S_IXGRP | libc::S_IXOTH;
        self.regular && self.mode & ANY != 0
    }
}

/// By what a file differs from itself after a change.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    size: u64,
    /// When its content was changed last: seconds since 1970, and nanoseconds.
    modified: (i64, u32),
    /// When that or what is said of it was.
    pub(crate) changed: (i64, u32),
}

/// Looks at a file without opening, waiting or mounting anything.
pub(crate) fn look(directory: c_int, path: &CStr, follow: bool) -> Result<Looked, Errno> {
    statx(directory, path, follow, 0).map(|stat| Looked::from_raw(&stat))
}

/// As [`look`], from the working directory and at its version too.
///
/// Not for every file: who asks for the times of a file has the kernel take more exact ones the next
/// time that it is changed (since 6.13).
pub(crate) fn look_closely(path: &CStr) -> Result<(Looked, Version), Errno> {
    let more = libc::STATX_SIZE | libc::STATX_MTIME | libc::STATX_CTIME;
    let stat = statx(libc::AT_FDCWD, path, true, more)?;
    let version = Version {
        size: stat.stx_size,
        modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
    };
    Ok((Looked::from_raw(&stat), version))
}

fn statx(directory: c_int, path: &CStr, follow: bool, more: u32) -> Result<libc::statx, Errno> {
    let follow = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    let flags = libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC | follow;
    let mask = libc::STATX_TYPE
        | libc::STATX_MODE
        | libc::STATX_UID
        | libc::STATX_INO
        | libc::STATX_MNT_ID
        | more;
    // SAFETY: statx is plain integers, for which zero is valid.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is valid and ended by NUL, and the last pointer is to a live local.
    Errno::result(unsafe { libc::statx(directory, path.as_ptr(), flags, mask, &raw mut stat) })?;
    Ok(stat)
}

/// Opens a file for its identity only (O_PATH), as a task with this root directory would find it
/// (openat2(2), RESOLVE_IN_ROOT). EAGAIN if a file system would have to be asked (RESOLVE_CACHED).
pub(crate) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &CStr,
    follow: bool,
) -> Result<OwnedFd, Errno> {
    /// linux/openat2.h, since Linux 5.12.
    const RESOLVE_CACHED: u64 = 0x20;
    let nofollow = if follow { 0 } else { libc::O_NOFOLLOW };
    // SAFETY: open_how is plain integers, for which zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC | nofollow) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | RESOLVE_CACHED;
    let (fd, size) = (root.as_raw_fd(), size_of::<libc::open_how>());
    // SAFETY: the path is valid and ended by NUL; the kernel reads `how`, which has that size.
    let opened =
        unsafe { libc::syscall(libc::SYS_openat2, fd, path.as_ptr(), &raw const how, size) };
    let opened = Errno::result(opened)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(opened as c_int) })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_read_for_sure_depends_on_the_file_and_on_who_we_are() {
        let readable_if = |directory, mode, user| {
            let looked = Looked {
                file: FileId {
                    device: 1,
                    inode: 1,
                    directory,
                },
                regular: !directory,
                mode,
                owner: 1000,
                mount: 0,
            };
            looked.is_readable_by(|| user)
        };
        let readable = |mode, user| readable_if(false, mode, user);
        assert!(readable(0o444, 1));
        assert!(readable(0o600, 1000));
        assert!(!readable(0o600, 1));
        assert!(!readable(0o640, 0), "root's task may be somebody else");
        assert!(!readable(0o200, 1000));
        assert!(!readable(0o004, 1000), "the owner is none of the others");
        assert!(readable_if(true, 0o755, 1));
        assert!(readable_if(true, 0o700, 1000));
        assert!(
            !readable_if(true, 0o700, 0),
            "root's task may be somebody else"
        );
        assert!(
            !readable_if(true, 0o754, 1),
            "it may be listed and not entered"
        );
    }
}
