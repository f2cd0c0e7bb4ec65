//! The end of a run.

use super::Terminal;
use crate::report::{
    Outputs,
    progress::{clipped, terminal_size},
    style::{escaped, paint},
    wording::{self, Class},
};
use harness_metadata::{
    RunStats, TestId,
    event::{CancelReason, RunFinished},
};
use std::{io::Write, mem, time::Duration};

/// The number of tests to name that may have stopped the run.
const MOST_SUSPECTS: usize = 8;

/// The columns before a reason.
const REASON_INDENT: usize = 13;

impl<W: Write> Terminal<W> {
    pub(super) fn fewer_slots(&mut self, slots: usize, because: &str) {
        let text = format!(
            "from now on {} at a time: {}",
            wording::plural(slots, "test", "tests"),
            escaped(because),
        );
        self.note("Slots", self.styles.warn, &text);
    }

    /// Says that something has stopped the runner, and which tests may have done it.
    pub(super) fn was_stopped(&mut self, elapsed: Duration, continued: bool, running: &[TestId]) {
        let by = match continued {
            true => "a stub has let it go on",
            false => "it goes on",
        };
        let tests = match running {
            [] => "no test was running".to_owned(),
            running => {
                let shown = running.iter().take(MOST_SUSPECTS);
                let shown: Vec<_> = shown
                    .map(|test| escaped(&test.to_string()).into_owned())
                    .collect();
                let more = running.len().saturating_sub(MOST_SUSPECTS);
                let more = match more {
                    0 => String::new(),
                    more => format!(" and {}", wording::plural(more, "other", "others")),
                };
                format!("running were {}{more}", shown.join(", "))
            }
        };
        let text = format!(
            "by SIGSTOP for {:.1}s, not by Ctrl-Z: {by}; {tests}",
            elapsed.as_secs_f64()
        );
        self.note("Stopped", self.styles.warn, &text);
    }

    pub(super) fn run_finished(&mut self, run: &RunFinished, outputs: &dyn Outputs) {
        if mem::replace(&mut self.ended, true) {
            return;
        }
        self.stats = run.stats;
        self.rule();
        let ran = if run.stats.finished == run.stats.selected {
            paint(&run.stats.finished.to_string(), self.styles.count).to_string()
        } else {
            format!("{}/{}", run.stats.finished, run.stats.selected)
        };
        let style = if run.stats.success() {
            self.styles.pass
        } else {
            self.styles.fail
        };
        let tests = if run.stats.selected == 1 {
            "test"
        } else {
            "tests"
        };
        let mut text = format!(
            "[{:>9}] {ran} {tests} run: {}",
            wording::seconds(run.elapsed),
            self.counts(&run.stats),
        );
        if self.binaries_skipped_by_default > 0 {
            let binaries = self.binaries_skipped_by_default;
            let binaries = wording::plural(binaries, "binary", "binaries");
            text.push_str(&format!(", {binaries} left out by `default-filter`"));
        }
        self.note("Summary", style, &text);
        if let Some((word, how)) = run.cancelled.and_then(wording::cut_off) {
            self.note(word, self.styles.fail, &how);
        }
        self.disturbances(&run.stats);
        self.durations();
        self.final_list(outputs);
        self.not_run(run);
    }

    /// Says how many tests the tracer was in the way of, and how.
    fn disturbances(&mut self, stats: &RunStats) {
        let were = |count| match count {
            1 => "1 test was".to_owned(),
            count => format!("{count} tests were"),
        };
        if let Some(why) = wording::disturbances(&self.run_again) {
            let text = format!(
                "{} run again with another tracer or with none: {why}",
                were(stats.run_again)
            );
            self.note("Again", self.styles.warn, &text);
        }
        if let Some(why) = wording::disturbances(&self.disturbed) {
            let text = format!(
                "{} disturbed by the tracer, and not run again: {why}",
                were(stats.disturbed)
            );
            self.note("Disturbed", self.styles.warn, &text);
        }
    }

