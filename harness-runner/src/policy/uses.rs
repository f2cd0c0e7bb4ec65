//! The uses of files that an event shows.

use super::Right;
use harness_metadata::trace::{Access, CallResult, Exec, FileCall, FileOperation};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

/// A use of a file.
pub(super) struct Use<'a> {
    pub(super) right: Right,
    /// As the trace has it.
    pub(super) path: &'a Path,
    /// Whether the names in the folder around it change, for which the kernel asks for a right to that folder.
    pub(super) names: bool,
    /// Whether a symbolic link stands for the file that it leads to.
    pub(super) followed: bool,
    /// Whether Landlock can deny it.
    pub(super) governed: bool,
}

impl<'a> Use<'a> {
    /// Makes a unix socket.
    pub(super) fn of_socket(path: &'a Path) -> Self {
        Self {
            right: Right::Write,
            path,
            names: true,
            followed: false,
            governed: true,
        }
    }
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Returns the uses of a file call.
pub(super) fn of_call(call: &FileCall) -> Vec<Use<'_>> {
    let own = path(call.path.path().as_bytes());
    let one = |right, names, governed| Use {
        right,
        path: own,
        names,
        followed: !names,
        governed,
    };
    match call.operation {
        FileOperation::Open => of_open(own, call.access.unwrap_or_default()),
        FileOperation::List => vec![one(Right::Read, false, true)],
        FileOperation::MakeDirectory
        | FileOperation::MakeNode
        | FileOperation::SymbolicLink
        | FileOperation::Remove
        | FileOperation::RemoveDirectory => vec![one(Right::Write, true, true)],
        FileOperation::Rename | FileOperation::Link => {
            let mut uses = Vec::new();
            // The old name of a link stays as it is.
            if call.operation == FileOperation::Rename {
                uses.push(one(Right::Write, true, true));
            }
            uses.extend(call.to.as_ref().map(|to| Use {
                right: Right::Write,
                path: path(to.path().as_bytes()),
                names: true,
                followed: false,
                governed: true,
            }));
            uses
        }
        FileOperation::Truncate => vec![one(Right::Write, false, true)],
        FileOperation::ChangeMetadata => vec![one(Right::Write, false, false)],
        // In a Landlock domain nothing can be mounted, and looks are free.
        FileOperation::Stat
        | FileOperation::Access
        | FileOperation::ReadLink
        | FileOperation::ChangeDirectory
        | FileOperation::ChangeRoot
        | FileOperation::Mount
        | FileOperation::Watch => Vec::new(),
    }
}

fn of_open(path: &Path, access: Access) -> Vec<Use<'_>> {
    if access.path_only {
        return Vec::new();
    }
    let writes = access.write || access.truncate || access.unnamed;
    let mut uses = Vec::new();
    if access.read && !access.unnamed {
        uses.push((Right::Read, false));
    }
    if writes || access.create {
        uses.push((Right::Write, access.create && !access.unnamed));
    }
    let uses = uses.into_iter().map(|(right, names)| Use {
        right,
        path,
        names,
        followed: true,
        governed: true,
    });
    uses.collect()
}

/// Returns the uses of an execution.
pub(super) fn of_exec(exec: &Exec) -> Vec<Use<'_>> {
    let programs = [exec.program.path()].into_iter().chain(&exec.interpreters);
    let uses = programs.map(|program| Use {
        right: Right::Exec,
        path: path(program.as_bytes()),
        names: false,
        followed: true,
        governed: true,
    });
    uses.collect()
}

/// Returns the error by which a policy denies a use, if the call got one.
pub(super) fn denial(result: CallResult) -> Option<i32> {
    let errno = result.error()?;
    // EXDEV for a rename between folders that differ in their rights (landlock(7)), EPERM for what is scoped.
    [libc::EACCES, libc::EPERM, libc::EXDEV]
        .contains(&errno)
        .then_some(errno)
}
