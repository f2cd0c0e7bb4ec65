//! Rounds of the same benchmarks until their figures are precise, and the comparison with another revision.
//!
//! A round is a run of this program, with all that a run has: the build, scripts, limits. Two sides take turns in who is
//! first, so that a machine that becomes slower does so for both.

mod figures;
mod sides;

use super::BenchCommand;
use crate::{
    cli::{GlobalOptions, prepared, recordings, series},
    command_error::{CommandError, Kind},
};
use clap::Args;
use figures::{Comparison, Figures};
use harness_metadata::exit_code;
use harness_runner::{
    answers::{interval, regression::median},
    config::settings::Percent,
    report::{
        plural,
        style::{Styles, escaped, paint},
    },
};
use sides::Side;
use std::io::{self, Write};

/// Options for many rounds.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Measuring options")]
pub(super) struct MeasureArgs {
    /// Measure the same items of this revision, or of the workspace in this folder, in turns, and compare.
    #[arg(long, value_name = "REVISION|FOLDER")]
    against: Option<String>,
    /// Repeat until the medians are known to this part, with 99 % confidence. Default with the other options: 2%.
    #[arg(long, value_name = "PERCENT")]
    precision: Option<Percent>,
    /// Repeat so many times at most. Default: 30.
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u64).range(interval::FEWEST as u64..))]
    max_rounds: Option<u64>,
    /// Measure tests, by the metrics that they and their programs record.
    #[arg(long)]
    of_tests: bool,
    /// Print the figures as JSON, an object a line.
    #[arg(long)]
    json: bool,
}

/// The rounds when nothing is said.
const ROUNDS: u64 = 30;

impl MeasureArgs {
    /// Returns whether there are to be rounds.
    pub(super) fn is_wanted(&self) -> bool {
        self.against.is_some()
            || self.precision.is_some()
            || self.max_rounds.is_some()
            || self.of_tests
            || self.json
    }
}

impl BenchCommand {
    pub(super) fn measure(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let measure = &self.measure;
        let place = recordings::Place::default();
        let kept = place.locate(global)?;
        let scratch = crate::cli::trials::Scratch::new(&kept.target)?;
        let args = sides::arguments(measure.of_tests)?;
        let here = Side::here()?;
        let there = match &measure.against {
            Some(against) => Some(Side::against(against, &kept.root, &kept.target, global)?),
            None => None,
        };
        let note = |text: &str| prepared::note(text, global.stderr_colors());
        note("warming up: the first round does not count");
        let run = |side: &Side| side.round(&args, &scratch.0);
        run(&here)?;
        if let Some(there) = &there {
            run(there)?;
        }
        let precision = measure.precision.map_or(0.02, |it| f64::from(it.0) / 100.0);
        let most = measure.max_rounds.unwrap_or(ROUNDS);
        let mut figures = Figures::default();
        for number in 1..=most {
            let (mut now, mut before) = (None, None);
            // The two sides take turns in being first.
            for second in [number % 2 == 0, number % 2 != 0] {
                match (second, &there) {
                    (false, _) => now = Some(run(&here)?),
                    (true, Some(there)) => before = Some(run(there)?),
                    (true, None) => {}
                }
            }
            figures.add(now.unwrap_or_default(), before);
            let (precise, all) = figures.precise(precision);
            if number as usize >= interval::FEWEST {
                note(&format!(
                    "{} of at most {most}: {precise} of {} known to {} %",
                    plural(number as usize, "round", "rounds"),
                    plural(all, "figure is", "figures are"),
                    100.0 * precision,
                ));
                if precise == all {
                    break;
                }
            }
        }
        let comparisons = figures.comparisons();
        if comparisons.is_empty() {
            let message = "nothing was measured that both sides have";
            return Err(CommandError::new(Kind::NoTests, message));
        }
        let styles = Styles::new(global.stdout_colors());
        let text = match measure.json {
            true => comparisons.iter().map(Comparison::json).collect(),
            false => table(&comparisons, there.as_ref(), &styles),
        };
        recordings::written(io::stdout().write_all(text.as_bytes()), "the figures")?;
        Ok(exit_code::OK)
    }
}

/// Returns the figures in one table.
fn table(comparisons: &[Comparison], there: Option<&Side>, styles: &Styles) -> String {
    let width = |of: &dyn Fn(&Comparison) -> usize| comparisons.iter().map(of).max().unwrap_or(0);
    let name = |it: &Comparison| escaped(&format!("{} {}", it.test, it.name)).into_owned();
    let names = width(&|it| name(it).chars().count());
    let mut text = match there {
        Some(there) => format!(
            "{:<names$}  {:>14}  {:>14}  {:<28}  rounds\n",
            "", there.name, "now", "change (99 % confidence)"
        ),
        None => format!(
            "{:<names$}  {:>14}  {:<28}  rounds\n",
            "", "median", "99 % confidence"
        ),
    };
    for it in comparisons {
        let unit = it.unit.as_deref();
        let now = series::number(median(&it.now), unit);
        let shown = name(it);
        let pad = " ".repeat(names - shown.chars().count());
        let line = match &it.before {
            Some(before) => {
                let before = series::number(median(before), unit);
                let (word, style) = match it.verdict() {
                    figures::Verdict::Better => ("better", styles.pass),
                    figures::Verdict::Worse => ("worse", styles.fail),
                    figures::Verdict::Changed => ("changed", styles.warn),
                    figures::Verdict::Unclear => ("", styles.count),
                };
                let change = it.change().map_or_else(String::new, |(middle, low, high)| {
                    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
                    format!(
                        "{:+.1} % ({:+.1} to {:+.1})",
                        percent(middle),
                        percent(low),
                        percent(high)
                    )
                });
                format!(
                    "{before:>14}  {now:>14}  {change:<28}  {:>6}  {}",
                    it.now.len(),
                    paint(word, style)
                )
            }
            None => {
                let (low, high) = interval::of_median(&it.now).unwrap_or((f64::NAN, f64::NAN));
                let range = format!(
                    "{} to {}",
                    series::number(low, unit),
                    series::number(high, unit)
                );
                format!("{now:>14}  {range:<28}  {:>6}", it.now.len())
            }
        };
        text += &format!("{shown}{pad}  {}\n", line.trim_end());
    }
    text
}
