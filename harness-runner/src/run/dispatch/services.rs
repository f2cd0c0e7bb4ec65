//! Decides when services start and end, and which tests wait for them.
//!
//! Services start once the setup scripts are up, all at the same time. Those of the whole run start at
//! once, those of a group or a binary when the first of their tests has its turn. A service ends as soon
//! as no test wants it any more.

mod ended;
mod lost;

use super::{
    Action, Dispatcher, StepCandidate, Variables,
    cancel::SIGTERM,
    readiness::{Conditions, Readiness, Step},
};
use crate::run::unit::Force;
use ended::ended;
use harness_metadata::{
    Attempt, EventKind, Interruption, Verdict,
    event::{
        CancelReason, OutputPolicy, RunningState, RunningTest, ServiceFinished, ServiceReady,
        ServiceStarted, UsedService,
    },
};
use lost::{LOST_GRACE, Lost};
use std::{collections::BTreeMap, time::Duration};

/// An instance of a service as the run sees it.
#[derive(Clone, Debug)]
pub(in crate::run) struct ServiceCandidate {
    pub(in crate::run) name: String,
    /// The group or the binary that it is for.
    pub(in crate::run) instance: Option<String>,
    pub(in crate::run) process: StepCandidate,
    pub(in crate::run) conditions: Conditions,
    pub(in crate::run) stop_signal: i32,
    /// The tests that want it.
    pub(in crate::run) tests: Vec<usize>,
    /// The setup scripts whose variables it has. Their teardowns wait for its end.
    pub(in crate::run) scripts: Vec<usize>,
    pub(in crate::run) output: OutputPolicy,
}

/// News of a service that starts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::run) enum Said {
    /// Its process has started.
    Begun,
    /// A line of its output matches.
    Line,
}

#[derive(Debug)]
enum Phase {
    Waiting,
    Starting {
        since: Duration,
        readiness: Readiness,
    },
    /// It is ready, and its variables are being read.
    Publishing {
        since: Duration,
    },
    Up {
        since: Duration,
    },
    /// It has been asked to end. `because` says why it has failed, if it has.
    Stopping {
        since: Duration,
        because: Option<String>,
    },
    Over,
}

impl Phase {
    fn since(&self) -> Option<Duration> {
        match self {
            Self::Starting { since, .. }
            | Self::Publishing { since }
            | Self::Up { since }
            | Self::Stopping { since, .. } => Some(*since),
            Self::Waiting | Self::Over => None,
        }
    }
}

#[derive(Debug)]
struct Service {
    candidate: ServiceCandidate,
    phase: Phase,
    /// The number of tests that want it and have no result.
    left: usize,
    /// Whether a test that has its turn wants it.
    asked: bool,
    /// Whether the process that finds out whether it is ready runs.
    probing: bool,
    environment: BTreeMap<String, String>,
    lost: Option<Lost>,
}

/// The services of a run.
#[derive(Debug, Default)]
pub(super) struct Services {
    all: Vec<Service>,
    /// The services of each test that wants some.
    of_tests: BTreeMap<usize, Vec<usize>>,
    /// The instances of tests that had their turn and wait for services, and the test of each.
    held: BTreeMap<usize, usize>,
    first_slot: usize,
    first_unit: usize,
    failed: Vec<String>,
}

impl Services {
    pub(super) fn new(
        candidates: Vec<ServiceCandidate>,
        first_slot: usize,
        first_unit: usize,
    ) -> Self {
        let mut of_tests = BTreeMap::<usize, Vec<usize>>::new();
        for (index, candidate) in candidates.iter().enumerate() {
            for test in &candidate.tests {
                of_tests.entry(*test).or_default().push(index);
            }
        }
        let all = candidates.into_iter().map(|candidate| Service {
            phase: Phase::Waiting,
            left: candidate.tests.len(),
            asked: candidate.instance.is_none(),
            probing: false,
            environment: BTreeMap::new(),
            lost: None,
            candidate,
        });
        Self {
            all: all.collect(),
            of_tests,
            held: BTreeMap::new(),
            first_slot,
            first_unit,
            failed: Vec::new(),
        }
    }

