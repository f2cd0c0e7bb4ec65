//! Decides the life of a run: which test starts when and in which slot, what is retried, when the
//! run gives up, and when it is over.
//!
//! It is given the active time and what happened, and answers what to do. It starts nothing and
//! waits for nothing.

mod cancel;
mod group;
mod lost;
mod readiness;
mod results;
mod scarce;
mod scripts;
mod services;
mod slots;
mod stress;

use super::unit::Force;
use crate::config::settings::{MaxFail, TestSettings};
use chrono::{DateTime, FixedOffset};
use group::Group;
use harness_metadata::{
    Attempt, EventKind, Interruption, Location, Quarantine, RunStats, Survivor, TestId,
    event::{AttemptStarted, CancelReason, RunningState, RunningTest},
};
pub(super) use readiness::Conditions;
use scarce::Scarcity;
pub(crate) use scarce::Shortage;
use scripts::Scripts;
pub(super) use scripts::{ScriptCandidate, StepCandidate, Variables};
use services::Services;
pub(super) use services::{Said, ServiceCandidate};
use slots::Elsewhere;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use stress::Iterations;
pub use stress::{Stress, StressMode, Until};

/// A test as the run sees it.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) id: TestId,
    pub(super) location: Option<Arc<Location>>,
    pub(super) settings: Arc<TestSettings>,
    /// The bytes of memory that have to be available before it starts.
    pub(super) memory: u64,
    /// The entry of the quarantine that has it.
    pub(super) quarantine: Option<Box<Quarantine>>,
    pub(super) command: Vec<String>,
    /// Whether it may run elsewhere.
    pub(super) remote: bool,
}

/// The limits of the run.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Tests that can run at the same time.
    pub(super) slots: usize,
    /// Tests that can run elsewhere at the same time, beside those.
    pub(super) remote_slots: usize,
    /// CPUs of the machine.
    pub(super) cpus: usize,
    /// Bytes of memory for the tests that need some; `None` if that is not known.
    pub(super) memory: Option<u64>,
    pub(super) groups: BTreeMap<String, usize>,
    pub(super) max_fail: MaxFail,
    /// The iterations of a stress run.
    pub(super) stress: Option<Stress>,
    pub(super) global_timeout: Option<Duration>,
    /// Listed tests that do not run, for the counts.
    pub(super) skipped: usize,
    /// The start of the run, for attempts whose own start was not reported.
    pub(super) started_at: DateTime<FixedOffset>,
}

/// The event.
#[derive(Debug)]
pub(super) enum Input {
    /// The run begins.
    Begin,
    /// An attempt is over.
    AttemptOver {
        slot: usize,
        attempt: Box<Attempt>,
        /// Whether it never began, because the system did not have enough for it.
        refused: bool,
    },
    /// A setup script, its teardown or a process of a service is over.
    ScriptOver {
        slot: usize,
        attempt: Box<Attempt>,
        variables: Variables,
    },
    /// The last process of a setup script is gone. These were killed.
    ScriptEnded {
        slot: usize,
        survivors: Vec<Survivor>,
    },
    /// Something is heard of a service that starts.
    ServiceSaid { slot: usize, what: Said },
    /// The answer to [`Action::Look`].
    ServiceLooked {
        service: usize,
        answer: Result<(), String>,
    },
    /// The answer to [`Action::Publish`].
    ServicePublished {
        service: usize,
        variables: Variables,
    },
    /// A slot is gone, without a report of its attempt.
    SlotLost { slot: usize, message: String },
    /// The time of [`Dispatcher::deadline`] has come.
    Deadline,
    /// A signal asks the run to end.
    Shutdown { signal: i32 },
    /// Results can no longer be reported.
    ReportFailed,
}

/// The action to take.
#[derive(Debug)]
pub(super) enum Action {
    /// Start an attempt in a slot.
    Start {
        slot: usize,
        test: usize,
        attempt: u32,
        total_attempts: u32,
        group_slot: Option<usize>,
        /// Whether it runs elsewhere.
        remote: bool,
    },
    /// Interrupt the attempt in a slot.
    Interrupt {
        slot: usize,
        by: Interruption,
        force: Force,
    },
    /// Give up what a slot has: nothing will be started in it.
    Close { slot: usize },
    /// Kill what the setup script in a slot has left, and say so: [`Input::ScriptEnded`].
    End { slot: usize },
    /// Look whether the port and the path of a service are there.
    Look { service: usize },
    /// Read the variables of a service that is ready.
    Publish { service: usize },
    /// Tell the sinks.
    Emit(EventKind),
    /// The run is over.
    Finish {
        /// The signal of an impatient user: running attempts are not awaited.
        impatient: Option<i32>,
    },
}

