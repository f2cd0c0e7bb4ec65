//! `cargo harness history`: how a test ended from run to run, and what it used.

mod metric;

use super::{
    GlobalOptions,
    recordings::{self, Place},
    runner_options::one_of,
    runs::{ListForm, MessageFormat, coarse},
};
use crate::command_error::CommandError;
use clap::{Args, builder::TypedValueParser};
use harness_metadata::{DurationsBy, Metric, TestId, Verdict};
use harness_runner::{
    report::{
        plural, size,
        style::{Styles, paint},
    },
    store::{self, PastRun, RunsOf, TestResult},
};
use serde::Serialize;
use std::{
    cmp::Reverse,
    collections::BTreeSet,
    io::{self, Write},
    time::Duration,
};

/// The columns of the longest bar.
const BAR: usize = 30;

/// Show how a test ended in the recorded runs, and how long it took.
#[derive(Debug, Args)]
pub(super) struct HistoryCommand {
    /// The test: its name, a part of it, or its binary's id and its name.
    #[arg(value_name = "TEST", num_args = 1..=2, required = true)]
    test: Vec<String>,
    /// Show how much it used of this, the most first. Default: its time, the latest run first.
    #[arg(long, value_name = "USE", value_parser = uses())]
    by: Option<DurationsBy>,
    /// Show this number instead, with its noise band: a metric, or another number of the runner.
    #[arg(long, value_name = "NUMBER", conflicts_with = "by")]
    metric: Option<String>,
    #[command(flatten)]
    list: ListForm,
    #[command(flatten)]
    place: Place,
}

/// A line of JSON.
#[derive(Serialize)]
struct Row<'a> {
    run_id: String,
    started_at: String,
    test: &'a TestId,
    verdict: Verdict,
    flaky: bool,
    attempts: usize,
    failed_attempts: usize,
    #[serde(flatten)]
    used: Used,
    metrics: &'a [Metric],
}

/// The use of resources by a test, in JSON.
#[derive(Serialize)]
pub(super) struct Used {
    seconds: f64,
    cpu_seconds: f64,
    peak_memory: u64,
    disk_bytes: u64,
    processes: Option<u32>,
}

impl Used {
    pub(super) fn of(result: &TestResult) -> Self {
        Self {
            seconds: result.elapsed.as_secs_f64(),
            cpu_seconds: result.cpu.as_secs_f64(),
            peak_memory: result.memory,
            disk_bytes: result.disk,
            processes: result.processes,
        }
    }
}

/// Returns the parser of a use.
pub(super) fn uses() -> impl TypedValueParser<Value = DurationsBy> {
    one_of::<DurationsBy>(["time", "cpu", "memory", "io", "processes"])
}

/// Returns a use as text.
pub(super) fn amount(used: u64, by: DurationsBy) -> String {
    match by {
        DurationsBy::Time | DurationsBy::Cpu => {
            format!("{:.3} s", Duration::from_nanos(used).as_secs_f64())
        }
        DurationsBy::Memory | DurationsBy::Io => size(used),
        DurationsBy::Processes => used.to_string(),
    }
}

/// The results of each run, the latest first.
pub(super) type Runs = Vec<(PastRun, Vec<TestResult>)>;

/// Reads the results of all runs of the workspace.
pub(super) fn read(place: &Place, global: &GlobalOptions) -> Result<Runs, CommandError> {
    let kept = place.locate(global)?;
    let runs = store::ended_runs(&kept.store, &kept.root, RunsOf::Tests);
    let runs = runs.map_err(recordings::find_error)?.into_iter();
    // One that is being deleted has no results.
    Ok(runs
        .map(|run| {
            let results = TestResult::read(&run.recording()).unwrap_or_default();
            (run, results)
        })
        .collect())
}

/// Returns as much of a run's id as is needed to speak of it.
pub(super) fn short(run: &PastRun) -> String {
    run.header.run_id.to_string().chars().take(8).collect()
}

/// Returns the word for a result, and how it is painted.
fn word(result: &TestResult, styles: &Styles) -> (&'static str, owo_colors::Style) {
    word_of(result.verdict, result.flaky(), styles)
}

