//! Records of runs, in a store: events, captured output, traces. The store is `<target>/harness`, unless
//! another place was chosen; see `place`.
//!
//! A run that has ended is one compressed file, `<store>/runs/<run id>.run`; see `pack`. Until then it has
//! a folder `<store>/runs/<run id>`:
//!
//! - `events.ndjson`, the recording: every event is written when it happens, so that a runner that
//!   is killed loses nothing that it has shown;
//! - `output`, what failed tests have printed, as lines of the recording refer to it;
//! - `<number>.trace`, the traces of attempts, one after the other: a file for each slot, as a rule;
//! - `lock`, until the run has finished. Its writer holds a lock on it, so that the run is not
//!   deleted. A `lock` without a holder belongs to a runner that was killed.
//!
//! Nothing here is needed to run tests: where it cannot be written, the run goes on without.

mod chain;
mod earlier;
mod files;
mod find;
mod header;
mod killed;
pub mod last;
mod measured;
pub mod merge;
mod moving;
mod overview;
mod pack;
mod packing;
mod place;
mod presentation;
mod recording;
mod replay;
mod results;
mod retention;
mod spool;
pub mod sql;
#[cfg(test)]
mod tests;
mod trace_files;
mod traced;
mod transfer;
mod with_files;
mod worth;

pub use chain::{Chain, Standing, last_failed};
pub use earlier::Earlier;
pub use files::{open_trace, write_trace};
pub use find::{
    FindError, Found, Query, RunsOf, WhichRun, ended as ended_run, ended_runs, find, the_test,
};
pub use header::RunHeader;
pub use killed::{Killed, take_killed};
pub use measured::{Measurements, Quantity, Sample, Setting, measurements};
pub use moving::{MoveError, Moved, count, move_runs};
pub use overview::{Overview, State};
pub use packing::pack_all;
pub use place::{APART, PlaceError, Wish, folder, make, place, usual};
pub use presentation::{JunitPresentation, Presentation};
pub use recording::{Extent, Line, Record, Recorded};
pub use replay::{Recording, RecordingError, Replayed};
pub use results::{Change, Comparison, Flakiness, TestResult, compare, flakiness, median};
use retention::prune_if_due;
pub use retention::{Prunable, Reason, Retention, age, prunable, prune};
pub use spool::{Spool, SpoolFile, SpooledOutput, SpooledStream};
pub use trace_files::{KeptTrace, Span, TraceFile, TraceFiles};
pub use transfer::{Exported, Imported, TransferError, export, import};
pub use with_files::last_with_files;
pub use worth::Ending;

use crate::{
    own_files,
    report::{Kept, Stream},
    tracer::record::file::{ReadError, Reader},
};
use camino::{Utf8Path, Utf8PathBuf};
use files::{Files, PACKED};
use harness_metadata::{
    Event, EventKind, RunId,
    event::{Findings, is_readable},
};
use pack::Pack;
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
use traced::Traced;

const RECORDING: &str = "events.ndjson";
const OUTPUT: &str = "output";
const CHAIN: &str = "chain.json";
const PRESENTATION: &str = "presentation.json";
const TRACED: &str = "traced";
const LOCK: &str = "lock";
/// The extension of a file of traces.
const TRACE: &str = "trace";
/// The extension of the file beside the folder of runs that is locked while one is made or deleted.
const GATE: &str = "gate";

/// Data older than this survives a power cut.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The time that a starting run waits for other processes that delete runs. A run without a first
/// event is not deleted for a minute anyway.
const GATE_LIMIT: Duration = Duration::from_secs(5);

/// No more captured output than this is kept of a run.
const OUTPUT_LIMIT: u64 = 1024 * 1024 * 1024;
/// A note about the chain is shorter.
const LONGEST_CHAIN: u64 = 256 * 1024 * 1024;
/// A note about the options of reports is shorter.
const LONGEST_PRESENTATION: u64 = 64 * 1024;

/// An error that keeps a run from being recorded, or recorded in whole.
#[derive(Debug, Error)]
#[error("failed to write `{path}`")]
pub struct KeepError {
    /// The file or folder.
    pub path: Utf8PathBuf,
    /// The reason.
    pub source: io::Error,
}

/// The text in a run's lock, for a reader who finds it without its holder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Claim {
    /// The path of the run's JUnit report.
    #[serde(default)]
    junit: Option<Utf8PathBuf>,
}

/// Additions to an event that ends an attempt.
#[derive(Clone, Debug, Default)]
pub struct Belongings {
    /// The position of its trace; `None` if there is none.
    pub trace: Option<KeptTrace>,
    /// The position of its output.
    pub output: Option<SpooledOutput>,
}

