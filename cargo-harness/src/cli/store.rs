//! `cargo harness store`: the runs that are kept.

mod moving;
mod show;
mod sql;
mod transfer;

use super::{GlobalOptions, kept::Kept, prepared, recordings::Place, runs::RunsCommand};
use crate::command_error::{CommandError, Kind};
use clap::{Args, Subcommand};
use harness_metadata::exit_code;
use harness_runner::{
    report::{plural, size},
    store::{self, Retention},
};
use moving::MoveCommand;
use show::ShowCommand;
use sql::SqlCommand;
use std::{
    io::{self, Write},
    time::Duration,
};

/// Seconds.
const DAY: u64 = 24 * 60 * 60;
use transfer::{ExportCommand, ImportCommand};

/// List, show, delete, move, export and import recorded runs.
#[derive(Debug, Args)]
pub(super) struct StoreCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the recorded runs.
    List(RunsCommand),
    /// Show what is recorded of a run.
    #[command(visible_alias = "info")]
    Show(ShowCommand),
    /// Delete old runs.
    Prune(PruneCommand),
    /// Bring the runs of another folder here.
    Move(MoveCommand),
    /// Write recorded runs to a file, for another machine.
    Export(ExportCommand),
    /// Bring the runs of a file here.
    Import(ImportCommand),
    /// Query the recorded runs by SQL.
    Sql(SqlCommand),
}

/// Delete old runs.
///
/// The latest run, the last one that failed, the last one of the whole workspace that passed, and those with
/// the last trace of a test that passed or failed go last; the latest one never goes, nor one that was imported.
#[derive(Debug, Args)]
struct PruneCommand {
    /// Keep this many of the latest runs.
    #[arg(long, value_name = "N", default_value_t = Retention::default().runs)]
    runs: usize,
    /// Keep runs of this many mebibytes together.
    #[arg(long, value_name = "MIB", default_value_t = Retention::default().bytes >> 20)]
    mebibytes: u64,
    /// Keep runs of the whole workspace for this many days.
    #[arg(long, value_name = "DAYS", default_value_t = Retention::default().whole.as_secs() / DAY)]
    days: u64,
    /// Delete nothing; say what would be deleted, and why.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

impl StoreCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        match self.command {
            Command::List(command) => command.run(global),
            Command::Show(command) => command.run(global),
            Command::Prune(command) => command.run(global),
            Command::Move(command) => command.run(global),
            Command::Export(command) => command.run(global),
            Command::Import(command) => command.run(global),
            Command::Sql(command) => command.run(global),
        }
    }
}

impl PruneCommand {
    fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let Kept { store, .. } = self.place.locate(global)?;
        let folder = store::folder(&store);
        if !folder.exists() {
            let text = format!("no run is kept in `{folder}`");
            prepared::note(&text, global.stderr_colors());
            return Ok(exit_code::OK);
        }
        let retention = Retention {
            runs: self.runs,
            bytes: self.mebibytes.saturating_mul(1 << 20),
            whole: Duration::from_secs(self.days.saturating_mul(DAY)),
        };
        let failed = |error: io::Error| {
            let message = format!("failed to delete runs in `{folder}`: {error}");
            CommandError::new(Kind::Write, message)
        };
        let chosen = store::prunable(&store, retention).map_err(failed)?;
        if !self.dry_run {
            store::prune(&store, retention).map_err(failed)?;
        }
        // Another run may be made or deleted at this moment, and then nothing is.
        let gone = chosen
            .iter()
            .filter(|it| self.dry_run || !it.run.path.exists());
        let (mut count, mut bytes) = (0, 0);
        let mut text = String::new();
        for it in gone {
            count += 1;
            bytes += it.bytes;
            let header = &it.run.header;
            let started = header.started_at.format("%Y-%m-%d %H:%M:%S");
            let (id, own, reason) = (header.run_id, size(it.bytes), it.reason);
            text += &format!("{id}  {started}  {own:>9}  {reason}\n");
        }
        if !self.dry_run && count < chosen.len() {
            let left = chosen.len() - count;
            let text = format!("{} could not be deleted now", plural(left, "run", "runs"));
            prepared::warn(&text, global.stderr_colors());
        }
        let (would, runs) = match self.dry_run {
            true => ("would be ", plural(count, "run", "runs")),
            false => ("", plural(count, "run", "runs")),
        };
        text += &format!("{runs} {would}deleted, {}\n", size(bytes));
        super::recordings::written(io::stdout().write_all(text.as_bytes()), "the list")
    }
}
