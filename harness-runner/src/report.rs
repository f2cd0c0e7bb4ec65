//! Turns the events of a run into what people and programs read.
//!
//! A [`Sink`] is handed every [`Event`] in order, on the main thread, and knows nothing but
//! events, captured output and its own options. Replaying the same events into a new sink
//! produces the same bytes.

mod account;
pub mod allure;
pub mod annotations;
mod attachments;
mod budget;
mod bytes;
pub mod captured;
pub mod causes;
pub mod chrome;
pub mod ctrf;
mod derived;
mod difference;
pub mod document;
pub mod earlier;
mod entry;
pub mod evidence;
pub mod extract;
mod failure;
pub mod feed;
pub mod findings;
pub mod first_failure;
mod fit;
pub mod html;
pub mod injected;
pub mod json;
pub mod junit;
mod leak;
pub mod less;
pub mod libtest_json;
pub mod links;
pub mod outlet;
pub mod progress;
mod result;
#[cfg(test)]
pub(crate) mod sample;
mod service;
mod share;
mod stuck;
pub mod style;
mod taskbar;
pub mod terminal;
#[cfg(test)]
mod tests;
pub mod trace_line;
pub mod violations;
mod wording;
mod wrapper;

pub(crate) use account::ending;
pub use bytes::size;
pub(crate) use failure::Reason;
pub use wording::{attempt_status, awaits_system, plural, signal_name, silent_binary};

use harness_metadata::{AttemptId, Event, EventKind, event::TestFinished};
use std::{
    io::{self, Read, Write},
    time::Duration,
};
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

    /// Writes out what is pending. The session calls this whenever its queue of events is empty.
    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Writes out what is known of a run that ends without its last event.
    fn close(&mut self) -> Result<(), SinkError> {
        self.flush()
    }

    /// Lets clocks on display advance to `at`, the active time of the run. The session calls this
    /// some ten times a second.
    fn tick(&mut self, at: Duration) -> Result<(), SinkError> {
        let _ = at;
        Ok(())
    }
}

/// Returns the attempt that an event ends.
pub(crate) fn ended_attempt(event: &Event) -> Option<AttemptId> {
    let (test, attempt) = match &event.kind {
        EventKind::AttemptFailed { test, attempt, .. } => (test, attempt.number),
        EventKind::TestFinished(finished) => (&finished.test, finished.attempts.last()?.number),
        EventKind::SetupFinished(finished) | EventKind::TeardownFinished(finished) => {
            (&finished.test, finished.attempt.number)
        }
        EventKind::ServiceFinished(finished) => (&finished.test, finished.attempt.number),
        _ => return None,
    };
    Some(AttemptId {
        test: test.clone(),
        attempt,
    })
}

/// One of the two captured streams.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The source of captured output for sinks.
pub trait Outputs {
    /// Opens what was kept of a stream; `None` if nothing was captured for this attempt.
    ///
    /// # Errors
    ///
    /// When kept output cannot be read back from its file.
    fn open(&self, attempt: &AttemptId, stream: Stream) -> io::Result<Option<Kept<'_>>>;

    /// Writes the kept trace of an attempt, a line for each event. Returns false if there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read back from its file, or not be written.
    fn write_trace(&self, _attempt: &AttemptId, _to: &mut dyn Write) -> io::Result<bool> {
        Ok(false)
    }
}

/// The kept part of a stream: its head and, if bytes were dropped in between, its tail.
pub struct Kept<'a> {
    /// The first bytes, exactly as written.
    pub head: Box<dyn Read + 'a>,
    /// The number of bytes dropped after the head.
    pub dropped: u64,
    /// The last bytes. Empty if nothing was dropped.
    pub tail: Box<dyn Read + 'a>,
}

impl Kept<'_> {
    /// Reads at most `cap` bytes: the first half of that from the head and the rest from the end,
    /// with the number of bytes left out in between.
    fn read_capped(mut self, cap: usize) -> io::Result<Excerpt> {
        let mut head = Vec::new();
        let half = cap / 2;
        (&mut self.head).take(half as u64).read_to_end(&mut head)?;
        let mut ring = Ring::new(cap - half);
        io::copy(&mut self.head, &mut ring)?;
        if self.dropped > 0 {
            // The dropped bytes lie between head and tail; what the ring still holds of the head
            // goes before them, so it joins the head if it fits there and is left out otherwise.
            let (bytes, cut) = ring.finish();
            let mut left_out = self.dropped + cut;
            if cut == 0 {
                head.extend_from_slice(&bytes);
            } else {
                left_out += bytes.len() as u64;
            }
            let mut ring = Ring::new(cap.saturating_sub(head.len()).max(cap - half));
            io::copy(&mut self.tail, &mut ring)?;
            let (tail, cut) = ring.finish();
            return Ok(Excerpt {
                head,
                left_out: left_out + cut,
                tail,
            });
        }
        let (tail, left_out) = ring.finish();
        if left_out == 0 {
            head.extend_from_slice(&tail);
            return Ok(Excerpt {
                head,
                left_out: 0,
                tail: Vec::new(),
            });
        }
        Ok(Excerpt {
            head,
            left_out,
            tail,
        })
    }
}

/// The two ends of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Excerpt {
    head: Vec<u8>,
    left_out: u64,
    tail: Vec<u8>,
}

impl Excerpt {
    /// Returns the part that holds the end of the stream.
    fn end(&self) -> &[u8] {
        if self.left_out == 0 {
            &self.head
        } else {
            &self.tail
        }
    }
}

/// Keeps the last bytes written to it.
struct Ring {
    bytes: std::collections::VecDeque<u8>,
    limit: usize,
    cut: u64,
}

impl Ring {
    fn new(limit: usize) -> Self {
        Self {
            bytes: std::collections::VecDeque::new(),
            limit,
            cut: 0,
        }
    }

    fn finish(self) -> (Vec<u8>, u64) {
        (self.bytes.into(), self.cut)
    }
}

impl io::Write for Ring {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..excess);
        self.cut += excess as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads an excerpt of a stream. A message stands in for a part that cannot be read back.
fn excerpt(outputs: &dyn Outputs, id: &AttemptId, stream: Stream, cap: usize) -> Option<Excerpt> {
    let read = outputs
        .open(id, stream)
        .and_then(|kept| kept.map(|kept| kept.read_capped(cap)).transpose());
    match read {
        Ok(excerpt) => excerpt,
        Err(error) => Some(Excerpt {
            head: format!("(output could not be read back: {error})\n").into_bytes(),
            ..Excerpt::default()
        }),
    }
}

/// A sink could not write.
#[derive(Debug, Error)]
#[error("failed to write {what}")]
pub struct SinkError {
    /// The output concerned, such as "to standard error" or "the JUnit report to `path`".
    pub what: String,
    /// The cause.
    pub source: io::Error,
}
