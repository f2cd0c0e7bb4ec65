//! `cargo harness compare`: the tests that differ between two runs.

use super::{
    GlobalOptions,
    history::{Used, amount, uses},
    prepared,
    recordings::{self, Place},
    runs::{ListForm, MessageFormat},
};
use crate::command_error::{CommandError, Kind};
use clap::Args;
use harness_metadata::{DurationsBy, TestId};
use harness_runner::{
    report::style::{Styles, paint},
    store::{self, Change, Comparison, Recording, RunsOf, TestResult},
};
use serde::Serialize;
use std::io::{self, Write};

/// Compare two recorded runs.
#[derive(Debug, Args)]
pub(super) struct CompareCommand {
    /// The first run. Default: the one before the latest.
    #[arg(value_name = "BEFORE")]
    before: Option<String>,
    /// The second run. Default: the latest.
    #[arg(value_name = "AFTER")]
    after: Option<String>,
    /// Compare how much tests used of this, the greatest difference first.
    #[arg(long, value_name = "USE", default_value = "time", value_parser = uses())]
    by: DurationsBy,
    #[command(flatten)]
    list: ListForm,
    #[command(flatten)]
    place: Place,
}

/// A line of JSON.
#[derive(Serialize)]
struct Row<'a> {
    test: &'a TestId,
    change: &'static str,
    seconds_before: Option<f64>,
    seconds_after: Option<f64>,
    before: Option<Used>,
    after: Option<Used>,
}

impl CompareCommand {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let after = self.place.recording(self.after.as_deref(), global)?;
        let before = match &self.before {
            Some(before) => self.place.recording(Some(before), global)?,
            None => self.before(&after, global)?,
        };
        let found = store::compare(&results(&before)?, &results(&after)?, self.by);
        let mut text = String::new();
        if self.list.message_format == MessageFormat::Human {
            text = format!("before: {}\nafter:  {}\n", named(&before), named(&after));
        }
        let styles = Styles::new(global.stdout_colors());
        for comparison in &found {
            text += &match self.list.message_format {
                MessageFormat::Json => json(comparison),
                MessageFormat::Human => line(comparison, self.by, &styles),
            };
        }
        if found.is_empty() {
            prepared::note("no test differs", global.stderr_colors());
        }
        recordings::written(io::stdout().write_all(text.as_bytes()), "the comparison")
    }

    /// Returns the one before the latest of those that have the same kind of items as it.
    fn before(&self, after: &Recording, global: &GlobalOptions) -> Result<Recording, CommandError> {
        let kept = self.place.locate(global)?;
        let runs = store::ended_runs(&kept.store, &kept.root, RunsOf::Everything);
        let runs = runs.map_err(recordings::find_error)?.into_iter();
        let mut runs = runs.filter(|run| run.header.mode == after.started.mode);
        let run = runs.nth(1).ok_or_else(|| {
            CommandError::new(
                Kind::Setup,
                "there is only one run, and nothing to compare it with",
            )
        })?;
        let recording = run.open_recording();
        recording.map_err(|error| CommandError::new(Kind::Setup, error))
    }
}

fn results(recording: &Recording) -> Result<Vec<TestResult>, CommandError> {
    TestResult::read(&recording.path).map_err(|source| {
        let message = format!(
            "failed to read the recording `{}`: {source}",
            recording.path
        );
        CommandError::new(Kind::Setup, message)
    })
}

/// Returns a run's id and the time of its start.
fn named(recording: &Recording) -> String {
    let run = &recording.started;
    let started = run.started_at.format("%Y-%m-%d %H:%M:%S");
    format!("run {} of {started}", run.run_id)
}

fn json(comparison: &Comparison) -> String {
    let [before, after] = comparison.results.each_ref().map(Option::as_ref);
    let seconds = |result: Option<&TestResult>| result.map(|it| it.elapsed.as_secs_f64());
    let row = Row {
        test: &comparison.test,
        change: comparison.change.word(),
        seconds_before: seconds(before),
        seconds_after: seconds(after),
        before: before.map(Used::of),
        after: after.map(Used::of),
    };
    serde_json::json!(row).to_string() + "\n"
}

fn line(comparison: &Comparison, by: DurationsBy, styles: &Styles) -> String {
    let style = match comparison.change {
        Change::Broken | Change::NewFailure | Change::StillFails => styles.fail,
        Change::Flaky => styles.retry,
        Change::Slower | Change::More | Change::Gone => styles.warn,
        Change::Mended | Change::Faster | Change::Less | Change::New => styles.pass,
    };
    let word = format!("{:>11}", comparison.change.word().replace('-', " "));
    let used = |result: &Option<TestResult>| Some(amount(result.as_ref()?.used(by)?, by));
    let used = match comparison.results.each_ref().map(used) {
        [Some(before), Some(after)] => format!("{before} to {after}"),
        [Some(used), None] | [None, Some(used)] => used,
        [None, None] => String::new(),
    };
    let name = styles.name(&comparison.test);
    format!("{}  {name}  {used}\n", paint(&word, style))
}
