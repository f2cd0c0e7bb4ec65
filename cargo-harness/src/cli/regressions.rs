//! `cargo harness regressions`: the numbers of tests that have changed over the recorded runs.

use super::{
    GlobalOptions, prepared,
    recordings::{self, Place},
    runs::{ListForm, MessageFormat},
    series::{self, Gathered},
};
use crate::command_error::{CommandError, Kind};
use clap::Args;
use harness_metadata::{Measure, TestId, exit_code};
use harness_runner::{
    answers::regression::{self, BEFORE, Bounds, Direction, FEWEST_BEFORE, LATEST, Regression},
    config::settings::Percent,
    report::{
        plural,
        style::{Styles, escaped, paint},
    },
    store::Quantity,
};
use serde::Serialize;
use std::io::{self, Write};

/// The columns of a distribution.
const COLUMNS: usize = 40;

/// Find the numbers of tests that are worse or better in the latest runs than before.
///
/// The latest passes of each test are compared with those before, on the same machine, with the same profile and
/// level of tracing.
#[derive(Debug, Args)]
pub(super) struct RegressionsCommand {
    /// Only tests with this in their binary's id or name.
    #[arg(value_name = "NAME")]
    test: Option<String>,
    /// The number: `time`, `rss` or another one of a budget, or a metric. Default: `time`, `rss`, and all metrics.
    #[arg(long, value_name = "NUMBER")]
    metric: Vec<String>,
    /// The number of latest runs, from 5 to 10. Default: as few as can tell.
    #[arg(long, value_name = "RUNS", value_parser = clap::value_parser!(u64).range(LATEST.0 as u64..=LATEST.1 as u64))]
    latest: Option<u64>,
    /// The least difference of the medians.
    #[arg(long, value_name = "PERCENT", default_value = "5%")]
    least: Percent,
    /// Fail if a number is worse.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    list: ListForm,
    #[command(flatten)]
    place: Place,
}

/// A line of JSON.
#[derive(Serialize)]
struct Row<'a> {
    test: &'a TestId,
    metric: &'a str,
    unit: Option<&'a str>,
    direction: &'static str,
    before: &'a [f64],
    latest: &'a [f64],
    median_before: f64,
    median_latest: f64,
    band: (f64, f64),
    chance: f64,
}

impl RegressionsCommand {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let quantities: Vec<_> = match &self.metric[..] {
            [] => vec![
                Quantity::Measured(Measure::Time),
                Quantity::Measured(Measure::Rss),
                Quantity::AllMetrics,
            ],
            names => names.iter().map(|name| Quantity::of(name)).collect(),
        };
        let wanted = |test: &TestId| {
            let part = self.test.as_deref().unwrap_or_default();
            test.to_string().contains(part)
        };
        let most = LATEST.1 + BEFORE;
        let Gathered { series, runs } =
            series::gather(&self.place, global, wanted, &quantities, most)?;
        if series.is_empty() {
            let text = format!(
                "no test passed with such a number in {}",
                plural(runs, "run", "runs")
            );
            return Err(CommandError::new(Kind::NoTests, text));
        }
        let bounds = Bounds {
            latest: self.latest.and_then(|latest| usize::try_from(latest).ok()),
            least: f64::from(self.least.0) / 100.0,
        };
        let answer = regression::regressions(&series, bounds);
        let styles = Styles::new(global.stdout_colors());
        let text: String = match self.list.message_format {
            MessageFormat::Json => answer.found.iter().map(json).collect(),
            MessageFormat::Human => answer.found.iter().map(|it| shown(it, &styles)).collect(),
        };
        recordings::written(io::stdout().write_all(text.as_bytes()), "the changes")?;
        let compared = format!(
            "{} of tests compared over their last {} passes and up to {BEFORE} before; {} changed",
            plural(answer.compared, "number", "numbers"),
            answer.latest,
            answer.found.len(),
        );
        prepared::note(&compared, global.stderr_colors());
        if answer.too_few > 0 {
            let text = format!(
                "{} not compared, for want of {} comparable passes",
                plural(answer.too_few, "number was", "numbers were"),
                answer.latest + FEWEST_BEFORE,
            );
            prepared::note(&text, global.stderr_colors());
        }
        let worse = answer
            .found
            .iter()
            .any(|it| it.direction == Direction::Worse);
        Ok(match self.check && worse {
            true => exit_code::TEST_RUN_FAILED,
            false => exit_code::OK,
        })
    }
}

fn json(it: &Regression<'_>) -> String {
    let row = Row {
        test: &it.series.test,
        metric: &it.series.name,
        unit: it.series.unit.as_deref(),
        direction: it.direction.word(),
        before: it.before,
        latest: it.latest,
        median_before: regression::median(it.before),
        median_latest: regression::median(it.latest),
        band: it.band,
        chance: it.chance,
    };
    serde_json::json!(row).to_string() + "\n"
}

fn shown(it: &Regression<'_>, styles: &Styles) -> String {
    let series = it.series;
    let style = match it.direction {
        Direction::Worse => styles.fail,
        Direction::Changed => styles.warn,
        Direction::Better => styles.pass,
    };
    let unit = series.unit.as_deref();
    let (before, latest) = (regression::median(it.before), regression::median(it.latest));
    let change = match before == 0.0 {
        true => String::new(),
        false => format!(", {:+.1} %", (latest - before) / before.abs() * 100.0),
    };
    let all: Vec<f64> = it.before.iter().chain(it.latest).copied().collect();
    let (low, high) = series::range(&all);
    let line = |name: &str, values: &[f64]| {
        format!(
            "             {name}  {:>2} passes, median {:>12}  {}\n",
            values.len(),
            series::number(regression::median(values), unit),
            series::distribution(values, (low, high), COLUMNS),
        )
    };
    format!(
        "{}  {}  {}: {} to {}{change}\n{}{}             noise band {} to {}, probability of chance {:.5}\n",
        paint(&format!("{:>11}", it.direction.word()), style),
        styles.name(&series.test),
        escaped(&series.name),
        series::number(before, unit),
        series::number(latest, unit),
        line("before", it.before),
        line("latest", it.latest),
        series::number(it.band.0, unit),
        series::number(it.band.1, unit),
        it.chance,
    )
}