fn word_of(verdict: Verdict, flaky: bool, styles: &Styles) -> (&'static str, owo_colors::Style) {
    match verdict {
        Verdict::Pass if flaky => ("flaky", styles.retry),
        Verdict::Pass => ("passed", styles.pass),
        Verdict::Fail => ("failed", styles.fail),
        Verdict::Quarantined => ("quarantined", styles.warn),
        Verdict::Interrupted => ("interrupted", styles.warn),
    }
}

impl HistoryCommand {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        if let Some(name) = &self.metric {
            let (test, form) = (self.test.join(" "), self.list.message_format);
            let text = metric::text(&self.place, global, &test, name, form)?;
            return recordings::written(io::stdout().write_all(text.as_bytes()), "the history");
        }
        let runs = read(&self.place, global)?;
        let tests = runs.iter().flat_map(|(_, results)| results);
        let tests: BTreeSet<TestId> = tests.map(|result| result.test.clone()).collect();
        let test = store::the_test(&tests, &self.test.join(" "));
        let test = test.map_err(recordings::find_error)?;
        let mut found = Vec::new();
        for (run, results) in &runs {
            let own = results.iter().filter(|result| result.test == test);
            found.extend(own.map(|result| (run, result)));
        }
        if let Some(by) = self.by {
            found.sort_by_key(|(_, result)| Reverse(result.used(by)));
        }
        let text = match self.list.message_format {
            MessageFormat::Json => found.iter().map(|(run, it)| json(run, it)).collect(),
            MessageFormat::Human => {
                let styles = Styles::new(global.stdout_colors());
                table(&test, &found, self.by.unwrap_or_default(), &styles)
            }
        };
        recordings::written(io::stdout().write_all(text.as_bytes()), "the history")
    }
}

fn json(run: &PastRun, result: &TestResult) -> String {
    let row = Row {
        run_id: run.header.run_id.to_string(),
        started_at: run.header.started_at.to_rfc3339(),
        test: &result.test,
        verdict: result.verdict,
        flaky: result.flaky(),
        attempts: result.attempts,
        failed_attempts: result.failed,
        used: Used::of(result),
        metrics: &result.metrics,
    };
    serde_json::json!(row).to_string() + "\n"
}

fn table(
    test: &TestId,
    found: &[(&PastRun, &TestResult)],
    by: DurationsBy,
    styles: &Styles,
) -> String {
    let count = |chosen: &dyn Fn(&TestResult) -> bool| {
        found.iter().filter(|(_, result)| chosen(result)).count()
    };
    let mut known: Vec<u64> = found.iter().filter_map(|(_, it)| it.used(by)).collect();
    known.sort_unstable();
    let most = known.last().copied().unwrap_or_default();
    let median = known.get(known.len() / 2);
    let mut text = format!(
        "{}: {}, {} failed, {} flaky, median {}\n",
        styles.name(test),
        plural(found.len(), "result", "results"),
        count(&TestResult::is_failure),
        count(&TestResult::flaky),
        median.map_or_else(|| "not known".to_owned(), |median| amount(*median, by)),
    );
    for (run, result) in found {
        let (word, style) = word(result, styles);
        let used = result.used(by);
        text += &format!(
            "  {}  {:>6} ago  {}  {:>11}  {:>11}  {}\n",
            short(run),
            coarse(store::age(run.header.started_at)),
            paint(&format!("{word:<11}"), style),
            plural(result.attempts, "attempt", "attempts"),
            used.map_or_else(|| "?".to_owned(), |used| amount(used, by)),
            bar(used.unwrap_or_default(), most),
        );
    }
    text
}

/// Returns a bar as long as its part of the longest one.
fn bar(used: u64, most: u64) -> String {
    let part = used as f64 / most.max(1) as f64;
    let columns = (0..BAR).take_while(|column| {
        let column = u32::try_from(*column).unwrap_or(0);
        f64::from(column) < part * 30.0
    });
    "#".repeat(columns.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_has_all_columns_and_any_time_at_least_one() {
        let of = |used| bar(used, 3000).len();
        assert_eq!([of(3000), of(1500), of(1), of(0)], [BAR, 15, 1, 0]);
    }
}
