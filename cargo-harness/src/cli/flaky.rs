//! `cargo harness flaky`: the tests that pass and fail, with the evidence.

use super::{
    GlobalOptions,
    history::{self, short},
    prepared, recordings,
    recordings::Place,
    runs::{ListForm, MessageFormat},
};
use crate::command_error::CommandError;
use clap::Args;
use harness_metadata::TestId;
use harness_runner::{
    report::{plural, style::Styles},
    store::{Flakiness, PastRun, flakiness},
};
use serde::Serialize;
use std::io::{self, Write};

/// Rank the tests that passed and failed in the recorded runs.
#[derive(Debug, Args)]
pub(super) struct FlakyCommand {
    #[command(flatten)]
    list: ListForm,
    #[command(flatten)]
    place: Place,
}

/// A line of JSON.
#[derive(Serialize)]
struct Row<'a> {
    test: &'a TestId,
    results: usize,
    attempts: usize,
    failed_attempts: usize,
    flaky_results: usize,
    turns: usize,
    last_failed_in: String,
}

impl FlakyCommand {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let (runs, results): (Vec<PastRun>, Vec<_>) =
            history::read(&self.place, global)?.into_iter().unzip();
        let found = flakiness(&results);
        let mut text = String::new();
        let styles = Styles::new(global.stdout_colors());
        for flaky in &found {
            let run = &runs[flaky.last_failed];
            text += &match self.list.message_format {
                MessageFormat::Json => json(flaky, run),
                MessageFormat::Human => line(flaky, run, &styles),
            };
        }
        if found.is_empty() {
            let runs = plural(runs.len(), "run", "runs");
            let text = format!("no test both passed and failed in {runs}");
            prepared::note(&text, global.stderr_colors());
        }
        recordings::written(io::stdout().write_all(text.as_bytes()), "the list")
    }
}

fn json(flaky: &Flakiness, run: &PastRun) -> String {
    let row = Row {
        test: &flaky.test,
        results: flaky.results,
        attempts: flaky.attempts,
        failed_attempts: flaky.failed,
        flaky_results: flaky.flaky,
        turns: flaky.turns,
        last_failed_in: run.header.run_id.to_string(),
    };
    serde_json::json!(row).to_string() + "\n"
}

fn line(flaky: &Flakiness, run: &PastRun, styles: &Styles) -> String {
    let Flakiness {
        failed, attempts, ..
    } = flaky;
    format!(
        "{}\n    {failed} of {} failed in {}, {} flaky, {}, last in run {}\n",
        styles.name(&flaky.test),
        plural(*attempts, "attempt", "attempts"),
        plural(flaky.results, "result", "results"),
        flaky.flaky,
        plural(flaky.turns, "turn", "turns"),
        short(run),
    )
}
