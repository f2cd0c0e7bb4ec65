//! Replays a recording: its events, with the captured output that they refer to, are handed to
//! sinks as the run handed them.
//!
//! A recording is a file that anybody can write. What is no event is left out and counted; where
//! there is nothing to begin with, an error says why.

use super::{
    PastRun, Presentation, SpooledOutput,
    files::{Files, PastOutput, write_trace},
    pack::Damage,
    recording,
    trace_files::KeptTrace,
};
use crate::report::{Kept, Outputs, Sink, SinkError, Stream, ended_attempt};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{
    AttemptId, Event, EventKind,
    event::{
        OLDEST_SCHEMA_VERSION, RunFinished, RunStarted, SCHEMA_VERSION, TestFinished, is_readable,
    },
};
use serde::Deserialize;
use std::{
    collections::HashMap,
    io::{self, Write},
};
use thiserror::Error;

/// The recording of a run, or a file of `--events`.
#[derive(Debug)]
pub struct Recording {
    /// The file.
    pub path: Utf8PathBuf,
    /// Its first event.
    pub started: RunStarted,
    /// The fault of its file, if all of it had to be searched for whole blocks.
    pub damage: Option<String>,
    output: Option<PastOutput>,
    presentation: Presentation,
}

/// The reason why a recording cannot be replayed.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("failed to read the recording `{path}`")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It is something else.
    #[error("`{path}` is no recording of a run: its first line is not the start of one")]
    NoStart {
        /// The file.
        path: Utf8PathBuf,
    },
    /// Its file cannot be read, though it begins as one.
    #[error(transparent)]
    Packed(PackError),
    /// Its events have another version.
    #[error(
        "`{path}` has events of version {version}, and this program reads versions \
         {OLDEST_SCHEMA_VERSION} to {SCHEMA_VERSION}"
    )]
    Version {
        /// The file.
        path: Utf8PathBuf,
        /// The version of its events.
        version: u64,
    },
}

/// The reason why the file of a run cannot be read.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct PackError(Damage);

/// The result of a replay.
#[derive(Debug, Default)]
pub struct Replayed {
    /// The last event of the run; `None` if the recording ends before that.
    pub finished: Option<RunFinished>,
    /// The numbers of the lines that are no events, from 1, and were left out.
    pub damaged: Vec<usize>,
    /// The output that could not be written.
    pub errors: Vec<SinkError>,
}

/// A line as it is replayed: those of `--events` carry output themselves.
#[derive(Deserialize)]
struct Line {
    #[serde(flatten)]
    event: Event,
    #[serde(flatten)]
    kept_trace: Option<KeptTrace>,
    #[serde(default)]
    kept_output: Option<SpooledOutput>,
    #[serde(default)]
    stdout: Option<String>,
    #[serde(default)]
    stderr: Option<String>,
}

/// The output of an attempt.
enum Place {
    Spooled(SpooledOutput),
    Embedded {
        stdout: Option<String>,
        stderr: Option<String>,
    },
}

/// The output that sinks can ask for.
struct PastOutputs<'a> {
    file: Option<&'a PastOutput>,
    kept: HashMap<AttemptId, Place>,
    /// The run, by its folder or pack, and where in it traces are.
    run: Option<&'a Utf8Path>,
    traces: HashMap<AttemptId, KeptTrace>,
}

impl Outputs for PastOutputs<'_> {
    fn open(&self, attempt: &AttemptId, stream: Stream) -> io::Result<Option<Kept<'_>>> {
        match (self.kept.get(attempt), self.file) {
            (Some(Place::Spooled(output)), Some(file)) => file.open(*output, stream).map(Some),
            (Some(Place::Spooled(_)), None) => Err(io::ErrorKind::NotFound.into()),
            (Some(Place::Embedded { stdout, stderr }), _) => {
                let text = match stream {
                    Stream::Stdout => stdout,
                    Stream::Stderr => stderr,
                };
                Ok(text.as_ref().map(|text| Kept {
                    head: Box::new(text.as_bytes()),
                    dropped: 0,
                    tail: Box::new(io::empty()),
                }))
            }
            (None, _) => Ok(None),
        }
    }

    fn write_trace(&self, attempt: &AttemptId, to: &mut dyn Write) -> io::Result<bool> {
        let Some((run, trace)) = self.run.zip(self.traces.get(attempt)) else {
            return Ok(false);
        };
        write_trace(run, trace, to).map(|()| true)
    }
}

/// The output of the attempt that a line of a recording ends.
pub(super) struct OneOutput<'a>(PastOutputs<'a>);

impl<'a> OneOutput<'a> {
    pub(super) fn of(file: Option<&'a PastOutput>, line: &[u8], finished: &TestFinished) -> Self {
        #[derive(Deserialize)]
        struct Kept {
            #[serde(default)]
            kept_output: Option<SpooledOutput>,
        }
        let kept: Option<Kept> = serde_json::from_slice(line).ok();
        let output = kept.and_then(|kept| kept.kept_output);
        let attempt = finished.attempts.last().map(|last| AttemptId {
            test: finished.test.clone(),
            attempt: last.number,
        });
        let kept = attempt.zip(output.map(Place::Spooled));
        Self(PastOutputs {
            file,
            kept: kept.into_iter().collect(),
            run: None,
            traces: HashMap::new(),
        })
    }
}

