//! The user and groups of a task.

use crate::{
    proc,
    sys::{Pid, Tgid, Tid},
};

/// Returns the process that seems to have created a new task: its own process if it is a thread,
/// and else its parent. It is another one after CLONE_PARENT.
pub(crate) fn likely_creator(task: Tid) -> Option<Tgid> {
    match kin(task)? {
        Kin { process, parent } if process == task.led() => Some(parent),
        Kin { process, .. } => Some(process),
    }
}

/// The user and groups of a task.
pub(crate) struct Kin {
    /// Its process.
    pub(crate) process: Tgid,
    /// The parent of that; 0 if it is not in our pid namespace.
    pub(crate) parent: Tgid,
}

/// Returns whom a task belongs to (proc_pid_status(5)).
pub(crate) fn kin(task: impl Into<Pid>) -> Option<Kin> {
    let status = proc::read(&proc::path(task, "status")).ok()?;
    let field = |name| proc::field(&status, name)?.parse().ok().map(Tgid::new);
    Some(Kin {
        process: field("Tgid:")?,
        parent: field("PPid:")?,
    })
}
