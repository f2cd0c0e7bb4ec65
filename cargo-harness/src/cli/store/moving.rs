//! `cargo harness store move`: the runs of a store that was chosen before.

use super::super::{
    GlobalOptions,
    kept::Kept,
    prepared,
    recordings::{Place, written},
};
use crate::command_error::{CommandError, Kind};
use camino::Utf8PathBuf;
use clap::Args;
use harness_runner::{
    report::{plural, size},
    store::{self, MoveError},
};
use std::io::{self, Write};

/// Bring the runs of this workspace from another folder to where runs are kept now.
#[derive(Debug, Args)]
pub(super) struct MoveCommand {
    /// The folder that they were kept in, relative to the workspace root; by default the one in the target
    /// directory.
    #[arg(long, value_name = "DIR")]
    from: Option<Utf8PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl MoveCommand {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let colors = global.stderr_colors();
        let kept = self.place.find(global)?;
        let from = self.from(&kept)?;
        let moved = store::move_runs(&from, &kept.store, &kept.root).map_err(failed)?;
        let stay = [
            (moved.in_use, "in progress"),
            (moved.others, "of other workspaces"),
        ];
        for (count, what) in stay.into_iter().filter(|(count, _)| *count > 0) {
            let runs = plural(count, "run", "runs");
            let text = format!("{runs} {what}: not moved");
            prepared::note(&text, colors);
        }
        let (from, to) = (store::folder(&from), store::folder(&kept.store));
        let (runs, bytes) = (plural(moved.runs, "run", "runs"), size(moved.bytes));
        let text = format!("{runs} moved from `{from}` to `{to}`, {bytes}\n");
        written(io::stdout().write_all(text.as_bytes()), "what was moved")
    }

    /// Returns the store that the runs are in.
    fn from(&self, kept: &Kept) -> Result<Utf8PathBuf, CommandError> {
        let Some(from) = &self.from else {
            return Ok(store::usual(&kept.target));
        };
        let itself = kept.root.join(from);
        if store::folder(&itself).is_dir() {
            return Ok(itself);
        }
        let place = store::place(&kept.root, &kept.target, Some(from));
        place.map_err(|error| CommandError::new(Kind::Setup, error))
    }
}

fn failed(error: MoveError) -> CommandError {
    let kind = match &error {
        MoveError::Same { .. } | MoveError::Read { .. } => Kind::Setup,
        MoveError::Move { .. } => Kind::Write,
    };
    let same = matches!(error, MoveError::Same { .. });
    let error = CommandError::new(kind, error);
    match same {
        true => error.with_hint("`store.runs-dir` or `--runs-dir` names another folder"),
        false => error,
    }
}
