//! Records of runs, in the target folder: events, captured output, traces.
//!
//! Every run has a folder `<target>/harness/runs/<run id>`:
//!
//! - `events.ndjson`, the recording: every event is written when it happens, so that a runner that
//!   is killed loses nothing that it has shown;
//! - `output`, what failed tests have printed, as lines of the recording refer to it;
//! - `<number>.trace`, the traces of attempts;
//! - `lock`, until the run has finished. Its writer holds a lock on it, so that the run is not
//!   deleted. A `lock` without a holder belongs to a runner that was killed.
//!
//! Nothing here is needed to run tests: where it cannot be written, the run goes on without.

mod chain;
mod find;
mod killed;
pub mod merge;
mod overview;
mod recording;
mod retention;
mod spool;
#[cfg(test)]
mod tests;
mod worth;

pub use chain::{Chain, Standing, last_failed};
pub use find::{FindError, Found, Query, WhichRun, find};
pub use killed::{Killed, take_killed};
pub use overview::{Overview, State};
pub use recording::{Extent, Line, Record, Recorded};
pub use retention::{Retention, prune};
pub use spool::{Spool, SpoolFile, SpooledOutput, SpooledStream};
pub use worth::Ending;

use crate::{
    own_files,
    report::{Kept, Stream},
};
use camino::{Utf8Path, Utf8PathBuf};
use chrono::{DateTime, FixedOffset};
use harness_metadata::{Event, EventKind, RunId, event::SCHEMA_VERSION};
use recording::NewLine;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;

const RECORDING: &str = "events.ndjson";
const OUTPUT: &str = "output";
const LOCK: &str = "lock";
/// The extension of the file beside the folder of runs that is locked while one is made or deleted.
const GATE: &str = "gate";

/// Data older than this survives a power cut.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The time that a starting run waits for other processes that delete runs. A run without a first
/// event is not deleted for a minute anyway.
const GATE_LIMIT: Duration = Duration::from_secs(5);

/// No more captured output than this is kept of a run.
const OUTPUT_LIMIT: u64 = 1024 * 1024 * 1024;

/// Returns the folder that runs are kept in.
pub fn folder(target: &Utf8Path) -> Utf8PathBuf {
    target.join("harness").join("runs")
}

/// An error that keeps a run from being recorded, or recorded in whole.
#[derive(Debug, Error)]
#[error("failed to write `{path}`")]
pub struct KeepError {
    /// The file or folder.
    pub path: Utf8PathBuf,
    /// The reason.
    pub source: io::Error,
}

/// The facts about a run that its first event has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunHeader {
    /// The run.
    pub run_id: RunId,
    /// When it started.
    pub started_at: DateTime<FixedOffset>,
    /// The root of the workspace.
    pub workspace_root: Utf8PathBuf,
    /// The number of tests that were to run.
    pub tests: usize,
}

/// The folder of a run's traces.
#[derive(Clone, Debug)]
pub struct TraceFiles {
    folder: Utf8PathBuf,
}

impl TraceFiles {
    /// Returns where the trace of an attempt is to be written. `number` is unique in the run.
    pub fn path(&self, number: u64) -> Utf8PathBuf {
        self.folder.join(trace_name(number))
    }
}

/// The text in a run's lock, for a reader who finds it without its holder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Claim {
    /// The path of the run's JUnit report.
    #[serde(default)]
    junit: Option<Utf8PathBuf>,
}

/// Additions to an event that ends an attempt.
#[derive(Copy, Clone, Debug, Default)]
pub struct Belongings {
    /// The number of its trace, as in [`TraceFiles::path`]; `None` if no trace was asked for.
    pub trace: Option<u64>,
    /// The position of its output.
    pub output: Option<SpooledOutput>,
}

