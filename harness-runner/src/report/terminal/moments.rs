//! The lines of single moments: a test that is skipped, an attempt that fails and is made
//! again, a run that is held up, paused or cancelled.

use super::{
    Terminal,
    block::{self, Shown},
};
use crate::report::{Outputs, evidence, wording};
use harness_metadata::{
    Attempt, AttemptId, RawString, TestId,
    event::{CancelReason, OutputPolicy},
    level::{FinalStatusLevel, StatusLevel},
};
use nextest_metadata::MismatchReason;
use std::{io::Write, time::Duration};

impl<W: Write> Terminal<W> {
    pub(super) fn test_skipped(&mut self, test: &TestId, reason: MismatchReason) {
        let asked_for = matches!(
            reason,
            MismatchReason::Ignored | MismatchReason::DefaultFilter
        );
        let told = asked_for || self.options.skipped_by_choice;
        if told && self.options.status_level >= StatusLevel::Skip {
            self.status("SKIP", self.styles.warn, "", None, test);
        }
        if self.options.final_status_level >= FinalStatusLevel::Skip {
            self.skipped.push(test.clone());
        }
    }

    pub(super) fn test_cached(&mut self, test: &TestId) {
        if self.options.status_level >= StatusLevel::Pass {
            self.status("CACHED", self.styles.pass, "", None, test);
        }
    }

    pub(super) fn broke(&mut self, test: &TestId, pid: i32, args: &[RawString]) {
        self.status("BREAK", self.styles.warn, "", None, test);
        for line in wording::broke(pid, args) {
            self.say(&format!("             {line}"));
        }
    }

    pub(super) fn attempt_failed(
        &mut self,
        test: &TestId,
        attempt: &Attempt,
        output: OutputPolicy,
        outputs: &dyn Outputs,
    ) {
        if let Some(bar) = &mut self.bar {
            bar.waiting(test, self.at);
        }
        if self.options.status_level < StatusLevel::Retry {
            return;
        }
        let clock = wording::seconds(attempt.elapsed);
        let status = wording::try_status(attempt);
        self.status(&status, self.styles.retry, &clock, None, test);
        if output.failure.immediate() && !self.options.no_capture {
            let id = AttemptId {
                test: test.clone(),
                attempt: attempt.number,
            };
            let shown = Shown {
                attempt,
                id: &id,
                evidence: &evidence::lines(test, attempt),
            };
            block::write(
                &mut self.pending,
                &shown,
                outputs,
                self.styles,
                &self.options,
            );
        }
    }

    /// The test waits before it is tried again.
    pub(super) fn put_off(&mut self, test: &TestId, next: u32, of: u32, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        self.delayed.insert(test.clone());
        if self.options.status_level >= StatusLevel::Retry {
            let status = format!("DELAY {next}/{of}");
            let clock = format!("by {}", wording::seconds(delay));
            self.status(&status, self.styles.retry, &clock, None, test);
        }
    }

    pub(super) fn cancelled(&mut self, reason: CancelReason, running: usize, killing: bool) {
        let tests = self.items(running);
        let reason = wording::cancel_reason(reason);
        let (word, style) = match killing {
            true => ("Killing", self.styles.fail),
            false => ("Cancelling", self.styles.warn),
        };
        let text = format!("due to {reason}: {tests} still running");
        self.note(word, style, &text);
    }

    pub(super) fn more_slots(&mut self, slots: usize) {
        let tests = self.items(slots);
        let text = format!("{tests} at a time again");
        self.note("Slots", self.styles.pass, &text);
    }

    pub(super) fn awaits_system(&mut self, because: &str, limit: Duration) {
        let text = wording::awaits_system(because, limit);
        self.note("Waiting", self.styles.warn, &text);
    }

    pub(super) fn paused(&mut self, running: usize) {
        let text = format!("{} suspended", self.items(running));
        self.note("Paused", self.styles.warn, &text);
        if let Some(bar) = &mut self.bar {
            bar.set_visible(false);
        }
        if let Some(taskbar) = &mut self.taskbar {
            taskbar.hide(true);
            let clear = taskbar.clear().unwrap_or_default();
            self.pending.extend_from_slice(clear.as_bytes());
        }
    }

    pub(super) fn continued(&mut self, running: usize) {
        let text = self.items(running);
        self.note("Continuing", self.styles.pass, &text);
        if let Some(bar) = &mut self.bar {
            bar.set_visible(true);
        }
        if let Some(taskbar) = &mut self.taskbar {
            taskbar.hide(false);
        }
    }
}
