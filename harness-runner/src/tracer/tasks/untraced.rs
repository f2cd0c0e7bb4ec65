//! Children that are not to be traced (CLONE_UNTRACED of clone(2)).
//!
//! They would have our filter but not its tracer, and every call that it stops would fail with
//! ENOSYS. So the flag is taken away. Where that does not work, the flag becomes a doubt.

use crate::{
    sys::{self, Syscall, Tid, arch},
    tracer::decode::NATIVE_ARCHITECTURE,
};
use nix::{Result, sys::ptrace};
use syscalls::Sysno;

const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;

/// Takes the flag from a call that a filter has stopped. Returns what the call is then.
pub(super) fn without_flag(tid: Tid, mut call: Syscall) -> Syscall {
    let number = usize::try_from(call.number).ok().and_then(Sysno::new);
    match number.filter(|_| call.arch == NATIVE_ARCHITECTURE) {
        Some(Sysno::clone) if call.args[0] & UNTRACED != 0 => {
            let flags = call.args[0] & !UNTRACED;
            if set_first_argument(tid, flags).is_ok() {
                call.args[0] = flags;
            }
        }
        Some(Sysno::clone3) => {
            // The first member of its struct.
            let mut flags = [0; 8];
            let read = sys::read_memory(tid, call.args[0], &mut flags);
            let flags = u64::from_ne_bytes(flags);
            if read == Ok(8) && flags & UNTRACED != 0 {
                // What cannot be written is read again by who tells of it.
                let _ = sys::write_memory(tid, call.args[0], &(flags & !UNTRACED).to_ne_bytes());
            }
        }
        _ => {}
    }
    call
}

fn set_first_argument(tid: Tid, value: u64) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(tid.raw());
    let mut registers = ptrace::getregs(pid)?;
    arch::set_first_argument(&mut registers, value);
    ptrace::setregs(pid, registers)
}