/// A run that is being kept.
#[derive(Debug)]
pub struct Run {
    folder: Utf8PathBuf,
    recording: Arc<File>,
    pending: Vec<u8>,
    /// Bytes of the line that was added last.
    last: usize,
    /// Whether the last line in the file may be a part of one.
    torn: bool,
    /// The channel to the thread that syncs the file, and the time of the last request.
    sync: Option<mpsc::SyncSender<()>>,
    synced: Instant,
    unsynced: bool,
    /// Whether no test is in the run.
    empty: bool,
    /// Whether a part of the workspace's tests was chosen.
    partial: bool,
    /// Held as long as the run is in progress; the kernel gives it up if this process is killed.
    _lock: File,
}

impl Run {
    /// Begins to keep a run. `junit` is where its report will be. Old runs are deleted meanwhile,
    /// as far as [`Retention::default`] says.
    ///
    /// # Errors
    ///
    /// When the target folder cannot be written.
    pub fn create(
        target: &Utf8Path,
        run_id: RunId,
        junit: Option<&Utf8Path>,
    ) -> Result<Self, KeepError> {
        let folder = folder(target).join(run_id.to_string());
        let create = |path: &Utf8Path| own_files::create_new(path);
        let runs = self::folder(target);
        fs::create_dir_all(&runs).map_err(keep_error(&runs))?;
        // From here on until the run has its lock and its beginning.
        let gate = gate(&runs);
        fs::create_dir(&folder).map_err(keep_error(&folder))?;
        let path = folder.join(LOCK);
        // Another user could lock it before this process, and hold the run up for ever.
        let lock = own_files::create_private(&path);
        let mut lock = lock.map_err(keep_error(&path))?;
        lock.lock().map_err(keep_error(&path))?;
        let claim = Claim {
            junit: junit.map(Utf8Path::to_owned),
        };
        // Without it the next run can say less.
        let _ = lock.write_all(serde_json::json!(claim).to_string().as_bytes());
        let path = folder.join(RECORDING);
        let recording = create(&path).map_err(keep_error(&path))?;
        drop(gate);
        let target = target.to_owned();
        // It is not awaited: the next run does the rest.
        let pruning = thread::Builder::new().name("retention".to_owned());
        let _ = pruning.spawn(move || prune(&target, Retention::default()));
        Ok(Self {
            folder,
            sync: recording.try_clone().ok().and_then(syncing),
            recording: Arc::new(recording),
            pending: Vec::new(),
            last: 0,
            torn: false,
            synced: Instant::now(),
            unsynced: false,
            empty: false,
            partial: false,
            _lock: lock,
        })
    }

    /// Returns where the traces of the run are written, for those who write them.
    pub fn trace_files(&self) -> TraceFiles {
        TraceFiles {
            folder: self.folder.clone(),
        }
    }

    /// Returns where captured output is kept.
    pub fn spool(&self) -> Spool {
        Spool::at(self.folder.join(OUTPUT).into(), OUTPUT_LIMIT)
    }

    /// Returns where output is kept as long as this program runs that is too much for the recording.
    pub fn further_spool(&self) -> Spool {
        Spool::unnamed_in(self.folder.clone().into())
    }

    /// Returns the file that [`Recorded`] events are read from.
    pub fn recording(&self) -> Arc<File> {
        Arc::clone(&self.recording)
    }

    /// Returns where the event is that was added last; `None` if it could not be written, or has not
    /// been yet.
    pub fn last_recorded(&self) -> Option<Recorded> {
        if self.torn || !self.pending.is_empty() {
            return None;
        }
        let end = (&*self.recording).stream_position().ok()?;
        let start = end.checked_sub(self.last as u64)?;
        Some(Recorded { start, end })
    }

