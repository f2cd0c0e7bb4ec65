//! Tells one state of a file or directory from another.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use std::{fs, os::unix::fs::MetadataExt};

/// The state of a file or directory. A program cannot set the time of change (ctime), so a file
/// that was written to, or a directory that an entry was added to, never looks the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

impl Identity {
    /// Returns the state of what is at `path`; `None` if there is nothing.
    pub(crate) fn of(path: &Utf8Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Returns true if this is the same file with the same content, as long as its time of modification
    /// is not set back by hand. The time of change does not count: it also moves when the file gets
    /// another link or other permissions, which a test may do to its own binary.
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        let Self {
            device,
            inode,
            size,
            modified,
            changed: _,
        } = *other;
        (self.device, self.inode, self.size, self.modified) == (device, inode, size, modified)
    }
}
