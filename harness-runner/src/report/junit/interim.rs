//! The report while its run goes on: at every moment a valid file of what is known.
//!
//! There are two files that are equal but for the last change. One of them is the report; the
//! other, beside it, gets what it lacks and the new, and then the two swap names, which is atomic
//! (renameat2(2)): a kill at any moment and a full disk leave a
//! report that is whole. A write to the report itself would not do, as the kernel ends one at the
//! next page when its process is killed.

use crate::own_files::{self, Beside, is_at};
use camino::{Utf8Path, Utf8PathBuf};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::{
    fs::{self, File},
    io::{self, Write},
    mem,
    os::unix::fs::FileExt,
};
use tempfile::TempPath;

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
    /// The way in which the next change becomes visible; `None` if it does not.
    swap: Option<Swap>,
}

#[derive(Debug)]
struct Swap {
    report: Utf8PathBuf,
    /// The other file, and its name.
    next: File,
    name: TempPath,
    /// The missing part.
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
        fs::create_dir_all(own_files::directory(report))?;
        own_files::sweep(report, SUFFIX);
        let make = || {
            let mut new = Beside::new(report, SUFFIX)?;
            new.file.write_all(contents)?;
            Ok::<Beside, io::Error>(new)
        };
        let current = make()?.replace(report)?;
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
        interim.change(&[])?;
        Ok(interim)
    }

    /// Returns whether changes are seen at once.
    pub(super) fn is_seen(&self) -> bool {
        self.swap.is_some()
    }

    /// Makes changes, all or none.
    pub(super) fn change(&mut self, changes: &[Change]) -> io::Result<()> {
        let changes = laid(changes);
        let Some(swap) = &mut self.swap else {
            return write(&self.current, &changes);
        };
        let length = changes.iter().map(Change::end).max();
        let mut all = swap.behind.clone();
        changes.iter().for_each(|change| lay(&mut all, change));
        let written =
            write(&swap.next, &all).and_then(|()| match length.filter(|_| swap.damaged) {
                Some(length) => swap.next.set_len(length),
                None => Ok(()),
            });
        swap.damaged = written.is_err();
        written?;
        mem::swap(&mut self.current, &mut swap.next);
        // A file that another run or a test has put there stays.
        let ours = is_at(&swap.next, &swap.report);
        let swapped = ours && exchange(&swap.name, &swap.report).is_ok();
        if swapped && !is_at(&swap.next, &swap.name) {
            // It came in between the two: both files are whole, and theirs is the later one.
            let _ = exchange(&swap.name, &swap.report);
            self.swap = None;
            return Ok(());
        }
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

/// The ending of the names of files beside reports.
pub(super) const SUFFIX: &str = ".interim";

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

/// Returns changes of which no two have a byte in common, and that make the same file as these.
fn laid(changes: &[Change]) -> Vec<Change> {
    let mut laid = Vec::new();
    changes.iter().for_each(|change| lay(&mut laid, change));
    laid
}

/// Adds a change that comes after others, of which no two have a byte in common. Nor do they then.
fn lay(changes: &mut Vec<Change>, later: &Change) {
    let under =
        (changes.iter_mut()).find(|earlier| (earlier.at..earlier.end()).contains(&later.at));
    let Some(under) = under else {
        changes.push(later.clone());
        return;
    };
    let from = (later.at - under.at) as usize;
    let to = under.bytes.len().min(from + later.bytes.len());
    under.bytes.splice(from..to, later.bytes.iter().copied());
}

fn exchange(one: &std::path::Path, other: &Utf8Path) -> nix::Result<()> {
    let flags = RenameFlags::RENAME_EXCHANGE;
    renameat2(AT_FDCWD, one, AT_FDCWD, other.as_std_path(), flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Barrier, thread};

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        (folder, path)
    }

    #[test]
    fn changes_that_are_laid_over_each_other_make_the_same_file() {
        let change = |at, text: &str| Change {
            at,
            bytes: text.as_bytes().to_vec(),
        };
        let all = [
            change(4, "<case><end>"),
            change(0, "head"),
            change(10, "<another><end>"),
            change(5, "CASE"),
            change(0, "HEAD"),
        ];
        let laid = laid(&all);
        let contents = |changes: &[Change]| {
            let file = tempfile::tempfile().unwrap();
            write(&file, changes).unwrap();
            let mut text = vec![0; 64];
            let length = file.read_at(&mut text, 0).unwrap();
            String::from_utf8(text[..length].to_vec()).unwrap()
        };
        assert_eq!(contents(&laid), "HEAD<CASE><another><end>");
        assert_eq!(contents(&laid), contents(&all));
        assert_eq!(laid.len(), 2, "each place is written once");
    }

    #[test]
    fn runs_that_share_a_report_take_nothing_from_each_other() {
        let (_folder, folder) = folder();
        let report = folder.join("junit.xml");
        let all = Barrier::new(8);
        thread::scope(|scope| {
            for number in 0..8_u8 {
                let (report, all) = (&report, &all);
                scope.spawn(move || {
                    let contents = vec![b'a' + number; 1000];
                    all.wait();
                    for _ in 0..50 {
                        let mut interim = Interim::replace(report, &contents).unwrap();
                        for at in 0..20 {
                            let bytes = vec![b'A' + number];
                            interim.change(&[Change { at, bytes }]).unwrap();
                            let seen = fs::read(report).unwrap();
                            assert_eq!(seen.len(), 1000);
                            let all = String::from_utf8(seen).unwrap().to_lowercase();
                            let first = all.chars().next().unwrap();
                            assert!(all.chars().all(|one| one == first), "{all}");
                        }
                        let mut own = Vec::new();
                        let (offset, length) = (0, 1000);
                        interim.copy(Part { offset, length }, &mut own).unwrap();
                        assert!(
                            own.iter()
                                .all(|one| one.to_ascii_lowercase() == b'a' + number)
                        );
                    }
                });
            }
        });
        let names = folder.read_dir_utf8().unwrap().flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name().to_owned()).collect();
        assert_eq!(names, ["junit.xml"], "something is left");
    }
}