    fn slot(&self, unit: usize) -> usize {
        self.first_slot + unit - self.first_unit
    }

    /// Returns the service whose process, or whose probe, has a slot.
    fn at(&self, slot: usize) -> Option<(usize, bool)> {
        self.all.iter().enumerate().find_map(|(index, service)| {
            let is = |unit: usize| self.slot(unit) == slot;
            let probe = service.candidate.conditions.command.is_some_and(is);
            (probe || is(service.candidate.process.unit)).then_some((index, probe))
        })
    }

    fn wanted_by(&self, test: usize) -> &[usize] {
        self.of_tests.get(&test).map_or(&[], Vec::as_slice)
    }

    pub(super) fn are_over(&self) -> bool {
        let over = |service: &Service| matches!(service.phase, Phase::Over) && !service.probing;
        self.all.iter().all(over)
    }

    /// Returns whether a setup script is still wanted by a service that lives.
    pub(super) fn want_script(&self, script: usize) -> bool {
        let wants = |service: &Service| {
            !matches!(service.phase, Phase::Over) && service.candidate.scripts.contains(&script)
        };
        self.all.iter().any(wants)
    }

    pub(super) fn failed(&self) -> Vec<String> {
        self.failed.clone()
    }

    /// Notes the result of a test.
    pub(super) fn test_over(&mut self, test: usize) {
        for index in self.wanted_by(test).to_vec() {
            let left = &mut self.all[index].left;
            *left = left.saturating_sub(1);
        }
    }

    /// Keeps all until no test will run any more: there are further iterations.
    fn last_to_the_end(&mut self) {
        for service in &mut self.all {
            service.left = usize::MAX;
        }
    }

    fn is_ready_for(&self, test: usize) -> bool {
        let mut wanted = self.wanted_by(test).iter();
        wanted.all(|index| matches!(self.all[*index].phase, Phase::Up { .. }))
    }

    /// Returns whether a test has to wait for its services. It then comes back by [`Self::take_ready`].
    pub(super) fn hold(&mut self, instance: usize, test: usize) -> bool {
        let holds = !self.is_ready_for(test);
        if holds {
            self.held.insert(instance, test);
        }
        holds
    }

    /// Lets a test wait that has had its turn.
    pub(super) fn put_back(&mut self, instance: usize, test: usize) {
        self.held.insert(instance, test);
    }

