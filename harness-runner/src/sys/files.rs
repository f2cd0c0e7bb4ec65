//! Looks at files without opening, waiting or mounting anything.

use harness_metadata::trace::FileId;
use nix::errno::Errno;
use std::{
    ffi::{CStr, c_int},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// The result of statx(2) for a file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) file: FileId,
    pub(crate) regular: bool,
    /// Its kind and permissions.
    pub(crate) mode: u32,
    owner: u32,
    group: u32,
    /// The mount that it is in; 0 before Linux 5.8.
    pub(crate) mount: u64,
}

impl Looked {
    fn from_raw(stat: &libc::statx) -> Self {
        let kind = u32::from(stat.stx_mode) & libc::S_IFMT;
        Self {
            file: FileId {
                device: libc::makedev(stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
                directory: kind == libc::S_IFDIR,
            },
            regular: kind == libc::S_IFREG,
            mode: u32::from(stat.stx_mode),
            owner: stat.stx_uid,
            group: stat.stx_gid,
            mount: stat.stx_mnt_id,
        }
    }

    /// Returns whether a task of this user (geteuid(2)) may read the file for sure, and enter it if it
    /// is a directory: if everybody may, or its owner, who that is. Those who are denied are an access
    /// list's exception. What root may says nothing: a task can have given that up.
    pub(crate) fn is_readable_by(&self, user: impl FnOnce() -> u32) -> bool {
        let may = if self.file.directory { 0o5 } else { 0o4 };
        let has = |bits: u32| self.mode & bits == bits;
        let by_owner = |user| user != 0 && user == self.owner;
        has(may << 6 | may << 3 | may) || has(may << 6) && by_owner(user())
    }

    /// Returns true if the file may give another identity to a process that executes it.
    pub(crate) fn gives_rights(&self) -> bool {
        self.mode & (libc::S_ISUID | libc::S_ISGID) != 0
    }

    /// Returns the user and the group whose rights the file gives to who executes it (execve(2)).
    pub(crate) fn gives(&self) -> (Option<u32>, Option<u32>) {
        const GROUP: u32 = libc::S_ISGID | libc::S_IXGRP;
        (
            (self.mode & libc::S_ISUID != 0).then_some(self.owner),
            (self.mode & GROUP == GROUP).then_some(self.group),
        )
    }

    /// Returns true if at least one execute bit is set: without one, root may not execute it
    /// either.
    pub(crate) fn is_executable(&self) -> bool {
        const ANY: u32 = libc::S_IXUSR | libc::S_IXGRP | libc::S_IXOTH;
        self.regular && self.mode & ANY != 0
    }
}

/// By what a file differs from itself after a change.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    size: u64,
    /// When its content was changed last: seconds since 1970, and nanoseconds.
    modified: (i64, u32),
    /// When that or what is said of it was.
    pub(crate) changed: (i64, u32),
}

/// Looks at a file without opening, waiting or mounting anything.
pub(crate) fn look(directory: c_int, path: &CStr, follow: bool) -> Result<Looked, Errno> {
    statx(directory, path, follow, 0).map(|stat| Looked::from_raw(&stat))
}

/// As [`look`], from the working directory and at its version too.
///
/// Not for every file: who asks for the times of a file has the kernel take more exact ones the next
/// time that it is changed (since 6.13).
pub(crate) fn look_closely(path: &CStr) -> Result<(Looked, Version), Errno> {
    let more = libc::STATX_SIZE | libc::STATX_MTIME | libc::STATX_CTIME;
    let stat = statx(libc::AT_FDCWD, path, true, more)?;
    let version = Version {
        size: stat.stx_size,
        modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
    };
    Ok((Looked::from_raw(&stat), version))
}

fn statx(directory: c_int, path: &CStr, follow: bool, more: u32) -> Result<libc::statx, Errno> {
    let follow = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    let flags = libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC | follow;
    let mask = libc::STATX_TYPE
        | libc::STATX_MODE
        | libc::STATX_UID
        | libc::STATX_GID
        | libc::STATX_INO
        | libc::STATX_MNT_ID
        | more;
    // SAFETY: statx is plain integers, for which zero is valid.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is valid and ended by NUL, and the last pointer is to a live local.
    Errno::result(unsafe { libc::statx(directory, path.as_ptr(), flags, mask, &raw mut stat) })?;
    Ok(stat)
}

/// Opens a file for its identity only (O_PATH), as a task with this root directory would find it
/// (openat2(2), RESOLVE_IN_ROOT). EAGAIN if a file system would have to be asked (RESOLVE_CACHED).
pub(crate) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &CStr,
    follow: bool,
) -> Result<OwnedFd, Errno> {
    /// linux/openat2.h, since Linux 5.12.
    const RESOLVE_CACHED: u64 = 0x20;
    let nofollow = if follow { 0 } else { libc::O_NOFOLLOW };
    // SAFETY: open_how is plain integers, for which zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC | nofollow) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | RESOLVE_CACHED;
    let (fd, size) = (root.as_raw_fd(), size_of::<libc::open_how>());
    // SAFETY: the path is valid and ended by NUL; the kernel reads `how`, which has that size.
    let opened =
        unsafe { libc::syscall(libc::SYS_openat2, fd, path.as_ptr(), &raw const how, size) };
    let opened = Errno::result(opened)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(opened as c_int) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_read_for_sure_depends_on_the_file_and_on_who_we_are() {
        let readable_if = |directory, mode, user| {
            let looked = Looked {
                file: FileId {
                    device: 1,
                    inode: 1,
                    directory,
                },
                regular: !directory,
                mode,
                owner: 1000,
                group: 1000,
                mount: 0,
            };
            looked.is_readable_by(|| user)
        };
        let readable = |mode, user| readable_if(false, mode, user);
        assert!(readable(0o444, 1));
        assert!(readable(0o600, 1000));
        assert!(!readable(0o600, 1));
        assert!(!readable(0o640, 0), "root's task may have another identity");
        assert!(!readable(0o200, 1000));
        assert!(!readable(0o004, 1000), "the owner is none of the others");
        assert!(readable_if(true, 0o755, 1));
        assert!(readable_if(true, 0o700, 1000));
        assert!(
            !readable_if(true, 0o700, 0),
            "root's task may have another identity"
        );
        assert!(
            !readable_if(true, 0o754, 1),
            "it may be listed and not entered"
        );
    }
}
