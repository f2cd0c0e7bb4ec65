//! The end of a service that tests want, and the results of these tests.

use super::super::{Action, Dispatcher, Occupancy, Occupant, cancel::SIGTERM};
use crate::run::unit::Force;
use harness_metadata::{
    Attempt, EventKind, Interruption, Outcome, StartFailure, Verdict,
    event::{AttemptStarted, CancelReason},
};
use std::time::Duration;

/// The time that tests have to fail by themselves after the end of a service that they use.
pub(super) const LOST_GRACE: Duration = Duration::from_secs(5);

/// The end of a service that tests wanted.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) problem: String,
    pub(super) at: Duration,
    /// Whether the tests that used it have been asked to end.
    pub(super) told: bool,
}

impl Dispatcher {
    /// A service has ended that tests want. Those that have not begun fail now, those that run have a
    /// moment to fail by themselves.
    pub(super) fn service_lost(
        &mut self,
        now: Duration,
        index: usize,
        problem: String,
        actions: &mut Vec<Action>,
    ) {
        let service = &mut self.services.all[index];
        let name = service.candidate.name.clone();
        let tests = service.candidate.tests.clone();
        service.lost = Some(Lost {
            problem: problem.clone(),
            at: now,
            told: false,
        });
        let waiting = self.slots.iter().filter(|(_, occupant)| {
            let waits = matches!(occupant.state, Occupancy::Waiting { .. });
            waits && tests.contains(&self.once(occupant.test)) && !occupant.attempts.is_empty()
        });
        let waiting: Vec<usize> = waiting.map(|(slot, _)| *slot).collect();
        for slot in waiting {
            self.test_over(slot, actions);
        }
        let message = format!("its service `{name}` {problem}");
        if self.limits.stress.is_some() {
            // There may be no end of tests that have not begun.
            self.cancel(CancelReason::SetupFailed, actions);
        }
        let unstarted: Vec<usize> = self.unstarted.iter().copied().collect();
        for test in unstarted {
            if self.cancelled.is_none() && tests.contains(&self.once(test)) {
                self.fail_unstarted(now, test, &message, actions);
            }
        }
    }

    /// Fails a test that cannot be started.
    fn fail_unstarted(
        &mut self,
        now: Duration,
        test: usize,
        message: &str,
        actions: &mut Vec<Action>,
    ) {
        self.unstarted.remove(&test);
        self.services.held.remove(&test);
        for group in self.groups.values_mut() {
            group.waiting.retain(|waiting| *waiting != test);
        }
        let slot = self.free_slot();
        let outcome = Outcome::StartFailed(StartFailure {
            message: message.to_owned(),
            errno: 0,
        });
        let attempt = self.attempt_without_report(now, now, 1, outcome, Verdict::Fail);
        let candidate = self.candidate(test);
        actions.push(Action::Emit(EventKind::AttemptStarted(AttemptStarted {
            test: self.id(test),
            attempt: 1,
            total_attempts: 1,
            slot,
            running: self.slots.len(),
            command: candidate.command.clone(),
        })));
        let occupant = Occupant {
            remote: false,
            test,
            weight: 0,
            group_slot: None,
            attempts: vec![attempt],
            state: Occupancy::Running { since: now },
        };
        self.result(slot, occupant, actions);
    }

    /// Ends the tests whose service has ended, if they have had the time to fail by themselves.
    pub(in crate::run::dispatch) fn end_bereft(
        &mut self,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        for index in 0..self.services.all.len() {
            let service = &mut self.services.all[index];
            let Some(lost) = &mut service.lost else {
                continue;
            };
            if lost.told || now < lost.at + LOST_GRACE {
                continue;
            }
            lost.told = true;
            let tests = &self.services.all[index].candidate.tests;
            let bereft = self.slots.iter();
            let bereft = bereft.filter(|(_, it)| tests.contains(&self.once(it.test)));
            actions.extend(bereft.map(|(slot, _)| Action::Interrupt {
                slot: *slot,
                by: Interruption::ServiceLost,
                force: Force::Signal(SIGTERM),
            }));
        }
    }

    /// Returns an attempt as it counts after the end of a service that its test uses: it has failed.
    pub(in crate::run::dispatch) fn judged_by_services(
        &self,
        test: usize,
        attempt: Attempt,
    ) -> Attempt {
        if !self.services.lost_by(test) {
            return attempt;
        }
        let outcome = match attempt.outcome {
            Outcome::Exited(exit) if exit.success() => Outcome::Interrupted {
                by: Interruption::ServiceLost,
                exit: Some(exit),
            },
            outcome => outcome,
        };
        let by_others = matches!(
            outcome,
            Outcome::Interrupted { by, .. } if by != Interruption::ServiceLost
        );
        Attempt {
            verdict: match by_others {
                true => attempt.verdict,
                false => Verdict::Fail,
            },
            outcome,
            ..attempt
        }
    }

    /// The slot of a service is lost. Returns whether it had one that is.
    pub(in crate::run::dispatch) fn service_slot_lost(
        &mut self,
        now: Duration,
        slot: usize,
        message: &str,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some((index, _)) = self.services.at(slot) else {
            return false;
        };
        let since = self.services.all[index].phase.since().unwrap_or(now);
        let outcome = Outcome::HarnessFault(harness_metadata::Fault {
            message: message.to_owned(),
        });
        let lost = self.attempt_without_report(now, since, 1, outcome, Verdict::Fail);
        self.service_over(now, slot, &lost, actions)
    }
}
