//! Keeps a run for later: the recording of its events, and what they refer to.

use crate::store::{self, Belongings, KeepError, Spool, SpooledOutput};
use harness_metadata::{Event, EventKind, TestId};
use std::collections::HashMap;

/// Writes a run into the store, as far as that goes: what cannot be kept does not end the run that
/// it is about.
#[derive(Default)]
pub(super) struct Keeping {
    run: Option<store::Run>,
    /// The number of the first attempt of every test that is traced.
    numbers: HashMap<TestId, u64>,
    broken: Option<KeepError>,
}

impl Keeping {
    pub(super) fn new(run: Result<store::Run, KeepError>, numbers: HashMap<TestId, u64>) -> Self {
        let (run, broken) = match run {
            Ok(run) => (Some(run), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            run,
            numbers,
            broken,
        }
    }

    /// Returns where captured output is to be kept.
    pub(super) fn spool(&self) -> Spool {
        self.run
            .as_ref()
            .map_or_else(Spool::default, store::Run::spool)
    }

    /// Adds an event, and where the output of the attempt is that it ends.
    pub(super) fn record(&mut self, event: &Event, output: Option<SpooledOutput>) {
        let Some(run) = &mut self.run else { return };
        let ended = match &event.kind {
            EventKind::AttemptFailed { test, attempt, .. } => Some((test, &**attempt)),
            EventKind::TestFinished(finished) => {
                finished.attempts.last().map(|last| (&finished.test, last))
            }
            // For people, and without bound.
            EventKind::AttemptTraced { .. } => return,
            _ => None,
        };
        let trace = ended.and_then(|(test, attempt)| {
            let first = self.numbers.get(test)?;
            Some(first + u64::from(attempt.number) - 1)
        });
        let recorded = run.record(event, Belongings { trace, output });
        self.note(recorded);
    }

    /// Writes out what waits.
    pub(super) fn flush(&mut self) {
        if let Some(run) = &mut self.run {
            let flushed = run.flush();
            self.note(flushed);
        }
    }

    /// The run is over, and everybody has been told. Returns why it is not kept whole, if so.
    pub(super) fn end(mut self) -> Option<KeepError> {
        if let Some(run) = self.run.take() {
            let ended = run.end();
            self.note(ended);
        }
        self.broken
    }

    fn note(&mut self, done: Result<(), KeepError>) {
        if let Err(error) = done {
            self.broken.get_or_insert(error);
        }
    }
}
