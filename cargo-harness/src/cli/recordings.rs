//! Recordings that the command line names: `latest`, the beginning of a run's id, or a path.

use super::{
    GlobalOptions,
    kept::{Kept, locate_error, working_directory},
    prepared,
};
use crate::command_error::{CommandError, Kind};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use harness_metadata::exit_code;
use harness_runner::{
    cargo::{CargoOptions, locate_target},
    store::{self, FindError, PastRun, Recording, RecordingError, Replayed, RunsOf, WhichRun},
};
use std::io;

/// Lines of a damaged recording that are named.
const NAMED: usize = 5;

/// The place of recorded runs.
#[derive(Debug, Default, Args)]
pub(super) struct Place {
    /// Path to Cargo.toml.
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<Utf8PathBuf>,
    /// The target directory.
    #[arg(long, value_name = "DIR", env = "CARGO_TARGET_DIR")]
    target_dir: Option<Utf8PathBuf>,
}

impl Place {
    /// Returns where the workspace is and where its runs are kept. What killed runners have left there is
    /// told, and packed.
    pub(super) fn locate(&self, global: &GlobalOptions) -> Result<Kept, CommandError> {
        let kept = self.find(global)?;
        kept.tell_of_left_behind(global);
        Ok(kept)
    }

    /// As [`Self::locate`], without a word about runs that are elsewhere.
    pub(super) fn find(&self, global: &GlobalOptions) -> Result<Kept, CommandError> {
        let options = CargoOptions {
            manifest_path: self.manifest_path.clone(),
            target_dir: self.target_dir.clone().filter(|dir| *dir != ""),
            cargo_quiet: 2,
            ..CargoOptions::default()
        };
        let located = locate_target(&options, &working_directory()?).map_err(locate_error)?;
        let kept = Kept::of(located, global)?;
        prepared::tidy(&kept.store, global);
        Ok(kept)
    }

    /// Finds the runs that are meant, by the beginnings of their ids: the latest one that is not in progress, if
    /// none is named.
    pub(super) fn runs(
        &self,
        runs: &[String],
        global: &GlobalOptions,
    ) -> Result<Vec<PastRun>, CommandError> {
        let Kept { root, store, .. } = self.locate(global)?;
        let latest = [String::from("latest")];
        let runs = if runs.is_empty() { &latest } else { runs };
        let mut found: Vec<PastRun> = Vec::new();
        for run in runs {
            let run = store::ended_run(&store, &root, &which(Some(run)), RunsOf::Everything)
                .map_err(find_error)?;
            if !found.contains(&run) {
                found.push(run);
            }
        }
        Ok(found)
    }

    /// Opens the recording that is meant: of the latest run that is not in progress, if none is named.
    pub(super) fn recording(
        &self,
        run: Option<&str>,
        global: &GlobalOptions,
    ) -> Result<Recording, CommandError> {
        if let Some(path) = run.filter(|run| run.contains(['/', '.'])) {
            let path = working_directory()?.join(path);
            return Recording::open(&path).map_err(recording_error);
        }
        let Kept { root, store, .. } = self.locate(global)?;
        let which = which(run);
        match store::ended_run(&store, &root, &which, RunsOf::Everything) {
            Ok(run) => run.open_recording().map_err(recording_error),
            Err(error) => match &which {
                WhichRun::Id(id) => Err(match unreadable(&store, id) {
                    Some(unreadable) => recording_error(unreadable),
                    None => find_error(error),
                }),
                _ => Err(find_error(error)),
            },
        }
    }
}

fn which(run: Option<&str>) -> WhichRun {
    run.map_or(WhichRun::Latest, WhichRun::named)
}

/// Returns why the run with this id is not in the list, if its folder is there.
fn unreadable(store: &Utf8Path, id: &str) -> Option<RecordingError> {
    let mut entries = store::folder(store).read_dir_utf8().ok()?.flatten();
    let folder = entries.find(|entry| entry.file_name().starts_with(id))?;
    Recording::open(folder.path()).err()
}

fn recording_error(error: RecordingError) -> CommandError {
    CommandError::new(Kind::Setup, error)
}

pub(super) fn find_error(error: FindError) -> CommandError {
    let list = |names: &[String]| {
        let lines = names.iter().map(|name| format!("  {name}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    match &error {
        FindError::ManyRuns { runs, .. } => {
            let runs = list(runs);
            let error = CommandError::new(Kind::Setup, error).with_detail(runs);
            error.with_hint("give more of the id")
        }
        FindError::NoSuchRun { kept, .. } => {
            let kept = list(kept);
            let error = CommandError::new(Kind::Setup, error);
            error.with_detail(kept).with_hint("these runs are kept")
        }
        FindError::Ambiguous { candidates, .. } => {
            let candidates = list(candidates);
            let error = CommandError::new(Kind::Setup, error).with_detail(candidates);
            error.with_hint("give the whole name")
        }
        FindError::NotFound { nearest, .. } if !nearest.is_empty() => {
            let nearest = list(nearest);
            let error = CommandError::new(Kind::Setup, error).with_detail(nearest);
            error.with_hint("is it one of these?")
        }
        FindError::OtherWorkspaces { .. } => CommandError::new(Kind::Setup, error)
            .with_hint("the id of a run names one of any workspace"),
        _ => CommandError::new(Kind::Setup, error).with_hint("`cargo harness run` keeps a run"),
    }
}

/// Warns of what is missing in a recording.
pub(super) fn warn_of_gaps(recording: &Recording, replayed: &Replayed, global: &GlobalOptions) {
    let colors = global.stderr_colors();
    let path = &recording.path;
    if let Some(damage) = &recording.damage {
        prepared::warn(damage, colors);
    }
    if !replayed.damaged.is_empty() {
        let named = replayed.damaged.iter().take(NAMED);
        let named: Vec<String> = named.map(usize::to_string).collect();
        let more = match replayed.damaged.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (lines, are) = match replayed.damaged.len() {
            1 => ("line", "is"),
            _ => ("lines", "are"),
        };
        let named = named.join(", ");
        let text = format!("{lines} {named}{more} of `{path}` {are} damaged and left out");
        prepared::warn(&text, colors);
    }
    if replayed.finished.is_none() {
        let text = format!("`{path}` ends before its run did");
        prepared::warn(&text, colors);
    }
}

/// Returns the exit code for a result that was written to standard output. A reader that has seen
/// enough is no error.
pub(super) fn written(result: io::Result<()>, what: &str) -> Result<i32, CommandError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let message = format!("failed to write {what} to standard output: {error}");
            Err(CommandError::new(Kind::Write, message))
        }
        _ => Ok(exit_code::OK),
    }
}
