//! Deletes old runs.

use super::{PastRun, folder, gate_of, in_progress, runs, worth::Ending};
use crate::own_files;
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    collections::BTreeSet,
    fs::{self, DirEntry},
    io,
    time::{Duration, SystemTime},
};

/// The extension of a folder that is being deleted. Who is killed meanwhile leaves it to the next.
pub(super) const DELETED: &str = "deleted";

/// The file that notes the size of a finished run, so that its files are counted once only.
const SIZE: &str = "size";

/// A folder without a readable index may be a run that has just begun.
const YOUNG: Duration = Duration::from_secs(60);

/// The limits of what is kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Runs, the latest included.
    pub runs: usize,
    /// Bytes of all runs. The latest run may have more by itself.
    pub bytes: u64,
}

/// 10 runs, 1 GiB.
impl Default for Retention {
    fn default() -> Self {
        Self {
            runs: 10,
            bytes: 1024 * 1024 * 1024,
        }
    }
}

/// The size that is noted of a run has fewer digits.
const LONGEST_SIZE: u64 = 64;

/// Deletes old runs: never the latest one nor one in progress, and the last one that failed and the
/// last whole one that passed only for want of room. Leaves it to another run if one is being made
/// or deleted at this moment.
///
/// # Errors
///
/// When something cannot be read or deleted; the rest is done all the same.
pub fn prune(target: &Utf8Path, retention: Retention) -> io::Result<()> {
    let mut result = Ok(());
    let mut note = |done: io::Result<()>| match done {
        // Another run does the same.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => result = Err(error),
        Ok(()) => {}
    };
    // Where there are no locks, no run is kept.
    let gate = gate_of(&folder(target))?;
    if gate.try_lock().is_err() {
        return Ok(());
    }
    let runs = runs(target)?;
    for number in worthless(&runs, retention, size) {
        let folder = &runs[number].folder;
        note(fs::rename(folder, folder.with_extension(DELETED)));
    }
    for entry in folder(target).read_dir_utf8()?.flatten() {
        let path = entry.into_path();
        if path.extension() != Some(DELETED) && is_rubbish(&path) {
            note(fs::rename(&path, path.with_extension(DELETED)));
        }
    }
    // Runs can be made again while this one's files are deleted, which may take long.
    drop(gate);
    for entry in folder(target).read_dir_utf8()?.flatten() {
        let path = entry.into_path();
        if path.extension() == Some(DELETED) {
            note(match path.symlink_metadata().is_ok_and(|it| it.is_dir()) {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            });
        }
    }
    result
}

/// Returns the numbers of the runs that are to be deleted. The latest run comes first and is never
/// one of them; nor is one in progress. `size` is asked in the order of worth.
fn worthless(runs: &[PastRun], retention: Retention, size: impl Fn(&PastRun) -> u64) -> Vec<usize> {
    let ended: Vec<usize> = (0..runs.len())
        .filter(|number| *number == 0 || !runs[*number].in_progress())
        .collect();
    let last = |chosen: &dyn Fn(&Ending) -> bool| {
        let mut numbers = ended.iter().copied();
        numbers.find(|number| Ending::of(&runs[*number]).is_some_and(|ending| chosen(&ending)))
    };
    let red = last(&Ending::failed);
    let green = last(&Ending::whole_and_passed);
    let first: BTreeSet<usize> = [ended.first().copied(), red, green]
        .into_iter()
        .flatten()
        .collect();
    let others = ended.iter().copied();
    let others = others.filter(|number| !first.contains(number));
    let mut bytes = 0;
    let mut worthless = Vec::new();
    for (rank, number) in first.iter().copied().chain(others).enumerate() {
        bytes += size(&runs[number]);
        let many = rank >= retention.runs && !first.contains(&number);
        if number > 0 && (many || bytes > retention.bytes) {
            bytes -= size(&runs[number]);
            worthless.push(number);
        }
    }
    worthless
}

/// True for a folder that can be neither read nor in use by a run.
fn is_rubbish(path: &Utf8PathBuf) -> bool {
    let age = fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .map(|modified| SystemTime::now().duration_since(modified));
    let old = matches!(age, Ok(Ok(age)) if age > YOUNG);
    let named_as_run = path
        .file_name()
        .is_some_and(|name| uuid::Uuid::parse_str(name).is_ok());
    old && named_as_run && path.is_dir() && PastRun::open(path).is_none() && !in_progress(path)
}

/// Returns the bytes of a run's files.
pub(super) fn size(run: &PastRun) -> u64 {
    let noted = run.folder.join(SIZE);
    let known = own_files::read(&noted, LONGEST_SIZE).ok();
    let known = known.and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(bytes) = known.and_then(|text| text.trim().parse().ok()) {
        return bytes;
    }
    let entries = fs::read_dir(&run.folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| file_size(&entry)).sum();
    if !run.in_progress() {
        // Without it the files are counted again.
        let _ = own_files::replace(&noted, format!("{bytes}\n").as_bytes());
    }
    bytes
}

fn file_size(entry: &DirEntry) -> u64 {
    entry.metadata().map_or(0, |metadata| metadata.len())
}