/// A run that is being kept.
#[derive(Debug)]
pub struct Run {
    folder: Utf8PathBuf,
    recording: Arc<File>,
    trace_files: TraceFiles,
    pending: Vec<u8>,
    /// The results whose traces are in the run.
    traced: Traced,
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
    /// Begins to keep a run. `junit` is where its report will be.
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
        Ok(Self {
            trace_files: TraceFiles::new(&folder),
            folder,
            sync: recording.try_clone().ok().and_then(syncing),
            recording: Arc::new(recording),
            pending: Vec::new(),
            traced: Traced::default(),
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
        self.trace_files.clone()
    }

    /// Returns its folder.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
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
        if let Some((test, attempt)) = ended
            && belongings.trace.is_some()
        {
            self.traced.add(test, attempt.verdict);
        }
        let line = NewLine {
            event,
            kept_trace: belongings.trace,
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
                self.traced.note(&self.folder);
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
    /// A run without tests, as of a filter with a slip, is not kept. One that is not large is packed.
    pub fn end(mut self) -> Result<(), KeepError> {
        let flushed = self.flush();
        if self.empty {
            // The rename makes it visible as a whole. Without its lock another process would pack it.
            let deleted = self.folder.with_extension(retention::DELETED);
            fs::rename(&self.folder, &deleted).map_err(keep_error(&self.folder))?;
            fs::remove_dir_all(&deleted).map_err(keep_error(&deleted))?;
            return flushed;
        }
        let lock = self.folder.join(LOCK);
        // A full disk has room enough for that.
        fs::remove_file(&lock).map_err(keep_error(&lock))?;
        if flushed.is_ok() {
            // Whatever keeps it from that, the recording is whole, and a later command packs it.
            let _ = packing::at_the_end(&self.folder);
        }
        flushed
    }
}

/// Packs runs that have ended and deletes old ones, each time that some have been added, while tests run. It is
/// not awaited: the next run does the rest.
pub fn tidy_in_background(target: &Utf8Path, retention: Retention) {
    let target = target.to_owned();
    let tidying = thread::Builder::new().name("retention".to_owned());
    let _ = tidying.spawn(move || {
        pack_all(&target);
        prune_if_due(&target, retention)
    });
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
    /// Its pack, or its folder if it is not packed yet.
    pub path: Utf8PathBuf,
    /// Whether it comes from elsewhere. Such a run is meant by its id alone.
    pub imported: bool,
}

/// Returns the bytes of the recording of a run, by its folder, its pack or the recording itself. What is
/// damaged is a line that is no event.
///
/// # Errors
///
/// When it cannot be read.
pub fn recording_bytes(path: &Utf8Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let recording = Files::of(path)?.recording()?;
    recording.take(recording::LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
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
    let paths = entries.flatten().map(|entry| entry.into_path());
    let mut runs: Vec<_> = paths.filter_map(|path| PastRun::open(&path)).collect();
    // A pack comes before the folder that it was made of, if that is still there.
    runs.sort_by_key(|run| {
        let header = &run.header;
        let order = (header.started_at, header.run_id.0, run.is_packed());
        std::cmp::Reverse(order)
    });
    runs.dedup_by_key(|run| run.header.run_id);
    Ok(runs)
}

impl PastRun {
    /// Opens a run by its folder or its pack; `None` if it is none.
    pub fn open(path: &Utf8Path) -> Option<Self> {
        match path.extension() {
            Some(PACKED) => {
                if let Ok(facts) = Pack::facts_of(path) {
                    return is_readable(facts.schema_version).then(|| Self {
                        header: facts.header,
                        path: path.to_owned(),
                        imported: facts.imported,
                    });
                }
            }
            // It is being written or deleted.
            Some(_) => return None,
            None => {}
        }
        let run = recording::first(path)?;
        is_readable(run.schema_version).then(|| Self {
            header: RunHeader {
                run_id: run.run_id,
                started_at: run.started_at,
                workspace_root: run.workspace_root.into(),
                tests: run.tests,
                mode: run.mode,
            },
            path: path.to_owned(),
            imported: false,
        })
    }

    fn first(&self) -> Option<harness_metadata::event::RunStarted> {
        recording::first(&self.path)
    }

    /// Returns whether it is one file.
    pub fn is_packed(&self) -> bool {
        self.path.extension() == Some(PACKED)
    }

    /// Returns whether it is still being written.
    pub fn in_progress(&self) -> bool {
        !self.is_packed() && in_progress(&self.path)
    }

    /// Returns the facts that its pack has; `None` if it has none, or they are damaged.
    fn facts(&self) -> Option<pack::Facts> {
        let packed = self.is_packed();
        packed.then(|| Pack::facts_of(&self.path).ok()).flatten()
    }

    /// Returns the file that its recording is in.
    pub fn recording(&self) -> Utf8PathBuf {
        match self.is_packed() {
            true => self.path.clone(),
            false => self.path.join(RECORDING),
        }
    }

    /// Opens a trace.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn trace(&self, trace: &KeptTrace) -> Result<Reader<Box<dyn Read>>, ReadError> {
        open_trace(&self.path, trace)
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

    /// Returns the findings of its traces at its end; none of a run that did not come to its end.
    ///
    /// # Errors
    ///
    /// When the recording cannot be read.
    pub fn findings(&self) -> io::Result<Findings> {
        let mut lines = self.lines()?;
        let last = lines.find(|line| recording::kind(line) == Some(b"run-finished"));
        let last = last.and_then(|line| serde_json::from_slice::<Event>(&line).ok());
        Ok(match last.map(|event| event.kind) {
            Some(EventKind::RunFinished(finished)) => finished.findings,
            _ => Findings::default(),
        })
    }

    /// Returns how far the recording goes.
    ///
    /// # Errors
    ///
    /// When the recording cannot be read.
    pub fn extent(&self) -> io::Result<Extent> {
        recording::extent(&self.path)
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
        let past = Files::of(&self.path)?.output()?;
        let Kept { head, tail, .. } = past.open(output, stream)?;
        let mut bytes = Vec::new();
        // A recording is a file that anybody can write.
        head.chain(tail)
            .take(OUTPUT_LIMIT)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn lines(&self) -> io::Result<impl Iterator<Item = Vec<u8>> + use<>> {
        recording::lines(&self.path)
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
