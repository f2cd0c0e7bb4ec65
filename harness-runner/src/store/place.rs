//! The place of a store: below the target folder, or where its user wants it.
//!
//! A chosen folder within the workspace is the store of this workspace, and moves with it. Any other may be
//! that of many workspaces, so each has a folder of its own there: its name, and a hash of its path.

use super::GATE;
use crate::own_files;
use camino::{Utf8Path, Utf8PathBuf};
use std::{fs, io};
use thiserror::Error;
use xxhash_rust::xxh64::xxh64;

/// The folder of the store below a target folder.
const USUAL: &str = "harness";

/// The store, within another one, of runs with failures that were injected: what they say of a test is no history
/// of it.
pub const APART: &str = "injected";

/// The folder of runs in a store.
const RUNS: &str = "runs";

/// The beginning of the names of the files beside them that remember results.
const HISTORY: &str = "history.";

/// The file by which git ignores a store within a workspace.
const IGNORE: &str = ".gitignore";

/// The folders that are asked for, relative to the root of the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// By the command line.
    pub given: Option<Utf8PathBuf>,
    /// By the settings of a person, which those of the workspace beat.
    pub person: Option<Utf8PathBuf>,
    /// Whether the run is kept apart from all others, below the folder that the command line does not name.
    pub is_apart: bool,
}

impl Wish {
    /// Returns the folder that counts beside that of the workspace's settings.
    pub fn or(&self, workspace: Option<Utf8PathBuf>) -> Option<Utf8PathBuf> {
        let given = self.given.clone();
        given.or(workspace).or_else(|| self.person.clone())
    }

    /// Returns the store within this one that the run is kept in. A folder that the command line names is taken as it is.
    pub fn apart(&self, store: Utf8PathBuf) -> Utf8PathBuf {
        match self.is_apart && self.given.is_none() {
            true => store.join(APART),
            false => store,
        }
    }
}

/// The reason why a folder cannot be a store.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// It would be full of other things.
    #[error(
        "runs cannot be kept in `{folder}`: it is the workspace itself; name a folder for them alone"
    )]
    Workspace {
        /// The folder.
        folder: Utf8PathBuf,
    },
    /// A shell would have put a home directory in its place.
    #[error("runs cannot be kept in `{folder}`: `~` has no meaning here; write the whole path")]
    Tilde {
        /// The folder, as it was given.
        folder: Utf8PathBuf,
    },
    /// Something else has its name.
    #[error("runs cannot be kept in `{folder}`: `{path}` is not a folder")]
    NoFolder {
        /// The folder.
        folder: Utf8PathBuf,
        /// It, or one that it is in.
        path: Utf8PathBuf,
    },
    /// It is another program's.
    #[error(
        "runs cannot be kept in `{folder}`: it has `{entry}`, which is not of a store; name a folder for \
         them alone"
    )]
    Foreign {
        /// The folder.
        folder: Utf8PathBuf,
        /// One of the things in it.
        entry: Utf8PathBuf,
    },
}

/// Returns the usual store: below the target folder.
pub fn usual(target: &Utf8Path) -> Utf8PathBuf {
    target.join(USUAL)
}

/// Returns the folder of a store that runs are kept in.
pub fn folder(store: &Utf8Path) -> Utf8PathBuf {
    store.join(RUNS)
}

/// Returns the store of the workspace with this root. `chosen` is relative to it.
///
/// # Errors
///
/// When the folder that was chosen is something else.
pub fn place(
    root: &Utf8Path,
    target: &Utf8Path,
    chosen: Option<&Utf8Path>,
) -> Result<Utf8PathBuf, PlaceError> {
    let Some(chosen) = chosen else {
        return Ok(usual(target));
    };
    if chosen.as_str().starts_with('~') {
        // No shell has seen it, and a folder `~` is deleted with everything else soon.
        let folder = chosen.to_owned();
        return Err(PlaceError::Tilde { folder });
    }
    let (root, folder) = (resolved(root), resolved(&root.join(chosen)));
    if folder == root {
        return Err(PlaceError::Workspace { folder });
    }
    let store = match folder.starts_with(&root) {
        true => folder,
        false => folder.join(of_workspace(&root)),
    };
    // A link that leads nowhere is in the way of a folder.
    let there = store
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok());
    if let Some(path) = there.filter(|path| !path.is_dir()) {
        let (folder, path) = (store.clone(), path.to_owned());
        return Err(PlaceError::NoFolder { folder, path });
    }
    match foreign(&store) {
        Some(entry) => Err(PlaceError::Foreign {
            folder: store,
            entry,
        }),
        None => Ok(store),
    }
}

/// Makes the folder of a store, so that git ignores it if it is new and within the workspace.
///
/// # Errors
///
/// When it cannot be made.
pub fn make(store: &Utf8Path, workspace: &Utf8Path) -> io::Result<()> {
    let known = store.exists();
    fs::create_dir_all(store)?;
    if !known && store.starts_with(resolved(workspace)) {
        // Without it the runs are shown as files that are not tracked.
        let _ = own_files::create_new(store.join(IGNORE))
            .and_then(|mut file| io::Write::write_all(&mut file, b"*\n"));
    }
    Ok(())
}

/// Returns the name of the folder of a workspace: other workspaces may have its name, but not its path.
fn of_workspace(root: &Utf8Path) -> String {
    let name = root.file_name().unwrap_or("root");
    format!("{name}-{:016x}", xxh64(root.as_str().as_bytes(), 0))
}

/// Returns a path without links as far as it exists.
fn resolved(path: &Utf8Path) -> Utf8PathBuf {
    let Some((existing, there)) = path
        .ancestors()
        .find_map(|path| Some((path, path.canonicalize_utf8().ok()?)))
    else {
        return path.to_owned();
    };
    let rest = path.strip_prefix(existing).unwrap_or(Utf8Path::new(""));
    rest.components().fold(there, |mut path, part| {
        match part.as_str() {
            ".." => {
                path.pop();
            }
            part => path.push(part),
        }
        path
    })
}

/// Returns an entry of a folder that no store has. The gate is made with the first run.
fn foreign(store: &Utf8Path) -> Option<Utf8PathBuf> {
    let runs = folder(store);
    if runs.with_extension(GATE).is_file() {
        return None;
    }
    let entries = |folder: &Utf8Path| folder.read_dir_utf8().into_iter().flatten().flatten();
    // Nothing of a hidden file's is changed or deleted.
    let is_own = |name: &str| {
        name == RUNS || name == APART || name.starts_with(HISTORY) || name.starts_with('.')
    };
    let is_run = |name: &str| uuid::Uuid::parse_str(name.split('.').next().unwrap_or(name)).is_ok();
    let other = entries(store).find(|entry| !is_own(entry.file_name()));
    let no_run = |name: &str| !is_run(name) && !name.starts_with('.');
    let found = other.or_else(|| entries(&runs).find(|entry| no_run(entry.file_name())))?;
    Some(found.path().strip_prefix(store).ok()?.to_owned())
}

#[cfg(test)]
mod tests;
