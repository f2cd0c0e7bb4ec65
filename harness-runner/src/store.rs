//! What is kept of runs: the traces of their attempts, in the target folder.
//!
//! Every run has a folder `<target>/harness/runs/<run id>` with an `index.jsonl`, a line for the run
//! and then one for every finished attempt, and the trace files that the index names. Who writes a
//! run holds a lock on its `lock`, so that nobody deletes it. Nothing here is needed to run tests:
//! where it cannot be written, the run goes on without.

mod find;
mod retention;
#[cfg(test)]
mod tests;

pub use find::{FindError, Found, Query, WhichRun, find};
pub use retention::{Retention, prune};

use camino::{Utf8Path, Utf8PathBuf};
use chrono::{DateTime, FixedOffset};
use harness_metadata::{Attempt, Outcome, RunId, TestId, TraceSummary, Verdict};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;

const INDEX: &str = "index.jsonl";
const LOCK: &str = "lock";

/// The version of the index.
const SCHEMA_VERSION: u32 = 1;

/// Lines wait for one another for this long, or until they are this many bytes.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
const FLUSH_BYTES: usize = 256 * 1024;

/// Returns the folder that runs are kept in.
pub fn folder(target: &Utf8Path) -> Utf8PathBuf {
    target.join("harness").join("runs")
}

/// Why a run cannot be kept.
#[derive(Debug, Error)]
#[error("failed to write `{path}`, so no trace of this run is kept")]
pub struct KeepError {
    /// The file or folder.
    pub path: Utf8PathBuf,
    /// Why.
    pub source: io::Error,
}

/// The first line of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHeader {
    /// The version of the index.
    schema_version: u32,
    /// The run.
    pub run_id: RunId,
    /// When it started.
    pub started_at: DateTime<FixedOffset>,
    /// The root of the workspace.
    pub workspace_root: Utf8PathBuf,
}

impl RunHeader {
    /// Describes a run.
    pub fn new(
        run_id: RunId,
        started_at: DateTime<FixedOffset>,
        workspace_root: &Utf8Path,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            run_id,
            started_at,
            workspace_root: workspace_root.to_owned(),
        }
    }
}

/// A line of an index: an attempt that has finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The test.
    pub test: TestId,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// What the profile made of it.
    pub verdict: Verdict,
    /// What happened.
    pub outcome: Outcome,
    /// When it started.
    pub started_at: DateTime<FixedOffset>,
    /// How long it ran.
    pub elapsed: Duration,
    /// The name of its trace file in the run's folder; `None` if there is none.
    pub file: Option<String>,
    /// What the trace says; `None` if it was not traced.
    pub trace: Option<Box<TraceSummary>>,
}

/// A line of an index that is about to be written.
#[derive(Serialize)]
struct NewRecord<'a> {
    test: &'a TestId,
    attempt: u32,
    verdict: Verdict,
    outcome: &'a Outcome,
    started_at: &'a DateTime<FixedOffset>,
    elapsed: Duration,
    file: Option<String>,
    trace: Option<&'a TraceSummary>,
}

/// Where the traces of a run are written.
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

/// A run that is being kept.
#[derive(Debug)]
pub struct Run {
    folder: Utf8PathBuf,
    index: File,
    pending: Vec<u8>,
    /// When the oldest of the lines that wait was added.
    pending_since: Instant,
    /// Held as long as the run is in progress; the kernel gives it up if this process is killed.
    _lock: File,
}

impl Run {
    /// Begins to keep a run. Old runs are deleted meanwhile, as far as [`Retention::default`]
    /// says.
    ///
    /// # Errors
    ///
    /// When the target folder cannot be written.
    pub fn create(target: &Utf8Path, header: &RunHeader) -> Result<Self, KeepError> {
        let folder = folder(target).join(header.run_id.to_string());
        let create = |path: &Utf8Path| {
            let mut options = OpenOptions::new();
            let options = options.write(true).create_new(true).mode(0o600);
            options.open(path)
        };
        let runs = self::folder(target);
        fs::create_dir_all(&runs).map_err(keep_error(&runs))?;
        // Arguments and environments are nobody else's business.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(keep_error(&folder))?;
        let path = folder.join(LOCK);
        let lock = create(&path).map_err(keep_error(&path))?;
        lock.lock().map_err(keep_error(&path))?;
        let path = folder.join(INDEX);
        let index = create(&path).map_err(keep_error(&path))?;
        let mut run = Self {
            folder,
            index,
            pending: Vec::new(),
            pending_since: Instant::now(),
            _lock: lock,
        };
        run.push(header)
            .and_then(|()| run.flush())
            .map_err(keep_error(&path))?;
        let target = target.to_owned();
        // Nobody waits for it: what it has not done when this program ends the next run does.
        let pruning = thread::Builder::new().name("retention".to_owned());
        let _ = pruning.spawn(move || prune(&target, Retention::default()));
        Ok(run)
    }

