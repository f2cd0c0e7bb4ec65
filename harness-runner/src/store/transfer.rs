//! Takes runs to another machine: `store export` and `store import`.
//!
//! An export is a tar archive: a list of its runs, and the pack of each. A single pack is imported as well. An
//! imported run is meant by its id alone: it is never the latest one here, and no run deletes it.

use super::{
    PastRun, RECORDING,
    files::{Files, PACKED},
    folder,
    pack::{Facts, Pack},
    packing, recording,
};
use crate::own_files::{self, Beside};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{
    RunId,
    event::{OLDEST_SCHEMA_VERSION, RunStarted, SCHEMA_VERSION, is_readable},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read, Seek},
};
use tar::{Archive, Builder, EntryType, Header};
use thiserror::Error;

/// The ending of the names of files that are written.
const NEW: &str = ".new";

/// A pack in an export is smaller.
const LONGEST: u64 = 8 * 1024 * 1024 * 1024;

/// The first entry of an export.
const LIST: &str = "export.json";

/// A list is shorter.
const LONGEST_LIST: u64 = 1024 * 1024;

/// The version of exports. It grows when a reader of the old one would go wrong.
const VERSION: u32 = 1;

/// The contents of [`LIST`].
#[derive(Debug, Serialize, Deserialize)]
struct List {
    version: u32,
    runs: Vec<RunId>,
}

/// The reason why runs cannot be exported or imported. Nothing is imported then.
#[derive(Debug, Error)]
pub enum TransferError {
    /// A run cannot be read.
    #[error("failed to export run `{id}`")]
    Read {
        /// Its id.
        id: String,
        /// The reason.
        source: io::Error,
    },
    /// A run has not come to its end.
    #[error("run `{id}` is still in progress")]
    InProgress {
        /// Its id.
        id: String,
    },
    /// A file cannot be written.
    #[error("failed to write `{path}`")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file cannot be read to its end.
    #[error("failed to read `{file}`: it is cut off or damaged")]
    Open {
        /// The file.
        file: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is something else.
    #[error("`{file}` is no export of runs: {what}")]
    NoExport {
        /// The file.
        file: Utf8PathBuf,
        /// The reason.
        what: String,
    },
    /// A run in it is not whole, is forged, or has another version.
    #[error("`{entry}` in `{file}` is not imported")]
    Refused {
        /// The file.
        file: Utf8PathBuf,
        /// Its entry.
        entry: String,
        /// The reason.
        source: io::Error,
    },
}

/// An export that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Its bytes.
    pub bytes: u64,
}

/// A run of an export.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The run.
    pub run: PastRun,
    /// Its first event.
    pub started: RunStarted,
    /// Whether it was in the store before.
    pub known: bool,
}

/// Writes runs to a file.
///
/// # Errors
///
/// When a run is not whole, or something cannot be read or written. The file is as before then.
pub fn export(runs: &[PastRun], to: &Utf8Path) -> Result<Exported, TransferError> {
    let unwritten = |source| TransferError::Write {
        path: to.to_owned(),
        source,
    };
    own_files::sweep(to, NEW);
    let new = Beside::new(to, NEW).map_err(unwritten)?;
    let mut archive = Builder::new(&new.file);
    let list = List {
        version: VERSION,
        runs: runs.iter().map(|run| run.header.run_id).collect(),
    };
    let list = serde_json::json!(list).to_string();
    let entry = |bytes: u64| {
        let mut header = Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o644);
        header
    };
    let mut header = entry(list.len() as u64);
    let added = archive.append_data(&mut header, LIST, list.as_bytes());
    added.map_err(unwritten)?;
    for run in runs {
        let id = run.header.run_id.to_string();
        if run.in_progress() {
            return Err(TransferError::InProgress { id });
        }
        let unread = |source| TransferError::Read {
            id: id.clone(),
            source,
        };
        let mut pack = pack_of(run).map_err(unread)?;
        let mut header = entry(pack.metadata().map_err(unread)?.len());
        let name = format!("{id}.{PACKED}");
        let added = archive.append_data(&mut header, name, &mut pack);
        added.map_err(unwritten)?;
    }
    archive.finish().map_err(unwritten)?;
    drop(archive);
    new.file.sync_all().map_err(unwritten)?;
    let file = new.replace(to).map_err(unwritten)?;
    let bytes = file.metadata().map_err(unwritten)?.len();
    Ok(Exported { bytes })
}

/// Opens the pack of a run: another file if it is not packed.
fn pack_of(run: &PastRun) -> io::Result<File> {
    let file = match Files::of(&run.path)? {
        Files::Packed(pack) => {
            pack.verify()?;
            own_files::open(pack.path())?
        }
        Files::Beside { .. } => {
            let mut file = tempfile::tempfile()?;
            packing::copy_to(&file, &run.path)?;
            file.rewind()?;
            file
        }
    };
    Ok(file)
}

/// Brings the runs of a file into the store: all of them or none.
///
/// # Errors
///
/// When a run is not whole, is forged or has another version, or the store cannot be written.
pub fn import(target: &Utf8Path, file: &Utf8Path) -> Result<Vec<Imported>, TransferError> {
    let unread = |source| TransferError::Open {
        file: file.to_owned(),
        source,
    };
    let opened = own_files::open(file).map_err(unread)?;
    let import = Import {
        store: folder(target),
        file,
    };
    let taken = match Pack::is_one(&opened) {
        true => {
            let entry = file.file_name().unwrap_or_default();
            vec![import.take(opened, entry)?]
        }
        false => import.take_all(opened)?,
    };
    taken.into_iter().map(|taken| import.keep(taken)).collect()
}

