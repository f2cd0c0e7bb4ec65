//! Archives: a build in one file, for machines without its sources, cargo and rustc.
//!
//! An archive is a tar file that zstd has compressed, with the same files in the same places as those of
//! cargo-nextest, so that each of the two programs runs the archives of the other. It depends on nothing
//! but the files in it: they are ordered by name, all belong to root, and all are of the same moment.

mod contents;
mod create;
mod extract;
mod inputs;

pub use contents::{Contents, ContentsError, Left};
pub use create::{CreateError, Created, Creation};
pub use extract::{ExtractError, Extracted, Extraction, To};
pub use inputs::{Inputs, Places};

use camino::Utf8Path;
use thiserror::Error;

/// The file that describes the binaries.
const BINARIES: &str = "target/nextest/binaries-metadata.json";
/// The file with the answer of `cargo metadata`.
const METADATA: &str = "target/nextest/cargo-metadata.json";
/// The folder of the standard libraries.
const LIBDIRS: &str = "target/nextest/libdirs";
/// The folder of the workspace's files that tests were seen to use.
const SOURCES: &str = "target/harness/workspace";
/// The folder that everything is in.
const TOP: &str = "target";

/// The form of an archive.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As the end of the file's name says.
    #[default]
    Auto,
    /// A tar file that zstd has compressed.
    TarZst,
}

/// A file's name does not say its form.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the name `{0}` does not say the form of the archive: end it in `.tar.zst`, or write \
     `--archive-format tar-zst`"
)]
pub struct UnknownFormat(pub String);

impl Format {
    /// Checks that the form of a file is known.
    ///
    /// # Errors
    ///
    /// When its name does not say it, and nothing else does.
    pub fn check(self, file: &Utf8Path) -> Result<(), UnknownFormat> {
        let name = file.file_name().unwrap_or_default();
        match self {
            Self::Auto if !name.ends_with(".tar.zst") => Err(UnknownFormat(file.to_string())),
            Self::Auto | Self::TarZst => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
