//! Looks at files without opening, waiting or mounting anything.

use super::Identity;
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

/// Looks at a file without opening, waiting or mounting anything.
pub(crate) fn look(directory: c_int, path: &CStr, follow: bool) -> Result<Looked, Errno> {
    statx(directory, path, follow, 0).map(|stat| Looked::from_raw(&stat))
}

/// As [`look`], from the working directory and at its state too.
///
/// Not for every file: who asks for the times of a file has the kernel take more exact ones the next
/// time that it is changed (since 6.13).
pub(crate) fn look_closely(path: &CStr) -> Result<(Looked, Identity), Errno> {
    let more = libc::STATX_SIZE | libc::STATX_MTIME | libc::STATX_CTIME;
    let stat = statx(libc::AT_FDCWD, path, true, more)?;
    let looked = Looked::from_raw(&stat);
    let time = |time: libc::statx_timestamp| (time.tv_sec, i64::from(time.tv_nsec));
    let identity = Identity {
        device: looked.file.device,
        inode: looked.file.inode,
        size: stat.stx_size,
        modified: time(stat.stx_mtime),
        changed: time(stat.stx_ctime),
    };
    Ok((looked, identity))
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

/// Copies a descriptor that this program was started with. Programs that it starts inherit neither the copy nor,
/// from now on, the original.
pub(crate) fn inherited(number: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers; a number that is no descriptor is an error.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    let copy = Errno::result(copy)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    if number > libc::STDERR_FILENO {
        // SAFETY: as above.
        Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    }
    Ok(copy)
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