/// An import on its way.
struct Import<'a> {
    store: Utf8PathBuf,
    file: &'a Utf8Path,
}

/// A run that was looked at, in a file of the store that has no name yet.
struct Taken {
    new: Beside,
    facts: Facts,
    started: RunStarted,
}

impl Import<'_> {
    fn none(&self, what: String) -> TransferError {
        let file = self.file.to_owned();
        TransferError::NoExport { file, what }
    }

    /// Looks at the runs of an archive.
    fn take_all(&self, opened: File) -> Result<Vec<Taken>, TransferError> {
        let unread = |source| TransferError::Open {
            file: self.file.to_owned(),
            source,
        };
        let mut archive = Archive::new(io::BufReader::new(opened));
        let mut entries = archive.entries().map_err(unread)?;
        let list = entries.next().and_then(Result::ok);
        let list = list.filter(|entry| *entry.path_bytes() == *LIST.as_bytes());
        let list = list.ok_or_else(|| self.none(format!("it does not begin with `{LIST}`")))?;
        let list: Result<List, _> = serde_json::from_reader(list.take(LONGEST_LIST));
        let List { version, runs } = list.map_err(|error| self.none(error.to_string()))?;
        if version != VERSION {
            let what =
                format!("it has version {version}, and this program reads version {VERSION}");
            return Err(self.none(what));
        }
        let mut taken: Vec<Taken> = Vec::new();
        for entry in entries {
            let entry = entry.map_err(unread)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let expected = runs.get(taken.len()).map(|id| format!("{id}.{PACKED}"));
            let is_file = entry.header().entry_type() == EntryType::Regular;
            if !is_file || expected.as_ref() != Some(&name) {
                return Err(self.none(format!("it has `{}`", name.escape_debug())));
            }
            let run = self.take(entry, &name)?;
            if runs.get(taken.len()) != Some(&run.facts.header.run_id) {
                return Err(self.none(format!("its `{name}` is another run")));
            }
            taken.push(run);
        }
        match runs.len() - taken.len() {
            0 if runs.is_empty() => Err(self.none("it has no run".to_owned())),
            0 => Ok(taken),
            lacking => Err(self.none(format!("it lacks {lacking} of its {} runs", runs.len()))),
        }
    }

    fn unwritten(&self, source: io::Error) -> TransferError {
        let path = self.store.clone();
        TransferError::Write { path, source }
    }

    /// Copies a pack into the store, under another name, and looks at all of it.
    fn take(&self, from: impl Read, entry: &str) -> Result<Taken, TransferError> {
        let refused = |source| TransferError::Refused {
            file: self.file.to_owned(),
            entry: entry.to_owned(),
            source,
        };
        std::fs::create_dir_all(&self.store).map_err(|error| self.unwritten(error))?;
        let place = self.store.join("import");
        own_files::sweep(&place, NEW);
        let new = Beside::new(&place, NEW).map_err(|error| self.unwritten(error))?;
        let mut limited = from.take(LONGEST);
        io::copy(&mut limited, &mut &new.file).map_err(|error| self.unwritten(error))?;
        // Its name in messages is that of the entry.
        let copy = new.file.try_clone();
        let copy = copy.map_err(|error| self.unwritten(error))?;
        let pack = Pack::of(copy, Utf8Path::new(entry)).map_err(refused)?;
        let (facts, started) = checked(&pack).map_err(refused)?;
        let facts = Facts {
            imported: true,
            ..facts
        };
        let marked = pack.replace_facts(&facts);
        let synced = marked.and_then(|()| new.file.sync_all());
        synced.map_err(|error| self.unwritten(error))?;
        Ok(Taken {
            new,
            facts,
            started,
        })
    }

    /// Gives a run its name.
    fn keep(&self, taken: Taken) -> Result<Imported, TransferError> {
        let id = taken.facts.header.run_id.to_string();
        let path = self.store.join(&id).with_extension(PACKED);
        let before = [&path, &self.store.join(&id)];
        let before = before.into_iter().find_map(|path| PastRun::open(path));
        let known = before.is_some();
        let run = match before {
            Some(run) => run,
            None => {
                let named = taken.new.replace(&path);
                named.map_err(|error| self.unwritten(error))?;
                PastRun {
                    header: taken.facts.header,
                    path,
                    imported: true,
                }
            }
        };
        Ok(Imported {
            run,
            started: taken.started,
            known,
        })
    }
}

/// Returns the facts of a pack and its first event, if all of it agrees.
fn checked(pack: &Pack) -> io::Result<(Facts, RunStarted)> {
    let forged = |what: &str| {
        let text = format!("it is forged or damaged: {what}");
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let version = |version: u32| {
        let text = format!(
            "it has events of version {version}, and this program reads versions \
             {OLDEST_SCHEMA_VERSION} to {SCHEMA_VERSION}; the program that wrote it reads it"
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    pack.verify()?;
    let facts = pack.facts().ok_or_else(|| forged("it has no facts"))?;
    if !is_readable(facts.schema_version) {
        return Err(version(facts.schema_version));
    }
    let files = Files::Packed(pack.clone());
    let mut lines = recording::lines_of(files)?;
    let first = lines.next().and_then(|line| recording::started(&line));
    let first = first.ok_or_else(|| forged(&format!("`{RECORDING}` does not begin as one")))?;
    if !is_readable(first.schema_version) {
        return Err(version(first.schema_version));
    }
    let header = &facts.header;
    let agree = first.run_id == header.run_id
        && first.started_at == header.started_at
        && first.workspace_root == header.workspace_root
        && first.tests == header.tests;
    match agree {
        true => Ok((facts.clone(), first)),
        false => Err(forged("its facts are those of another run")),
    }
}

#[cfg(test)]
mod tests;