/// A test that has a slot.
#[derive(Debug)]
struct Occupant {
    test: usize,
    weight: usize,
    /// Whether it runs elsewhere.
    remote: bool,
    group_slot: Option<usize>,
    attempts: Vec<Attempt>,
    state: Occupancy,
}

#[derive(Copy, Clone, Debug, PartialEq)]
enum Occupancy {
    Running {
        since: Duration,
    },
    /// Its next attempt starts then.
    Waiting {
        until: Duration,
    },
}

/// The state of a run.
#[derive(Debug)]
pub(super) struct Dispatcher {
    /// The tests of an iteration. A run that is no stress run has one.
    tests: Vec<Candidate>,
    /// The number of instances so far. Instance `n` is test `n % tests.len()` of iteration
    /// `n / tests.len()`, so a stress run without an end needs no memory for those that are over.
    instances: usize,
    /// The number of processes that there are for an iteration: its tests, and those of scripts.
    units: usize,
    /// The iterations of a stress run that have begun and are not over.
    iterations: Iterations,
    limits: Limits,
    /// Index of the first test that has not had its turn.
    next: usize,
    groups: BTreeMap<String, Group>,
    /// Occupants by slot number.
    slots: BTreeMap<usize, Occupant>,
    used: usize,
    elsewhere: Elsewhere,
    /// Bytes of memory that the tests with a slot need.
    used_memory: u64,
    scarcity: Scarcity,
    scripts: Scripts,
    services: Services,
    stats: RunStats,
    cancelled: Option<CancelReason>,
    shutdowns: u32,
    impatient: Option<i32>,
    /// The instances that no slot has had.
    unstarted: BTreeSet<usize>,
    finished: bool,
    random: fn() -> f64,
}

impl Dispatcher {
    /// A run of these tests in this order. `random` returns numbers in [0, 1), for jitter.
    pub(super) fn new(tests: Vec<Candidate>, limits: Limits, random: fn() -> f64) -> Self {
        let groups = limits
            .groups
            .iter()
            .map(|(name, limit)| (name.clone(), Group::new(*limit)));
        let iterations = limits.stress.and_then(|stress| stress.count()).unwrap_or(1);
        Self {
            next: 0,
            groups: groups.collect(),
            slots: BTreeMap::new(),
            used: 0,
            elsewhere: Elsewhere::new(&limits),
            used_memory: 0,
            scarcity: Scarcity::default(),
            scripts: Scripts::default(),
            services: Services::default(),
            stats: RunStats {
                selected: tests.len().saturating_mul(iterations),
                skipped: limits.skipped,
                ..RunStats::default()
            },
            cancelled: None,
            shutdowns: 0,
            impatient: None,
            unstarted: (0..tests.len()).collect(),
            finished: false,
            random,
            instances: tests.len(),
            units: tests.len(),
            iterations: Iterations::default(),
            tests,
            limits,
        }
    }

    /// Returns the counts so far.
    pub(super) fn stats(&self) -> RunStats {
        self.stats
    }

    /// Returns how many tests have a slot.
    pub(super) fn running(&self) -> usize {
        self.slots.len()
    }

