//! Programs that are there, as sides of a comparison: nothing is built, and no workspace is needed.

use super::{
    Side,
    figures::{Round, of_metrics},
    sides::OWN,
};
use crate::command_error::{CommandError, Kind};
use clap::ValueEnum;
use harness_metadata::{Metric, Polarity, metric::Number};
use harness_payload::{Format, Payload, Report};
use std::{env, ffi::OsString};

/// The form of the numbers that a program prints.
#[derive(Copy, Clone, Debug, ValueEnum)]
pub(super) enum Numbers {
    /// The first whole JSON document with a number in it.
    Json,
    /// Lines `key=value`.
    KeyValue,
    /// The text format of Prometheus.
    Prometheus,
    /// The standard benchmark harness.
    Libtest,
    /// criterion.
    Criterion,
    /// divan.
    Divan,
}

/// The forms of benchmark harnesses.
const OF_BENCHMARKS: [Format<'static>; 3] = [Format::Divan, Format::Criterion, Format::Libtest];

/// The options of the command that mean something here, beside [`OWN`], and whether a value follows.
const COMMON: [(&str, bool); 4] = [
    ("--color", true),
    ("--no-pager", false),
    ("--verbose", false),
    ("-v", false),
];

/// Returns the arguments of the program: those after `--`.
pub(super) fn arguments() -> Result<Vec<OsString>, CommandError> {
    after_dashes(env::args_os().skip(1).collect())
}

fn after_dashes(args: Vec<OsString>) -> Result<Vec<OsString>, CommandError> {
    let mut args = args.into_iter().peekable();
    // Started by cargo, the first one is the name of the subcommand.
    args.next_if(|arg| arg == "harness");
    let mut is_named = false;
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        let name = text.split_once('=').map_or(&*text, |(name, _)| name);
        if text == "--" {
            break;
        }
        if !is_named && (text == "bench" || text == "b") {
            is_named = true;
            continue;
        }
        let known = OWN.iter().chain(&COMMON).find(|(own, _)| *own == name);
        let Some((_, has_value)) = known else {
            let message = format!(
                "`{name}` is about benchmarks of a workspace, and `--program` measures a program"
            );
            let hint = "the arguments of the program stand after `--`";
            return Err(CommandError::new(Kind::Usage, message).with_hint(hint));
        };
        if *has_value && name == text {
            args.next();
        }
    }
    Ok(args.collect())
}

/// A program with its arguments.
#[derive(Debug)]
pub(super) struct Program<'a> {
    /// As the table names it.
    name: String,
    program: OsString,
    args: &'a [OsString],
    numbers: Option<Numbers>,
}

impl<'a> Program<'a> {
    pub(super) fn new(program: OsString, args: &'a [OsString], numbers: Option<Numbers>) -> Self {
        Self {
            name: shortened(&program.to_string_lossy()),
            program,
            args,
            numbers,
        }
    }
}

/// The most characters of a name in the table.
const WIDTH: usize = 14;

/// Returns the end of a path, from a slash if there is one.
fn shortened(path: &str) -> String {
    let length = path.chars().count();
    if length <= WIDTH {
        return path.to_owned();
    }
    let end: String = path.chars().skip(length - (WIDTH - 1)).collect();
    match end.split_once('/') {
        Some((_, rest)) if !rest.is_empty() => format!("…/{rest}"),
        _ => format!("…{end}"),
    }
}

