//! Turns the events of a run into what people and programs read.
//!
//! A [`Sink`] is handed every [`Event`] in order, on the main thread, and knows nothing but
//! events, captured output and its own options. Replaying the same events into a new sink
//! produces the same bytes.

use harness_metadata::{AttemptId, Event, event::TestFinished};
use std::io::{self, Read};
use thiserror::Error;

/// Something that turns events into output.
pub trait Sink {
    /// Handles one event. Captured output can be read from `outputs` for the attempts that the
    /// event speaks of, and at the end of the run for those that [`Sink::keeps_output`] asked for.
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError>;

    /// Returns whether the output of this test's attempts will be read again at the end of the
    /// run. What no sink keeps is forgotten as soon as the event has been handled.
    fn keeps_output(&self, finished: &TestFinished) -> bool {
        let _ = finished;
        false
    }
}

/// One of the two captured streams.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where sinks read captured output.
pub trait Outputs {
    /// Opens what was kept of a stream; `None` if nothing was captured for this attempt.
    ///
    /// # Errors
    ///
    /// When kept output cannot be read back from its file.
    fn open(&self, attempt: &AttemptId, stream: Stream) -> io::Result<Option<Kept<'_>>>;
}

/// What was kept of a stream: its head and, if bytes were dropped in between, its tail.
pub struct Kept<'a> {
    /// The first bytes, exactly as written.
    pub head: Box<dyn Read + 'a>,
    /// How many bytes were dropped after the head.
    pub dropped: u64,
    /// The last bytes. Empty if nothing was dropped.
    pub tail: Box<dyn Read + 'a>,
}

/// A sink could not write.
#[derive(Debug, Error)]
#[error("failed to write {what}")]
pub struct SinkError {
    /// What was being written, such as "to standard error" or "the JUnit report to `path`".
    pub what: String,
    /// Why it failed.
    pub source: io::Error,
}
