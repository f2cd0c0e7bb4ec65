//! The events on their way to the sinks, in bounded memory: a reader may be slow, or never read.
//!
//! Anything larger than a few megabytes stays in the recording; the queue has its position, and
//! adjacent positions become one.

use super::outputs::Place;
use crate::{run::live::Passage, store::Recorded};
use harness_metadata::Event;
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc},
    time::{Duration, Instant},
};

/// The most bytes of events on the way, as the recording has them.
const IN_MEMORY: usize = 4 * 1024 * 1024;

/// Events for the sinks.
#[derive(Debug)]
pub(super) enum Item {
    /// An event with what belongs to it.
    Event(Box<Whole>),
    /// Events in the recording, whose output the recording has, too.
    Recorded(Recorded),
}

/// An event with what belongs to it.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) event: Event,
    /// Its bytes in the recording.
    pub(super) size: usize,
    /// The output of the attempt that it ends.
    pub(super) place: Option<Arc<Place>>,
    /// As in [`crate::run::Told`].
    pub(super) passage: Option<Passage>,
    /// As in [`crate::run::Told`].
    pub(super) shown: Option<std_mpsc::SyncSender<()>>,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// The queue is no longer empty, or it is closed.
    filled: Condvar,
    /// The queue is closed. Apart, so that a reader that waits for the end of a batch is not woken for
    /// every event of it.
    closed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end at which events go in. The queue is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Entrance(Arc<Shared>);

/// The end at which events come out.
#[derive(Debug)]
pub(super) struct Exit(Arc<Shared>);

/// The result of waiting for an item.
#[derive(Debug)]
pub(super) enum Next {
    Item(Item),
    /// None has come in time.
    Late,
    /// None will come.
    Closed,
}

/// Makes a queue.
pub(super) fn queue() -> (Entrance, Exit) {
    let shared = Arc::<Shared>::default();
    (Entrance(Arc::clone(&shared)), Exit(shared))
}

impl Entrance {
    /// Returns whether an event of this size is to stay in the recording.
    pub(super) fn is_full(&self, size: usize) -> bool {
        let state = self.0.state();
        // One event alone always fits.
        state.bytes > 0 && state.bytes + size > IN_MEMORY
    }

    pub(super) fn push(&self, item: Item) {
        let mut state = self.0.state();
        let was_empty = state.items.is_empty();
        match item {
            Item::Recorded(new) => match state.items.back_mut() {
                Some(Item::Recorded(last)) if last.end == new.start => last.end = new.end,
                _ => state.items.push_back(Item::Recorded(new)),
            },
            Item::Event(whole) => {
                state.bytes += whole.size;
                state.items.push_back(Item::Event(whole));
            }
        }
        drop(state);
        if was_empty {
            self.0.filled.notify_one();
        }
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.filled.notify_one();
        self.0.closed.notify_one();
    }
}

impl Exit {
    /// Waits for an item.
    pub(super) fn next(&self, limit: Duration) -> Next {
        let mut state = self.0.state();
        let deadline = Instant::now() + limit;
        loop {
            if let Some(item) = take(&mut state) {
                return Next::Item(item);
            }
            if state.closed {
                return Next::Closed;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Late;
            }
            let waited = self.0.filled.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns an item that is there.
    pub(super) fn try_next(&self) -> Option<Item> {
        take(&mut self.0.state())
    }

    /// Waits for some time, or until the queue is closed.
    pub(super) fn wait_for_end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = self.0.state();
        while !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.closed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn take(state: &mut State) -> Option<Item> {
    let item = state.items.pop_front()?;
    if let Item::Event(whole) = &item {
        state.bytes -= whole.size;
    }
    Some(item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_metadata::EventKind;

    fn whole(running: usize, size: usize) -> Item {
        Item::Event(Box::new(Whole {
            event: Event {
                at: Duration::ZERO,
                kind: EventKind::Paused { running },
            },
            size,
            place: None,
            passage: None,
            shown: None,
        }))
    }

    #[test]
    fn what_does_not_fit_is_one_place_in_the_recording_and_the_order_is_kept() {
        let (entrance, exit) = queue();
        assert!(!entrance.is_full(IN_MEMORY + 1), "one alone always fits");
        entrance.push(whole(1, IN_MEMORY));
        assert!(entrance.is_full(1));
        for start in [100, 200, 300] {
            let end = start + 100;
            entrance.push(Item::Recorded(Recorded { start, end }));
        }
        let (start, end) = (900, 950);
        entrance.push(Item::Recorded(Recorded { start, end }));
        entrance.push(whole(2, 1));
        drop(entrance);
        let mut seen = Vec::new();
        while let Next::Item(item) = exit.next(Duration::from_secs(60)) {
            seen.push(match item {
                Item::Event(whole) => format!("{:?}", whole.event.kind),
                Item::Recorded(Recorded { start, end }) => format!("{start}..{end}"),
            });
        }
        let first = "Paused { running: 1 }";
        let last = "Paused { running: 2 }";
        assert_eq!(seen, [first, "100..400", "900..950", last]);
        assert_eq!(exit.0.state().bytes, 0);
        assert!(matches!(exit.next(Duration::ZERO), Next::Closed));
    }

    #[test]
    fn waiting_ends_when_the_queue_is_closed() {
        let (entrance, exit) = queue();
        assert!(matches!(exit.next(Duration::ZERO), Next::Late));
        let dropped = std::thread::spawn(move || drop(entrance));
        exit.wait_for_end(Duration::from_secs(60));
        assert!(matches!(exit.next(Duration::from_secs(60)), Next::Closed));
        dropped.join().unwrap();
    }
}
