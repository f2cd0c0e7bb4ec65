//! Stress runs: the end of each iteration, and the pass rate of each test.

use super::Terminal;
use crate::report::{
    style::{escaped, paint},
    wording,
};
use harness_metadata::{
    StatusLevel, TestId, Verdict,
    event::{IterationFinished, StressStarted, TestFinished},
};
use std::{collections::BTreeMap, io::Write, mem};

/// The 97.5th percentile of the normal distribution, for intervals of 95 %.
const Z: f64 = 1.959_964;

/// The results of a test's instances.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Rate {
    passed: u64,
    /// Of the passed: only after a failed attempt.
    flaky: u64,
    all: u64,
}

/// The results of a stress run, or nothing for another run.
#[derive(Debug, Default)]
pub(super) struct Stress {
    plan: Option<StressStarted>,
    /// Iterations whose tests all passed, with a failure, and without a result for each test.
    passed: usize,
    failed: usize,
    broken_off: usize,
    rates: BTreeMap<TestId, Rate>,
}

impl Stress {
    pub(super) fn begin(&mut self, plan: Option<StressStarted>) {
        self.plan = plan;
    }

    /// Returns whether the number of iterations is not known before they have run.
    pub(super) fn is_open(&self) -> bool {
        self.plan.is_some_and(|plan| plan.iterations.is_none())
    }

    /// Counts the result of an instance. An interrupted one has none.
    pub(super) fn count(&mut self, finished: &TestFinished) {
        if self.plan.is_none() || finished.verdict == Verdict::Interrupted {
            return;
        }
        let (test, _) = finished.test.without_iteration();
        let rate = self.rates.entry(test).or_default();
        let passed = finished.verdict == Verdict::Pass;
        rate.all += 1;
        rate.passed += u64::from(passed);
        rate.flaky += u64::from(passed && finished.attempts.len() > 1);
    }
}

impl Rate {
    /// Returns the bounds between which the probability of a pass lies, with a confidence of 95 %
    /// (Wilson's score interval).
    fn interval(self) -> (f64, f64) {
        let (passed, all) = (self.passed as f64, self.all as f64);
        let rate = passed / all;
        let middle = (rate + Z * Z / (2.0 * all)) / (1.0 + Z * Z / all);
        let spread = (rate * (1.0 - rate) / all + Z * Z / (4.0 * all * all)).sqrt();
        let half = Z * spread / (1.0 + Z * Z / all);
        ((middle - half).max(0.0), (middle + half).min(1.0))
    }

    fn text(self) -> String {
        let (low, high) = self.interval();
        let flaky = match self.flaky {
            0 => String::new(),
            flaky => format!(", {flaky} of them flaky"),
        };
        format!(
            "{}/{} passed{flaky}, {:.1} % (95 % confidence: {:.1} % to {:.1} %)",
            self.passed,
            self.all,
            100.0 * self.passed as f64 / self.all as f64,
            100.0 * low,
            100.0 * high
        )
    }

    fn is_sound(self) -> bool {
        self.passed == self.all && self.flaky == 0
    }
}

/// Returns how often tests run, for the first lines of a run.
pub(super) fn plan(stress: &StressStarted) -> String {
    let times = match (stress.iterations, stress.time) {
        (Some(1), _) => ", once".to_owned(),
        (Some(times), _) => format!(", {times} times"),
        (None, Some(time)) => format!(", again and again for {}", humantime::format_duration(time)),
        (None, None) => ", again and again".to_owned(),
    };
    match stress.parallel {
        true => format!("{times}, in parallel"),
        false => times,
    }
}

impl<W: Write> Terminal<W> {
    pub(super) fn iteration_finished(&mut self, iteration: &IterationFinished) {
        let stats = &iteration.stats;
        let success = stats.success();
        let (count, style) = match (success, stats.failures()) {
            (true, _) => (&mut self.stress.passed, self.styles.pass),
            (false, 0) => (&mut self.stress.broken_off, self.styles.warn),
            (false, _) => (&mut self.stress.failed, self.styles.fail),
        };
        *count += 1;
        let plan = self.stress.plan;
        // The iterations of a parallel run overlap, and each instance has its line.
        let in_turn = plan.is_some_and(|plan| !plan.parallel);
        if !in_turn || success && self.options.status_level < StatusLevel::Pass {
            return;
        }
        let total = match plan.and_then(|plan| plan.iterations) {
            Some(total) => format!("/{total}"),
            None => String::new(),
        };
        let text = format!(
            "[{:>9}] {}{total}: {} run: {}",
            wording::seconds(iteration.elapsed),
            iteration.iteration + 1,
            self.items(stats.finished),
            self.counts(stats),
        );
        self.note("Iteration", style, &text);
    }

    /// Returns the counts of iterations, for the summary.
    pub(super) fn iterations(&self) -> String {
        let stress = &self.stress;
        let Some(plan) = stress.plan else {
            return String::new();
        };
        let begun = stress.passed + stress.failed + stress.broken_off;
        let begun = match plan.iterations {
            Some(total) if total != begun => format!("{begun}/{total} iterations"),
            _ => wording::plural(begun, "iteration", "iterations"),
        };
        let counts = [
            (stress.passed, "passed"),
            (stress.failed, "failed"),
            (stress.broken_off, "broken off"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts.map(|(n, text)| format!("{n} {text}")).collect();
        match counts.is_empty() {
            true => format!("{begun}; "),
            false => format!("{begun}: {}; ", counts.join(", ")),
        }
    }

    /// Writes the rate of each test that has failed, and the least of the others.
    pub(super) fn rates(&mut self) {
        let rates = mem::take(&mut self.stress.rates);
        let (good, bad): (Vec<_>, Vec<_>) = rates.iter().partition(|(_, rate)| rate.is_sound());
        for (test, rate) in bad {
            let style = match rate.passed == rate.all {
                true => self.styles.retry,
                false => self.styles.fail,
            };
            let name = paint(&escaped(&test.to_string()), self.styles.count).to_string();
            self.note("Stress", style, &format!("{name}: {}", rate.text()));
        }
        if let Some((_, least)) = good.iter().min_by_key(|(_, rate)| rate.all) {
            let tests = self.items(good.len());
            let text = match good.len() {
                1 => format!("{tests} passed each time: {}", least.text()),
                _ => format!("{tests} passed each time, each at least {}", least.text()),
            };
            self.note("Stress", self.styles.pass, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(passed: u64, all: u64) -> (f64, f64) {
        let (low, high) = Rate {
            passed,
            all,
            flaky: 0,
        }
        .interval();
        let rounded = |number: f64| (number * 10_000.0).round() / 10_000.0;
        (rounded(low), rounded(high))
    }

    #[test]
    fn the_interval_is_that_of_wilson() {
        // As computed with other programs.
        assert_eq!(interval(97, 100), (0.9155, 0.9897));
        assert_eq!(interval(10, 10), (0.7225, 1.0));
        assert_eq!(interval(0, 10), (0.0, 0.2775));
        assert_eq!(interval(1, 2), (0.0945, 0.9055));
    }
}
