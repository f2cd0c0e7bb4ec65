//! Sinks that hear of a run in one thread, and what goes wrong with them.

use super::outputs::{OutputStore, Place, Traced};
use crate::report::{Sink, SinkError, ended_attempt};
use harness_metadata::{AttemptId, Event, EventKind};
use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

/// Sinks that hear the same events, one after the other, and the output that they can ask for.
pub(super) struct Audience<S: Sink + ?Sized> {
    sinks: Vec<Box<S>>,
    store: OutputStore,
    /// The output that could not be written.
    pub(super) errors: Vec<SinkError>,
    /// True if a sink has panicked. It gets no more events; the others do.
    pub(super) panicked: bool,
}

impl<S: Sink + ?Sized> Audience<S> {
    pub(super) fn new(sinks: Vec<Box<S>>) -> Self {
        Self {
            sinks,
            store: OutputStore::default(),
            errors: Vec::new(),
            panicked: false,
        }
    }

    /// Remembers the trace of the attempt that the next event ends.
    pub(super) fn add_trace(&mut self, attempt: AttemptId, traced: Traced) {
        if !self.sinks.is_empty() {
            self.store.add_trace(attempt, traced);
        }
    }

    /// Tells all sinks of an event. The output of the attempt that it ends is in `place`.
    pub(super) fn hear(&mut self, event: &Event, place: Option<Arc<Place>>) {
        if let (Some(place), Some(attempt)) = (place, ended_attempt(event)) {
            self.store.add(attempt, place);
        }
        let store = &self.store;
        let handle = |sink: &mut S| sink.handle(event, store);
        each(
            &mut self.sinks,
            &mut self.errors,
            &mut self.panicked,
            handle,
        );
        if let EventKind::SetupFinished(script) | EventKind::TeardownFinished(script) = &event.kind
        {
            self.store.forget(&script.test, script.attempt.number);
        }
        if let EventKind::ServiceFinished(service) = &event.kind {
            self.store.forget(&service.test, service.attempt.number);
        }
        if let EventKind::TestFinished(test) = &event.kind {
            let attempts = test.attempts.last().map_or(0, |attempt| attempt.number);
            if !self.sinks.iter().any(|sink| sink.keeps_output(test)) {
                self.store.forget(&test.test, attempts);
            }
        }
    }

    /// Gives each sink its turn.
    pub(super) fn for_each(&mut self, turn: impl FnMut(&mut S) -> Result<(), SinkError>) {
        each(&mut self.sinks, &mut self.errors, &mut self.panicked, turn);
    }
}

impl<S: Sink + ?Sized> Default for Audience<S> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// Gives each sink its turn, and gathers what goes wrong.
fn each<S: Sink + ?Sized>(
    sinks: &mut Vec<Box<S>>,
    errors: &mut Vec<SinkError>,
    panicked: &mut bool,
    mut turn: impl FnMut(&mut S) -> Result<(), SinkError>,
) {
    sinks.retain_mut(|sink| {
        // A sink that panicked is not used again, and what it shares with others is only read.
        match panic::catch_unwind(AssertUnwindSafe(|| turn(&mut **sink))) {
            Ok(result) => {
                errors.extend(result.err());
                true
            }
            Err(_) => {
                *panicked = true;
                false
            }
        }
    });
}