    /// Returns where the traces of the run are written, for those who write them.
    pub fn trace_files(&self) -> TraceFiles {
        TraceFiles {
            folder: self.folder.clone(),
        }
    }

    /// Returns where the trace of an attempt is to be written. `number` is unique in the run.
    pub fn trace_path(&self, number: u64) -> Utf8PathBuf {
        self.folder.join(trace_name(number))
    }

    /// Adds an attempt to the index. `number` is that of [`Self::trace_path`]; `None` if no file
    /// was asked for. Lines are written some ten times a second; see also [`Self::flush`].
    ///
    /// # Errors
    ///
    /// When the index cannot be written. The lines that were to be written then are lost.
    pub fn attempt_finished(
        &mut self,
        number: Option<u64>,
        test: &TestId,
        attempt: &Attempt,
    ) -> io::Result<()> {
        let trace = attempt.trace.as_deref();
        // A trace without events has no file.
        let has_events = trace.is_some_and(|trace| !trace.counts.is_empty());
        self.push(&NewRecord {
            test,
            attempt: attempt.number,
            verdict: attempt.verdict,
            outcome: &attempt.outcome,
            started_at: &attempt.started_at,
            elapsed: attempt.elapsed,
            file: number
                .filter(|_| has_events || trace.is_none())
                .map(trace_name),
            trace,
        })?;
        self.tick()
    }

    /// Writes out lines that have waited long enough. To be called now and then.
    ///
    /// # Errors
    ///
    /// As [`Self::flush`].
    pub fn tick(&mut self) -> io::Result<()> {
        let waited = self.pending_since.elapsed() >= FLUSH_AFTER;
        if self.pending.len() >= FLUSH_BYTES || waited && !self.pending.is_empty() {
            return self.flush();
        }
        Ok(())
    }

    /// Writes out all lines.
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        let written = self.index.write_all(&self.pending);
        self.pending.clear();
        written
    }

    fn push(&mut self, line: &impl Serialize) -> io::Result<()> {
        if self.pending.is_empty() {
            self.pending_since = Instant::now();
        }
        serde_json::to_writer(&mut self.pending, line)?;
        self.pending.push(b'\n');
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Who wants to know whether it worked has called `flush`.
        let _ = self.flush();
    }
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
    /// What is known of it.
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
        let mut line = Vec::new();
        let mut index = BufReader::new(File::open(folder.join(INDEX)).ok()?);
        index.read_until(b'\n', &mut line).ok()?;
        let header: RunHeader = serde_json::from_slice(&line).ok()?;
        (header.schema_version == SCHEMA_VERSION).then(|| Self {
            header,
            folder: folder.to_owned(),
        })
    }

    /// Returns whether it is still being written.
    pub fn in_progress(&self) -> bool {
        in_progress(&self.folder)
    }

    /// Returns the attempts in the order in which they finished. Lines that are not whole are left
    /// out.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    pub fn records(&self) -> io::Result<impl Iterator<Item = Record> + use<>> {
        Ok(self
            .lines()?
            .filter_map(|line| serde_json::from_slice(&line).ok()))
    }

    /// Returns the lines after the first.
    fn lines(&self) -> io::Result<impl Iterator<Item = Vec<u8>> + use<>> {
        let index = BufReader::with_capacity(FLUSH_BYTES, File::open(self.folder.join(INDEX))?);
        Ok(index.split(b'\n').map_while(Result::ok).skip(1))
    }
}

/// Returns whether somebody writes the run in this folder.
fn in_progress(folder: &Utf8Path) -> bool {
    let Ok(lock) = File::open(folder.join(LOCK)) else {
        return false;
    };
    let held = matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock));
    held
}