    /// Adds an event. When it is a result, it has been written when this returns, and a process
    /// that is killed afterwards has not lost it; for others see [`Self::flush`]. Returns how many bytes
    /// it has.
    ///
    /// # Errors
    ///
    /// When the recording cannot be written. What was to be written is lost then.
    pub fn record(&mut self, event: &Event, belongings: Belongings) -> Result<usize, KeepError> {
        self.last = 0;
        let ended = recording::ended(event);
        let trace = ended.and_then(|(_, attempt)| attempt.trace.as_deref());
        // A trace without events has no file.
        let no_events = trace.is_some_and(|trace| trace.counts.is_empty());
        let line = NewLine {
            event,
            trace_file: belongings.trace.filter(|_| !no_events).map(trace_name),
            kept_output: belongings.output,
        };
        let before = self.pending.len();
        if let Err(error) = serde_json::to_writer(&mut self.pending, &line) {
            self.pending.truncate(before);
            return Err(keep_error(&self.folder.join(RECORDING))(error.into()));
        }
        self.pending.push(b'\n');
        self.last = self.pending.len() - before;
        match &event.kind {
            EventKind::RunStarted(began) => {
                self.empty = began.tests == 0;
                self.partial = began.partial;
                self.flush()?;
            }
            EventKind::RunFinished(finished) => {
                let ending = Ending {
                    elapsed: finished.elapsed,
                    stats: finished.stats,
                    cancelled: finished.cancelled,
                    partial: self.partial,
                };
                ending.note(&self.folder);
                self.flush()?;
            }
            _ if ended.is_some() => self.flush()?,
            _ => {}
        }
        Ok(self.last)
    }

    /// Writes out what waits, in one piece. To be called now and then.
    ///
    /// # Errors
    ///
    /// As [`Self::record`].
    pub fn flush(&mut self) -> Result<(), KeepError> {
        if !self.pending.is_empty() {
            if self.torn {
                // What was lost ends here, and costs no line that is whole.
                self.pending.insert(0, b'\n');
            }
            let written = (&*self.recording).write_all(&self.pending);
            self.pending.clear();
            self.torn = written.is_err();
            self.unsynced = true;
            written.map_err(keep_error(&self.folder.join(RECORDING)))?;
        }
        if self.unsynced && self.synced.elapsed() >= SYNC_EVERY {
            self.synced = Instant::now();
            // If the disk is still busy with the last time, the next time does for both.
            let asked = self.sync.as_ref().map(|sync| sync.try_send(()));
            self.unsynced = matches!(asked, Some(Err(_)));
        }
        Ok(())
    }

    /// Notes that the run has come to its end, whatever could be written of it: it was not killed.
    /// A run without tests, as of a filter with a slip, is not kept.
    pub fn end(mut self) -> Result<(), KeepError> {
        let flushed = self.flush();
        let lock = self.folder.join(LOCK);
        // That needs no room on a disk that is full.
        fs::remove_file(&lock).map_err(keep_error(&lock))?;
        if self.empty {
            // The rename makes it visible as a whole.
            let deleted = self.folder.with_extension(retention::DELETED);
            fs::rename(&self.folder, &deleted).map_err(keep_error(&self.folder))?;
            fs::remove_dir_all(&deleted).map_err(keep_error(&deleted))?;
        }
        flushed
    }
}

/// Starts a thread that writes the file to the disk itself when it is asked to. Waiting for a disk
/// is nothing for the one who shows results.
fn syncing(file: File) -> Option<mpsc::SyncSender<()>> {
    let (ask, asked) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("recording".to_owned());
    let spawned = thread.spawn(move || {
        for () in asked {
            // A disk that cannot is noticed by who writes.
            let _ = file.sync_data();
        }
    });
    spawned.ok().map(|_| ask)
}

fn trace_name(number: u64) -> String {
    format!("{number}.trace")
}

fn keep_error(path: &Utf8Path) -> impl Fn(io::Error) -> KeepError {
    move |source| KeepError {
        path: path.to_owned(),
        source,
    }
}

/// A run that was kept, or is being kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRun {
    /// The facts about it.
    pub header: RunHeader,
    /// Its folder.
    pub folder: Utf8PathBuf,
}

