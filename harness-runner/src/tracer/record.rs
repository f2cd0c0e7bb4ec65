//! Keeps what was seen: in bounded space as a summary, and in order in a file.

mod failures;
pub mod file;
mod loaded;
mod search;
mod summary;
#[cfg(test)]
mod tests;
mod uses;

pub use loaded::Loaded;
pub use search::Searches;

use super::Observer;
use file::{Header, Trailer, VERSION, Writer};
use harness_metadata::{
    TraceEvent, TraceEventKind, TraceSummary,
    event::TraceLevel,
    trace::{Backend, Doubt},
};
use std::{
    io,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use summary::Digest;

/// Reasons of one trace that are kept. There are fewer kinds of them.
const DOUBTS: usize = 32;

/// Records the trace of one attempt.
#[derive(Debug)]
pub struct Recorder {
    level: TraceLevel,
    backend: Backend,
    doubts: Vec<Doubt>,
    digest: Digest,
    file: Option<Writer>,
}

impl Recorder {
    /// Starts a record of an attempt whose root is `root`. The whole trace is added to `file`, which is
    /// made if it is not there when the first event is written out; `None` for a summary only.
    pub fn new(root: i32, level: TraceLevel, backend: Backend, file: Option<PathBuf>) -> Self {
        let file = file.map(|path| {
            let header = Header {
                version: VERSION,
                root,
                level,
                backend,
                started_at: SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default(),
            };
            Writer::new(path, header)
        });
        Self {
            level,
            backend,
            doubts: Vec::new(),
            digest: Digest::new(root),
            file,
        }
    }

    /// Has the times of the trace begin when its root was created, before there was a record. On a busy machine that
    /// is some ten milliseconds, and two traces could not be put in order.
    #[must_use]
    pub fn since(mut self, created: Instant) -> Self {
        if let Some(file) = &mut self.file {
            file.put_back(created.elapsed());
        }
        self
    }

    /// Adds a reason why the trace may lack something.
    pub fn doubt(&mut self, doubt: Doubt) {
        if self.doubts.len() < DOUBTS && !self.doubts.contains(&doubt) {
            self.doubts.push(doubt);
        }
    }

    /// Writes out what waits in memory. A disk that is full then shows in the summary.
    pub fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            file.flush();
        }
    }

    /// Returns what has been seen so far. What could not be written since the last
    /// [`Self::flush`] is not known yet.
    pub fn summary(&self) -> TraceSummary {
        let mut doubts = self.doubts.clone();
        let lost = self.file.as_ref().map_or(0, Writer::dropped);
        let mut summary = self.digest.summary();
        summary.dropped.events = lost;
        // What does not fit the summary is still in the file.
        let left_out = summary.dropped.processes + summary.dropped.files + summary.dropped.peers;
        if (lost > 0 || self.file.is_none() && left_out > 0) && !doubts.contains(&Doubt::Overflow) {
            doubts.push(Doubt::Overflow);
        }
        TraceSummary {
            level: self.level,
            backend: self.backend,
            doubts,
            ..summary
        }
    }

    /// Completes the file. Nothing is added to it afterwards.
    ///
    /// # Errors
    ///
    /// When something could not be written, which shows in the summary.
    pub fn complete(&mut self) -> io::Result<()> {
        let TraceSummary {
            doubts,
            counts,
            dropped,
            ..
        } = match &self.file {
            Some(file) if file.began() => self.totals(),
            _ => return Ok(()),
        };
        let trailer = Trailer {
            doubts,
            counts,
            dropped,
        };
        match &mut self.file {
            Some(file) => file.complete(&trailer),
            None => Ok(()),
        }
    }

    /// Returns the summary without its lists.
    fn totals(&self) -> TraceSummary {
        let mut totals = self.digest.totals();
        totals.dropped.events = self.file.as_ref().map_or(0, Writer::dropped);
        totals.doubts.clone_from(&self.doubts);
        if totals.dropped.events > 0 && !totals.doubts.contains(&Doubt::Overflow) {
            totals.doubts.push(Doubt::Overflow);
        }
        totals
    }
}

impl Observer for Recorder {
    fn event(&mut self, event: &TraceEvent) {
        if let TraceEventKind::Doubt(doubt) = &event.kind {
            self.doubt(doubt.clone());
        }
        self.digest.event(event);
        if let Some(file) = &mut self.file {
            file.event(event);
        }
    }

    fn loaded(&mut self, at: Duration, pid: i32, loaded: &Rc<Loaded>) {
        self.digest.loaded(at, pid, loaded);
        if let Some(file) = &mut self.file {
            file.loaded(at, pid, loaded);
        }
    }
}