    /// Returns the active time at which [`Input::Deadline`] is due.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let retries = self
            .slots
            .values()
            .filter_map(|occupant| match occupant.state {
                Occupancy::Waiting { until } => Some(until),
                Occupancy::Running { .. } => None,
            });
        let global = self
            .limits
            .global_timeout
            // A lesser reason lets tests run on, and those are still bounded by it.
            .filter(|_| self.cancelled < Some(CancelReason::GlobalTimeout))
            .filter(|_| self.has_tests());
        let waits = self.cancelled.is_none() && self.has_waiting();
        let reopens = self.scarcity.reopens_at().filter(|_| waits);
        let services = self.services_deadline();
        (retries.chain(global).chain(reopens)).chain(services).min()
    }

    /// Returns whether the next [`Input::Deadline`] ends the run for being out of time.
    pub(super) fn is_out_of_time(&self, now: Duration) -> bool {
        let limit = self.limits.global_timeout;
        limit.is_some_and(|limit| limit <= now)
            && self.has_tests()
            && self.cancelled < Some(CancelReason::GlobalTimeout)
    }

    /// Takes what happened, answers what to do, in order.
    pub(super) fn handle(&mut self, now: Duration, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.finished {
            return actions;
        }
        self.take(now, input, &mut actions);
        self.end_iterations(now, false, &mut actions);
        self.fill_slots(now, &mut actions);
        let stopped = self.run_services(now, &mut actions);
        let torn_down = self.run_scripts(now, &mut actions) && stopped;
        let torn_down = torn_down || self.impatient.is_some();
        let nothing_left = self.cancelled.is_some() || !self.has_waiting();
        if self.slots.is_empty() && nothing_left && torn_down && !self.finished {
            self.finish(now, &mut actions);
        }
        actions
    }

    fn take(&mut self, now: Duration, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Begin => {}
            Input::AttemptOver {
                slot,
                attempt,
                refused: true,
            } if self.cancelled.is_none() && self.others_run(slot) => {
                self.close_slot(now, slot, &attempt.outcome, actions);
            }
            Input::AttemptOver {
                slot,
                attempt,
                refused: true,
            } if self.cancelled.is_none() => {
                self.tell_of_scarcity(actions);
                self.nothing_to_be_had(now, slot, *attempt, actions);
            }
            Input::AttemptOver {
                slot,
                attempt,
                refused,
            } => {
                self.tell_of_scarcity(actions);
                if !refused {
                    self.scarcity.is_over();
                }
                self.attempt_over(now, slot, *attempt, actions);
            }
            Input::ScriptOver {
                slot,
                attempt,
                variables,
            } => {
                if !self.service_over(now, slot, &attempt, actions) {
                    self.script_over(slot, *attempt, variables, actions);
                }
            }
            Input::ScriptEnded { slot, survivors } => {
                self.script_ended(slot, survivors, actions);
            }
            Input::ServiceSaid { slot, what } => self.service_said(slot, what),
            Input::ServiceLooked { service, answer } => {
                self.service_looked(now, service, answer);
            }
            Input::ServicePublished { service, variables } => {
                self.service_published(now, service, variables, actions);
            }
            Input::SlotLost { slot, message } => self.slot_lost(now, slot, message, actions),
            Input::Deadline => self.deadline_reached(now, actions),
            Input::Shutdown { signal } => self.shutdown(now, signal, actions),
            Input::ReportFailed => {
                self.cancel(CancelReason::ReportFailed, actions);
            }
        }
    }

    /// Returns what has a slot.
    pub(super) fn status(&self, now: Duration) -> Vec<RunningTest> {
        let describe = |(slot, occupant): (&usize, &Occupant)| RunningTest {
            test: self.id(occupant.test),
            attempt: self.attempt_number(occupant),
            slot: *slot,
            elapsed: match occupant.state {
                Occupancy::Running { since } => now.saturating_sub(since),
                Occupancy::Waiting { .. } => Duration::ZERO,
            },
            state: match occupant.state {
                Occupancy::Running { .. } => RunningState::Running,
                Occupancy::Waiting { .. } => RunningState::Waiting,
            },
            detail: None,
        };
        let scripts = self.scripts.status(now);
        let services = self.services.status(now);
        (self.slots.iter().map(describe))
            .chain(scripts)
            .chain(services)
            .collect()
    }

    fn attempt_number(&self, occupant: &Occupant) -> u32 {
        u32::try_from(occupant.attempts.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1)
    }

    /// Returns whether a test runs or waits.
    fn has_tests(&self) -> bool {
        !self.slots.is_empty() || self.has_waiting()
    }

    fn has_waiting(&self) -> bool {
        self.next < self.instances
            || self.groups.values().any(|group| !group.waiting.is_empty())
            || self.scarcity.has_waiting()
            || self.services.has_waiting()
            || !self.elsewhere.waiting.is_empty()
    }

    fn start(&mut self, now: Duration, slot: usize, actions: &mut Vec<Action>) {
        let running = self.slots.len();
        let Some(occupant) = self.slots.get_mut(&slot) else {
            return;
        };
        occupant.state = Occupancy::Running { since: now };
        let (test, group_slot, remote) = (occupant.test, occupant.group_slot, occupant.remote);
        let attempt = u32::try_from(occupant.attempts.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let candidate = self.candidate(test);
        let total_attempts = total_attempts(&candidate.settings);
        // Told first: what a test prints without capture comes after its name.
        actions.push(Action::Emit(EventKind::AttemptStarted(AttemptStarted {
            test: self.id(test),
            attempt,
            total_attempts,
            slot,
            running,
            command: candidate.command.clone(),
        })));
        actions.push(Action::Start {
            slot,
            test: self.unit(test),
            attempt,
            total_attempts,
            group_slot,
            remote,
        });
    }
}

fn total_attempts(settings: &TestSettings) -> u32 {
    settings.retries.count().saturating_add(1)
}

#[cfg(test)]
pub(super) mod tests;