    /// Lists tests from good to bad, so that the worst stand last, where the eye is.
    fn final_list(&mut self, outputs: &dyn Outputs) {
        for test in mem::take(&mut self.skipped) {
            self.status("SKIP", self.styles.warn, "", None, &test);
        }
        let mut kept = mem::take(&mut self.kept);
        kept.sort_by_key(|kept| std::cmp::Reverse(Class::of(&kept.finished)));
        let width = self.reason_width();
        for kept in &kept {
            let test = &kept.finished;
            self.finished_line(test, &wording::final_status(test));
            self.quarantined(test);
            self.left_behind(test);
            if let Some(reason) = &kept.reason {
                self.say(&format!("             {}", clipped(reason, width)));
            }
            if self.output_when(test).at_end() {
                self.block_of(test, &kept.evidence, outputs);
            }
        }
    }

    /// Returns the columns that a reason may have, so that it is one line.
    fn reason_width(&self) -> usize {
        let columns = self.options.size.or_else(terminal_size).map(|size| size.0);
        usize::from(columns.unwrap_or(u16::MAX))
            .saturating_sub(REASON_INDENT)
            .max(20)
    }

    fn not_run(&mut self, run: &RunFinished) {
        let count = run.stats.not_run();
        if count == 0 {
            return;
        }
        let (reason, hint) = match run.cancelled {
            Some(reason @ (CancelReason::TestFailure | CancelReason::TestFailureImmediate)) => (
                format!(" due to {}", wording::cancel_reason(reason)),
                " (run with --no-fail-fast to run all tests, or with --max-fail)",
            ),
            Some(reason) => (format!(" due to {}", wording::cancel_reason(reason)), ""),
            None => (String::new(), ""),
        };
        let were = if run.stats.selected == 1 {
            "was"
        } else {
            "were"
        };
        let warning = paint("warning", self.styles.warn).to_string();
        let tests = if run.stats.selected == 1 {
            "test"
        } else {
            "tests"
        };
        self.say(&format!(
            "{warning}: {count}/{} {tests} {were} not run{reason}{hint}",
            run.stats.selected
        ));
        if self.options.verbosity > 0 {
            for test in &run.not_run {
                self.status("NOT RUN", self.styles.warn, "", None, test);
            }
        }
    }

    fn durations(&mut self) {
        let slowest = mem::take(&mut self.slowest);
        if slowest.is_empty() {
            return;
        }
        let heading = wording::plural(slowest.len(), "slowest test", "slowest tests");
        self.note(
            "Durations",
            self.styles.count,
            &format!("{heading}, all attempts together"),
        );
        self.say("                    time        user+sys   peak memory");
        for test in &slowest {
            let total = |of: fn(&harness_metadata::Attempt) -> Duration| {
                wording::seconds(test.attempts.iter().map(of).sum())
            };
            let peak = test
                .attempts
                .iter()
                .map(|attempt| attempt.usage.peak_memory)
                .max();
            let line = format!(
                "             {:>11} {:>15} {:>13}  {} {}",
                total(|attempt| attempt.elapsed),
                total(|attempt| attempt.usage.user + attempt.usage.system),
                wording::size(peak.unwrap_or(0)),
                escaped(test.test.binary.as_str()),
                escaped(test.test.name.as_str()),
            );
            self.say(&line);
        }
    }

    pub(super) fn counts(&self, stats: &RunStats) -> String {
        let counts: Vec<_> = wording::counts(stats)
            .into_iter()
            .map(|(count, text, good)| {
                let style = match good {
                    Some(true) => self.styles.pass,
                    Some(false) => self.styles.fail,
                    None => self.styles.warn,
                };
                format!(
                    "{} {}",
                    paint(&count.to_string(), self.styles.count),
                    paint(&text, style)
                )
            })
            .collect();
        counts.join(", ")
    }
}
