//! Takes up a build that was made before: from an archive, or from the files that describe it.

use super::{Notice, Options, SessionError};
use crate::{
    archive::{ExtractError, Extraction},
    cargo::{CargoConfig, Moved, ReuseError, Reused},
};
use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;
use std::{fs, io};
use tempfile::TempDir;
use thiserror::Error;

/// A build to take up instead of building.
#[derive(Clone, Debug)]
pub struct Reuse {
    /// Its origin.
    pub from: ReuseFrom,
    /// The root of the workspace, if it is elsewhere by now.
    pub workspace: Option<Utf8PathBuf>,
}

/// The origin of a build that is taken up.
#[derive(Clone, Debug)]
pub enum ReuseFrom {
    /// An archive.
    Archive(Extraction),
    /// Files that describe it, and a target directory.
    Files(Descriptions),
}

/// The files that describe a build.
#[derive(Clone, Debug)]
pub struct Descriptions {
    /// The answer of `cargo metadata`.
    pub metadata: Utf8PathBuf,
    /// The binaries, as `list --list-type binaries-only --message-format json` prints them.
    pub binaries: Utf8PathBuf,
    /// The target directory, if it is elsewhere by now.
    pub target: Option<Utf8PathBuf>,
    /// The build directory, if it is elsewhere by now and not in the target directory's place.
    pub build: Option<Utf8PathBuf>,
}

/// A build that could not be taken up.
#[derive(Debug, Error)]
pub enum TakeUpError {
    /// Its archive could not be extracted.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// Its descriptions make no sense.
    #[error(transparent)]
    Reuse(#[from] ReuseError),
    /// A file could not be read.
    #[error("failed to read `{path}`")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file has something else in it.
    #[error("`{path}` is not the output of `{command}`")]
    Json {
        /// The file.
        path: Utf8PathBuf,
        /// The command that writes such files.
        command: &'static str,
        /// The reason.
        source: serde_json::Error,
    },
    /// The sources are not there.
    #[error("the workspace of this build is not at `{root}`: there is no `Cargo.toml`")]
    NoWorkspace {
        /// The place.
        root: Utf8PathBuf,
    },
}

/// A build that is taken up.
#[derive(Debug)]
pub(super) struct TakenUp {
    pub(super) reused: Reused,
    /// Whether the sources are those of the archive.
    pub(super) own_sources: bool,
    /// Goes when this is dropped.
    pub(super) folder: Option<TempDir>,
}

impl TakenUp {
    pub(super) fn new(
        reuse: &Reuse,
        options: &Options,
        notify: &mut dyn FnMut(Notice),
    ) -> Result<Self, SessionError> {
        let (mut reused, folder) = match &reuse.from {
            ReuseFrom::Archive(extraction) => extracted(extraction, notify)?,
            ReuseFrom::Files(files) => (described(files)?, None),
        };
        // The sources that came along make a run the same everywhere.
        let own_sources = reuse.workspace.is_none() && reused.moved.workspace.is_some();
        if let Some(workspace) = &reuse.workspace {
            reused.moved.workspace = Some(workspace.clone());
        }
        let root = reused.root().map_err(TakeUpError::from)?.to_owned();
        if !root.join("Cargo.toml").is_file() {
            return Err(TakeUpError::NoWorkspace { root }.into());
        }
        reused.kept_in = match own_sources {
            // Those go when the run is over.
            true => options.cwd.join("target"),
            false => kept_in(&root, options),
        };
        Ok(Self {
            reused,
            own_sources,
            folder,
        })
    }

    pub(super) fn root(&self) -> Result<&Utf8Path, SessionError> {
        Ok(self.reused.root().map_err(TakeUpError::from)?)
    }
}

fn extracted(
    extraction: &Extraction,
    notify: &mut dyn FnMut(Notice),
) -> Result<(Reused, Option<TempDir>), TakeUpError> {
    let extracted = extraction.run()?;
    let (files, file, folder) = (extracted.files, &extraction.file, &extracted.folder);
    notify(Notice::Archive(format!(
        "{files} files of `{file}` are extracted to `{folder}`"
    )));
    let reused = Reused {
        metadata: extracted.metadata,
        metadata_file: extraction.file.to_string(),
        summary: extracted.summary,
        moved: Moved {
            workspace: extracted.sources,
            target: Some(extracted.folder.join("target")),
            build: None,
            libdirs: Some(extracted.libdirs),
        },
        kept_in: Utf8PathBuf::new(),
    };
    Ok((reused, extracted.temporary))
}

fn described(files: &Descriptions) -> Result<Reused, TakeUpError> {
    const BINARIES: &str = "cargo harness list --list-type binaries-only --message-format json";
    Ok(Reused {
        metadata: read(&files.metadata, "cargo metadata --format-version 1")?,
        metadata_file: files.metadata.to_string(),
        summary: read(&files.binaries, BINARIES)?,
        moved: Moved {
            workspace: None,
            target: files.target.clone(),
            build: files.build.clone(),
            libdirs: None,
        },
        kept_in: Utf8PathBuf::new(),
    })
}

fn read<T: DeserializeOwned>(path: &Utf8Path, command: &'static str) -> Result<T, TakeUpError> {
    let text = fs::read(path).map_err(|source| TakeUpError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| TakeUpError::Json {
        path: path.to_owned(),
        command,
        source,
    })
}

/// Returns where the runs of a checkout are kept: where they would be if it were built there.
fn kept_in(root: &Utf8Path, options: &Options) -> Utf8PathBuf {
    let config = CargoConfig::load(&options.cwd, &options.cargo.config);
    let target = config.ok().and_then(|config| config.target_directory());
    target.unwrap_or_else(|| root.join("target"))
}