impl Side for Program<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn round(&self) -> Result<Round, CommandError> {
        let name = self.program.to_string_lossy();
        let payload = Payload::new(&name, "program").format(format(self.numbers));
        let started = payload.invoke().program(&self.program).args(self.args);
        let report = started
            .run()
            .map_err(|error| CommandError::new(Kind::Setup, error.to_string()))?;
        if !report.passed() {
            let message = format!("a round of `{name}` failed");
            return Err(CommandError::new(Kind::TestRun, message).with_detail(report.to_string()));
        }
        let metrics = match self.numbers {
            Some(_) if report.metrics.is_empty() => {
                let message = format!("`{name}` printed no numbers");
                let error = CommandError::new(Kind::TestRun, message);
                return Err(error.with_detail(report.notes.join("\n")));
            }
            Some(_) => report.metrics.clone(),
            None => of_benchmarks(&report),
        };
        let metrics: Vec<Metric> = metrics.into_iter().map(converted).collect();
        let mut round = of_metrics(None, &metrics);
        round.extend(used(&report));
        Ok(round)
    }
}

fn format(numbers: Option<Numbers>) -> Format<'static> {
    match numbers {
        None => Format::ExitCode,
        Some(Numbers::Json) => Format::Json,
        Some(Numbers::KeyValue) => Format::KeyValue,
        Some(Numbers::Prometheus) => Format::Prometheus,
        Some(Numbers::Libtest) => Format::Libtest,
        Some(Numbers::Criterion) => Format::Criterion,
        Some(Numbers::Divan) => Format::Divan,
    }
}

/// Returns the figures of the harness that finds most in standard output.
fn of_benchmarks(report: &Report) -> Vec<harness_payload::Metric> {
    let found = OF_BENCHMARKS
        .iter()
        .map(|format| format.read(report.stdout.head()));
    found.max_by_key(Vec::len).unwrap_or_default()
}

fn converted(read: harness_payload::Metric) -> Metric {
    Metric {
        payload: None,
        invocation: None,
        name: read.name,
        value: Number(read.value),
        unit: read.unit,
        polarity: match read.polarity {
            harness_payload::Polarity::HigherIsBetter => Polarity::HigherIsBetter,
            harness_payload::Polarity::LowerIsBetter => Polarity::LowerIsBetter,
            harness_payload::Polarity::Target(target) => Polarity::Target(Number(target)),
            _ => Polarity::Unknown,
        },
        stream: read.stream.map(|stream| stream.name().to_owned()),
        source: Some(read.source.to_owned()),
    }
}

/// Returns what the program used, by the names that budgets have for it.
fn used(report: &Report) -> Round {
    let usage = report.usage;
    let cpu = usage.user + usage.system;
    [
        ("time", "s", usage.elapsed.as_secs_f64()),
        ("cpu", "s", cpu.as_secs_f64()),
        ("rss", "B", usage.peak_memory as f64),
    ]
    .into_iter()
    .map(|(name, unit, value)| {
        let key = (None, name.to_owned(), Some(unit.to_owned()));
        (key, (Polarity::LowerIsBetter, value))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Result<Vec<String>, String> {
        let args = args.iter().map(|arg| OsString::from(*arg)).collect();
        let found = after_dashes(args).map_err(|error| format!("{error:?}"))?;
        Ok(found
            .into_iter()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect())
    }

    #[test]
    fn arguments_of_a_program_stand_after_dashes_and_other_options_are_refused() {
        let all = [
            "harness",
            "--color",
            "never",
            "bench",
            "--program",
            "new",
            "--against=old",
            "--json",
            "--",
            "bench",
            "-E",
            "--",
        ];
        assert_eq!(
            of(&all),
            Ok(["bench", "-E", "--"].map(str::to_owned).into())
        );
        assert_eq!(of(&["b", "--program", "new"]), Ok(Vec::new()));
        for (wrong, named) in [
            ("-E", "`-E`"),
            ("--junit=x", "`--junit`"),
            ("name", "`name`"),
        ] {
            let refused = of(&["bench", "--program", "new", wrong]);
            assert!(refused.is_err_and(|error| error.contains(named)), "{wrong}");
        }
    }

    #[test]
    fn a_long_path_is_shown_by_its_end() {
        assert_eq!(shortened("old/server"), "old/server");
        assert_eq!(shortened("target/release/server"), "…/server");
        assert_eq!(shortened("a-name-without-a-slash"), "…thout-a-slash");
    }
}
