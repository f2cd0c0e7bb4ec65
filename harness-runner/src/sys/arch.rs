//! The differences between architectures, beside the tables of system calls. No file has numbers of
//! system calls: `syscalls::Sysno` knows them by name.

use libc::user_regs_struct;

/// AUDIT_ARCH_* of the calls that are decoded (linux/audit.h): the machine's own.
#[cfg(target_arch = "x86_64")]
pub const NATIVE_ARCHITECTURE: u32 = 0xc000_003e;
/// AUDIT_ARCH_* of the calls that are decoded (linux/audit.h): the machine's own.
#[cfg(target_arch = "aarch64")]
pub const NATIVE_ARCHITECTURE: u32 = 0xc000_00b7;

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

/// Changes the second argument of the call that a task is about to make.
#[cfg(target_arch = "x86_64")]
pub(crate) fn set_second_argument(registers: &mut user_regs_struct, value: u64) {
    registers.rsi = value;
}

/// Changes the second argument of the call that a task is about to make.
#[cfg(target_arch = "aarch64")]
pub(crate) fn set_second_argument(registers: &mut user_regs_struct, value: u64) {
    registers.regs[1] = value;
}

/// Turns the registers at a call's entry into those in front of the instruction that makes it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn rewind(registers: &mut user_regs_struct) {
    const INSTRUCTION: u64 = 2;
    registers.rip -= INSTRUCTION;
    registers.rax = registers.orig_rax;
    // Not in a call, so that the kernel does not think of making it again.
    registers.orig_rax = u64::MAX;
}

/// Turns the registers at a call's entry into those in front of the instruction that makes it.
#[cfg(target_arch = "aarch64")]
pub(crate) fn rewind(registers: &mut user_regs_struct) {
    const INSTRUCTION: u64 = 4;
    registers.pc -= INSTRUCTION;
}

/// The smallest page. Where pages are larger, they begin at multiples of this all the same.
pub(crate) const PAGE: u64 = 4096;
