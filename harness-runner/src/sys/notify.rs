//! seccomp user notification: a process that makes a call of interest waits until we let it go on
//! (seccomp_unotify(2)). No process has its ptrace slot taken.

use super::Syscall;
use nix::errno::Errno;
use std::{
    ffi::{c_int, c_ulong},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// A call that waits for an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    /// To be answered with.
    id: u64,
    /// The thread that waits, 0 if it is not in our pid namespace.
    pub(crate) tid: i32,
    /// Its call.
    pub(crate) call: Syscall,
}

/// The end at which notifications arrive.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

/// The result of [`Listener::receive`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A call.
    Call(Notification),
    /// Its caller is gone, or was interrupted by a signal and will make the call again.
    Nothing,
    /// No process is left that could make a call.
    End,
}

mod ioctl {
    //! `linux/seccomp.h`.

    nix::ioctl_readwrite!(receive, b'!', 0, libc::seccomp_notif);
    nix::ioctl_readwrite!(send, b'!', 1, libc::seccomp_notif_resp);
    nix::ioctl_write_ptr!(id_valid, b'!', 2, u64);
    nix::ioctl_write_int_bad!(
        set_flags,
        nix::request_code_write!(b'!', 4, size_of::<u64>())
    );
}

/// SECCOMP_USER_NOTIF_FLAG_CONTINUE.
const CONTINUE: u32 = 1;
/// SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP.
const SYNC_WAKE_UP: c_int = 1;

impl Listener {
    /// Takes the listener that a child has made at its descriptor `fd` (pidfd_getfd(2)). Needs the
    /// right to trace the child.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(crate) fn of_child(pidfd: BorrowedFd<'_>, fd: c_int) -> Result<Self, Errno> {
        // SAFETY: plain numbers.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
        let got = Errno::result(got)?;
        // SAFETY: the kernel has just made this descriptor for us, closed on exec.
        let listener = Self(unsafe { OwnedFd::from_raw_fd(got as c_int) });
        // Before Linux 6.6 there is no such flag; a wake-up of another CPU only costs more.
        // SAFETY: a plain number.
        let _ = unsafe { ioctl::set_flags(listener.0.as_raw_fd(), SYNC_WAKE_UP) };
        Ok(listener)
    }

    /// Takes the next call. Waits if there is none; poll(2) tells.
    ///
    /// # Errors
    ///
    /// When the listener itself fails.
    pub(crate) fn receive(&self) -> Result<Received, Errno> {
        // SAFETY: plain integers, for which zero is valid; the kernel wants it to be zero.
        let mut notif: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a live local of the right type. Its size is part of the request
        // and the kernel writes no more than that.
        match unsafe { ioctl::receive(self.0.as_raw_fd(), &raw mut notif) } {
            Ok(_) => Ok(Received::Call(Notification {
                id: notif.id,
                tid: notif.pid.cast_signed(),
                call: Syscall {
                    arch: notif.data.arch,
                    number: u64::from(notif.data.nr.cast_unsigned()),
                    args: notif.data.args,
                },
            })),
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(Received::Nothing),
            // Its caller was killed meanwhile, or all have ended: poll tells them apart.
            Err(Errno::ENOENT) if self.ended() => Ok(Received::End),
            Err(Errno::ENOENT) => Ok(Received::Nothing),
            Err(errno) => Err(errno),
        }
    }

    /// Returns true if no process is left that could make a call.
    pub(crate) fn ended(&self) -> bool {
        let mut fd = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one live local.
        let ready = unsafe { libc::poll(&raw mut fd, 1, 0) };
        ready > 0 && fd.revents & libc::POLLIN == 0 && fd.revents & libc::POLLHUP != 0
    }

    /// Returns whether the call still waits. To be asked after memory of its thread was read: only
    /// then was it the thread's (its id may belong to another by now).
    pub(crate) fn is_waiting(&self, notification: &Notification) -> bool {
        // SAFETY: the pointer is to a live integer.
        unsafe { ioctl::id_valid(self.0.as_raw_fd(), &raw const notification.id) }.is_ok()
    }

    /// Lets the call happen. If its caller is gone, there is nothing to let.
    pub(crate) fn go_on(&self, notification: &Notification) {
        let mut answer = libc::seccomp_notif_resp {
            id: notification.id,
            val: 0,
            error: 0,
            flags: CONTINUE,
        };
        // SAFETY: the pointer is to a live local of the right type.
        let _ = unsafe { ioctl::send(self.0.as_raw_fd(), &raw mut answer) };
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Flags for seccomp(2) in the child: SECCOMP_FILTER_FLAG_NEW_LISTENER, and
/// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV if the kernel has it (Linux 5.19): without it a signal
/// that is not fatal aborts the wait and the call is made again, which a program that gets one
/// every few milliseconds would never survive.
pub(crate) const LISTENER_FLAGS: [c_ulong; 2] = [
    libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | 1 << 5,
    libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
];
