//! Active time: time in which the run was not stopped.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// A stopwatch for the whole run. All deadlines are in its time.
pub(super) struct Clock {
    started: Instant,
    paused: Cell<Duration>,
    pause: Cell<Option<Instant>>,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            paused: Cell::default(),
            pause: Cell::default(),
        }
    }

    /// Returns the active time since the start.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.paused())
    }

    /// Returns for how long the clock has been stopped in all.
    pub(super) fn paused(&self) -> Duration {
        self.paused.get()
            + self
                .pause
                .get()
                .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Stops the clock, until [`Clock::resume`].
    pub(super) fn pause(&self) {
        if self.pause.get().is_none() {
            self.pause.set(Some(Instant::now()));
        }
    }

    pub(super) fn resume(&self) {
        if let Some(since) = self.pause.take() {
            self.paused.set(self.paused.get() + since.elapsed());
        }
    }

    /// Returns the moment at which the clock will show `at`, if it is running.
    pub(super) fn instant(&self, at: Duration) -> Option<Instant> {
        match self.pause.get() {
            Some(_) => None,
            None => self.started.checked_add(at)?.checked_add(self.paused.get()),
        }
    }
}
