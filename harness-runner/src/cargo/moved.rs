//! The descriptions of a build that was made before, and the places where its parts are by now.

use camino::{Utf8Path, Utf8PathBuf};
use nextest_metadata::{BinaryListSummary, RustBuildMetaSummary};
use serde_json::Value;
use std::collections::BTreeMap;

/// A build that was made before.
#[derive(Clone, Debug)]
pub struct Reused {
    /// The answer of `cargo metadata`.
    pub metadata: Value,
    /// The file that has it, for messages.
    pub metadata_file: String,
    /// The binaries.
    pub summary: BinaryListSummary,
    /// The parts that are elsewhere by now.
    pub moved: Moved,
    /// The directory below which runs are kept.
    pub kept_in: Utf8PathBuf,
}

/// The places of the parts of a build; `None` for a part that has not moved.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// The root of the workspace.
    pub workspace: Option<Utf8PathBuf>,
    /// The target directory.
    pub target: Option<Utf8PathBuf>,
    /// The directory of intermediate artifacts; `None` to take the target directory's place.
    pub build: Option<Utf8PathBuf>,
    /// The standard libraries, if they came along.
    pub libdirs: Option<Libdirs>,
}

/// Folders of standard libraries that came with an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Libdirs {
    /// The folder of the host's library.
    pub host: Option<Utf8PathBuf>,
    /// The folders of the targets' libraries, by the index of the target.
    pub targets: BTreeMap<usize, Utf8PathBuf>,
}

impl Reused {
    /// Returns the root of the workspace when it was built, if the metadata says.
    pub(super) fn root_of_metadata(&self) -> Option<&Utf8Path> {
        self.metadata["workspace_root"].as_str().map(Utf8Path::new)
    }

    pub(super) fn target(&self) -> &Utf8Path {
        let old = &self.summary.rust_build_meta.target_directory;
        self.moved.target.as_deref().unwrap_or(old)
    }

    fn old_build(&self) -> &Utf8Path {
        let meta = &self.summary.rust_build_meta;
        (meta.build_directory.as_deref()).unwrap_or(&meta.target_directory)
    }

    pub(super) fn build(&self) -> &Utf8Path {
        let moved = self.moved.build.as_deref().or(self.moved.target.as_deref());
        moved.unwrap_or_else(|| self.old_build())
    }

    /// Returns where a file of the build is by now.
    pub(super) fn file(&self, path: &Utf8Path) -> Utf8PathBuf {
        let old_target = &self.summary.rust_build_meta.target_directory;
        for (old, new) in [
            (self.old_build(), self.build()),
            (old_target, self.target()),
        ] {
            if let Ok(inside) = path.strip_prefix(old) {
                return new.join(inside);
            }
        }
        path.to_owned()
    }

    /// Returns a value of a build script's variable: a path into the build moves with it.
    pub(super) fn value(&self, value: &str) -> String {
        match Utf8Path::new(value).is_absolute() {
            true => self.file(Utf8Path::new(value)).into_string(),
            false => value.to_owned(),
        }
    }

    /// Returns the summary with paths as they are now.
    pub(super) fn meta(&self) -> RustBuildMetaSummary {
        let mut meta = self.summary.rust_build_meta.clone();
        meta.target_directory = self.target().to_owned();
        meta.build_directory = Some(self.build().to_owned());
        meta
    }
}
