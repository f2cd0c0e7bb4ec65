//! Commands that Ctrl-Z can stop at any moment.

use std::{os::unix::process::CommandExt, process::Command};

/// Has a command be started by fork(2) rather than by vfork(2), as posix_spawn(3) does it.
///
/// With vfork the parent sleeps in the kernel until the child has executed. If Ctrl-Z stops the child
/// before that, the parent is never seen to be stopped, its shell goes on waiting for it, and neither
/// of them is continued. Tests have no part in this: stubs start them.
pub(crate) fn by_fork(command: &mut Command) -> &mut Command {
    // SAFETY: the closure does nothing, which is allowed between fork and exec. That there is one is
    // what makes the standard library fork.
    unsafe { command.pre_exec(|| Ok(())) }
}
