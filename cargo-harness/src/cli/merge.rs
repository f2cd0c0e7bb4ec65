//! `cargo harness merge`: one report and one recording of those of several parts of a run.

use super::{GlobalOptions, kept::working_directory, prepared};
use crate::command_error::{CommandError, Kind};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use harness_metadata::{Event, EventKind, RunId, exit_code};
use harness_runner::{
    history::Timings,
    own_files,
    report::{json, junit::merge as junit},
    store::{self, merge as recording},
};
use std::{env, fs};

/// Merge the JUnit reports and the events of several parts of a run.
#[derive(Debug, Args)]
pub(super) struct MergeCommand {
    /// JUnit reports, files of `--events`, and recorded runs.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<Utf8PathBuf>,
    /// Write the merged JUnit report to this file.
    #[arg(long, value_name = "PATH")]
    junit: Option<Utf8PathBuf>,
    /// Write the merged events to this file.
    #[arg(long, value_name = "PATH")]
    events: Option<Utf8PathBuf>,
    /// Write how long each test takes to this file, for `--partition time:M/N`.
    #[arg(long, value_name = "PATH")]
    timings: Option<Utf8PathBuf>,
    /// Merge although a part is missing or has not come to its end.
    #[arg(long)]
    incomplete: bool,
}

impl MergeCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let cwd = working_directory()?;
        let mut reports = Vec::new();
        let mut recordings = Vec::new();
        for file in &self.files {
            let path = cwd.join(file);
            let text = read(&path)?;
            match text.trim_start().starts_with('<') {
                true => reports.push(report(file, &text)?),
                false => recordings.push(piece(file, &text)?),
            }
        }
        self.check(&reports, &recordings)?;
        if let Some(path) = &self.junit {
            let merged = junit::merge(reports);
            warn(&merged.warnings, global);
            let mut bytes = Vec::new();
            merged
                .write(&mut bytes)
                .map_err(|source| unwritten(path, &source))?;
            write(&cwd.join(path), &bytes)?;
        }
        if !recordings.is_empty() {
            self.recordings(&recordings, &cwd, global)?;
        }
        Ok(exit_code::OK)
    }

    /// Fails if an input has no output, or an output no input.
    fn check(
        &self,
        reports: &[junit::Piece],
        recordings: &[recording::Piece],
    ) -> Result<(), CommandError> {
        let message = match (reports.is_empty(), &self.junit) {
            (true, Some(_)) => "`--junit` needs a JUnit report to merge",
            (false, None) => "a JUnit report is given: `--junit` says where the merged one goes",
            _ => match (
                recordings.is_empty(),
                self.events.is_some() || self.timings.is_some(),
            ) {
                (true, true) => "`--events` and `--timings` need a file of events to merge",
                (false, false) => {
                    "a file of events is given: `--events` says where the merged one goes"
                }
                _ => return Ok(()),
            },
        };
        Err(CommandError::new(Kind::Setup, message))
    }

    fn recordings(
        &self,
        recordings: &[recording::Piece],
        cwd: &Utf8Path,
        global: &GlobalOptions,
    ) -> Result<(), CommandError> {
        let command = env::args_os().map(|arg| arg.to_string_lossy().into_owned());
        let merged = recording::merge(recordings, RunId::random(), command.collect())
            .map_err(|error| CommandError::new(Kind::Setup, error))?;
        warn(&merged.warnings, global);
        if self.incomplete {
            warn(&merged.missing, global);
        } else if !merged.missing.is_empty() {
            let message = merged.missing.join("; ");
            return Err(CommandError::new(Kind::Setup, message)
                .with_hint("`--incomplete` merges what is there"));
        }
        if let Some(path) = &self.events {
            write(&cwd.join(path), &json::lines(&merged.events))?;
        }
        if let Some(path) = &self.timings {
            let mut timings = Timings::default();
            for event in &merged.events {
                if let EventKind::TestFinished(test) = &event.kind
                    && let Some(last) = test.attempts.last()
                {
                    timings.add(&test.test.without_iteration().0, last.elapsed);
                }
            }
            let written = timings.write(&cwd.join(path));
            written.map_err(|error| CommandError::new(Kind::Write, error))?;
        }
        Ok(())
    }
}

fn read(path: &Utf8Path) -> Result<String, CommandError> {
    let failed = |why: &dyn std::fmt::Display| {
        CommandError::new(Kind::Setup, format!("failed to read `{path}`: {why}"))
    };
    let bytes = store::recording_bytes(path).map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

fn report(file: &Utf8Path, text: &str) -> Result<junit::Piece, CommandError> {
    junit::Piece::read(file.as_str(), text).map_err(|error| {
        let message = format!("`{file}` is no JUnit report: {error}");
        CommandError::new(Kind::Setup, message)
    })
}

fn piece(file: &Utf8Path, text: &str) -> Result<recording::Piece, CommandError> {
    let mut events: Vec<Event> = Vec::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
    {
        match serde_json::from_str(line) {
            Ok(event) => events.push(event),
            // A writer that was killed ends anywhere.
            Err(_) if number > 0 && !text.ends_with('\n') => break,
            Err(error) => {
                let (number, column) = (number + 1, error.column());
                let message = format!("{file}:{number}:{column}: no event of a run: {error}");
                return Err(CommandError::new(Kind::Setup, message));
            }
        }
    }
    Ok(recording::Piece {
        name: file.to_string(),
        events,
    })
}

fn write(path: &Utf8Path, bytes: &[u8]) -> Result<(), CommandError> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = folder.and_then(|()| own_files::replace(path, bytes));
    written.map_err(|source| unwritten(path, &source))
}

fn unwritten(path: &Utf8Path, source: &std::io::Error) -> CommandError {
    CommandError::new(Kind::Write, format!("failed to write `{path}`: {source}"))
}

fn warn(sentences: &[String], global: &GlobalOptions) {
    for sentence in sentences {
        prepared::warn(sentence, global.stderr_colors());
    }
}