    /// Takes the first test that has waited and waits no more.
    pub(super) fn take_ready(&mut self) -> Option<usize> {
        let mut held = self.held.iter();
        let (&instance, _) = held.find(|(_, test)| self.is_ready_for(**test))?;
        self.held.remove(&instance);
        Some(instance)
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Asks for the services of tests that wait. Of those that are for a group or a binary there are no
    /// more than `limit` at a time, unless `idle` says that nothing else goes on.
    fn ask(&mut self, limit: usize, idle: bool) {
        let lives = |service: &Service| {
            let over = matches!(service.phase, Phase::Over);
            service.candidate.instance.is_some() && service.asked && !over
        };
        let mut count = self.all.iter().filter(|service| lives(service)).count();
        let moves = |service: &Service| {
            let waits = matches!(service.phase, Phase::Waiting) && !service.asked;
            !waits && !matches!(service.phase, Phase::Up { .. } | Phase::Over)
        };
        let mut stuck = idle && !self.all.iter().any(moves);
        for test in self.held.values() {
            let wanted = self.of_tests.get(test).map_or(&[][..], Vec::as_slice);
            let new: Vec<usize> = wanted
                .iter()
                .copied()
                .filter(|index| !self.all[*index].asked)
                .collect();
            if new.is_empty() || (count >= limit && !stuck) {
                continue;
            }
            count += new.len();
            stuck = false;
            for index in new {
                self.all[index].asked = true;
            }
        }
    }

    /// Returns when something has to be done although nothing has happened.
    pub(super) fn deadline(&self, in_use: impl Fn(&[usize]) -> bool) -> Option<Duration> {
        let of = |service: &Service| match (&service.phase, &service.lost) {
            (Phase::Starting { readiness, .. }, _) => Some(readiness.deadline()),
            (Phase::Over, Some(lost)) if !lost.told && in_use(&service.candidate.tests) => {
                Some(lost.at + LOST_GRACE)
            }
            _ => None,
        };
        self.all.iter().filter_map(of).min()
    }

    /// Returns the services that run.
    pub(super) fn status(&self, now: Duration) -> impl Iterator<Item = RunningTest> {
        self.all.iter().filter_map(move |service| {
            let since = service.phase.since()?;
            Some(RunningTest {
                test: service.candidate.process.id.clone(),
                attempt: 1,
                slot: self.slot(service.candidate.process.unit),
                elapsed: now.saturating_sub(since),
                state: RunningState::Running,
                detail: None,
            })
        })
    }

    /// Returns the services that a test has used.
    pub(super) fn used_by(&self, test: usize) -> Vec<UsedService> {
        let used = self.wanted_by(test).iter().map(|index| {
            let service = &self.all[*index];
            UsedService {
                service: service.candidate.name.clone(),
                test: service.candidate.process.id.clone(),
                problem: service.lost.as_ref().map(|lost| lost.problem.clone()),
                last_lines: Vec::new(),
            }
        });
        used.collect()
    }

    /// Returns whether a service has ended that the test wants.
    pub(super) fn lost_by(&self, test: usize) -> bool {
        let mut wanted = self.wanted_by(test).iter();
        wanted.any(|index| self.all[*index].lost.is_some())
    }
}

impl Dispatcher {
    /// The run has these services. The process with unit `n` behind the tests gets slot `n` behind those
    /// of the tests.
    pub(in crate::run) fn with_services(mut self, candidates: Vec<ServiceCandidate>) -> Self {
        for candidate in &candidates {
            self.units += 1 + usize::from(candidate.conditions.command.is_some());
        }
        self.services = Services::new(candidates, self.all_slots(), self.tests.len());
        if self.limits.stress.is_some() {
            self.services.last_to_the_end();
        }
        self
    }

    /// Starts and ends services. Returns whether nothing of them is left to do.
    pub(super) fn run_services(&mut self, now: Duration, actions: &mut Vec<Action>) -> bool {
        if self.services.all.is_empty() {
            return true;
        }
        let idle = self.slots.is_empty();
        self.services.ask(self.limits.slots, idle);
        for index in 0..self.services.all.len() {
            let wanted = self.wants_service(index);
            let may_start = self.cancelled.is_none() && self.scripts.are_up();
            let service = &self.services.all[index];
            match service.phase {
                Phase::Waiting if !wanted => self.services.all[index].phase = Phase::Over,
                Phase::Waiting if may_start && service.asked => {
                    self.start_service(now, index, actions);
                }
                Phase::Starting { .. } | Phase::Publishing { .. } | Phase::Up { .. } if !wanted => {
                    self.stop_service(index, Interruption::NotWanted, None, actions);
                }
                _ => {}
            }
            self.probe_service(now, index, actions);
        }
        self.services.are_over()
    }

    /// Returns whether a test that runs, or will, wants a service.
    fn wants_service(&self, index: usize) -> bool {
        let service = &self.services.all[index];
        match self.cancelled {
            Some(_) => self.uses_any(&service.candidate.tests),
            None if service.left == usize::MAX => self.has_tests(),
            None => service.left > 0,
        }
    }

