//! The beginning of a run.

use super::{Terminal, failures, stress};
use crate::report::{
    progress::{Bar, ProgressMode, terminal_size},
    style::{Styles, escaped, paint},
    wording,
};
use harness_metadata::{event::RunStarted, trace::Backend};
use std::io::Write;

/// The rows of a run of which no test has a line: its heading, its bar and its summary.
const HEADING_ROWS: usize = 6;

impl<W: Write> Terminal<W> {
    pub(super) fn run_started(&mut self, run: &RunStarted) {
        self.know(run);
        let wants_bar = matches!(
            self.options.progress,
            ProgressMode::Bar | ProgressMode::Only
        );
        if wants_bar && !self.options.no_capture {
            let size = self.options.size.or_else(terminal_size).unwrap_or((80, 24));
            let shown = self.options.max_progress_running;
            self.bar = Some(Bar::new(shown, size, self.styles, self.options.unicode));
            if let (Some(bar), Some(stress)) = (&mut self.bar, run.stress) {
                bar.stress(stress);
            }
            if self.options.brief && run.tests + HEADING_ROWS > usize::from(size.1) {
                self.options.progress = ProgressMode::Only;
            }
        }
        self.rule();
        let id = run.run_id.to_string();
        let trace = match run.trace.backend {
            backend @ (Backend::Ptrace | Backend::Notify | Backend::Outer) => {
                format!("{} ({})", run.trace.level.as_str(), backend.as_str())
            }
            // There is one way only.
            Backend::Lifecycle | Backend::None => run.trace.level.as_str().to_owned(),
        };
        let text = format!(
            "{} with profile {}, trace {trace}",
            paint(id.get(..8).unwrap_or(&id), self.styles.count),
            paint(&escaped(&run.profile), self.styles.count),
        );
        self.note("Run", self.styles.pass, &text);
        if let Some(why) = &run.trace.degraded {
            self.note(
                "Trace",
                self.styles.warn,
                &format!("less than asked for: {}", escaped(why)),
            );
        }
        if let Some(seed) = run.shuffle_seed {
            let text = format!("random, again with --shuffle {seed}");
            self.note("Order", self.styles.pass, &text);
        }
        if let Some(missing) = &run.limits_missing {
            self.note("Limits", self.styles.warn, &escaped(missing));
        }
        if self.options.no_capture {
            self.note(
                "No capture",
                self.styles.warn,
                "output is not read, so a pass rests on exit code 0 alone",
            );
        }
        for binary in &run.silent_binaries {
            self.note("Not run", self.styles.warn, &wording::silent_binary(binary));
        }
        self.note("Starting", self.styles.pass, &starting(run, &self.styles));
        self.fold();
    }

    /// Remembers what later lines need.
    fn know(&mut self, run: &RunStarted) {
        self.workspace_root.clone_from(&run.workspace_root);
        self.stats.selected = run.tests;
        self.stress.begin(run.stress);
        self.stats.skipped = run.skipped_tests;
        self.binaries_skipped_by_default = run.skipped_binaries_by_default_filter;
        self.cached = run.cached_tests;
        self.mode = run.mode;
        // What failed last is known of tests.
        let again = || failures::again(&run.command_line);
        self.again = run.mode.is_test().then(again).flatten();
        self.started_at = Some(run.started_at.timestamp());
    }
}

fn starting(run: &RunStarted, styles: &Styles) -> String {
    let (test, tests) = wording::items(run.mode);
    let count = |count: usize, one, many| {
        let word = if count == 1 { one } else { many };
        format!("{} {word}", paint(&count.to_string(), styles.count))
    };
    let iterations = run.stress.and_then(|stress| stress.iterations);
    let mut text = format!(
        "{} across {}",
        count(run.tests / iterations.unwrap_or(1).max(1), test, tests),
        count(run.binaries, "binary", "binaries"),
    );
    let mut left_out = Vec::new();
    if run.skipped_tests > 0 {
        left_out.push(count(run.skipped_tests, test, tests));
    }
    if run.skipped_binaries > 0 {
        left_out.push(count(run.skipped_binaries, "binary", "binaries"));
    }
    if !left_out.is_empty() {
        text.push_str(&format!(" ({} skipped", left_out.join(" and ")));
        let mut by_default = Vec::new();
        if run.skipped_by_default_filter > 0 {
            by_default.push(count(run.skipped_by_default_filter, test, tests));
        }
        if run.skipped_binaries_by_default_filter > 0 {
            let binaries = run.skipped_binaries_by_default_filter;
            by_default.push(count(binaries, "binary", "binaries"));
        }
        let mut reasons = Vec::new();
        if !by_default.is_empty() {
            reasons.push(format!(
                "{} due to `default-filter`",
                by_default.join(" and ")
            ));
        }
        if run.skipped_passed_before > 0 {
            let passed = count(run.skipped_passed_before, test, tests);
            reasons.push(format!("{passed} that already passed"));
        }
        if !reasons.is_empty() {
            text.push_str(&format!(", including {}", reasons.join(" and ")));
        }
        text.push(')');
    }
    if run.cached_tests > 0 {
        let cached = count(run.cached_tests, test, tests);
        text.push_str(&format!(
            "; {cached} cached: nothing has changed since they passed"
        ));
    }
    if let Some(stress) = &run.stress {
        text.push_str(&stress::plan(stress));
    }
    text
}
