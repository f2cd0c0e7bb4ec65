//! The values of one number of a test from run to run.

use super::{short, word_of};
use crate::{
    cli::{
        GlobalOptions,
        recordings::{self, Place},
        runs::{MessageFormat, coarse},
        series,
    },
    command_error::{CommandError, Kind},
};
use harness_metadata::{Polarity, TestId, Verdict};
use harness_runner::{
    answers::regression::{band, median},
    report::{
        plural,
        style::{Styles, escaped, paint},
    },
    store::{self, PastRun, Quantity, Sample},
};
use serde::Serialize;
use std::collections::BTreeSet;

/// The columns of the plot.
const COLUMNS: usize = 40;

/// A line of JSON.
#[derive(Serialize)]
struct Row<'a> {
    run_id: String,
    started_at: String,
    test: &'a TestId,
    verdict: Verdict,
    metric: &'a str,
    unit: Option<&'a str>,
    polarity: Polarity,
    /// Numbers that are not finite are `null` in JSON.
    values: &'a [f64],
    median: f64,
    band: (f64, f64),
}

/// Returns the values of a number in all runs, drawn or as JSON.
pub(super) fn text(
    place: &Place,
    global: &GlobalOptions,
    test: &str,
    name: &str,
    form: MessageFormat,
) -> Result<String, CommandError> {
    let quantities = [Quantity::of(name)];
    let wanted = |id: &TestId| id.to_string().contains(test);
    let measured: Vec<_> = series::measured(place, global, wanted, &quantities)?.collect();
    let samples = || measured.iter().flat_map(|(_, found)| &found.samples);
    let tests: BTreeSet<TestId> = samples().map(|sample| sample.test.clone()).collect();
    if tests.is_empty() {
        let message = format!("no recorded run has `{name}` of a test `{test}`");
        let hint = "`cargo harness history TEST -T json` shows the metrics of a test; a number of the runner is one \
                    that a budget may name";
        return Err(CommandError::new(Kind::NoTests, message).with_hint(hint));
    }
    let test = store::the_test(&tests, test).map_err(recordings::find_error)?;
    let names: BTreeSet<_> = samples()
        .filter(|sample| sample.test == test)
        .map(|sample| (&sample.name, &sample.unit))
        .collect();
    let styles = Styles::new(global.stdout_colors());
    let texts = names.into_iter().map(|number| {
        let rows: Vec<_> = measured
            .iter()
            .flat_map(|(run, found)| found.samples.iter().map(move |sample| (run, sample)))
            .filter(|(_, sample)| sample.test == test && (&sample.name, &sample.unit) == number)
            .collect();
        of_number(&test, &rows, form, &styles)
    });
    Ok(texts.collect())
}

fn of_number(
    test: &TestId,
    rows: &[(&PastRun, &Sample)],
    form: MessageFormat,
    styles: &Styles,
) -> String {
    let medians: Vec<f64> = rows
        .iter()
        .map(|(_, sample)| median(&sample.values))
        .collect();
    let finite: Vec<f64> = medians
        .iter()
        .copied()
        .filter(|it| it.is_finite())
        .collect();
    let noise = band(&finite);
    if form == MessageFormat::Json {
        let rows = rows.iter().zip(&medians);
        return rows
            .map(|((run, sample), median)| json(run, sample, *median, noise))
            .collect();
    }
    let (_, first) = rows[0];
    let unit = first.unit.as_deref();
    let polarity = match first.polarity {
        Polarity::HigherIsBetter => ", higher is better".to_owned(),
        Polarity::LowerIsBetter => ", lower is better".to_owned(),
        Polarity::Target(target) => format!(", {target} is best"),
        _ => String::new(),
    };
    let mut text = format!(
        "{} {}{polarity}: {}, median {}, noise band {} to {}\n",
        styles.name(test),
        escaped(&first.name),
        plural(rows.len(), "run", "runs"),
        series::number(median(&finite), unit),
        series::number(noise.0, unit),
        series::number(noise.1, unit),
    );
    let range = series::range(&finite);
    for ((run, sample), value) in rows.iter().zip(&medians) {
        let (word, style) = word_of(sample.verdict, false, styles);
        let several = match sample.values.len() {
            1 => String::new(),
            values => format!("  median of {values}"),
        };
        text += &format!(
            "  {}  {:>6} ago  {}  {:>14}  {}{several}\n",
            short(run),
            coarse(store::age(run.header.started_at)),
            paint(&format!("{word:<11}"), style),
            series::number(*value, unit),
            series::plot(*value, range, noise, median(&finite), COLUMNS),
        );
    }
    text
}

fn json(run: &PastRun, sample: &Sample, median: f64, band: (f64, f64)) -> String {
    let row = Row {
        run_id: run.header.run_id.to_string(),
        started_at: run.header.started_at.to_rfc3339(),
        test: &sample.test,
        verdict: sample.verdict,
        metric: &sample.name,
        unit: sample.unit.as_deref(),
        polarity: sample.polarity,
        values: &sample.values,
        median,
        band,
    };
    serde_json::json!(row).to_string() + "\n"
}
