//! Runs all tests again and again. Each iteration has instances of its own, whose ids end in
//! `@stress-N`, from 0.

use super::{Action, Candidate, Dispatcher};
use harness_metadata::{
    EventKind, RunStats, TestId,
    event::{IterationFinished, StressStarted, TestFinished},
};
use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

/// The iterations of a run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Stress {
    /// When no further iteration begins.
    pub until: Until,
    /// When the next one begins.
    pub mode: StressMode,
}

/// When no further iteration begins. A run that gives up begins none either.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// After so many.
    Count(NonZeroU32),
    /// After so much active time.
    Time(Duration),
    /// Not before the run is ended.
    Ended,
}

/// When the next iteration begins.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StressMode {
    /// When the one before is over.
    Serial,
    /// When a slot is free: no slot waits for the slowest test.
    Parallel,
}

impl Stress {
    /// Returns the number of iterations, if that is known.
    pub fn count(&self) -> Option<usize> {
        match self.until {
            Until::Count(count) => Some(usize::try_from(count.get()).unwrap_or(usize::MAX)),
            Until::Time(_) | Until::Ended => None,
        }
    }

    /// Returns the form in which events have it.
    pub(crate) fn started(&self) -> StressStarted {
        StressStarted {
            iterations: self.count(),
            time: match self.until {
                Until::Time(time) => Some(time),
                Until::Count(_) | Until::Ended => None,
            },
            parallel: self.mode == StressMode::Parallel,
        }
    }

    /// Returns the number of iterations, in the form that tests read.
    pub(in crate::run) fn total(&self) -> String {
        let count = self.count();
        count.map_or_else(|| "infinite".to_owned(), |count| count.to_string())
    }
}

/// An iteration that has begun.
#[derive(Debug)]
struct Iteration {
    began: Duration,
    stats: RunStats,
}

/// The iterations that have begun and are not over, by number.
#[derive(Debug, Default)]
pub(super) struct Iterations(BTreeMap<usize, Iteration>);

impl Iterations {
    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.0.len()
    }

    /// Counts the result of a test.
    pub(super) fn count(&mut self, number: usize, finished: &TestFinished) {
        if let Some(iteration) = self.0.get_mut(&number) {
            iteration.stats.add(finished);
        }
    }
}

impl Dispatcher {
    /// Returns the index of an instance's test.
    pub(super) fn once(&self, instance: usize) -> usize {
        instance % self.tests.len()
    }

    /// Returns the test of an instance, whose id is that of [`Self::id`].
    pub(super) fn candidate(&self, instance: usize) -> &Candidate {
        &self.tests[self.once(instance)]
    }

    /// Returns the id of an instance.
    pub(super) fn id(&self, instance: usize) -> TestId {
        let id = &self.candidate(instance).id;
        match self.limits.stress {
            Some(_) => id.of_iteration(instance / self.tests.len()),
            None => id.clone(),
        }
    }

    /// Returns the index by which an instance is started: the processes of each iteration follow those of
    /// the one before.
    pub(super) fn unit(&self, instance: usize) -> usize {
        instance / self.tests.len() * self.units + self.once(instance)
    }

    /// Begins another iteration, if it is time. Returns whether it did.
    pub(super) fn begin_iteration(&mut self, now: Duration) -> bool {
        let tests = self.tests.len();
        let Some(stress) = self.limits.stress.filter(|_| tests > 0) else {
            return false;
        };
        let number = self.instances / tests;
        let further = match stress.until {
            Until::Count(_) => stress.count().is_some_and(|count| number < count),
            Until::Time(limit) => now < limit,
            Until::Ended => true,
        };
        let waits = self.has_waiting() || stress.mode == StressMode::Serial && self.used > 0;
        if !further || waits {
            return false;
        }
        self.unstarted
            .extend(self.instances..self.instances + tests);
        self.instances += tests;
        self.stats.selected = self.stats.selected.max(self.instances);
        true
    }

    /// The first test of an iteration starts, or another one.
    pub(super) fn iteration_started(&mut self, began: Duration, instance: usize) {
        if self.limits.stress.is_some() {
            let selected = self.tests.len();
            let number = instance / selected;
            self.iterations.0.entry(number).or_insert(Iteration {
                began,
                stats: RunStats {
                    selected,
                    skipped: self.limits.skipped,
                    ..RunStats::default()
                },
            });
        }
    }

    /// Tells of the iterations whose tests all have a result, or of all that have some.
    pub(super) fn end_iterations(&mut self, now: Duration, all: bool, actions: &mut Vec<Action>) {
        let is_over = |_: &usize, iteration: &mut Iteration| {
            all || iteration.stats.finished == iteration.stats.selected
        };
        for (number, iteration) in self.iterations.0.extract_if(.., is_over) {
            let finished = IterationFinished {
                iteration: number,
                elapsed: now.saturating_sub(iteration.began),
                stats: iteration.stats,
            };
            actions.push(Action::Emit(EventKind::IterationFinished(Box::new(
                finished,
            ))));
        }
    }
}
