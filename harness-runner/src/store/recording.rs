//! The recording of a run: its events, one a line of JSON, in the order in which they happened.
//!
//! A line is an [`Event`] and, if it ends an attempt, where the attempt's trace and output are
//! kept. A recording whose writer was killed ends anywhere, and one whose disk was full for a
//! while lacks what happened then: readers leave out lines that are not whole.

use super::{files::Files, spool::SpooledOutput, trace_files::KeptTrace};
use camino::Utf8Path;
use harness_metadata::{
    Attempt, Event, EventKind, Outcome, TestId, TraceSummary, Verdict, event::RunStarted,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    iter,
    os::unix::fs::FileExt,
    sync::Arc,
    time::Duration,
};

/// The number of bytes to read at once.
const CHUNK: usize = 256 * 1024;

/// As much of a recording is read. It is a file that anybody can write.
pub(super) const LONGEST: u64 = 2 * 1024 * 1024 * 1024;

/// A line that is longer is not ours, and left out.
pub(super) const LONGEST_LINE: u64 = 64 * 1024 * 1024;

/// A line of a recording.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Line {
    /// The outcome.
    #[serde(flatten)]
    pub event: Event,
    /// The position of the trace of the attempt that the event ends; `None` if there is none.
    #[serde(flatten)]
    pub kept_trace: Option<KeptTrace>,
    /// The position of its output; `None` if it was not kept.
    #[serde(default)]
    pub kept_output: Option<SpooledOutput>,
}

/// A line that is about to be written.
#[derive(Serialize)]
pub(super) struct NewLine<'a> {
    #[serde(flatten)]
    pub(super) event: &'a Event,
    #[serde(flatten)]
    pub(super) kept_trace: Option<KeptTrace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kept_output: Option<SpooledOutput>,
}

/// An attempt that has finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The test.
    pub test: TestId,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The profile's verdict.
    pub verdict: Verdict,
    /// The outcome.
    pub outcome: Outcome,
    /// When it started.
    pub started_at: chrono::DateTime<chrono::FixedOffset>,
    /// Its running time.
    pub elapsed: Duration,
    /// The position of its trace; `None` if there is none.
    pub kept_trace: Option<KeptTrace>,
    /// The position of its output; `None` if it was not kept.
    pub output: Option<SpooledOutput>,
    /// The summary of its trace; `None` if it was not traced.
    pub trace: Option<Box<TraceSummary>>,
}

/// Returns the attempt that an event ends, with its test.
pub(super) fn ended(event: &Event) -> Option<(&TestId, &Attempt)> {
    match &event.kind {
        EventKind::AttemptFailed { test, attempt, .. } => Some((test, attempt)),
        EventKind::TestFinished(finished) => Some((&finished.test, finished.attempts.last()?)),
        _ => None,
    }
}

impl Record {
    /// Reads the attempt that a line is about; `None` if it is about none, or is not whole.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line: Line = serde_json::from_slice(line).ok()?;
        let (test, attempt) = ended(&line.event)?;
        Some(Self {
            test: test.clone(),
            attempt: attempt.number,
            verdict: attempt.verdict,
            outcome: attempt.outcome.clone(),
            started_at: attempt.started_at,
            elapsed: attempt.elapsed,
            kept_trace: line.kept_trace,
            output: line.kept_output,
            trace: attempt.trace.clone(),
        })
    }
}

/// The attempt of a line: reading all of the line costs more.
pub(super) struct Head {
    pub(super) test: TestId,
    pub(super) attempt: u32,
    pub(super) verdict: Verdict,
}

#[derive(Deserialize)]
struct AttemptHead {
    number: u32,
    verdict: Verdict,
}

#[derive(Deserialize)]
struct FailedHead {
    test: TestId,
    attempt: AttemptHead,
}

#[derive(Deserialize)]
struct FinishedHead {
    test: TestId,
    attempts: Vec<AttemptHead>,
}

impl Head {
    /// Reads the beginning of a [`Record`].
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let (test, attempt) = match kind(line)? {
            b"attempt-failed" => {
                let FailedHead { test, attempt } = serde_json::from_slice(line).ok()?;
                (test, attempt)
            }
            b"test-finished" => {
                let FinishedHead { test, mut attempts } = serde_json::from_slice(line).ok()?;
                (test, attempts.pop()?)
            }
            _ => return None,
        };
        Some(Self {
            test,
            attempt: attempt.number,
            verdict: attempt.verdict,
        })
    }
}

