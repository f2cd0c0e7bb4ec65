//! Opens, reads and replaces the files that runs keep for each other below the target folder.
//!
//! Anything can be in the place of such a file: a pipe that never has a writer, a device without an
//! end, a link to somewhere else, a folder, a file of gigabytes. So nothing is opened that could
//! block, only regular files are read and no link is followed in the last part of a path, and
//! every read has a bound. Folders on the way may be links: a target folder often is one.
//!
//! A file is replaced by a new one beside it that takes its name ([`Beside`]), so a reader finds
//! the old one or the new one, whole. The mode of a new file is what the umask leaves of `rw-rw-rw-`.
//!
//! A new file is locked (flock(2)) for as long as it is open. The kernel gives the lock up when its
//! owner dies, and [`sweep`] removes what has no owner.

use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};
use tempfile::{NamedTempFile, TempPath};

/// The mode of new files, before the umask is taken off.
pub(crate) const MODE: u32 = 0o666;

/// The flags that keep an open from waiting, from following a link, and from getting a terminal.
const FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;

/// The number of tries to make a file again if a sweep was faster than its lock.
const TRIES: usize = 64;

/// The ending of the name of a file that atomically replaces another.
const NEW: &str = ".new";

/// Opens a regular file for reading, without blocking. No link is followed.
///
/// # Errors
///
/// When it cannot be opened or is something else.
pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
    let path = path.as_ref();
    // Opening a device can have effects.
    check(&path.symlink_metadata()?)?;
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(FLAGS).open(path)?;
    // Something else may have taken its place.
    check(&file.metadata()?)?;
    Ok(file)
}

/// Reads a whole file. See [`open`].
///
/// # Errors
///
/// As [`open`], and when the file has more than `longest` bytes.
pub fn read(path: impl AsRef<Path>, longest: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, "it is too large to be ours");
    if file.metadata()?.len() > longest {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    file.take(longest.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(too_long());
    }
    Ok(bytes)
}

/// Creates a file for reading and writing. What is there, be it a link, stays what it is.
///
/// # Errors
///
/// When it cannot be created, or anything is there.
pub fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // O_EXCL follows no link (open(2)).
    let options = options.read(true).write(true).create_new(true).mode(MODE);
    options.open(path)
}

/// As [`create_new`], and only its owner can open it. Who can read a file can lock it.
///
/// # Errors
///
/// As [`create_new`].
pub fn create_private(path: impl AsRef<Path>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true);
    options.mode(0o600).open(path)
}

/// Opens a file for reading and writing that only its owner can open, and makes it if it is not there.
///
/// # Errors
///
/// When it cannot be opened, or something else is there.
pub fn private(path: impl AsRef<Path>) -> io::Result<File> {
    let path = path.as_ref();
    match create_private(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            check(&path.symlink_metadata()?)?;
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).custom_flags(FLAGS);
            let file = options.open(path)?;
            check(&file.metadata()?)?;
            Ok(file)
        }
        created => created,
    }
}

/// Creates a file in the place of what is there, which is removed. A device is opened as it is: only
/// a privileged user can have made it, and may need it.
///
/// # Errors
///
/// When it cannot be created, or a folder is there.
pub fn create(path: impl AsRef<Path>) -> io::Result<File> {
    let path = path.as_ref();
    match create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let kind = path.symlink_metadata()?.file_type();
            if kind.is_char_device() || kind.is_block_device() {
                let mut options = OpenOptions::new();
                return options.write(true).custom_flags(FLAGS).open(path);
            }
            fs::remove_file(path)?;
            create_new(path)
        }
        created => created,
    }
}

/// Opens a file for appending, and makes it if it is not there. No link is followed. A device is opened as
/// it is: see [`create`].
///
/// # Errors
///
/// When it cannot be opened, or something else is there.
pub fn append(path: impl AsRef<Path>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true).mode(MODE);
    let file = options.custom_flags(FLAGS).open(path)?;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        check(&metadata)?;
    }
    Ok(file)
}

/// Replaces a file by one with these contents, whatever is there but a folder. Makes the folder
/// that it is in. What killed writers have left beside it is removed.
///
/// # Errors
///
/// When it cannot be written.
pub fn replace(path: &Utf8Path, contents: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory(path))?;
    replace_in(path, contents)
}

/// As [`replace`], in a folder that is there: another process may have removed it, and it is not made again.
///
/// # Errors
///
/// As [`replace`], and when there is no such folder.
pub fn replace_in(path: &Utf8Path, contents: &[u8]) -> io::Result<()> {
    sweep(path, NEW);
    let mut new = Beside::new(path, NEW)?;
    new.file.write_all(contents)?;
    new.replace(path)?;
    Ok(())
}

/// A new file beside the one that it is going to replace, locked as long as it is open. It is
/// removed when this is dropped.
#[derive(Debug)]
pub struct Beside {
    /// The file.
    pub file: File,
    name: TempPath,
}

impl Beside {
    /// Makes a file beside `path`, hidden, whose name ends in `suffix`.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn new(path: &Utf8Path, suffix: &str) -> io::Result<Self> {
        for _ in 0..TRIES {
            let made: NamedTempFile = tempfile::Builder::new()
                .prefix(&prefix(path))
                .suffix(suffix)
                .permissions(Permissions::from_mode(MODE))
                .tempfile_in(directory(path))?;
            let (file, name) = made.into_parts();
            // A sweep that came before the lock removes it, or has done so.
            if is_locked(&file) && is_at(&file, &name) {
                return Ok(Self { file, name });
            }
        }
        Err(io::Error::other("it is removed as often as it is made"))
    }

    /// Gives the file the name of the one that it replaces.
    ///
    /// # Errors
    ///
    /// When that fails, as when a folder has that name.
    pub fn replace(self, path: &Utf8Path) -> io::Result<File> {
        self.name.persist(path).map_err(|error| error.error)?;
        Ok(self.file)
    }

    /// Returns the file and its name, by which it is removed.
    pub fn into_parts(self) -> (File, TempPath) {
        (self.file, self.name)
    }
}

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Removes files of [`Beside::new`] that killed processes have left.
pub fn sweep(path: &Utf8Path, suffix: &str) {
    let prefix = prefix(path);
    let entries = directory(path).read_dir_utf8().into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.starts_with(&prefix) || !name.ends_with(suffix) {
            continue;
        }
        // After it has the lock, the maker of a file checks whether the name still belongs to it.
        if let Ok(file) = open(entry.path())
            && file.try_lock().is_ok()
            && is_at(&file, entry.path())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns whether this is the file that a path leads to, without following a link.
pub fn is_at(file: &File, path: impl AsRef<Path>) -> bool {
    let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let there = path.as_ref().symlink_metadata().map(id);
    matches!((file.metadata().map(id), there), (Ok(file), Ok(there)) if file == there)
}

/// Returns the folder of a file.
pub fn directory(path: &Utf8Path) -> Utf8PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_str().is_empty() => parent.to_owned(),
        _ => Utf8PathBuf::from("."),
    }
}

fn prefix(path: &Utf8Path) -> String {
    format!(".{}-", path.file_name().unwrap_or_default())
}

/// Locks a file that is new. Where there are no locks, no sweep gets one either.
fn is_locked(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

fn check(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    let message = format!("it is {what}, not a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests;
