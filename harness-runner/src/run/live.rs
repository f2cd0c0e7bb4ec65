//! Passes on what a live trace sees and what tests print, as much as the sinks can keep up with.
//!
//! A test can do more than a terminal can show. Neither it nor its tracer waits for the terminal:
//! the queue is bounded, and events that do not fit are counted and shown as a gap.

mod printed;

pub(super) use printed::{Lines, Printed};

use harness_metadata::TraceEvent;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The most events on the way to the sinks, of all tests together.
const ON_THE_WAY: usize = 20_000;

/// The number of events that are on the way to the sinks.
#[derive(Clone, Debug, Default)]
pub(super) struct Road(Arc<AtomicUsize>);

impl Road {
    /// Returns a place for so many, if there are no more than `most` then. They always fit alone.
    fn enter(&self, count: usize, most: usize) -> Option<Passage> {
        let before = self.0.fetch_add(count, Ordering::Relaxed);
        let passage = Passage {
            road: Arc::clone(&self.0),
            events: count,
        };
        (before == 0 || before + count <= most).then_some(passage)
    }
}

/// A place on the way for some events. It is free again when this is dropped.
#[derive(Debug)]
pub struct Passage {
    road: Arc<AtomicUsize>,
    events: usize,
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.road.fetch_sub(self.events, Ordering::Relaxed);
    }
}

/// Some events that an attempt's trace saw, on their way.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) events: Vec<TraceEvent>,
    /// The number of events before these that did not fit.
    pub(super) dropped: u64,
    pub(super) passage: Passage,
}

/// The live trace of one attempt.
#[derive(Debug, Default)]
pub(super) struct Live {
    road: Road,
    dropped: u64,
}

impl Live {
    pub(super) fn new(road: &Road) -> Self {
        Self {
            road: road.clone(),
            dropped: 0,
        }
    }

    /// Returns the events as a batch, if there is room for them.
    pub(super) fn pass(&mut self, events: Vec<TraceEvent>) -> Option<Batch> {
        let count = events.len();
        let Some(passage) = self.road.enter(count, ON_THE_WAY) else {
            self.dropped += count as u64;
            return None;
        };
        Some(Batch {
            events,
            dropped: std::mem::take(&mut self.dropped),
            passage,
        })
    }

    /// Returns the batch that tells of what did not fit since the last one, if anything.
    pub(super) fn end(&mut self) -> Option<Batch> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then(|| Batch {
            events: Vec::new(),
            dropped,
            passage: Passage {
                road: Arc::clone(&self.road.0),
                events: 0,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_metadata::TraceEventKind;
    use std::time::Duration;

    fn events(count: usize) -> Vec<TraceEvent> {
        let event = TraceEvent {
            at: Duration::ZERO,
            pid: 1,
            tid: 1,
            kind: TraceEventKind::ThreadEnded,
        };
        vec![event; count]
    }

    #[test]
    fn what_the_sinks_cannot_take_is_counted_and_told_with_what_they_can() {
        let road = Road::default();
        let (mut one, mut other) = (Live::new(&road), Live::new(&road));
        let first = one.pass(events(ON_THE_WAY)).unwrap();
        assert!(other.pass(events(3)).is_none());
        assert!(other.pass(events(4)).is_none());
        drop(first);
        let next = other.pass(events(5)).unwrap();
        assert_eq!((next.events.len(), next.dropped), (5, 7));
        assert!(other.end().is_none());
    }

    #[test]
    fn a_gap_at_the_end_is_told_at_the_end() {
        let road = Road::default();
        let mut live = Live::new(&road);
        let first = live.pass(events(1)).unwrap();
        assert!(live.pass(events(ON_THE_WAY)).is_none());
        assert_eq!(live.end().unwrap().dropped, ON_THE_WAY as u64);
        drop(first);
        // Larger than all there is room for, but alone.
        assert!(live.pass(events(ON_THE_WAY + 1)).is_some());
        assert_eq!(road.0.load(Ordering::Relaxed), 0);
    }
}