impl Outputs for OneOutput<'_> {
    fn open(&self, attempt: &AttemptId, stream: Stream) -> io::Result<Option<Kept<'_>>> {
        self.0.open(attempt, stream)
    }
}

impl Recording {
    /// Opens a file, or that in the folder of a run, or that in its pack.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no recording of this version.
    pub fn open(path: &Utf8Path) -> Result<Self, RecordingError> {
        let failed = |source: io::Error| match source.downcast::<Damage>() {
            Ok(damage) => RecordingError::Packed(PackError(damage)),
            Err(source) => RecordingError::Read {
                path: path.to_owned(),
                source,
            },
        };
        let files = Files::of(path).map_err(failed)?;
        let (damage, output) = (files.damage(), files.output().ok());
        let presentation = Presentation::of(&files);
        let path = files.path();
        let mut lines = recording::lines_of(files).map_err(failed)?;
        let first = lines.next().unwrap_or_default();
        let Some(started) = start(&first) else {
            return Err(match version(&first) {
                Some(version) if !u32::try_from(version).is_ok_and(is_readable) => {
                    RecordingError::Version { path, version }
                }
                _ => RecordingError::NoStart { path },
            });
        };
        Ok(Self {
            path,
            started,
            damage,
            output,
            presentation,
        })
    }

    /// Returns the options of the run's reports, as far as they are known.
    pub fn presentation(&self) -> Presentation {
        self.presentation.clone()
    }

    /// Hands all events to the sinks, each changed by `change`.
    ///
    /// # Errors
    ///
    /// When the recording cannot be read. What sinks could not write is in the result.
    pub fn replay(
        &self,
        sinks: &mut [Box<dyn Sink + '_>],
        change: &dyn Fn(&mut Event),
    ) -> Result<Replayed, RecordingError> {
        let lines = recording::lines(&self.path);
        let lines = lines.map_err(|source| RecordingError::Read {
            path: self.path.clone(),
            source,
        })?;
        let mut outputs = PastOutputs {
            file: self.output.as_ref(),
            kept: HashMap::new(),
            run: Some(&self.path),
            traces: HashMap::new(),
        };
        let mut replayed = Replayed::default();
        let mut last = 0;
        for (number, line) in (1..).zip(lines) {
            last = number;
            // An empty line ends what could not be written.
            if line.is_empty() {
                continue;
            }
            let Some(mut line) = whole(&line, number) else {
                replayed.damaged.push(number);
                continue;
            };
            change(&mut line.event);
            hear(line, &mut outputs, sinks, &mut replayed);
            if replayed.finished.is_some() {
                break;
            }
        }
        if replayed.finished.is_none() && replayed.damaged.last() == Some(&last) {
            // Its writer was killed there.
            replayed.damaged.pop();
        }
        for sink in sinks {
            let ended = match replayed.finished {
                Some(_) => sink.flush(),
                None => sink.close(),
            };
            replayed.errors.extend(ended.err());
        }
        replayed
            .errors
            .dedup_by(|one, other| one.what == other.what);
        Ok(replayed)
    }
}

impl PastRun {
    /// Opens its recording, to replay it.
    ///
    /// # Errors
    ///
    /// As for [`Recording::open`].
    pub fn open_recording(&self) -> Result<Recording, RecordingError> {
        Recording::open(&self.path)
    }
}

/// Reads a line; `None` if it is no event that can stand there.
fn whole(line: &[u8], number: usize) -> Option<Line> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let starts = matches!(line.event.kind, EventKind::RunStarted(_));
    (starts == (number == 1)).then_some(line)
}

/// Hands an event to all sinks.
fn hear(
    line: Line,
    outputs: &mut PastOutputs<'_>,
    sinks: &mut [Box<dyn Sink + '_>],
    replayed: &mut Replayed,
) {
    let event = line.event;
    let place = match (line.kept_output, line.stdout, line.stderr) {
        (Some(output), ..) => Some(Place::Spooled(output)),
        (None, None, None) => None,
        (None, stdout, stderr) => Some(Place::Embedded { stdout, stderr }),
    };
    if let Some(attempt) = ended_attempt(&event) {
        if let Some(trace) = line.kept_trace {
            outputs.traces.insert(attempt.clone(), trace);
        }
        if let Some(place) = place {
            outputs.kept.insert(attempt, place);
        }
    }
    for sink in sinks.iter_mut() {
        replayed.errors.extend(sink.handle(&event, outputs).err());
    }
    match event.kind {
        EventKind::TestFinished(test) if !sinks.iter().any(|sink| sink.keeps_output(&test)) => {
            for attempt in &test.attempts {
                let id = AttemptId {
                    test: test.test.clone(),
                    attempt: attempt.number,
                };
                outputs.kept.remove(&id);
                outputs.traces.remove(&id);
            }
        }
        EventKind::RunFinished(finished) => replayed.finished = Some(*finished),
        _ => {}
    }
}

fn start(line: &[u8]) -> Option<RunStarted> {
    let event: Event = serde_json::from_slice(line).ok()?;
    match event.kind {
        EventKind::RunStarted(started) if is_readable(started.schema_version) => Some(*started),
        _ => None,
    }
}

/// Returns the version of the events that a first line names.
fn version(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Start {
        event: String,
        schema_version: u64,
    }
    let start: Start = serde_json::from_slice(line).ok()?;
    (start.event == "run-started").then_some(start.schema_version)
}

#[cfg(test)]
mod tests;
