//! Tells one state of a file or directory from another.

use camino::Utf8Path;
use nix::{NixPath, sys::statfs::statfs};
use serde::{Deserialize, Serialize};
use std::{fs, os::unix::fs::MetadataExt};

/// Kinds of file systems (statfs(2)) of this machine: a change of a file shows in its times at once, and so does a
/// change of names in the times of their directory. Of others, which may be a server's, that is not known.
const LOCAL: [u64; 7] = [
    0xef53,      // ext2 to ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs
];

/// Returns whether the file system of a path is one of this machine.
pub(crate) fn is_local<P: ?Sized + NixPath>(path: &P) -> bool {
    let kind = statfs(path).map(|found| found.filesystem_type().0);
    // It has another type with each C library, and a sign with some.
    kind.is_ok_and(|kind| LOCAL.contains(&u64::from(kind as u32)))
}

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
