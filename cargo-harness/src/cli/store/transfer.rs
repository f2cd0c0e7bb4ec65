//! `cargo harness store export` and `store import`: runs that go to another machine.

use super::super::{
    GlobalOptions,
    kept::working_directory,
    prepared,
    recordings::{self, Place},
    runs::result,
};
use crate::command_error::{CommandError, Kind};
use camino::Utf8PathBuf;
use clap::Args;
use harness_runner::{
    report::{plural, size, style::escaped},
    store::{self, Imported, Overview, TransferError},
};
use std::io::{self, Write};

/// Write recorded runs to a file, for another machine.
///
/// `store import` reads it there. It has all that is recorded: events, output, traces.
#[derive(Debug, Args)]
pub(super) struct ExportCommand {
    /// The runs: `latest`, or the beginnings of their ids. Default: the latest.
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// The same as RUN.
    #[arg(long, short = 'R', value_name = "RUN")]
    run_id: Vec<String>,
    /// Write to this file.
    #[arg(
        long,
        visible_alias = "archive-file",
        value_name = "FILE",
        required = true
    )]
    to: Utf8PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Bring the runs of a file here.
///
/// The file is one of `store export`, or the file of a run. An imported run is named by its id; it is never
/// the latest one.
#[derive(Debug, Args)]
pub(super) struct ImportCommand {
    /// The file.
    #[arg(value_name = "FILE")]
    file: Utf8PathBuf,
    #[command(flatten)]
    place: Place,
}

impl ExportCommand {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let to = working_directory()?.join(&self.to);
        let named = [&self.runs[..], &self.run_id].concat();
        let runs = self.place.runs(&named, global)?;
        let exported = store::export(&runs, &to).map_err(transfer_error)?;
        let count = plural(runs.len(), "run", "runs");
        let text = format!("{count} in `{}`, {}\n", self.to, size(exported.bytes));
        recordings::written(io::stdout().write_all(text.as_bytes()), "the result")
    }
}

impl ImportCommand {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let file = working_directory()?.join(&self.file);
        let store = self.place.locate(global)?.store;
        let imported = store::import(&store, &file).map_err(transfer_error)?;
        let mut text = String::new();
        for run in &imported {
            if run.known {
                let id = run.run.header.run_id;
                let text = format!("run {id} is here already");
                prepared::note(&text, global.stderr_colors());
            }
            text += &line(run);
        }
        recordings::written(io::stdout().write_all(text.as_bytes()), "the result")
    }
}

/// Says where a run comes from, and how it ended.
fn line(imported: &Imported) -> String {
    let started = &imported.started;
    let when = started.started_at.format("%Y-%m-%d %H:%M:%S %:z");
    let host = started.machine.as_ref().and_then(|it| it.host.as_deref());
    let host = host.map(|host| format!(" on `{}`", escaped(host)));
    let host = host.unwrap_or_default();
    let workspace = escaped(&started.workspace_root);
    let ended = Overview::of(imported.run.clone()).map(|overview| result(&overview));
    let ended = ended.unwrap_or_default();
    let id = started.run_id;
    format!("run {id} of {when}, of the workspace `{workspace}`{host}: {ended}\n")
}

fn transfer_error(error: TransferError) -> CommandError {
    match &error {
        TransferError::Write { .. } => CommandError::new(Kind::Write, error),
        TransferError::Refused { .. }
        | TransferError::Open { .. }
        | TransferError::NoExport { .. } => CommandError::new(Kind::Setup, error)
            .with_hint("nothing was imported; export the run again, and copy the file again"),
        TransferError::Read { .. } | TransferError::InProgress { .. } => {
            CommandError::new(Kind::Setup, error)
        }
    }
}
