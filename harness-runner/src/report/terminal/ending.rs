//! The end of a run.

use super::Terminal;
use crate::report::{
    Outputs, findings,
    fit::clipped,
    style::{escaped, paint},
    wording,
};
use harness_metadata::{
    RunStats, TestId,
    event::{CancelReason, RunFinished},
};
use std::{io::Write, mem, time::Duration};

/// The number of tests to name that may have stopped the run.
const MOST_SUSPECTS: usize = 8;

impl<W: Write> Terminal<W> {
    pub(super) fn fewer_slots(&mut self, slots: usize, because: &str) {
        let text = format!(
            "from now on {} at a time: {}",
            self.items(slots),
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
        self.findings.clone_from(&run.findings);
        self.unfold();
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
        let tests = wording::item(self.mode, run.stats.selected);
        let mut text = format!(
            "[{:>9}] {}{ran} {tests} run: {}",
            wording::seconds(run.elapsed),
            self.iterations(),
            self.counts(&run.stats),
        );
        if self.cached > 0 {
            text.push_str(&format!(", {} cached", self.cached));
        }
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
        self.unjudged_budgets();
        self.durations();
        self.final_list(outputs);
        self.rates();
        self.tell_findings();
        self.not_run(run);
        self.say_again();
    }

    /// Says which causes failures have in common, and which tests read credentials.
    fn tell_findings(&mut self) {
        let columns = self.room.map(|(columns, _)| columns.saturating_sub(13));
        let columns = columns.filter(|_| self.options.verbosity == 0);
        let findings = mem::take(&mut self.findings);
        for common in &findings.causes {
            let text = findings::common_cause(common);
            let text = columns.map_or_else(|| text.clone(), |columns| clipped(&text, columns));
            self.note("Common cause", self.styles.warn, &text);
        }
        if let Some(readers) = findings::credentials(&findings) {
            self.note("Credentials", self.styles.warn, &readers);
        }
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

    /// Says which budgets could not be judged, and in how many tests.
    fn unjudged_budgets(&mut self) {
        for line in self.unjudged.lines(|count| self.items(count)) {
            self.note("Budget", self.styles.warn, &line);
        }
    }

    /// Returns a number of tests, or of what else the run has.
    pub(super) fn items(&self, count: usize) -> String {
        format!("{count} {}", wording::item(self.mode, count))
    }

    fn not_run(&mut self, run: &RunFinished) {
        let count = run.stats.not_run();
        if count == 0 {
            return;
        }
        let (_, tests) = wording::items(self.mode);
        let (reason, hint) = match run.cancelled {
            Some(reason @ (CancelReason::TestFailure | CancelReason::TestFailureImmediate)) => (
                format!(" due to {}", wording::cancel_reason(reason)),
                format!(" (run with --no-fail-fast to run all {tests}, or with --max-fail)"),
            ),
            Some(reason) => (
                format!(" due to {}", wording::cancel_reason(reason)),
                String::new(),
            ),
            None => (String::new(), String::new()),
        };
        let were = if run.stats.selected == 1 {
            "was"
        } else {
            "were"
        };
        let warning = paint("warning", self.styles.warn).to_string();
        let tests = wording::item(self.mode, run.stats.selected);
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
