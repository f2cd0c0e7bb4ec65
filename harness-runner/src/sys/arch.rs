//! The differences between architectures, beside the tables of system calls. No file has numbers of
//! system calls: `syscalls::Sysno` knows them by name.

use libc::user_regs_struct;
use nix::unistd::Pid;

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

/// Has the call that a task is about to make answered with a result instead of being made, once the registers
/// are set.
#[cfg(target_arch = "x86_64")]
pub(crate) fn answer_instead(
    _: Pid,
    registers: &mut user_regs_struct,
    result: i64,
) -> nix::Result<()> {
    registers.orig_rax = u64::MAX;
    registers.rax = result.cast_unsigned();
    Ok(())
}

/// Has the call that a task is about to make answered with a result instead of being made, once the registers
/// are set.
#[cfg(target_arch = "aarch64")]
pub(crate) fn answer_instead(
    pid: Pid,
    registers: &mut user_regs_struct,
    result: i64,
) -> nix::Result<()> {
    // The number is none of the registers (NT_ARM_SYSTEM_CALL of linux/elf.h).
    const NUMBER: usize = 0x404;
    registers.regs[0] = result.cast_unsigned();
    let mut none: libc::c_int = -1;
    let mut set = libc::iovec {
        iov_base: (&raw mut none).cast(),
        iov_len: size_of::<libc::c_int>(),
    };
    let kind = std::ptr::without_provenance_mut::<libc::c_void>(NUMBER);
    // SAFETY: the kernel reads a live local, of the size that is said.
    let ret = unsafe { libc::ptrace(libc::PTRACE_SETREGSET, pid.as_raw(), kind, &raw mut set) };
    nix::errno::Errno::result(ret).map(drop)
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
