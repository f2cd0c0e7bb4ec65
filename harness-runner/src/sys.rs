//! The system calls that we make, behind safe functions with typed arguments.
//!
//! rustix and nix come first. Here is what neither of them has, or has for fewer cases.

#![allow(unsafe_code)]

pub(crate) mod arch;
mod child;
mod clocks;
mod files;
mod fork;
mod identity;
pub(crate) mod landlock;
mod mappings;
mod memory;
pub(crate) mod notify;
mod process;
mod ptrace;
mod reaping;
#[cfg_attr(not(target_arch = "x86_64"), path = "sys/no_recorder.rs")]
pub(crate) mod recorder;
mod recording;
#[cfg(target_arch = "x86_64")]
mod remote;
mod wait;

pub(crate) use child::{
    Block, Child, ChildStack, Confined, Filter, HandOver, Image, OpenFiles, READY_LEN, REPORT_LEN,
    SEPARATE, Stage, can_be_born_into, clone_into, filter_and_open, fork_and_reap, fork_probe,
};
pub(crate) use fork::by_fork;
pub use identity::Identity;
pub(crate) use identity::is_local;
pub(crate) use mappings::next_file_mapping;
pub(crate) use process::{
    Blocked, Pace, SignalMask, Signals, Woken, become_subreaper, block_signals, continue_every,
    continue_when_parent_dies, either, give_up_terminal, interrupt_waits_for, interrupted,
    is_ignored, is_interrupted, is_live_child, keep_only, kill_by_pidfd, monotonic, owned,
    pidfd_open, reap, restore_default_action, restore_signals, set_pace, stop_by_pidfd,
    stop_group_by_pidfd, wait_for_end_of,
};
pub use recording::Recording;

pub(crate) use clocks::cpu_time;
pub(crate) use files::{Looked, inherited, look, look_closely, open_in_root};
pub(crate) use memory::{read_memory, write_memory};
pub(crate) use ptrace::{
    CreatedBy, End, Options, RawSignal, Stop, Stopped, SyscallInfo, event_message, exit_to_be,
    seize, set_options, signal_origin, stack_pointer, syscall_info,
};
pub(crate) use reaping::{HeldChild, KernelReaps};
#[cfg(target_arch = "x86_64")]
pub(crate) use remote::{send_to_thread, set_signal_mask, signal_mask, stops_again};
pub(crate) use wait::{
    RawUsage, WaitAny, Waited, child_with_news, has_news, has_own_children, news_at, news_of,
    report_stops, usage_of_reaped, wait_any, wait_for_news, wait_for_own,
};

use harness_metadata::Exit;
use nix::errno::Errno;
use std::{
    ffi::c_int,
    fmt,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// A process or thread id as the kernel gives it.
pub(crate) type Pid = libc::pid_t;

/// The id of a task, which is a thread.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tid(Pid);

/// The id of a process, which is a group of threads.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tgid(Pid);

impl Tid {
    pub(crate) fn new(tid: Pid) -> Self {
        Self(tid)
    }

    pub(crate) fn raw(self) -> Pid {
        self.0
    }

    /// Returns the process that has this task for its first thread, if it is one.
    pub(crate) fn led(self) -> Tgid {
        Tgid(self.0)
    }
}

impl Tgid {
    pub(crate) fn new(pid: Pid) -> Self {
        Self(pid)
    }

    pub(crate) fn raw(self) -> Pid {
        self.0
    }

    /// Returns the first thread.
    pub(crate) fn leader(self) -> Tid {
        Tid(self.0)
    }
}

impl From<Tid> for Pid {
    fn from(tid: Tid) -> Self {
        tid.0
    }
}

impl From<Tgid> for Pid {
    fn from(process: Tgid) -> Self {
        process.0
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tgid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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

/// Gets a copy of a descriptor of another process (pidfd_getfd(2)).
pub(crate) fn descriptor_of(process: Tgid, fd: c_int) -> Option<OwnedFd> {
    // SAFETY: plain numbers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.raw(), 0) };
    let pidfd = c_int::try_from(pidfd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // SAFETY: plain numbers.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
    let copy = c_int::try_from(copy).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: as above.
    Some(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Returns how a task ended by its wait status, if it did.
fn ended(status: c_int) -> Option<Exit> {
    if libc::WIFEXITED(status) {
        return Some(Exit::Code(libc::WEXITSTATUS(status)));
    }
    libc::WIFSIGNALED(status).then(|| Exit::Signal {
        signal: libc::WTERMSIG(status),
        core_dumped: libc::WCOREDUMP(status),
    })
}