/// Returns the runs that are kept, the latest first. What is no run, or has no beginning, is left
/// out.
///
/// # Errors
///
/// When the folder is there and cannot be read.
pub fn runs(target: &Utf8Path) -> io::Result<Vec<PastRun>> {
    let entries = match folder(target).read_dir_utf8() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let folders = entries.flatten().map(|entry| entry.into_path());
    let mut runs: Vec<_> = folders
        .filter_map(|folder| PastRun::open(&folder))
        .collect();
    runs.sort_by_key(|run| std::cmp::Reverse((run.header.started_at, run.header.run_id.0)));
    Ok(runs)
}

impl PastRun {
    /// Opens a run by its folder; `None` if it is none.
    pub fn open(folder: &Utf8Path) -> Option<Self> {
        if folder.extension() == Some(retention::DELETED) {
            return None;
        }
        let run = recording::first(folder.join(RECORDING).as_std_path())?;
        (run.schema_version == SCHEMA_VERSION).then(|| Self {
            header: RunHeader {
                run_id: run.run_id,
                started_at: run.started_at,
                workspace_root: run.workspace_root.into(),
                tests: run.tests,
            },
            folder: folder.to_owned(),
        })
    }

    /// Returns whether it is still being written.
    pub fn in_progress(&self) -> bool {
        in_progress(&self.folder)
    }

    /// Returns where its recording is.
    pub fn recording(&self) -> Utf8PathBuf {
        self.folder.join(RECORDING)
    }

    /// Returns the lines of the recording. Lines that are not whole are left out.
    ///
    /// # Errors
    ///
    /// When the recording cannot be read.
    pub fn events(&self) -> io::Result<impl Iterator<Item = Line> + use<>> {
        Ok(self
            .lines()?
            .filter_map(|line| serde_json::from_slice(&line).ok()))
    }

    /// Returns how far the recording goes.
    ///
    /// # Errors
    ///
    /// When the recording cannot be read.
    pub fn extent(&self) -> io::Result<Extent> {
        recording::extent(self.recording().as_std_path())
    }

    /// Returns the attempts in the order in which they finished. Lines that are not whole are left
    /// out.
    ///
    /// # Errors
    ///
    /// When the recording cannot be read.
    pub fn records(&self) -> io::Result<impl Iterator<Item = Record> + use<>> {
        Ok(self.lines()?.filter_map(|line| Record::parse(&line)))
    }

    /// Reads captured output that a line of the recording refers to.
    ///
    /// # Errors
    ///
    /// When the file that it is in cannot be read.
    pub fn output(&self, output: SpooledOutput, stream: Stream) -> io::Result<Vec<u8>> {
        let spool = SpoolFile::open_existing(self.folder.join(OUTPUT).as_std_path())?;
        let Kept { head, tail, .. } = spool.open(output, stream)?;
        let mut bytes = Vec::new();
        // A recording is a file that anybody can write.
        head.chain(tail)
            .take(OUTPUT_LIMIT)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn lines(&self) -> io::Result<impl Iterator<Item = Vec<u8>> + use<>> {
        recording::lines(self.recording().as_std_path())
    }
}

/// Returns true if the run in this folder is being written, or if that is unknown.
fn in_progress(folder: &Utf8Path) -> bool {
    match own_files::open(folder.join(LOCK)) {
        Ok(lock) => matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)),
        // None is there, or something that no run has made.
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput
        ),
    }
}

/// Opens what is locked while runs are made and deleted: a file beside their folder that no other user
/// can lock, or the folder itself where another user has made that file.
fn gate_of(runs: &Utf8Path) -> io::Result<File> {
    own_files::private(runs.with_extension(GATE)).or_else(|_| File::open(runs))
}

/// Keeps other processes from deleting runs as long as the file is open: a run that is being made
/// looks like an abandoned one. Waits for a process that deletes; it holds the lock only while it
/// renames.
fn gate(runs: &Utf8Path) -> Option<File> {
    let gate = gate_of(runs).ok()?;
    let limit = Instant::now() + GATE_LIMIT;
    while let Err(fs::TryLockError::WouldBlock) = gate.try_lock_shared() {
        if Instant::now() >= limit {
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Some(gate)
}
