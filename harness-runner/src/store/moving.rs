//! Moves the runs of a workspace from one store to another.

use super::{PastRun, find::is_another, folder, gate, make, packing, retention, runs};
use crate::own_files::{self, Beside};
use camino::{Utf8Path, Utf8PathBuf};
use std::{fs, io};
use thiserror::Error;

/// The ending of the names of files that are written.
const NEW: &str = ".new";

/// The file that remembers the last result of each test.
const HISTORY: &str = "history.cache";

/// Runs that were moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The number of runs that were moved.
    pub runs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The number of runs that stay: they are in progress, or cannot be packed.
    pub in_use: usize,
    /// The number of runs that stay, of other workspaces.
    pub others: usize,
}

/// The reason why runs cannot be moved. Those before the one in question have been.
#[derive(Debug, Error)]
pub enum MoveError {
    /// The two stores are one.
    #[error("the runs in `{folder}` are where they belong")]
    Same {
        /// The folder of runs.
        folder: Utf8PathBuf,
    },
    /// A folder cannot be read.
    #[error("failed to read `{path}`")]
    Read {
        /// The folder.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file cannot be moved.
    #[error("failed to move `{from}` to `{to}`")]
    Move {
        /// The old path.
        from: Utf8PathBuf,
        /// The new path.
        to: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Moves the runs of the workspace with this root, and what came from elsewhere, to another store. A run that
/// is there already is deleted here.
///
/// # Errors
///
/// When something cannot be read or written.
pub fn move_runs(from: &Utf8Path, to: &Utf8Path, workspace: &Utf8Path) -> Result<Moved, MoveError> {
    let same = |a: &Utf8Path, b: &Utf8Path| a.canonicalize().ok() == b.canonicalize().ok();
    if from == to || (to.exists() && same(from, to)) {
        let folder = folder(from);
        return Err(MoveError::Same { folder });
    }
    packing::pack_all(from);
    let kept = runs(from).map_err(|source| MoveError::Read {
        path: folder(from),
        source,
    })?;
    let (own, others) = of_workspace(kept, workspace);
    let mut moved = Moved {
        others,
        ..Moved::default()
    };
    if own.is_empty() {
        return Ok(moved);
    }
    let there = folder(to);
    let made = make(to, workspace).and_then(|()| fs::create_dir_all(&there));
    made.map_err(|source| MoveError::Move {
        from: folder(from),
        to: there.clone(),
        source,
    })?;
    // By this a store is known.
    let gate = gate(&there);
    for run in own {
        let Some(name) = run.path.file_name().filter(|_| run.is_packed()) else {
            moved.in_use += 1;
            continue;
        };
        let bytes = retention::size(&run);
        move_file(&run.path, &there.join(name))?;
        moved.runs += 1;
        moved.bytes += bytes;
    }
    drop(gate);
    let (old, new) = (from.join(HISTORY), to.join(HISTORY));
    if old.is_file() && !new.exists() && others == 0 {
        move_file(&old, &new)?;
    }
    Ok(moved)
}

/// Returns the number of runs of a workspace in a store.
pub fn count(store: &Utf8Path, workspace: &Utf8Path) -> usize {
    let kept = runs(store).unwrap_or_default();
    let (own, _) = of_workspace(kept, workspace);
    own.len()
}

/// Returns the runs of a workspace and those that came from elsewhere, and the number of others.
fn of_workspace(mut kept: Vec<PastRun>, workspace: &Utf8Path) -> (Vec<PastRun>, usize) {
    let all = kept.len();
    kept.retain(|run| run.imported || !is_another(&run.header.workspace_root, workspace));
    let others = all - kept.len();
    (kept, others)
}

/// Moves a file, unless there is one. It is whole there before it goes here.
fn move_file(from: &Utf8Path, to: &Utf8Path) -> Result<(), MoveError> {
    let moved = match to.exists() {
        true => fs::remove_file(from),
        false => match fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(from, to),
            renamed => renamed,
        },
    };
    match moved {
        // It was deleted in the meantime.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !from.exists() => Ok(()),
        moved => moved.map_err(|source| MoveError::Move {
            from: from.to_owned(),
            to: to.to_owned(),
            source,
        }),
    }
}

fn copy(from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
    own_files::sweep(to, NEW);
    let new = Beside::new(to, NEW)?;
    io::copy(&mut own_files::open(from)?, &mut &new.file)?;
    new.file.sync_all()?;
    new.replace(to)?;
    fs::remove_file(from)
}

#[cfg(test)]
mod tests;
