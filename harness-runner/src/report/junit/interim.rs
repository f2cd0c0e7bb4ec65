//! The report while its run goes on: at every moment a valid file of what is known.
//!
//! There are two files that are equal but for the last change. One of them is the report; the
//! other, beside it, gets what it lacks and the new, and then the two swap names, which is atomic
//! (renameat2(2)): whoever is killed at whatever moment, and however full the disk is, leaves a
//! report that is whole. A write to the report itself would not do, as the kernel ends one at the
//! next page when its process is killed.

use camino::{Utf8Path, Utf8PathBuf};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::{
    fs::{self, File},
    io::{self, Write},
    mem,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
};
use tempfile::{NamedTempFile, TempPath};

/// Bytes that come to stand somewhere.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

/// A place in the file.
#[derive(Copy, Clone, Debug)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The report so far.
#[derive(Debug)]
pub(super) struct Interim {
    /// The file that has all changes.
    current: File,
    /// How the next change becomes visible; `None` if it does not.
    swap: Option<Swap>,
}

#[derive(Debug)]
struct Swap {
    report: Utf8PathBuf,
    /// The other file, and its name.
    next: File,
    name: TempPath,
    /// What it lacks.
    behind: Vec<Change>,
    /// Whether it may have bytes past its end.
    damaged: bool,
}

impl Interim {
    /// Keeps what is known out of sight.
    pub(super) fn unseen() -> io::Result<Self> {
        Ok(Self {
            current: tempfile::tempfile()?,
            swap: None,
        })
    }

    /// Replaces the report with `contents`.
    pub(super) fn replace(report: &Utf8Path, contents: &[u8]) -> io::Result<Self> {
        let directory = directory(report);
        fs::create_dir_all(&directory)?;
        let prefix = format!(".{}-", report.file_name().unwrap_or_default());
        sweep(&directory, &prefix);
        let make = || {
            let mut file = tempfile::Builder::new()
                .prefix(&prefix)
                .suffix(SUFFIX)
                .tempfile_in(&directory)?;
            // It tells others that the file is in use. Nobody else wants to hold it.
            let _ = file.as_file().try_lock();
            file.write_all(contents)?;
            readable_by_all(file.as_file())?;
            Ok::<NamedTempFile, io::Error>(file)
        };
        let current = make()?.persist(report).map_err(|error| error.error)?;
        let (next, name) = make()?.into_parts();
        let mut interim = Self {
            current,
            swap: Some(Swap {
                report: report.to_owned(),
                next,
                name,
                behind: Vec::new(),
                damaged: false,
            }),
        };
        // Not every file system can do it: then the report has no tests until the end.
        interim.change(Vec::new())?;
        Ok(interim)
    }

    /// Returns whether changes are seen at once.
    pub(super) fn is_seen(&self) -> bool {
        self.swap.is_some()
    }

    /// Makes changes, all or none.
    pub(super) fn change(&mut self, changes: Vec<Change>) -> io::Result<()> {
        let Some(swap) = &mut self.swap else {
            return write(&self.current, &changes);
        };
        let length = changes.iter().map(Change::end).max();
        let written = write(&swap.next, &swap.behind)
            .and_then(|()| write(&swap.next, &changes))
            .and_then(|()| match length.filter(|_| swap.damaged) {
                Some(length) => swap.next.set_len(length),
                None => Ok(()),
            });
        swap.damaged = written.is_err();
        written?;
        mem::swap(&mut self.current, &mut swap.next);
        // If somebody else has put a file there (another run, or a test), it is theirs now.
        let ours = is_at(&swap.next, &swap.report);
        let swapped = ours && exchange(&swap.name, &swap.report).is_ok();
        match swapped {
            true => swap.behind = changes,
            false => self.swap = None,
        }
        Ok(())
    }

    /// Copies a part of the file.
    pub(super) fn copy(&self, part: Part, writer: &mut dyn Write) -> io::Result<()> {
        let mut buffer = vec![0; part.length.min(64 * 1024) as usize];
        let (mut at, end) = (part.offset, part.offset + part.length);
        while at < end {
            let room = buffer.len().min((end - at) as usize);
            let read = self.current.read_at(&mut buffer[..room], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            writer.write_all(&buffer[..read])?;
            at += read as u64;
        }
        Ok(())
    }

    /// Gives the space of the other file back, before a last report is written.
    pub(super) fn freeze(&mut self) {
        self.swap = None;
    }
}

/// How the names of the files beside reports end.
const SUFFIX: &str = ".interim";

impl Change {
    fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }
}

fn write(file: &File, changes: &[Change]) -> io::Result<()> {
    for change in changes {
        file.write_all_at(&change.bytes, change.at)?;
    }
    Ok(())
}

fn is_at(file: &File, path: &Utf8Path) -> bool {
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let there = fs::symlink_metadata(path).map(id);
    matches!((file.metadata().map(id), there), (Ok(file), Ok(there)) if file == there)
}

fn exchange(one: &std::path::Path, other: &Utf8Path) -> nix::Result<()> {
    let flags = RenameFlags::RENAME_EXCHANGE;
    renameat2(AT_FDCWD, one, AT_FDCWD, other.as_std_path(), flags)
}

/// Removes what killed runs have left.
fn sweep(directory: &Utf8Path, prefix: &str) {
    for entry in directory.read_dir_utf8().into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.starts_with(prefix)
            && name.ends_with(SUFFIX)
            && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns the folder of a file.
pub(super) fn directory(path: &Utf8Path) -> Utf8PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_str().is_empty() => parent.to_owned(),
        _ => Utf8PathBuf::from("."),
    }
}

/// Gives a temporary file, private at first, the mode of an ordinary one: reports are read by
/// others.
pub(super) fn readable_by_all(file: &File) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(0o644))
}