/// Returns the tests that have a result, each with the profile's verdict over all attempts. In a stress
/// run the worst verdict of its instances counts.
pub(super) fn results(path: &Utf8Path) -> io::Result<BTreeMap<TestId, Verdict>> {
    #[derive(Deserialize)]
    struct Ended {
        test: TestId,
        /// A test whose earlier pass counts has none.
        #[serde(default = "passed")]
        verdict: Verdict,
    }
    fn passed() -> Verdict {
        Verdict::Pass
    }
    let badness = |verdict| match verdict {
        Verdict::Pass => 0,
        Verdict::Quarantined => 1,
        Verdict::Interrupted => 2,
        Verdict::Fail => 3,
    };
    let mut results = BTreeMap::new();
    let kinds: [&[u8]; 2] = [b"test-finished", b"test-cached"];
    for line in lines(path)?.filter(|line| kind(line).is_some_and(|kind| kinds.contains(&kind))) {
        if let Ok(Ended { test, verdict }) = serde_json::from_slice(&line) {
            let (test, _) = test.without_iteration();
            let worst = results.entry(test).or_insert(verdict);
            if badness(verdict) > badness(*worst) {
                *worst = verdict;
            }
        }
    }
    Ok(results)
}

/// Returns the kind of a line's event by its name, without reading on.
pub(super) fn kind(line: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"\"event\":\"";
    // The time comes before it.
    let beginning = line.get(..128).unwrap_or(line);
    let from = beginning.windows(KEY.len()).position(|at| at == KEY)? + KEY.len();
    let rest = beginning.get(from..)?;
    rest.split(|byte| *byte == b'"').next()
}

/// Returns the lines of a recording as they are, whole or not. `path` is that of the recording, or of its
/// run's folder or pack.
pub(super) fn lines(path: &Utf8Path) -> io::Result<impl Iterator<Item = Vec<u8>> + use<>> {
    lines_of(Files::of(path)?)
}

/// As [`lines`], of files that are open.
pub(super) fn lines_of(files: Files) -> io::Result<impl Iterator<Item = Vec<u8>> + use<>> {
    let file = files.recording()?.take(LONGEST);
    let mut file = BufReader::with_capacity(CHUNK, file);
    Ok(iter::from_fn(move || line(&mut file).ok().flatten()))
}

/// A part of a recording that is being written: whole lines.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The offset of its start.
    pub start: u64,
    /// The offset of its end.
    pub end: u64,
}

impl Recorded {
    /// Reads the lines; `None` for what cannot be read back.
    pub fn lines(self, file: Arc<File>) -> impl Iterator<Item = Option<Line>> {
        let mut part = BufReader::with_capacity(CHUNK, Part { file, rest: self });
        let mut broken = false;
        let lines = iter::from_fn(move || {
            if broken {
                return None;
            }
            match line(&mut part) {
                Ok(line) => line.map(Some),
                Err(_) => {
                    broken = true;
                    Some(None)
                }
            }
        });
        // Empty ones end what was lost.
        let lines = lines.filter(|line| line.as_ref().is_none_or(|line| !line.is_empty()));
        lines.map(|line| serde_json::from_slice(&line?).ok())
    }
}

/// A part of a file as a reader.
struct Part {
    file: Arc<File>,
    rest: Recorded,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.rest.end.saturating_sub(self.rest.start);
        let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..length], self.rest.start)?;
        if read == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.rest.start += read as u64;
        Ok(read)
    }
}

/// Reads a line; an empty one if it is too long. `None` at the end.
fn line(file: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = file.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if line.pop_if(|last| *last == b'\n').is_none() && read as u64 == LONGEST_LINE {
        line = Vec::new();
        file.skip_until(b'\n')?;
    }
    Ok((read > 0).then_some(line))
}

/// Reads the first line.
pub(super) fn first(path: &Utf8Path) -> Option<RunStarted> {
    let recording = Files::of(path).and_then(Files::recording).ok()?;
    let line = line(&mut BufReader::new(recording)).ok()??;
    started(&line)
}

/// Reads a line that is the start of a run; `None` if it is not.
pub(super) fn started(line: &[u8]) -> Option<RunStarted> {
    let event: Event = serde_json::from_slice(line).ok()?;
    match event.kind {
        EventKind::RunStarted(run) => Some(*run),
        _ => None,
    }
}

/// The extent of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The number of tests whose result is in it.
    pub known: usize,
    /// The tests that were running at its end.
    pub running: Vec<TestId>,
    /// Whether it has the last event of the run.
    pub ended: bool,
}

/// Returns how far a recording goes.
pub(super) fn extent(path: &Utf8Path) -> io::Result<Extent> {
    #[derive(Deserialize)]
    struct Started {
        test: TestId,
    }
    let mut extent = Extent::default();
    for line in lines(path)? {
        match kind(&line) {
            Some(b"attempt-started") => {
                if let Ok(Started { test }) = serde_json::from_slice(&line)
                    && !extent.running.contains(&test)
                {
                    extent.running.push(test);
                }
            }
            Some(b"test-finished") => {
                if let Some(head) = Head::parse(&line) {
                    extent.known += 1;
                    extent.running.retain(|test| *test != head.test);
                }
            }
            Some(b"run-finished") => {
                extent.ended |= serde_json::from_slice::<Event>(&line).is_ok();
            }
            _ => {}
        }
    }
    Ok(extent)
}
