//! The end of an attempt: what is known of it becomes its record.

use super::Running;
use crate::{
    config::settings::LeakPolicy,
    protocol::Ticket,
    run::{
        Output, benchmark, budget,
        live::{Batch, Lines, Printed},
        slot::{FromSlot, Spoken},
        unit::{Ending, verdict},
        word::judged,
    },
    store::KeptTrace,
};
use harness_metadata::{Attempt, Leak, Outcome, outcome::StreamSize};
use std::{mem, time::Duration};

/// An attempt that is over.
pub(in crate::run) struct Over {
    pub(in crate::run) attempt: Attempt,
    /// `None` if it was not captured.
    pub(in crate::run) output: Option<Output>,
    /// `None` if it is not kept.
    pub(in crate::run) trace: Option<KeptTrace>,
    /// The reason why it was cut short, if it was.
    pub(in crate::run) cut: Option<Cut>,
    /// The number of the attempt, if descendants of it live on in the stub.
    pub(in crate::run) lingers: Option<Ticket>,
}

/// The reason why an attempt was cut short.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::run) enum Cut {
    /// The run told it to end.
    Interrupted,
    /// The system did not have enough to start it.
    Refused,
}

impl Running<'_> {
    /// Makes the record, once the unit has decided how it ended.
    pub(super) async fn over(mut self, ending: Ending) -> Over {
        if let Some(batch) = self.live.as_mut().and_then(|live| live.end()) {
            self.tell_traced(batch);
        }
        let leak = self.left_behind(&ending).await;
        let escapes = mem::take(&mut self.known.so_far.escapes);
        let usage = &mut self.known.so_far.usage;
        let limits = self.slot.bounds.end(usage, escapes, !ending.stub_free);
        self.streams.read_rest(&mut self.slot.buffer);
        self.tell_printed();
        let rest = self.printed.as_mut().map(Printed::end);
        self.tell_lines(rest.unwrap_or_default());
        self.note_tail();
        let lingers = ending.lingers.then_some(self.ticket);
        let ending = self.judge(ending);
        let leak = leak.map(|leak| Leak {
            allowed: self.test.settings.leak == LeakPolicy::Allow,
            late_output: self.late_output(),
            ..leak
        });
        let policy = self.known.so_far.violations.take();
        let escaped = policy.as_ref().is_some_and(|policy| policy.escaped());
        let verdict = verdict(&ending, &limits, escaped, &self.test.settings);
        let elapsed = self.elapsed(&ending.outcome);
        let trace = self.slot.traces.end(ending.stub_free);
        let output = self.streams.finish();
        let sizes = output.as_ref();
        let mut attempt = Attempt {
            number: self.start.attempt,
            verdict,
            slow: ending.slow,
            started_at: self.shared.work.started_at + self.begun + self.paused_before,
            elapsed,
            usage: self.known.so_far.usage,
            stdout: sizes.map_or_else(StreamSize::default, |sizes| sizes.stdout.size()),
            stderr: sizes.map_or_else(StreamSize::default, |sizes| sizes.stderr.size()),
            pid: self.known.pid,
            outcome: ending.outcome,
            leak,
            limits,
            policy,
            budget: Vec::new(),
            stuck: self.known.stuck,
            slow_tasks: self.known.slow,
            metrics: benchmark::measured(self.test, self.metrics_file.as_deref(), output.as_ref()),
            trace: self.known.so_far.trace,
            earlier: Vec::new(),
            remote: None,
        };
        attempt.budget = budget::judge(&self.test.settings.budget, &attempt);
        attempt.verdict = budget::verdict(attempt.verdict, &attempt.budget);
        Over {
            attempt,
            output,
            trace,
            cut: self.cut,
            lingers,
        }
    }

    /// Ends the stub if it has not ended the attempt. Returns what is left over, which is killed.
    async fn left_behind(&mut self, ending: &Ending) -> Option<Leak> {
        let mut leak = ending.leak.clone();
        if !ending.stub_free {
            let survivors = self.slot.end_stub().await;
            if !survivors.is_empty() {
                leak.get_or_insert_default().survivors.extend(survivors);
            }
            self.slot.bounds.kill();
        }
        leak
    }

    /// Takes the harness's own word for how it ended, and the state of the binary.
    fn judge(&self, ending: Ending) -> Ending {
        let require_result = self.test.settings.require_result;
        let binary = &self.shared.work.binaries[self.test.binary];
        Ending {
            outcome: match judged(ending.outcome, self.streams.word(), require_result) {
                Outcome::Exited(exit) if exit.success() => binary.judge_image(self.test, exit),
                other => other,
            },
            ..ending
        }
    }

    /// Returns how much was written after the end of the test's own process.
    fn late_output(&self) -> u64 {
        let in_time = self.known.written_at_exit.unwrap_or(u64::MAX);
        self.streams.written().saturating_sub(in_time)
    }

    /// Returns how long the test's own process ran, without the time in which the run was stopped.
    fn elapsed(&self, outcome: &Outcome) -> Duration {
        let clock = &self.shared.clock;
        match (self.known.elapsed, outcome) {
            (Some(by_stub), _) => {
                by_stub.saturating_sub(clock.paused().saturating_sub(self.paused_before))
            }
            (None, Outcome::StartFailed(_)) => Duration::ZERO,
            (None, _) => clock.now() - self.begun,
        }
    }

    /// Passes on what has been read since the last time, if output is shown live.
    pub(super) fn tell_printed(&mut self) {
        if let Some(printed) = &mut self.printed {
            let lines = printed.pass(self.streams.take_news());
            self.tell_lines(lines);
        }
    }

    fn tell_lines(&self, all: Vec<Lines>) {
        for lines in all {
            self.slot.tell(FromSlot::Printed(Spoken {
                slot: self.slot.number,
                test: self.start.test,
                attempt: self.start.attempt,
                lines,
            }));
        }
    }

    /// Passes on what a live trace saw.
    pub(super) fn tell_traced(&self, batch: Batch) {
        self.slot.tell(FromSlot::Traced {
            test: self.start.test,
            attempt: self.start.attempt,
            batch,
        });
    }
}
