//! Deletes old runs.

use super::{PastRun, folder, gate_of, in_progress, runs, traced::last_traces, worth::Ending};
use crate::own_files;
use camino::{Utf8Path, Utf8PathBuf};
use chrono::{DateTime, FixedOffset};
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

/// Old runs are looked for each time that there are so many more.
const EVERY: usize = 8;

/// The limits of what is kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The latest runs, of whatever tests.
    pub runs: usize,
    /// Bytes of all runs. The latest run may have more by itself.
    pub bytes: u64,
    /// The age up to which runs of the whole workspace are kept beside these.
    pub whole: Duration,
}

/// 10 runs, those of the whole workspace for a year, 1 GiB.
impl Default for Retention {
    fn default() -> Self {
        Self {
            runs: 10,
            bytes: 1024 * 1024 * 1024,
            whole: Duration::from_secs(365 * 24 * 60 * 60),
        }
    }
}

/// The reason why a run is deleted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It has no last trace of a test, and is of a part of the tests, or has not come to its end.
    Part,
    /// It has no last trace of a test, and is too old.
    Old,
    /// Runs of more worth take the room.
    Room,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Part => "not the whole workspace, and later runs have all of its traces",
            Self::Old => "too old, and later runs have all of its traces",
            Self::Room => "no room beside runs of more worth",
        })
    }
}

/// A run that is to be deleted.
#[derive(Clone, Debug)]
pub struct Prunable {
    /// The run.
    pub run: PastRun,
    /// Its bytes.
    pub bytes: u64,
    /// The reason.
    pub reason: Reason,
}

/// The size that is noted of a run has fewer digits.
const LONGEST_SIZE: u64 = 64;

/// As [`prune`], each time that some runs have been added: it looks at all of them.
pub(super) fn prune_if_due(target: &Utf8Path, retention: Retention) -> io::Result<()> {
    let entries = folder(target).read_dir_utf8()?.count();
    match entries > retention.runs && entries.is_multiple_of(EVERY) {
        true => prune(target, retention),
        false => Ok(()),
    }
}

/// Deletes old runs: never the latest one nor one in progress, and the last one that failed, the
/// last whole one that passed, and those with the last trace of a test only for want of room. Leaves it to another run if one is being made
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
    for (number, _) in worthless(&runs, retention, size) {
        note(delete(&runs[number]));
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

/// Deletes a pack, or gives a folder the name by which it is deleted.
fn delete(run: &PastRun) -> io::Result<()> {
    let folder = run.path.with_extension("");
    // A pack may still have the folder that it was made of.
    let renamed = fs::rename(&folder, folder.with_extension(DELETED));
    match run.is_packed() {
        true => fs::remove_file(&run.path),
        false => renamed,
    }
}

/// Returns the runs that [`prune`] would delete, the oldest first.
///
/// # Errors
///
/// When the folder of runs cannot be read.
pub fn prunable(target: &Utf8Path, retention: Retention) -> io::Result<Vec<Prunable>> {
    let runs = runs(target)?;
    let chosen = worthless(&runs, retention, size);
    let mut chosen: Vec<_> = chosen
        .into_iter()
        .map(|(number, reason)| Prunable {
            run: runs[number].clone(),
            bytes: size(&runs[number]),
            reason,
        })
        .collect();
    chosen.sort_by_key(|it| it.run.header.started_at);
    Ok(chosen)
}

/// The worth of a run, the highest first.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// The latest one, the last one that failed, the last whole one that passed.
    First,
    /// It has the last trace of a test that passed, or that failed.
    LastTrace,
    /// It is one of the latest.
    Recent,
    /// It is of the whole workspace, and young enough.
    Whole,
    None(Reason),
}

/// Returns the runs that have a worth by themselves: the latest, the last one that failed, and the last whole one
/// that passed; and with these the latest others up to `most`.
pub(super) fn recent(runs: &[PastRun], most: usize) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let latest = runs.iter().position(|run| !run.imported);
    let ended: Vec<usize> = (0..runs.len())
        .filter(|number| !runs[*number].imported)
        .filter(|number| latest == Some(*number) || !runs[*number].in_progress())
        .collect();
    let last = |chosen: &dyn Fn(&Ending) -> bool| {
        let mut numbers = ended.iter().copied();
        numbers.find(|number| Ending::of(&runs[*number]).is_some_and(|ending| chosen(&ending)))
    };
    let first = [
        latest,
        last(&Ending::failed),
        last(&Ending::whole_and_passed),
    ];
    let first: BTreeSet<usize> = first.into_iter().flatten().collect();
    let others = ended.iter().copied();
    let others = others.filter(|number| !first.contains(number));
    let others = others.take(most.saturating_sub(first.len()));
    let recent = first.iter().copied().chain(others).collect();
    (first, recent)
}

/// Returns the numbers of the runs that are to be deleted, each with the reason. The latest run comes first
/// and is never one of them; nor is one in progress, or imported. `size` is asked in the order of worth.
fn worthless(
    runs: &[PastRun],
    retention: Retention,
    size: impl Fn(&PastRun) -> u64,
) -> Vec<(usize, Reason)> {
    let (first, recent) = recent(runs, retention.runs);
    let is_latest = |number: usize| first.first() == Some(&number);
    let candidates: Vec<usize> = (0..runs.len())
        .filter(|number| !runs[*number].imported)
        .filter(|number| is_latest(*number) || !runs[*number].in_progress())
        .collect();
    let last_traces = last_traces(candidates.iter().map(|number| &runs[*number]));
    let mut ranked: Vec<(Worth, usize)> = candidates
        .into_iter()
        .zip(last_traces)
        .map(|(number, has_last_trace)| {
            let run = &runs[number];
            let worth = match () {
                () if first.contains(&number) => Worth::First,
                () if has_last_trace => Worth::LastTrace,
                () if recent.contains(&number) => Worth::Recent,
                () if !Ending::of(run).is_some_and(|ending| ending.whole()) => {
                    Worth::None(Reason::Part)
                }
                () if age(run.header.started_at) > retention.whole => Worth::None(Reason::Old),
                () => Worth::Whole,
            };
            (worth, number)
        })
        .collect();
    ranked.sort();
    let mut bytes = 0;
    let mut worthless = Vec::new();
    for (worth, number) in ranked {
        if let Worth::None(reason) = worth {
            worthless.push((number, reason));
            continue;
        }
        bytes += size(&runs[number]);
        if !is_latest(number) && bytes > retention.bytes {
            bytes -= size(&runs[number]);
            worthless.push((number, Reason::Room));
        }
    }
    worthless
}

/// Returns the time since a run has started.
pub fn age(started_at: DateTime<FixedOffset>) -> Duration {
    let since = u64::try_from(started_at.timestamp()).unwrap_or(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
        .saturating_sub(Duration::from_secs(since))
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
    if run.is_packed() {
        return fs::metadata(&run.path).map_or(0, |metadata| metadata.len());
    }
    let noted = run.path.join(SIZE);
    let known = own_files::read(&noted, LONGEST_SIZE).ok();
    let known = known.and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(bytes) = known.and_then(|text| text.trim().parse().ok()) {
        return bytes;
    }
    let entries = fs::read_dir(&run.path).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| file_size(&entry)).sum();
    if !run.in_progress() {
        // Without it the files are counted again.
        let _ = own_files::replace_in(&noted, format!("{bytes}\n").as_bytes());
    }
    bytes
}

fn file_size(entry: &DirEntry) -> u64 {
    entry.metadata().map_or(0, |metadata| metadata.len())
}
