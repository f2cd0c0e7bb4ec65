//! Options that take up a build instead of building.

use crate::command_error::{CommandError, Kind};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use harness_runner::{
    archive::{Extraction, Format, To},
    session::{Descriptions, Reuse, ReuseFrom},
};

/// Options that take up a build that was made before.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Reuse build options")]
#[group(id = "reuse", multiple = true)]
pub(crate) struct ReuseArgs {
    /// Run the tests in this archive.
    #[arg(
        long,
        value_name = "PATH",
        group = "reused",
        conflicts_with_all = ["cargo-opts", "manifest_path"]
    )]
    archive_file: Option<Utf8PathBuf>,
    /// The form of the archive.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "auto",
        requires = "archive_file"
    )]
    archive_format: ArchiveFormat,
    /// Extract the archive to this directory, and leave it there.
    #[arg(
        long,
        value_name = "DIR",
        requires = "archive_file",
        conflicts_with = "cargo-opts"
    )]
    extract_to: Option<Utf8PathBuf>,
    /// Replace files that are in the directory already.
    #[arg(long, requires = "extract_to", conflicts_with = "cargo-opts")]
    extract_overwrite: bool,
    /// Leave the temporary directory of the archive there.
    #[arg(
        long,
        requires = "archive_file",
        conflicts_with_all = ["extract_to", "cargo-opts"]
    )]
    persist_extract_tempdir: bool,
    /// Read what `cargo metadata --format-version 1` has printed from this file. Without
    /// `--binaries-metadata`, build the workspace that it describes.
    #[arg(
        long,
        value_name = "PATH",
        group = "reused",
        conflicts_with = "manifest_path"
    )]
    cargo_metadata: Option<Utf8PathBuf>,
    /// Use the sources in this directory.
    #[arg(long, value_name = "DIR", requires = "reused")]
    workspace_remap: Option<Utf8PathBuf>,
    /// Run the binaries that this file describes, which
    /// `list --list-type binaries-only --message-format json` has printed.
    #[arg(
        long,
        value_name = "PATH",
        requires = "cargo_metadata",
        conflicts_with = "cargo-opts"
    )]
    binaries_metadata: Option<Utf8PathBuf>,
    /// Look for what was built in this target directory.
    #[arg(long, value_name = "DIR", requires = "binaries_metadata")]
    target_dir_remap: Option<Utf8PathBuf>,
    /// Look for test binaries in this build directory, if it is another one.
    #[arg(long, value_name = "DIR", requires = "binaries_metadata")]
    build_dir_remap: Option<Utf8PathBuf>,
}

/// The form of an archive.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ArchiveFormat {
    /// As the end of its name says.
    #[default]
    Auto,
    /// `.tar.zst`.
    TarZst,
}

impl From<ArchiveFormat> for Format {
    fn from(format: ArchiveFormat) -> Self {
        match format {
            ArchiveFormat::Auto => Self::Auto,
            ArchiveFormat::TarZst => Self::TarZst,
        }
    }
}

impl ReuseArgs {
    /// Returns the manifest to build, if the workspace is given by its metadata and is to be built.
    pub(super) fn manifest(&self) -> Result<Option<Utf8PathBuf>, CommandError> {
        match (&self.cargo_metadata, &self.binaries_metadata) {
            (Some(file), None) => manifest_of(file).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns the build to take up, if any. Paths on the command line are relative to `cwd`.
    pub(super) fn reuse(&self, cwd: &Utf8Path) -> Result<Option<Reuse>, CommandError> {
        let path = |path: &Utf8PathBuf| cwd.join(path);
        let from = match (&self.archive_file, &self.binaries_metadata) {
            (Some(file), _) => ReuseFrom::Archive(Extraction {
                file: path(file),
                format: self.archive_format.into(),
                to: match &self.extract_to {
                    Some(folder) => To::Folder {
                        path: path(folder),
                        overwrite: self.extract_overwrite,
                    },
                    None => To::Temporary {
                        stays: self.persist_extract_tempdir,
                    },
                },
            }),
            (None, Some(binaries)) => ReuseFrom::Files(Descriptions {
                metadata: self.cargo_metadata.as_ref().map(path).unwrap_or_default(),
                binaries: path(binaries),
                target: folder(self.target_dir_remap.as_ref(), cwd)?,
                build: folder(self.build_dir_remap.as_ref(), cwd)?,
            }),
            (None, None) => return Ok(None),
        };
        Ok(Some(Reuse {
            from,
            workspace: folder(self.workspace_remap.as_ref(), cwd)?,
        }))
    }
}

/// Returns a folder of the command line with its whole name.
fn folder(path: Option<&Utf8PathBuf>, cwd: &Utf8Path) -> Result<Option<Utf8PathBuf>, CommandError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let found = cwd.join(path).canonicalize_utf8();
    found.map(Some).map_err(|error| {
        let message = format!("the directory `{path}` cannot be used: {error}");
        CommandError::new(Kind::Setup, message)
    })
}

/// Returns the manifest of the one package that is built by default, or else that of the workspace.
fn manifest_of(file: &Utf8Path) -> Result<Utf8PathBuf, CommandError> {
    let wrong = |why: String| {
        let message = format!("`{file}` cannot be used as the metadata of a workspace: {why}");
        CommandError::new(Kind::Setup, message)
    };
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let default = match metadata["workspace_default_members"]
        .as_array()
        .map(Vec::as_slice)
    {
        Some([one]) => {
            let mut packages = metadata["packages"].as_array().into_iter().flatten();
            packages.find(|package| package["id"] == *one)
        }
        _ => None,
    };
    let manifest = default.and_then(|package| package["manifest_path"].as_str());
    match (manifest, metadata["workspace_root"].as_str()) {
        (Some(manifest), _) => Ok(manifest.into()),
        (None, Some(root)) => Ok(Utf8Path::new(root).join("Cargo.toml")),
        (None, None) => Err(wrong("it names no `workspace_root`".to_owned())),
    }
}
