//! What differs between architectures, beside what [`decode`](super::decode) says. Numbers of system
//! calls are nowhere: `syscalls::Sysno` knows them by name.

use libc::user_regs_struct;

/// Changes the first argument of the call that a task is about to make.
#[cfg(target_arch = "x86_64")]
pub(crate) fn set_first_argument(registers: &mut user_regs_struct, value: u64) {
    registers.rdi = value;
}

/// Changes the first argument of the call that a task is about to make.
#[cfg(target_arch = "aarch64")]
pub(crate) fn set_first_argument(registers: &mut user_regs_struct, value: u64) {
    registers.regs[0] = value;
}

/// The smallest page. Where pages are larger, they begin at multiples of this all the same.
pub(crate) const PAGE: u64 = 4096;
