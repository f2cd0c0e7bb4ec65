//! Children that are not to be traced (CLONE_UNTRACED of clone(2)).
//!
//! They would have our filter but not its tracer, and every call that it stops would fail with
//! ENOSYS. So the flag is taken away. Where that does not work, the flag is told of as a doubt.

use crate::sys::{self, Pid, arch};
use crate::tracer::decode::{NATIVE_ARCHITECTURE, Syscall};
use nix::{
    Result,
    sys::{
        ptrace,
        uio::{RemoteIoVec, process_vm_writev},
    },
};
use std::io::IoSlice;
use syscalls::Sysno;

const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;

/// Takes the flag from a call that a filter has stopped. Returns what the call is then.
pub(super) fn without_flag(pid: Pid, mut call: Syscall) -> Syscall {
    let number = usize::try_from(call.number).ok().and_then(Sysno::new);
    match number.filter(|_| call.arch == NATIVE_ARCHITECTURE) {
        Some(Sysno::clone) if call.args[0] & UNTRACED != 0 => {
            let flags = call.args[0] & !UNTRACED;
            if set_first_argument(pid, flags).is_ok() {
                call.args[0] = flags;
            }
        }
        Some(Sysno::clone3) => {
            // The first member of its struct.
            let mut flags = [0; 8];
            let read = sys::read_memory(pid, call.args[0], &mut flags);
            let flags = u64::from_ne_bytes(flags);
            if read == Ok(8) && flags & UNTRACED != 0 {
                // What cannot be written is read again by who tells of it.
                let _ = write(pid, call.args[0], &(flags & !UNTRACED).to_ne_bytes());
            }
        }
        _ => {}
    }
    call
}

fn set_first_argument(pid: Pid, value: u64) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(pid);
    let mut registers = ptrace::getregs(pid)?;
    arch::set_first_argument(&mut registers, value);
    ptrace::setregs(pid, registers)
}

fn write(pid: Pid, address: u64, bytes: &[u8]) -> Result<usize> {
    let there = RemoteIoVec {
        base: address as usize,
        len: bytes.len(),
    };
    let pid = nix::unistd::Pid::from_raw(pid);
    process_vm_writev(pid, &[IoSlice::new(bytes)], &[there])
}
