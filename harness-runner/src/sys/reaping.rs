//! Children that the kernel reaps, whose ids are their own no longer than they live.

use super::{
    Pid,
    process::{pidfd_open, signal_by_pidfd},
};
use nix::errno::Errno;
use std::{
    ffi::c_int,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

/// While this lives, children of this process that are not traced end without a zombie: the kernel
/// reaps them (sigaction(2), SA_NOCLDWAIT). How they ended is lost, and what they used is not counted as
/// used by children. Those that have ended before must still be waited for. A process has one at a
/// time.
#[derive(Debug)]
pub(crate) struct KernelReaps {
    /// The flags of the action of SIGCHLD.
    before: c_int,
}

/// Whether there is one.
static IS_ON: AtomicBool = AtomicBool::new(false);

impl KernelReaps {
    pub(crate) fn begin() -> Self {
        let before = change_flags(|flags| flags | libc::SA_NOCLDWAIT);
        IS_ON.store(true, Ordering::Relaxed);
        Self { before }
    }

    /// Returns whether there is one.
    pub(crate) fn is_on() -> bool {
        IS_ON.load(Ordering::Relaxed)
    }
}

impl Drop for KernelReaps {
    fn drop(&mut self) {
        // Not before the flag is gone: see `HeldChild`.
        change_flags(|_| self.before);
        IS_ON.store(false, Ordering::Relaxed);
    }
}

/// Changes the flags of the action of SIGCHLD. Returns those before.
fn change_flags(change: impl FnOnce(c_int) -> c_int) -> c_int {
    // SAFETY: sigaction is plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: no action is given; the pointer is to a live local.
    unsafe { libc::sigaction(libc::SIGCHLD, ptr::null(), &raw mut action) };
    let before = action.sa_flags;
    action.sa_flags = change(before);
    // SAFETY: the handler is the one that was there, and the pointer is to a live local.
    unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, ptr::null_mut()) };
    before
}

/// The state of a child.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Lives,
    /// It is a zombie.
    Ended,
    /// It has been reaped, or was no child of this process.
    Gone,
}

/// A child that may be reaped by the kernel at any time, and its id given to another process. A signal
/// reaches the child or nothing.
#[derive(Debug)]
pub(crate) struct HeldChild {
    pid: Pid,
    /// `None` before Linux 5.3, in some sandboxes, and where no more files can be opened.
    pidfd: Option<OwnedFd>,
}

impl HeldChild {
    /// Holds a child, dead or alive. `None` if this is no child of this process, or no more.
    pub(crate) fn hold(pid: Pid) -> Option<Self> {
        let held = Self::of_new(pid);
        (held.state() != State::Gone).then_some(held)
    }

    /// Holds a child that has just been created.
    pub(crate) fn of_new(pid: Pid) -> Self {
        let pidfd = pidfd_open(pid);
        Self { pid, pidfd }
    }

    /// Sends a signal to it, if it lives.
    pub(crate) fn signal(&self, signal: c_int) {
        if self.state() != State::Lives {
            return;
        }
        match &self.pidfd {
            Some(pidfd) => drop(signal_by_pidfd(pidfd.as_fd(), signal, 0)),
            // It lived a moment ago, and ids come round no faster than all others have been used.
            None => drop(super::kill(self.pid, signal)),
        }
    }

    /// Returns whether it lives.
    pub(crate) fn lives(&self) -> bool {
        self.state() == State::Lives
    }

    /// Reaps it if it has ended. Returns whether it has been reaped, by whomever.
    pub(crate) fn reap(&self) -> bool {
        self.waited(0) != State::Lives
    }

    /// Returns a descriptor that is readable when it has ended.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    fn state(&self) -> State {
        self.waited(libc::WNOWAIT)
    }

    fn waited(&self, flags: c_int) -> State {
        let (kind, id) = match &self.pidfd {
            Some(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd()),
            None => (libc::P_PID, self.pid),
        };
        let flags = flags | libc::WEXITED | libc::WNOHANG | libc::__WALL;
        // SAFETY: siginfo_t is plain data, for which zero is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = id.cast_unsigned();
        // SAFETY: the pointer is to a live local.
        let waited = unsafe { libc::waitid(kind, id, &raw mut info, flags) };
        // The kernel knew pidfds, but no waits for them, in Linux 5.3.
        if waited != 0 && self.pidfd.is_some() && Errno::last() == Errno::EINVAL {
            let pid = Self {
                pid: self.pid,
                pidfd: None,
            };
            return pid.waited(flags);
        }
        // SAFETY: waitid(2) has filled it in, or it is all zero.
        let ended = unsafe { info.si_pid() } != 0;
        match (waited, ended) {
            (0, false) => State::Lives,
            (0, true) => State::Ended,
            _ => State::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn child() -> Child {
        let mut cat = Command::new("cat");
        cat.stdin(Stdio::piped()).stdout(Stdio::null());
        cat.spawn().expect("there is cat")
    }

    fn ends(child: &HeldChild) {
        while child.lives() {
            std::thread::yield_now();
        }
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "it is reaped by its handle")]
    fn a_child_is_held_until_it_has_been_reaped_with_and_without_a_pidfd() {
        for with_pidfd in [true, false] {
            let child = child();
            let pid = child.id().cast_signed();
            let mut held = HeldChild::hold(pid).expect("it is a child");
            held.pidfd = held.pidfd.filter(|_| with_pidfd);
            assert!(held.lives() && !held.reap());
            held.signal(libc::SIGKILL);
            ends(&held);
            assert_eq!(held.state(), State::Ended);
            assert!(held.reap() && held.reap());
            assert_eq!(held.state(), State::Gone);
            assert!(HeldChild::hold(pid).is_none());
        }
    }

    #[test]
    fn a_process_that_is_no_child_is_not_held() {
        assert!(HeldChild::hold(std::process::id().cast_signed()).is_none());
        assert!(HeldChild::hold(1).is_none());
    }
}
