//! The full form of a path: the kernel answers for its start, the rest is text.

use super::Task;
use harness_metadata::{RawString, trace::TracedPath};

/// The longest path that the kernel takes, its NUL included.
pub(super) const PATH_MAX: usize = 4096;

/// Completes a path that is relative to a descriptor (or AT_FDCWD), with the task's root.
pub(super) fn resolve(task: &dyn Task, directory: i32, asked: Vec<u8>) -> TracedPath {
    let absolute = absolute(task, directory, &asked);
    TracedPath {
        absolute: absolute.filter(|path| *path != asked).map(RawString::from),
        asked: asked.into(),
    }
}

/// Completes a path that is relative to a directory as to a root (RESOLVE_IN_ROOT of openat2(2)).
pub(super) fn resolve_within(task: &dyn Task, directory: i32, asked: Vec<u8>) -> TracedPath {
    let absolute = start(task, directory).map(|root| joined(&root, &normalised(&asked)));
    TracedPath {
        absolute: absolute.map(RawString::from),
        asked: asked.into(),
    }
}

/// Returns the whole path; `None` if where it starts is not known.
pub(super) fn absolute(task: &dyn Task, directory: i32, asked: &[u8]) -> Option<Vec<u8>> {
    match asked.first()? {
        b'/' => {
            let path = own(task, normalised(asked));
            Some(match task.root() {
                // What the task calls `..` of its root is its root.
                Some(root) if root != b"/" => joined(&root, &path),
                _ => path,
            })
        }
        _ => {
            let mut path = start(task, directory)?;
            path.push(b'/');
            path.extend_from_slice(asked);
            Some(own(task, normalised(&path)))
        }
    }
}

/// Returns what relative paths start with.
fn start(task: &dyn Task, directory: i32) -> Option<Vec<u8>> {
    let start = match directory {
        libc::AT_FDCWD => task.cwd(),
        fd => task.descriptor(fd),
    }?;
    // A pipe or socket is shown as `pipe:[1]`.
    (start.first() == Some(&b'/')).then_some(start)
}

/// Puts a normalised path below a directory.
fn joined(root: &[u8], path: &[u8]) -> Vec<u8> {
    let mut whole = root.strip_suffix(b"/").unwrap_or(root).to_vec();
    if path != b"/" || whole.is_empty() {
        whole.extend_from_slice(path);
    }
    whole
}

/// Makes a path start with a slash and drops `.`, `..` and what is doubled; links stay.
pub(super) fn normalised(path: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(path.len() + 1);
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let parent = whole.iter().rposition(|byte| *byte == b'/');
                whole.truncate(parent.unwrap_or(0));
            }
            part => {
                whole.push(b'/');
                whole.extend_from_slice(part);
            }
        }
    }
    if whole.is_empty() {
        whole.push(b'/');
    }
    whole
}

/// Names the process in `/proc/self` and the thread in `/proc/thread-self`: to another reader they
/// would mean something else.
fn own(task: &dyn Task, path: Vec<u8>) -> Vec<u8> {
    let (prefix, name) = if let Some(rest) = path.strip_prefix(b"/proc/self") {
        (rest, format!("/proc/{}", task.pid()))
    } else if let Some(rest) = path.strip_prefix(b"/proc/thread-self") {
        (rest, format!("/proc/{}/task/{}", task.pid(), task.tid()))
    } else {
        return path;
    };
    match prefix.first() {
        None | Some(b'/') => [name.as_bytes(), prefix].concat(),
        Some(_) => path,
    }
}
