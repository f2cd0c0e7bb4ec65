//! The results of attempts, of tests and of the run.

use super::{Action, Dispatcher, Occupancy, Occupant, total_attempts};
use crate::config::settings::{FlakyResult, MaxFail, TerminateMode};
use harness_metadata::{
    Attempt, EventKind, Verdict,
    event::{CancelReason, Findings, RunFinished, TestFinished},
};
use std::time::Duration;

impl Dispatcher {
    pub(super) fn attempt_over(
        &mut self,
        now: Duration,
        slot: usize,
        attempt: Attempt,
        actions: &mut Vec<Action>,
    ) {
        let Some(test) = self.slots.get(&slot).map(|occupant| occupant.test) else {
            return;
        };
        let attempt = self.judged_by_services(self.once(test), attempt);
        let lost = self.services.lost_by(self.once(test));
        let Some(occupant) = self.slots.get_mut(&slot) else {
            return;
        };
        let candidate = &self.tests[test % self.tests.len()];
        let number = attempt.number;
        let total_attempts = total_attempts(&candidate.settings);
        let again = attempt.verdict == Verdict::Fail
            && number < total_attempts
            && self.cancelled.is_none()
            && !lost;
        if !again {
            occupant.attempts.push(attempt);
            self.test_over(slot, actions);
            return;
        }
        let (delay, jitter) = candidate.settings.retries.delay_after(number);
        let delay = if jitter {
            delay.mul_f64(1.0 - (self.random)() / 2.0)
        } else {
            delay
        };
        occupant.attempts.push(attempt.clone());
        occupant.state = Occupancy::Waiting { until: now + delay };
        let output = candidate.settings.output;
        actions.push(Action::Emit(EventKind::AttemptFailed {
            test: self.id(test),
            attempt: Box::new(attempt),
            total_attempts,
            delay,
            output,
        }));
        if delay.is_zero() {
            self.start(now, slot, actions);
        }
    }

    /// Ends the test in a slot with the attempts that it has.
    pub(super) fn test_over(&mut self, slot: usize, actions: &mut Vec<Action>) {
        if let Some(occupant) = self.vacate(slot) {
            self.result(slot, occupant, actions);
        }
    }

    /// Tells the result of a test that has given up its slot.
    pub(super) fn result(&mut self, slot: usize, occupant: Occupant, actions: &mut Vec<Action>) {
        self.scripts.test_over(occupant.test);
        self.services.test_over(self.once(occupant.test));
        let candidate = self.candidate(occupant.test);
        let last = occupant
            .attempts
            .last()
            .map_or(Verdict::Interrupted, |last| last.verdict);
        let flaky = last == Verdict::Pass && occupant.attempts.len() > 1;
        let verdict = match last {
            Verdict::Pass if flaky && candidate.settings.flaky_result == FlakyResult::Fail => {
                Verdict::Fail
            }
            // The run was cancelled during a further attempt: the test had failed before.
            Verdict::Interrupted if occupant.attempts.len() > 1 => Verdict::Fail,
            verdict => verdict,
        };
        let quarantine = candidate.quarantine.clone();
        let verdict = match (verdict, &quarantine) {
            (Verdict::Fail, Some(entry)) if !entry.expired => Verdict::Quarantined,
            (verdict, _) => verdict,
        };
        let mut finished = TestFinished {
            test: self.id(occupant.test),
            location: candidate.location.as_deref().cloned(),
            total_attempts: total_attempts(&candidate.settings),
            attempts: occupant.attempts,
            verdict,
            quarantine,
            slot,
            output: candidate.settings.output,
            stats: self.stats,
            running: self.slots.len(),
            services: match verdict {
                Verdict::Pass => Vec::new(),
                _ => self.services.used_by(self.once(occupant.test)),
            },
        };
        self.stats.add(&finished);
        finished.stats = self.stats;
        let iteration = occupant.test / self.tests.len();
        self.iterations.count(iteration, &finished);
        actions.push(Action::Emit(EventKind::TestFinished(Box::new(finished))));
        if verdict == Verdict::Fail
            && let MaxFail::Count {
                max_fail,
                terminate,
            } = self.limits.max_fail
            && self.stats.failures() >= max_fail
        {
            let reason = match terminate {
                TerminateMode::Wait => CancelReason::TestFailure,
                TerminateMode::Immediate => CancelReason::TestFailureImmediate,
            };
            self.cancel(reason, actions);
        }
    }

    pub(super) fn finish(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.finished = true;
        self.end_iterations(now, true, actions);
        let not_run = self.unstarted.iter();
        actions.push(Action::Emit(EventKind::RunFinished(Box::new(
            RunFinished {
                elapsed: now,
                stats: self.stats,
                cancelled: self.cancelled,
                not_run: not_run.map(|&test| self.id(test)).collect(),
                failed_scripts: self.scripts.failed(),
                failed_services: self.services.failed(),
                findings: Findings::default(),
            },
        ))));
        actions.push(Action::Finish {
            impatient: self.impatient,
        });
    }
}
