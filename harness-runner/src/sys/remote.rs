//! A stopped tracee that is made to do something: the signals that it blocks, and the wait for its next stop.

use super::Tid;
use nix::errno::Errno;
use std::{
    ffi::{c_int, c_void},
    ptr,
};

/// The size of the kernel's set of signals.
const SET: usize = 8;

/// Returns the signals that a stopped tracee blocks, a bit for each.
pub(crate) fn signal_mask(tid: Tid) -> Result<u64, Errno> {
    let mut mask = 0_u64;
    let size = ptr::without_provenance_mut::<c_void>(SET);
    // SAFETY: PTRACE_GETSIGMASK writes as many bytes as the address argument says to the data argument, a live local of
    // that size.
    let ret = unsafe { libc::ptrace(libc::PTRACE_GETSIGMASK, tid.raw(), size, &raw mut mask) };
    Errno::result(ret).map(|_| mask)
}

/// Has a stopped tracee block these signals, and no others.
pub(crate) fn set_signal_mask(tid: Tid, mask: u64) -> Result<(), Errno> {
    let size = ptr::without_provenance_mut::<c_void>(SET);
    // SAFETY: PTRACE_SETSIGMASK reads as many bytes as the address argument says from the data argument, a live local of
    // that size.
    let ret = unsafe { libc::ptrace(libc::PTRACE_SETSIGMASK, tid.raw(), size, &raw const mask) };
    Errno::result(ret).map(drop)
}

/// Waits until a tracee that runs has stopped. Returns whether it has, and is not about to end: then there is news of it
/// to take. Other news stays.
pub(crate) fn stops_again(tid: Tid) -> bool {
    let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL;
    let task = tid.raw().cast_unsigned();
    loop {
        // SAFETY: siginfo_t is plain data, for which zero is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a live local.
        let ret = unsafe { libc::waitid(libc::P_PID, task, &raw mut info, flags) };
        if ret != 0 && Errno::last() == Errno::EINTR {
            continue;
        }
        // SAFETY: waitid(2) sets the status of a child.
        let status = unsafe { info.si_status() };
        let exits = status >> 8 == libc::PTRACE_EVENT_EXIT;
        return ret == 0 && matches!(info.si_code, libc::CLD_TRAPPED | libc::CLD_STOPPED) && !exits;
    }
}

/// Sends a signal to a thread that leads its process.
pub(crate) fn send_to_thread(tid: Tid, signal: c_int) -> Result<(), Errno> {
    // SAFETY: tgkill(2) takes numbers only.
    let ret = unsafe { libc::syscall(libc::SYS_tgkill, tid.raw(), tid.raw(), signal) };
    Errno::result(ret).map(drop)
}
