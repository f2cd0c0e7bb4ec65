//! The rights of a task on files.

use crate::{proc, sys::Tid};
use std::ffi::OsString;

/// The identity of a task and its rights on files.
#[derive(PartialEq, Eq)]
pub(super) struct Rights {
    /// Lines of proc_pid_status(5).
    status: Vec<Vec<u8>>,
    /// The effect of its capabilities depends on the namespace.
    user_namespace: OsString,
}

/// Returns the rights of a task, or of this process.
pub(super) fn rights(task: Option<Tid>) -> Option<Rights> {
    const LINES: [&[u8]; 5] = [b"Uid:", b"Gid:", b"Groups:", b"CapPrm:", b"CapEff:"];
    let path = |name: &str| match task {
        Some(task) => proc::path(task, name),
        None => format!("/proc/self/{name}"),
    };
    let status = proc::read(&path("status")).ok()?;
    let lines = status.split(|byte| *byte == b'\n');
    let wanted = lines.filter(|line| LINES.iter().any(|name| line.starts_with(name)));
    Some(Rights {
        status: wanted.map(<[u8]>::to_vec).collect(),
        user_namespace: nix::fcntl::readlink(path("ns/user").as_str()).ok()?,
    })
}
