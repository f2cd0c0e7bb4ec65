//! `cargo harness runs`: what is kept of runs.

use super::{GlobalOptions, prepared, recordings::Place};
use crate::command_error::{CommandError, Kind};
use camino::Utf8Path;
use clap::{Args, ValueEnum};
use harness_metadata::{RunId, RunStats, event::TraceLevel, exit_code};
use harness_runner::{
    report::{
        plural, size,
        style::{Styles, escaped, paint},
    },
    store::{self, Overview, State},
};
use serde::Serialize;
use std::{
    io::{self, BufWriter, Write},
    time::Duration,
};

/// List the recorded runs.
#[derive(Debug, Args)]
pub(super) struct RunsCommand {
    #[command(flatten)]
    list: ListForm,
    #[command(flatten)]
    place: Place,
}

/// The form of a list of what was recorded.
#[derive(Debug, Args)]
pub(super) struct ListForm {
    /// The form of the list.
    #[arg(
        long,
        short = 'T',
        value_enum,
        value_name = "FORMAT",
        default_value = "human"
    )]
    pub(super) message_format: MessageFormat,
}

impl ListForm {
    fn is_human(&self) -> bool {
        self.message_format == MessageFormat::Human
    }
}

/// The form of a list.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum MessageFormat {
    /// A run a line, in columns.
    Human,
    /// JSON, an object a line.
    Json,
}

/// A line of JSON.
#[derive(Serialize)]
struct Row<'a> {
    run_id: RunId,
    started_at: String,
    profile: &'a str,
    command_line: &'a [String],
    trace: TraceLevel,
    tests: usize,
    /// `in-progress`, `ended` or `killed`.
    state: &'static str,
    stats: Option<&'a RunStats>,
    /// Results that are known of a run whose runner was killed.
    known: Option<usize>,
    bytes: u64,
    /// Whether it comes from elsewhere, by `store import`.
    imported: bool,
    /// Its file, or its folder if it is not packed.
    path: &'a Utf8Path,
}

impl RunsCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let kept = self.place.locate(global)?;
        let store = &kept.store;
        let runs = store::runs(store).map_err(|error| {
            let folder = store::folder(store);
            CommandError::new(Kind::Setup, format!("failed to read `{folder}`: {error}"))
        })?;
        let runs: Vec<_> = runs.into_iter().filter_map(Overview::of).collect();
        if let Some(text) = kept
            .left_behind()
            .filter(|_| self.list.is_human() && store::folder(store).exists())
        {
            prepared::note(&text, global.stderr_colors());
        }
        let mut out = BufWriter::new(io::stdout().lock());
        let written = match self.list.message_format {
            MessageFormat::Json => write_json(&runs, &mut out),
            MessageFormat::Human if runs.is_empty() => {
                let text = format!(
                    "no run is kept in `{}`; `cargo harness run` keeps one",
                    store::folder(store)
                );
                prepared::note(&text, global.stderr_colors());
                Ok(())
            }
            MessageFormat::Human => {
                write_table(&runs, Styles::new(global.stdout_colors()), &mut out)
            }
        };
        match written.and_then(|()| out.flush()) {
            Ok(()) => Ok(exit_code::OK),
            // `runs | head` has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                let _ = out.into_parts();
                Ok(exit_code::OK)
            }
            Err(error) => {
                let message = format!("failed to write the list to standard output: {error}");
                Err(CommandError::new(Kind::Write, message))
            }
        }
    }
}

fn write_json(runs: &[Overview], out: &mut dyn Write) -> io::Result<()> {
    for overview in runs {
        let header = &overview.run.header;
        let (state, stats, known) = match &overview.state {
            State::InProgress => ("in-progress", None, None),
            State::Ended(ending) => ("ended", Some(&ending.stats), None),
            State::Killed(extent) => ("killed", None, Some(extent.known)),
        };
        let row = Row {
            run_id: header.run_id,
            started_at: header.started_at.to_rfc3339(),
            profile: &overview.profile,
            command_line: &overview.command_line,
            trace: overview.trace,
            tests: header.tests,
            state,
            stats,
            known,
            bytes: overview.bytes,
            imported: overview.run.imported,
            path: &overview.run.path,
        };
        serde_json::to_writer(&mut *out, &row)?;
        writeln!(out)?;
    }
    Ok(())
}

fn write_table(runs: &[Overview], styles: Styles, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![
        [
            "RUN", "STARTED", "AGE", "PROFILE", "TRACE", "SIZE", "RESULT",
        ]
        .map(str::to_owned),
    ];
    for overview in runs {
        let header = &overview.run.header;
        let id = header.run_id.to_string();
        rows.push([
            id.get(..8).unwrap_or(&id).to_owned(),
            header.started_at.format("%Y-%m-%d %H:%M:%S").to_string(),
            coarse(store::age(header.started_at)),
            escaped(&overview.profile).into_owned(),
            overview.trace.as_str().to_owned(),
            size(overview.bytes),
            result(overview),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..7).map(|column| width(column).unwrap_or(0)).collect();
    for (number, row) in rows.iter().enumerate() {
        let style = match number.checked_sub(1).map(|number| &runs[number].state) {
            None => styles.count,
            Some(State::Ended(ending)) if ending.failed() => styles.fail,
            Some(State::Ended(ending)) if ending.cancelled.is_none() => styles.pass,
            Some(_) => styles.warn,
        };
        for (column, cell) in row.iter().enumerate().take(6) {
            write!(out, "{cell:<width$}  ", width = widths[column])?;
        }
        let command = number.checked_sub(1).map(|number| command(&runs[number]));
        match command.filter(|command| !command.is_empty()) {
            Some(command) => {
                let padding = " ".repeat(widths[6] - row[6].chars().count());
                writeln!(out, "{}{padding}  {command}", paint(&row[6], style))?;
            }
            None => writeln!(out, "{}", paint(&row[6], style))?,
        }
    }
    Ok(())
}

/// Returns a time in the largest unit that fits.
pub(super) fn coarse(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let unit = units.iter().find(|(length, _)| seconds >= *length);
    let (length, unit) = unit.unwrap_or(&(1, "s"));
    format!("{} {unit}", seconds / length)
}

/// Says how a run ended.
pub(super) fn result(overview: &Overview) -> String {
    let mut text = ended(overview);
    if overview.run.imported {
        text.push_str(", imported");
    }
    text
}

fn ended(overview: &Overview) -> String {
    let tests = overview.run.header.tests;
    match &overview.state {
        State::InProgress => format!("in progress, {}", plural(tests, "test", "tests")),
        State::Killed(extent) => {
            format!("killed, {} of {tests} results known", extent.known)
        }
        State::Ended(ending) => {
            let stats = &ending.stats;
            let failed = stats.failed + stats.timed_out + stats.start_failed + stats.faults;
            let mut text = format!("{} passed", stats.passed);
            if failed > 0 {
                text.push_str(&format!(", {failed} failed"));
            }
            if stats.finished < stats.selected {
                let rest = stats.selected - stats.finished;
                text.push_str(&format!(", {rest} not run"));
            }
            if stats.interrupted > 0 {
                text.push_str(&format!(", {} interrupted", stats.interrupted));
            }
            text
        }
    }
}

/// Returns what was given after the subcommand: the filter, above all.
fn command(overview: &Overview) -> String {
    let mut words = overview.command_line.iter().skip(1).peekable();
    for own in ["harness", "run", "r"] {
        words.next_if(|word| *word == own);
    }
    let words: Vec<_> = words
        .map(|word| escaped(&shell_words::quote(word)).into_owned())
        .collect();
    words.join(" ")
}
