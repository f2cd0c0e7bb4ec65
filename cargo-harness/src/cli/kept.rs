//! The place of the runs of a workspace.

use super::{GlobalOptions, prepared};
use crate::command_error::{CommandError, Kind};
use camino::Utf8PathBuf;
use harness_runner::{
    cargo::{Located, MetadataError},
    report::plural,
    session, store,
};
use std::env;

/// A workspace, and where its runs are kept.
#[derive(Debug)]
pub(super) struct Kept {
    /// The root of the workspace.
    pub(super) root: Utf8PathBuf,
    /// The store.
    pub(super) store: Utf8PathBuf,
    /// The target directory.
    pub(super) target: Utf8PathBuf,
}

impl Kept {
    /// Finds the store of a workspace.
    pub(super) fn of(located: Located, global: &GlobalOptions) -> Result<Self, CommandError> {
        let Located { root, target, .. } = located;
        let mut sources = global.sources();
        if let Some(file) = &mut sources.config_file {
            *file = working_directory()?.join(&*file);
        }
        let store = session::store_of(&root, &target, &sources, &global.store()?);
        let store = store.map_err(prepared::session_error(global.stderr_colors()))?;
        Ok(Self {
            root,
            store,
            target,
        })
    }

    /// Says so if all runs of the workspace are in the target directory still.
    pub(super) fn tell_of_left_behind(&self, global: &GlobalOptions) {
        let none_here = !store::folder(&self.store).exists();
        if let Some(text) = self.left_behind().filter(|_| none_here) {
            prepared::note(&text, global.stderr_colors());
        }
    }

    /// Says which runs of the workspace are in the target directory still, if any.
    pub(super) fn left_behind(&self) -> Option<String> {
        let usual = store::usual(&self.target);
        let left = match usual == self.store {
            true => 0,
            false => store::count(&usual, &self.root),
        };
        let folder = store::folder(&usual);
        let are = if left == 1 { "is" } else { "are" };
        let runs = plural(left, "run", "runs");
        (left > 0).then(|| {
            format!("{runs} {are} kept in `{folder}`: `cargo harness store move` brings them here")
        })
    }
}

pub(super) fn working_directory() -> Result<Utf8PathBuf, CommandError> {
    let cwd = env::current_dir().map_err(|source| {
        let message = format!("the current directory cannot be told: {source}");
        CommandError::new(Kind::Setup, message)
    })?;
    Utf8PathBuf::from_path_buf(cwd).map_err(|path| {
        let message = format!("the current directory `{}` is not UTF-8", path.display());
        CommandError::new(Kind::Setup, message)
    })
}

pub(super) fn locate_error(error: MetadataError) -> CommandError {
    CommandError::new(Kind::Metadata, error)
}
