//! Writes the events of a run as lines of JSON, one event a line.
//!
//! Each line parses as an [`Event`] and has its number, `seq`, from 0: a reader that comes late, or loses
//! some, notices. The line of a finished or retried test that did not pass has `failure`, the reason in a
//! line and its place, and can carry two further strings, `stdout` and `stderr`: the output of its last
//! attempt, capped, with bytes that are not UTF-8 replaced. A stream that was not captured is absent.
//! What a live trace sees is left out: it is for people, and without bound.

use super::{
    Excerpt, Outputs, Sink, SinkError, Stream, excerpt,
    failure::{Failed, Reason},
    wording,
};
use harness_metadata::{
    AttemptId, Event, EventKind, Verdict,
    event::{RunStarted, SCHEMA_VERSION},
};
use serde::Serialize;
use std::io::{self, Write};

/// The captured output that is embedded in the lines.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum EmbeddedOutput {
    /// None.
    #[default]
    None,
    /// The output of attempts that did not pass, at most so many bytes a stream.
    Failures {
        /// The most bytes of one stream.
        cap: usize,
    },
}

/// The sink that writes JSON lines.
#[derive(Debug)]
pub struct JsonLines<W: Write> {
    writer: W,
    place: String,
    pending: Vec<u8>,
    embedded: EmbeddedOutput,
    /// The number of the next line.
    next: u64,
    workspace_root: String,
    /// The first error. Nothing is written after it. It is reported at the end: the run is about
    /// the tests.
    broken: Option<io::Error>,
    told: bool,
}

/// More than this is written without waiting for a flush.
const BATCH: usize = 64 * 1024;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    event: &'a Event,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
}

/// The reason of a failure.
#[derive(Serialize)]
struct Failure {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

impl Failure {
    /// Returns the reason of the test's attempt that an event ends, if it failed.
    fn of(event: &Event, workspace_root: &str, outputs: &dyn Outputs) -> Option<Self> {
        let reason = match &event.kind {
            EventKind::TestFinished(finished) => Reason::of(finished, workspace_root, outputs)?,
            EventKind::AttemptFailed { test, attempt, .. } => {
                let location = None;
                let failed = Failed {
                    test,
                    attempt,
                    location,
                };
                Reason::of_failed(&failed, workspace_root, outputs)
            }
            _ => return None,
        };
        let (file, line) = reason.place.unzip();
        Some(Self {
            message: reason.message,
            file,
            line,
        })
    }
}

impl<W: Write> JsonLines<W> {
    /// Returns a sink that writes to `writer`. Errors say that the events could not be written to
    /// this `place`, such as "`path`".
    pub fn new(writer: W, place: impl Into<String>, embedded: EmbeddedOutput) -> Self {
        Self {
            writer,
            place: place.into(),
            pending: Vec::new(),
            embedded,
            next: 0,
            workspace_root: String::new(),
            broken: None,
            told: false,
        }
    }

    /// Returns the writer. What was not flushed is lost.
    pub fn into_inner(self) -> W {
        self.writer
    }

    fn push(&mut self, event: &Event, outputs: &dyn Outputs) -> io::Result<()> {
        let current;
        let mut event = event;
        if let EventKind::RunStarted(run) = &event.kind {
            self.workspace_root.clone_from(&run.workspace_root);
            // An older recording is written in the form of today.
            current = Event {
                at: event.at,
                kind: EventKind::RunStarted(Box::new(RunStarted {
                    schema_version: SCHEMA_VERSION,
                    ..(**run).clone()
                })),
            };
            event = &current;
        }
        let (stdout, stderr) = self.embedded(event, outputs);
        let line = Line {
            event,
            seq: self.next,
            failure: Failure::of(event, &self.workspace_root, outputs),
            stdout,
            stderr,
        };
        serde_json::to_writer(&mut self.pending, &line)?;
        self.pending.push(b'\n');
        self.next += 1;
        Ok(())
    }

    fn write(&mut self) {
        if self.broken.is_none() && !self.told && !self.pending.is_empty() {
            let written = self
                .writer
                .write_all(&self.pending)
                .and_then(|()| self.writer.flush());
            self.broken = written.err();
        }
        self.pending.clear();
    }

    fn embedded(&self, event: &Event, outputs: &dyn Outputs) -> (Option<String>, Option<String>) {
        let EmbeddedOutput::Failures { cap } = self.embedded else {
            return (None, None);
        };
        let Some(id) = failed_attempt(event) else {
            return (None, None);
        };
        let read = |stream| excerpt(outputs, &id, stream, cap).map(|excerpt| text(&excerpt));
        (read(Stream::Stdout), read(Stream::Stderr))
    }
}

impl<W: Write> Sink for JsonLines<W> {
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError> {
        let is_live = matches!(
            event.kind,
            EventKind::AttemptTraced { .. } | EventKind::AttemptPrinted(_)
        );
        if is_live {
            return Ok(());
        }
        if let Err(error) = self.push(event, outputs) {
            self.broken.get_or_insert(error);
        }
        if self.pending.len() > BATCH {
            self.write();
        }
        match event.kind {
            EventKind::RunFinished(_) => self.close(),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.write();
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.write();
        match self.broken.take() {
            Some(source) => {
                self.told = true;
                Err(SinkError {
                    what: format!("all events to {}", self.place),
                    source,
                })
            }
            None => Ok(()),
        }
    }
}

/// Returns the lines of events whose output is not known, as this sink writes them.
pub fn lines(events: &[Event]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (seq, event) in (0..).zip(events) {
        let (stdout, stderr) = (None, None);
        let line = Line {
            event,
            seq,
            failure: None,
            stdout,
            stderr,
        };
        serde_json::to_writer(&mut lines, &line).expect("an event is JSON");
        lines.push(b'\n');
    }
    lines
}

fn failed_attempt(event: &Event) -> Option<AttemptId> {
    match &event.kind {
        EventKind::AttemptFailed { test, attempt, .. } => Some(AttemptId {
            test: test.clone(),
            attempt: attempt.number,
        }),
        EventKind::TestFinished(finished) if finished.verdict != Verdict::Pass => {
            let attempt = finished.attempts.last()?.number;
            Some(AttemptId {
                test: finished.test.clone(),
                attempt,
            })
        }
        EventKind::ServiceFinished(finished) if finished.problem.is_some() => Some(AttemptId {
            test: finished.test.clone(),
            attempt: finished.attempt.number,
        }),
        EventKind::SetupFinished(finished) | EventKind::TeardownFinished(finished)
            if finished.attempt.verdict != Verdict::Pass =>
        {
            Some(AttemptId {
                test: finished.test.clone(),
                attempt: finished.attempt.number,
            })
        }
        _ => None,
    }
}

fn text(excerpt: &Excerpt) -> String {
    let mut text = String::from_utf8_lossy(&excerpt.head).into_owned();
    if excerpt.left_out > 0 {
        text.push_str(&format!(
            "\n… {} left out …\n",
            wording::size(excerpt.left_out)
        ));
    }
    text.push_str(&String::from_utf8_lossy(&excerpt.tail));
    text
}