    /// Returns whether one of these tests has a slot.
    fn uses_any(&self, tests: &[usize]) -> bool {
        let mut running = self.slots.values();
        running.any(|occupant| tests.contains(&self.once(occupant.test)))
    }

    pub(super) fn services_deadline(&self) -> Option<Duration> {
        self.services.deadline(|tests| self.uses_any(tests))
    }

    fn start_service(&mut self, now: Duration, index: usize, actions: &mut Vec<Action>) {
        let service = &mut self.services.all[index];
        let readiness = Readiness::new(now, service.candidate.conditions.clone());
        let since = now;
        service.phase = Phase::Starting { since, readiness };
        let process = service.candidate.process.clone();
        let started = ServiceStarted {
            service: service.candidate.name.clone(),
            instance: service.candidate.instance.clone(),
            test: process.id.clone(),
            command: process.command.clone(),
        };
        actions.push(Action::Emit(EventKind::ServiceStarted(Box::new(started))));
        self.start_unit(process.unit, actions);
    }

    fn start_unit(&self, unit: usize, actions: &mut Vec<Action>) {
        actions.push(Action::Start {
            slot: self.services.slot(unit),
            test: unit,
            attempt: 1,
            total_attempts: 1,
            group_slot: None,
            remote: false,
        });
    }

    /// Does the next thing to learn whether a service is ready.
    fn probe_service(&mut self, now: Duration, index: usize, actions: &mut Vec<Action>) {
        let service = &mut self.services.all[index];
        let Phase::Starting { since, readiness } = &mut service.phase else {
            return;
        };
        let since = *since;
        match readiness.step(now) {
            Step::Wait => {}
            Step::Look => actions.push(Action::Look { service: index }),
            Step::Run { unit } => {
                service.probing = true;
                self.start_unit(unit, actions);
            }
            Step::Ready => {
                service.phase = Phase::Publishing { since };
                actions.push(Action::Publish { service: index });
            }
            Step::GiveUp(problem) => {
                let by = Interruption::NotWanted;
                self.stop_service(index, by, Some(problem), actions);
            }
        }
    }

    fn stop_service(
        &mut self,
        index: usize,
        by: Interruption,
        because: Option<String>,
        actions: &mut Vec<Action>,
    ) {
        let service = &mut self.services.all[index];
        let Some(since) = service.phase.since() else {
            return;
        };
        service.phase = Phase::Stopping { since, because };
        let signal = service.candidate.stop_signal;
        let (process, probing) = (service.candidate.process.unit, service.probing);
        let probe = service.candidate.conditions.command.filter(|_| probing);
        let units = [(process, signal)].into_iter();
        for (unit, signal) in units.chain(probe.map(|probe| (probe, SIGTERM))) {
            actions.push(Action::Interrupt {
                slot: self.services.slot(unit),
                by,
                force: Force::Signal(signal),
            });
        }
    }

    /// The process of the service in a slot has started, or a line of its output matches.
    pub(super) fn service_said(&mut self, slot: usize, what: Said) {
        if let Some((index, false)) = self.services.at(slot)
            && let Phase::Starting { readiness, .. } = &mut self.services.all[index].phase
        {
            match what {
                Said::Begun => readiness.begun(),
                Said::Line => readiness.line_seen(),
            }
        }
    }

    /// A look whether a service is ready came to this.
    pub(super) fn service_looked(
        &mut self,
        now: Duration,
        index: usize,
        answer: Result<(), String>,
    ) {
        if let Phase::Starting { readiness, .. } = &mut self.services.all[index].phase {
            readiness.answered(now, answer);
        }
    }

