//! The HTML report: one file that opens from disk, without a network.
//!
//! The data of the run are in the page, compressed: an index of all tests, and the details of each test,
//! which are read when one is opened. The page's script makes text nodes of them, and never markup. Its
//! policy allows that script and that style, by their hashes, and nothing else.
//!
//! The report is written at the end of the run, and is whole or not there.

mod before;
mod details;
mod facts;
mod index;
mod page;
#[cfg(test)]
mod tests;

use super::{Outputs, Sink, SinkError, account, document::Document, earlier::EarlierRuns};
use before::Before;
use camino::Utf8PathBuf;
use details::Details;
use harness_metadata::{
    Event, EventKind, RunId, TestId,
    event::{AttemptStarted, TestFinished},
};
use index::Index;
use std::{
    collections::HashMap,
    io::{self, Write},
    time::Duration,
};

/// The sink that writes the HTML report.
#[derive(Debug)]
pub struct Html {
    path: Utf8PathBuf,
    /// The runs that the results are shown against.
    earlier: Option<Box<dyn EarlierRuns + Send>>,
    run: Option<RunId>,
    index: Index,
    details: Details,
    /// The starts of the attempts of running tests.
    running: HashMap<TestId, Vec<Started>>,
    at: Duration,
    written: bool,
}

/// The start of an attempt.
#[derive(Debug)]
struct Started {
    attempt: u32,
    slot: usize,
    at: Duration,
}

impl Html {
    /// Returns a sink that writes to a file.
    pub fn new(path: impl Into<Utf8PathBuf>) -> Self {
        let path = path.into();
        Self {
            details: Details::beside(&path),
            path,
            earlier: None,
            run: None,
            index: Index::default(),
            running: HashMap::new(),
            at: Duration::ZERO,
            written: false,
        }
    }

    /// Shows each test against its last result in these runs.
    #[must_use]
    pub fn against(self, earlier: impl EarlierRuns + Send + 'static) -> Self {
        Self {
            earlier: Some(Box::new(earlier)),
            ..self
        }
    }

    fn started(&mut self, started: &AttemptStarted) {
        let starts = self.running.entry(started.test.clone()).or_default();
        starts.push(Started {
            attempt: started.attempt,
            slot: started.slot,
            at: self.at,
        });
    }

    fn finished(&mut self, finished: &TestFinished, outputs: &dyn Outputs) {
        let starts = self.running.remove(&finished.test).unwrap_or_default();
        self.index.add(finished, &starts, self.at, outputs);
        self.details.add(finished, &starts, outputs);
    }

    fn write(&mut self) -> io::Result<()> {
        self.written = true;
        let mut document = Document::create(&self.path)?;
        self.index.end(self.at, &self.running);
        for _ in 0..self.index.len().saturating_sub(self.details.len()) {
            self.details.add_nothing();
        }
        let before = self.before();
        page::write(
            &mut document,
            &self.index.title(),
            &self.index.json(),
            &self.details.json(&before),
        )?;
        document.flush()?;
        document.finish()?;
        self.details.end();
        Ok(())
    }

    /// Returns the last results before this run, as JSON.
    fn before(&mut self) -> String {
        let mut before = Before::new(&self.index, &mut self.details);
        if let (Some(earlier), Some(run)) = (&self.earlier, self.run) {
            earlier.look(run, &mut before);
        }
        before.json()
    }
}

impl Sink for Html {
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError> {
        self.at = event.at;
        match &event.kind {
            EventKind::RunStarted(run) => {
                self.run = Some(run.run_id);
                self.index.begin(run);
            }
            EventKind::AttemptStarted(started) => self.started(started),
            EventKind::TestFinished(finished) => self.finished(finished, outputs),
            EventKind::TestSkipped {
                test,
                reason,
                ignore_reason,
                location,
                ..
            } => self.index.skip(
                test,
                &reason.to_string(),
                ignore_reason.as_deref(),
                location.as_ref(),
            ),
            EventKind::TestCached(cached) => {
                let why = account::cached(cached);
                self.index
                    .skip(&cached.test, &why, None, cached.location.as_ref());
            }
            EventKind::RunFinished(finished) => {
                self.index.finish(finished);
                return self.close();
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        if self.written {
            return Ok(());
        }
        self.write().map_err(|source| SinkError {
            what: format!("the HTML report to `{}`", self.path),
            source,
        })
    }
}
