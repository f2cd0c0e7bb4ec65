//! Calls that are not made: the caller gets an error instead.

use crate::sys::{Tid, arch};
use nix::{Result, sys::ptrace};

/// Has the call at which a filter has stopped a task fail with this error, without being made (seccomp(2): a
/// tracer skips a call by setting its number to -1).
pub(super) fn skip(tid: Tid, errno: i32) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(tid.raw());
    let mut registers = ptrace::getregs(pid)?;
    arch::answer_instead(pid, &mut registers, -i64::from(errno))?;
    ptrace::setregs(pid, registers)
}