    /// The variables of a service that is ready have been read.
    pub(super) fn service_published(
        &mut self,
        now: Duration,
        index: usize,
        variables: Variables,
        actions: &mut Vec<Action>,
    ) {
        let service = &mut self.services.all[index];
        let Phase::Publishing { since } = service.phase else {
            return;
        };
        match variables {
            Ok(variables) => {
                service.phase = Phase::Up { since };
                service.environment = variables.clone();
                let ready = ServiceReady {
                    service: service.candidate.name.clone(),
                    test: service.candidate.process.id.clone(),
                    elapsed: now.saturating_sub(since),
                    environment: variables,
                };
                actions.push(Action::Emit(EventKind::ServiceReady(Box::new(ready))));
            }
            Err(problem) => {
                let by = Interruption::NotWanted;
                self.stop_service(index, by, Some(problem), actions);
            }
        }
    }

    /// The process of a service, or its probe, is over. Returns whether the slot is that of one.
    pub(super) fn service_over(
        &mut self,
        now: Duration,
        slot: usize,
        attempt: &Attempt,
        actions: &mut Vec<Action>,
    ) -> bool {
        match self.services.at(slot) {
            Some((index, true)) => {
                self.probe_over(now, index, attempt);
                true
            }
            Some((index, false)) => {
                actions.push(Action::Close { slot });
                let probe = self.services.all[index].candidate.conditions.command;
                actions.extend(probe.map(|unit| Action::Close {
                    slot: self.services.slot(unit),
                }));
                self.process_over(now, index, attempt.clone(), actions);
                true
            }
            None => false,
        }
    }

    fn probe_over(&mut self, now: Duration, index: usize, attempt: &Attempt) {
        let service = &mut self.services.all[index];
        service.probing = false;
        let Phase::Starting { readiness, .. } = &mut service.phase else {
            return;
        };
        if readiness.runs_command() {
            let answer = match attempt.verdict {
                Verdict::Pass => Ok(()),
                _ => Err(format!("its `ready.command` {}", ended(&attempt.outcome))),
            };
            readiness.answered(now, answer);
        }
    }

    fn process_over(
        &mut self,
        now: Duration,
        index: usize,
        attempt: Attempt,
        actions: &mut Vec<Action>,
    ) {
        let service = &mut self.services.all[index];
        let phase = std::mem::replace(&mut service.phase, Phase::Over);
        let how = ended(&attempt.outcome);
        let (problem, was_up) = match phase {
            Phase::Waiting | Phase::Over => return,
            Phase::Starting { .. } | Phase::Publishing { .. } => {
                (Some(format!("{how} before it was ready")), false)
            }
            Phase::Up { .. } => (Some(format!("{how} while tests wanted it")), true),
            Phase::Stopping { because, .. } => (because, false),
        };
        self.tell_service_over(index, attempt, problem.clone(), actions);
        let Some(problem) = problem else { return };
        match was_up {
            true => self.service_lost(now, index, problem, actions),
            false => self.cancel(CancelReason::SetupFailed, actions),
        }
    }

    fn tell_service_over(
        &mut self,
        index: usize,
        mut attempt: Attempt,
        problem: Option<String>,
        actions: &mut Vec<Action>,
    ) {
        let service = &self.services.all[index];
        attempt.verdict = match &problem {
            Some(_) => Verdict::Fail,
            None => Verdict::Pass,
        };
        let name = service.candidate.name.clone();
        let finished = ServiceFinished {
            service: name.clone(),
            instance: service.candidate.instance.clone(),
            test: service.candidate.process.id.clone(),
            command: service.candidate.process.command.clone(),
            attempt,
            problem,
            environment: service.environment.clone(),
            output: service.candidate.output,
        };
        if finished.problem.is_some() && !self.services.failed.contains(&name) {
            self.services.failed.push(name);
        }
        actions.push(Action::Emit(EventKind::ServiceFinished(Box::new(finished))));
    }

    /// Returns the slots of the services that a test uses.
    pub(in crate::run) fn service_slots(&self, test: usize) -> Vec<usize> {
        let used = self.services.wanted_by(test).iter();
        let unit = |index: &usize| self.services.all[*index].candidate.process.unit;
        used.map(|index| self.services.slot(unit(index))).collect()
    }
}
