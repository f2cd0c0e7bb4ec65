//! The events of a stop, from the handlers that find them to the observer.

use super::{Observer, record::Loaded, stop::Tracee};
use crate::sys::Tgid;
use harness_metadata::{TraceEvent, TraceEventKind};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// Events that the observer does not have yet, in order. Empty between two stops.
pub(super) struct Outbox {
    started: Instant,
    /// When the next events happened, if not now.
    date: Option<Duration>,
    /// When the last event happened.
    last: Duration,
    entries: Vec<Entry>,
}

enum Entry {
    Event(TraceEvent),
    Loaded {
        at: Duration,
        process: Tgid,
        loaded: Rc<Loaded>,
    },
}

impl Outbox {
    /// An outbox whose events are dated from here.
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            date: None,
            last: Duration::ZERO,
            entries: Vec::new(),
        }
    }

    /// Returns the time since the attempt began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Dates the next events to this time of the attempt, though not before the last one; `None` for now.
    pub(super) fn date(&mut self, date: Option<Duration>) {
        self.date = date.map(|date| date.max(self.last));
    }

    /// A task did something.
    pub(super) fn event(&mut self, tracee: Tracee, kind: TraceEventKind) {
        self.last = self.date.unwrap_or_else(|| self.started.elapsed());
        self.entries.push(Entry::Event(TraceEvent {
            at: self.last,
            pid: tracee.process.raw(),
            tid: tracee.tid.raw(),
            kind,
        }));
    }

    /// The loader of a process did exactly what was remembered.
    pub(super) fn loaded(&mut self, process: Tgid, loaded: &Rc<Loaded>) {
        self.entries.push(Entry::Loaded {
            at: self.started.elapsed(),
            process,
            loaded: Rc::clone(loaded),
        });
    }

    /// Hands everything to the observer.
    pub(super) fn deliver(&mut self, observer: &mut dyn Observer) {
        for entry in self.entries.drain(..) {
            match entry {
                Entry::Event(event) => observer.event(&event),
                Entry::Loaded {
                    at,
                    process,
                    loaded,
                } => observer.loaded(at, process.raw(), &loaded),
            }
        }
    }
}
