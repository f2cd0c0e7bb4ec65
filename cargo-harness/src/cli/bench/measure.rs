//! Rounds of the same benchmarks until their figures are precise, and the comparison with another revision.
//!
//! A round is a run of this program, with all that a run has: the build, scripts, limits. Or it is one start of a
//! program that is there. Two sides take turns in who is first, so that a machine that becomes slower does so for both.

mod figures;
mod programs;
mod sides;

use super::BenchCommand;
use crate::{
    cli::{GlobalOptions, prepared, recordings, series},
    command_error::{CommandError, Kind},
};
use clap::Args;
use figures::{Comparison, Figures, Round};
use harness_metadata::exit_code;
use harness_runner::{
    answers::{interval, regression::median},
    config::settings::Percent,
    report::{
        plural,
        style::{Styles, escaped, paint},
    },
};
use programs::{Numbers, Program};
use sides::Workspace;
use std::{
    ffi::OsString,
    io::{self, Write},
};

/// Options for many rounds.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Measuring options")]
pub(super) struct MeasureArgs {
    /// Measure the same items of this revision, or of the workspace in this folder, in turns, and compare. With
    /// `--program`: the other program.
    #[arg(long, value_name = "REVISION|FOLDER|PROGRAM")]
    against: Option<String>,
    /// Measure this program instead, with the arguments after `--`. Nothing is built.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "of_tests")]
    program: Option<OsString>,
    /// Read what the program prints in this form. Default: that of the standard benchmark harness, criterion or divan.
    #[arg(long, value_name = "FORM", requires = "program")]
    numbers: Option<Numbers>,
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
            || self.program.is_some()
            || self.precision.is_some()
            || self.max_rounds.is_some()
            || self.of_tests
            || self.json
    }
}

/// A side of a comparison.
trait Side {
    /// Returns its name in the table.
    fn name(&self) -> &str;

    /// Makes a round, and returns its figures.
    fn round(&self) -> Result<Round, CommandError>;
}

impl BenchCommand {
    pub(super) fn measure(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let measure = &self.measure;
        let against = measure.against.as_deref();
        if let Some(program) = &measure.program {
            let args = programs::arguments()?;
            let side = |program| Program::new(program, &args, measure.numbers);
            let now = side(program.clone());
            let before = against.map(|other| side(other.into()));
            return measure.compare(&now, before.as_ref().map(|it| it as &dyn Side), global);
        }
        let kept = recordings::Place::default().locate(global)?;
        let scratch = crate::cli::trials::Scratch::new(&kept.target)?;
        let args = sides::arguments(measure.of_tests)?;
        let now = Workspace::here(&args, &scratch.0)?;
        let before = against.map(|other| now.against(other, &kept.root, &kept.target, global));
        let before = before.transpose()?;
        measure.compare(&now, before.as_ref().map(|it| it as &dyn Side), global)
    }
}

impl MeasureArgs {
    /// Makes the rounds, and prints the figures.
    fn compare(
        &self,
        now: &dyn Side,
        before: Option<&dyn Side>,
        global: &GlobalOptions,
    ) -> Result<i32, CommandError> {
        let note = |text: &str| prepared::note(text, global.stderr_colors());
        note("warming up: the first round does not count");
        now.round()?;
        before.map(Side::round).transpose()?;
        let comparisons = self.rounds(now, before, &note)?.comparisons();
        if comparisons.is_empty() {
            let message = "nothing was measured that both sides have";
            return Err(CommandError::new(Kind::NoTests, message));
        }
        let styles = Styles::new(global.stdout_colors());
        let names = (before.map(Side::name), now.name());
        let text = match self.json {
            true => comparisons.iter().map(Comparison::json).collect(),
            false => table(&comparisons, names, &styles),
        };
        recordings::written(io::stdout().write_all(text.as_bytes()), "the figures")?;
        Ok(exit_code::OK)
    }

    /// Makes rounds until the figures are precise, or there are enough.
    fn rounds(
        &self,
        now: &dyn Side,
        before: Option<&dyn Side>,
        note: &dyn Fn(&str),
    ) -> Result<Figures, CommandError> {
        let precision = self.precision.map_or(0.02, |it| f64::from(it.0) / 100.0);
        let most = self.max_rounds.unwrap_or(ROUNDS);
        let mut figures = Figures::default();
        for number in 1..=most {
            // The two sides take turns in being first.
            let (first, second) = if number % 2 == 0 {
                let earlier = before.map(Side::round).transpose()?;
                (now.round()?, earlier)
            } else {
                let first = now.round()?;
                (first, before.map(Side::round).transpose()?)
            };
            figures.add(first, second);
            if (number as usize) < interval::FEWEST {
                continue;
            }
            let (precise, all) = figures.precise(precision);
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
        Ok(figures)
    }
}

/// Returns the figures in one table. The names are those of the sides, the other one first.
fn table(comparisons: &[Comparison], names: (Option<&str>, &str), styles: &Styles) -> String {
    let shown = |it: &Comparison| match &it.test {
        Some(test) => escaped(&format!("{test} {}", it.name)).into_owned(),
        None => escaped(&it.name).into_owned(),
    };
    let widths = comparisons.iter().map(|it| shown(it).chars().count());
    let width = widths.max().unwrap_or(0);
    let (before, now) = names;
    let mut text = match before {
        Some(before) => format!(
            "{:<width$}  {before:>14}  {now:>14}  {:<28}  rounds\n",
            "", "change (99 % confidence)"
        ),
        None => format!(
            "{:<width$}  {:>14}  {:<28}  rounds\n",
            "", "median", "99 % confidence"
        ),
    };
    for it in comparisons {
        let name = shown(it);
        let pad = " ".repeat(width - name.chars().count());
        text += &format!("{name}{pad}  {}\n", row(it, styles).trim_end());
    }
    text
}

/// Returns what a row has behind its name.
fn row(it: &Comparison, styles: &Styles) -> String {
    let unit = it.unit.as_deref();
    let now = series::number(median(&it.now), unit);
    let Some(before) = &it.before else {
        let (low, high) = interval::of_median(&it.now).unwrap_or((f64::NAN, f64::NAN));
        let range = format!(
            "{} to {}",
            series::number(low, unit),
            series::number(high, unit)
        );
        return format!("{now:>14}  {range:<28}  {:>6}", it.now.len());
    };
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
