//! Flags that have no effect beside others, as they stand on the command line.

use super::runner_options::{ReporterArgs, RunnerArgs, ShowProgressArg};
use harness_metadata::event::TraceLevel;
use harness_runner::report::progress::Surface;

/// Flags that have an effect on others.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    pub(super) no_run: bool,
    pub(super) no_capture: bool,
    pub(super) break_exec: bool,
    /// Whether the test runs below a debugger or a tracer.
    pub(super) below: bool,
    pub(super) trace_off: bool,
    /// Whether benchmarks run.
    pub(super) bench: bool,
    /// Whether they run without a trace, as they do by themselves.
    pub(super) bench_untraced: bool,
    /// Whether there is a screen on which a bar can be drawn.
    pub(super) no_screen: bool,
    /// The flags that were given, by name.
    pub(super) flags: Vec<&'static str>,
}

/// A state, how it is called, and the flags that have no effect in it.
type Rule = (fn(&Given) -> bool, &'static str, &'static [&'static str]);

/// The flags without an effect where output is not captured.
const UNCAPTURED: &[&str] = &[
    "--test-threads",
    "--stress-parallel",
    "--failure-output",
    "--success-output",
    "--show-progress",
    "--no-output-indent",
];

const RULES: &[Rule] = &[
    (
        |given| given.no_run,
        "with `--no-run`, which runs no tests",
        &[
            "--test-threads",
            "--retries",
            "--flaky-result",
            "--fail-fast",
            "--no-fail-fast",
            "--stress-count",
            "--stress-duration",
            "--stress-parallel",
            "--trace",
            "--trace-required",
            "--trace-live",
            "--break-exec",
            "--live",
            "--no-capture",
            "--status-level",
            "--final-status-level",
            "--failure-output",
            "--success-output",
            "--show-progress",
            "--durations",
            "--junit",
            "--html",
            "--ctrf",
            "--allure",
            "--events",
        ],
    ),
    (
        |given| given.bench && given.no_capture,
        "with `bench`, where benchmarks write to the terminal one at a time unless `--live` captures their output",
        UNCAPTURED,
    ),
    (
        |given| given.bench,
        "with `bench`, where benchmarks run one at a time",
        &["--test-threads", "--stress-parallel"],
    ),
    (
        |given| given.bench_untraced,
        "with `bench` without `--trace`, where benchmarks are not traced",
        &["--trace-required", "--trace-live"],
    ),
    (
        |given| given.no_capture,
        "with `--no-capture`, where tests write to the terminal one at a time",
        UNCAPTURED,
    ),
    (
        |given| given.below,
        "with `--debugger` or `--tracer`, where one test runs without limits",
        &[
            "--test-threads",
            "--retries",
            "--flaky-result",
            "--trace",
            "--trace-required",
            "--trace-live",
            "--no-capture",
            "--failure-output",
            "--success-output",
            "--show-progress",
            "--no-output-indent",
        ],
    ),
    (
        |given| given.trace_off,
        "with `--trace off`",
        &["--trace-required", "--trace-live"],
    ),
    (
        |given| given.no_screen,
        "where standard error is no terminal that can move its cursor",
        &["--show-progress"],
    ),
];

impl Given {
    pub(super) fn of(
        (runner, reporter): (&RunnerArgs, &ReporterArgs),
        no_capture: bool,
        surface: Surface,
    ) -> Self {
        let bar = matches!(
            reporter.show_progress,
            Some(ShowProgressArg::Bar | ShowProgressArg::Only)
        );
        let named = [
            ("--test-threads", runner.test_threads.is_some()),
            ("--retries", runner.retries.is_some()),
            ("--flaky-result", runner.flaky_result.is_some()),
            ("--fail-fast", runner.fail_fast),
            ("--no-fail-fast", runner.no_fail_fast),
            ("--stress-count", runner.stress_count.is_some()),
            ("--stress-duration", runner.stress_duration.is_some()),
            ("--stress-parallel", runner.stress_parallel),
            ("--trace", runner.trace.is_some()),
            ("--trace-required", runner.trace_required),
            ("--trace-live", runner.trace_live),
            ("--break-exec", runner.break_exec.is_some()),
            ("--live", runner.live),
            ("--no-capture", runner.no_capture),
            ("--status-level", reporter.status_level.is_some()),
            (
                "--final-status-level",
                reporter.final_status_level.is_some(),
            ),
            ("--failure-output", reporter.failure_output.is_some()),
            ("--success-output", reporter.success_output.is_some()),
            ("--show-progress", bar),
            ("--no-output-indent", reporter.no_output_indent),
            ("--durations", reporter.durations.is_some()),
            ("--junit", reporter.junit.is_some()),
            ("--html", reporter.html.is_some()),
            ("--ctrf", reporter.ctrf.is_some()),
            ("--allure", reporter.allure.is_some()),
            ("--events", reporter.events.is_some()),
        ];
        Self {
            no_run: runner.no_run,
            no_capture,
            below: runner.runs_below(),
            break_exec: runner.break_exec.is_some(),
            trace_off: runner.trace.map(TraceLevel::from) == Some(TraceLevel::Off),
            no_screen: surface != Surface::Full,
            bench: false,
            bench_untraced: false,
            flags: named
                .into_iter()
                .filter_map(|(flag, given)| given.then_some(flag))
                .collect(),
        }
    }

    /// Returns the same for a run of benchmarks.
    pub(super) fn of_benchmarks(self) -> Self {
        let traced = self.flags.contains(&"--trace") || self.break_exec;
        Self {
            bench: true,
            bench_untraced: !traced,
            ..self
        }
    }

    /// Returns a sentence for each state in which flags have no effect.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut left = self.flags.clone();
        let mut warnings = Vec::new();
        for (holds, state, flags) in RULES {
            // Breaks are a kind of tracing that needs no level.
            if !holds(self) || self.break_exec && *state == "with `--trace off`" {
                continue;
            }
            let (useless, others): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|flag| flags.contains(flag));
            left = others;
            let names: Vec<_> = useless.iter().map(|flag| format!("`{flag}`")).collect();
            match names.as_slice() {
                [] => {}
                [one] => warnings.push(format!("{one} has no effect {state}")),
                several => {
                    warnings.push(format!("{} have no effect {state}", several.join(", ")));
                }
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_without_an_effect_are_named_once() {
        let given = |flags: &[&'static str], change: fn(&mut Given)| {
            let mut given = Given {
                flags: flags.to_vec(),
                ..Given::default()
            };
            change(&mut given);
            given.warnings()
        };
        assert_eq!(given(&["--retries", "--junit"], |_| ()), [""; 0]);
        assert_eq!(
            given(&["--retries", "--junit"], |given| given.no_run = true),
            ["`--retries`, `--junit` have no effect with `--no-run`, which runs no tests"]
        );
        assert_eq!(
            given(&["--failure-output", "--retries"], |given| {
                given.no_capture = true;
                given.no_run = true;
            }),
            ["`--failure-output`, `--retries` have no effect with `--no-run`, which runs no tests"]
        );
        assert_eq!(
            given(&["--failure-output"], |given| given.no_capture = true),
            [
                "`--failure-output` has no effect with `--no-capture`, where tests write to the terminal one at a time"
            ]
        );
        assert_eq!(
            given(&["--trace-live"], |given| given.trace_off = true),
            ["`--trace-live` has no effect with `--trace off`"]
        );
        assert_eq!(
            given(&["--show-progress"], |given| given.no_screen = true),
            [
                "`--show-progress` has no effect where standard error is no terminal that can move its cursor"
            ]
        );
    }
}
