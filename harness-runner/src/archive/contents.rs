//! Collects what goes into an archive.

use super::{BINARIES, LIBDIRS, METADATA, SOURCES, TOP, inputs::Inputs};
use crate::{
    cargo::{Built, TestBinary, Workspace},
    config::{ArchiveInclude, Depth, OnMissing, RelativeTo},
};
use camino::{Utf8Path, Utf8PathBuf};
use nextest_metadata::{BinaryListSummary, PlatformLibdirSummary, RustNonTestBinaryKind};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    io,
    sync::Arc,
};
use thiserror::Error;

/// The files of an archive, by their path in it.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    pub(super) files: BTreeMap<Utf8PathBuf, Source>,
    /// The files that were left out, and other things that the user may want to know.
    pub left: Vec<Left>,
    /// The number of test binaries in it.
    pub binaries: usize,
    /// The number of test binaries that a filterset keeps out of it.
    pub filtered: usize,
}

/// The origin of a file's contents.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// They were made for the archive.
    Made(Vec<u8>),
    /// They are those of this file.
    File(Utf8PathBuf),
}

/// Something that is not in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Left {
    /// A path of `archive.include` is missing.
    #[error("`{0}` of `archive.include` does not exist; it is not in the archive")]
    Missing(Utf8PathBuf),
    /// A folder is deeper than was asked for.
    #[error("the folder `{path}` is deeper than {levels} levels; it is not in the archive")]
    TooDeep {
        /// The folder.
        path: Utf8PathBuf,
        /// The number of levels.
        levels: usize,
    },
    /// It is neither a file nor a folder.
    #[error("`{0}` is neither a file nor a folder; it is not in the archive")]
    Special(Utf8PathBuf),
    /// A build script asked to link from a folder that does not exist.
    #[error("a build script asked to link from `{0}`, which does not exist")]
    Unlinked(Utf8PathBuf),
    /// The standard library is not there.
    #[error(
        "no standard library was found in `{0}`; tests that need the shared one, such as those of proc \
         macros, do not start from the archive"
    )]
    NoStd(Utf8PathBuf),
}

/// An error that keeps something out of an archive that has to be in it.
#[derive(Debug, Error)]
pub enum ContentsError {
    /// A file or folder could not be read.
    #[error("failed to read `{path}` for the archive")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A path of `archive.include` is missing, and says that this is an error.
    #[error("`{path}` of `archive.include` does not exist")]
    Missing {
        /// The path.
        path: Utf8PathBuf,
    },
    /// A binary is outside the folders that can be archived.
    #[error("`{path}` is not below the target directory `{target}`, so it cannot be archived")]
    Outside {
        /// The file.
        path: Utf8PathBuf,
        /// The target directory.
        target: Utf8PathBuf,
    },
    /// The descriptions could not be written as JSON.
    #[error("failed to describe the build in JSON")]
    Json(#[from] serde_json::Error),
}

impl Contents {
    /// Collects the files of a build.
    ///
    /// # Errors
    ///
    /// When files cannot be read that the tests need.
    pub fn new(
        workspace: &Workspace,
        built: &Built,
        selects: impl Fn(&TestBinary) -> bool,
        includes: &[ArchiveInclude],
    ) -> Result<Self, ContentsError> {
        let selected = built.binaries.iter().filter(|binary| selects(binary));
        let selected: Vec<&Arc<TestBinary>> = selected.collect();
        let mut contents = Self {
            binaries: selected.len(),
            filtered: built.binaries.len() - selected.len(),
            ..Self::default()
        };
        let summary = summary(workspace, built, &selected)?;
        contents.add_build(workspace, &summary, &selected)?;
        for include in includes {
            contents.include(workspace, include)?;
        }
        contents.add_libdirs(&summary)?;
        let answer = workspace.answer().unwrap_or_default();
        contents.make(METADATA, answer.as_bytes().to_vec());
        contents.make(BINARIES, serde_json::to_vec_pretty(&summary)?);
        Ok(contents)
    }

    /// Returns the number of files.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Adds files of the workspace.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn add_inputs(&mut self, inputs: &Inputs) -> Result<(), ContentsError> {
        for file in &inputs.files {
            let path = Utf8Path::new(SOURCES).join(file);
            self.add_file(&inputs.root.join(file), path)?;
        }
        Ok(())
    }

    fn make(&mut self, path: &str, contents: Vec<u8>) {
        self.files.insert(path.into(), Source::Made(contents));
    }

    fn add_build(
        &mut self,
        workspace: &Workspace,
        summary: &BinaryListSummary,
        selected: &[&Arc<TestBinary>],
    ) -> Result<(), ContentsError> {
        for binary in selected {
            let path = in_archive(&inside(workspace, &binary.path)?);
            self.add_file(&binary.path, path)?;
        }
        let meta = &summary.rust_build_meta;
        let (build, target) = (workspace.build_directory(), workspace.target_directory());
        for file in meta.non_test_binaries.values().flatten() {
            // An intermediate library stays in the build directory.
            let found = [target, build].map(|root| root.join(&file.path));
            let found = found.iter().find(|path| path.exists());
            let source = found.cloned().unwrap_or_else(|| target.join(&file.path));
            match file.kind == RustNonTestBinaryKind::DYLIB && !source.exists() {
                // `cargo` names libraries that a later crate type has replaced.
                true => {}
                false => self.add_file(&source, in_archive(&file.path))?,
            }
        }
        let scripts = meta.build_script_out_dirs.values();
        for folder in scripts.collect::<BTreeSet<_>>() {
            let walk = Walk {
                depth: 1,
                warns: false,
            };
            self.walk(&build.join(folder), in_archive(folder), walk)?;
        }
        for folder in &meta.linked_paths {
            let source = build.join(folder);
            match source.exists() {
                true => {
                    let walk = Walk {
                        depth: 1,
                        warns: false,
                    };
                    self.walk(&source, in_archive(folder), walk)?;
                }
                false => self.left.push(Left::Unlinked(source)),
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        workspace: &Workspace,
        include: &ArchiveInclude,
    ) -> Result<(), ContentsError> {
        let source = match include.relative_to {
            RelativeTo::Target => workspace.target_directory().join(&include.path),
        };
        if let Err(error) = source.symlink_metadata() {
            return match (error.kind(), include.on_missing) {
                (io::ErrorKind::NotFound, OnMissing::Ignore) => Ok(()),
                (io::ErrorKind::NotFound, OnMissing::Warn) => {
                    self.left.push(Left::Missing(source));
                    Ok(())
                }
                (io::ErrorKind::NotFound, OnMissing::Error) => {
                    Err(ContentsError::Missing { path: source })
                }
                _ => Err(unreadable(&source, error)),
            };
        }
        let walk = Walk {
            depth: include.depth.levels(),
            // A depth that was written down is no surprise.
            warns: matches!(
                include.depth,
                Depth::Levels { given: false, .. } | Depth::Levels { levels: 0, .. }
            ),
        };
        self.walk(&source, in_archive(&include.path), walk)
    }

    /// Adds a file, or the files of a folder and of those in it.
    fn walk(
        &mut self,
        source: &Utf8Path,
        path: Utf8PathBuf,
        walk: Walk,
    ) -> Result<(), ContentsError> {
        let mut stack = vec![(source.to_owned(), path, walk.depth)];
        while let Some((source, path, depth)) = stack.pop() {
            let metadata = followed(&source)?;
            if !metadata.is_dir() {
                self.add_some(&source, path, &metadata);
                continue;
            }
            // A link to a folder could lead in a circle.
            let is_link = source.is_symlink();
            if depth == 0 || is_link {
                match is_link {
                    true => self.left.push(Left::Special(source)),
                    false if walk.warns => {
                        let levels = walk.depth;
                        self.left.push(Left::TooDeep {
                            path: source,
                            levels,
                        });
                    }
                    false => {}
                }
                continue;
            }
            let entries = source
                .read_dir_utf8()
                .map_err(|error| unreadable(&source, error))?;
            for entry in entries {
                let entry = entry.map_err(|error| unreadable(&source, error))?;
                let name = entry.file_name();
                stack.push((source.join(name), path.join(name), depth - 1));
            }
        }
        Ok(())
    }

    fn add_some(&mut self, source: &Utf8Path, path: Utf8PathBuf, metadata: &Metadata) {
        match metadata.is_file() {
            true => {
                let source = Source::File(source.to_owned());
                self.files.entry(path).or_insert(source);
            }
            false => self.left.push(Left::Special(source.to_owned())),
        }
    }

    /// Adds a file that has to be there.
    fn add_file(&mut self, source: &Utf8Path, path: Utf8PathBuf) -> Result<(), ContentsError> {
        let metadata = fs::metadata(source).map_err(|error| unreadable(source, error))?;
        self.add_some(source, path, &metadata);
        Ok(())
    }

    /// Adds the shared standard libraries: tests of proc macros need the host's, those that are linked
    /// with `-C prefer-dynamic` the target's.
    fn add_libdirs(&mut self, summary: &BinaryListSummary) -> Result<(), ContentsError> {
        let Some(platforms) = &summary.rust_build_meta.platforms else {
            return Ok(());
        };
        let targets = platforms.targets.iter().enumerate();
        let targets = targets.map(|(index, target)| (format!("target/{index}"), &target.libdir));
        let host = [("host".to_owned(), &platforms.host.libdir)];
        for (name, libdir) in host.into_iter().chain(targets) {
            let PlatformLibdirSummary::Available { path } = libdir else {
                continue;
            };
            match standard_library(path) {
                Some(source) => {
                    let file = source.file_name().unwrap_or_default();
                    let path = Utf8Path::new(LIBDIRS).join(name).join(file);
                    self.add_file(&source, path)?;
                }
                None => self.left.push(Left::NoStd(path.clone())),
            }
        }
        Ok(())
    }
}

/// The way in which a folder is read.
#[derive(Copy, Clone)]
struct Walk {
    depth: usize,
    /// Whether a folder that is too deep deserves a warning.
    warns: bool,
}

/// Returns the summary of an archive: with the selected binaries and what belongs to their packages, as
/// if everything had been built below the target directory.
fn summary(
    workspace: &Workspace,
    built: &Built,
    selected: &[&Arc<TestBinary>],
) -> Result<BinaryListSummary, ContentsError> {
    let packages: BTreeSet<&str> = selected.iter().map(|own| own.package_id.as_str()).collect();
    let mut meta = built.meta.clone();
    meta.build_directory = None;
    // Tests may link to libraries of other packages, and do not execute their programs.
    meta.non_test_binaries.retain(|id, files| {
        files.retain(|file| {
            packages.contains(id.as_str()) || file.kind != RustNonTestBinaryKind::BIN_EXE
        });
        !files.is_empty()
    });
    meta.build_script_out_dirs
        .retain(|id, _| packages.contains(id.as_str()));
    if let Some(info) = &mut meta.build_script_info {
        info.retain(|id, _| packages.contains(id.as_str()));
    }
    let binaries = selected.iter().map(|binary| {
        let mut summary = binary.summary();
        let path = inside(workspace, &binary.path)?;
        summary.binary_path = workspace.target_directory().join(path);
        Ok((binary.id.clone(), summary))
    });
    Ok(BinaryListSummary {
        rust_binaries: binaries.collect::<Result<_, ContentsError>>()?,
        rust_build_meta: meta,
    })
}

/// Returns a path relative to the directory of the build.
fn inside(workspace: &Workspace, path: &Utf8Path) -> Result<Utf8PathBuf, ContentsError> {
    let roots = [workspace.build_directory(), workspace.target_directory()];
    let found = roots.iter().find_map(|root| path.strip_prefix(root).ok());
    found
        .map(Utf8Path::to_owned)
        .ok_or_else(|| ContentsError::Outside {
            path: path.to_owned(),
            target: workspace.target_directory().to_owned(),
        })
}

fn in_archive(path: &Utf8Path) -> Utf8PathBuf {
    Utf8Path::new(TOP).join(path)
}

fn standard_library(folder: &Utf8Path) -> Option<Utf8PathBuf> {
    let entries = folder.read_dir_utf8().ok()?.filter_map(Result::ok);
    let is_std = |name: &str| {
        name.starts_with("libstd-") && (name.ends_with(".so") || name.ends_with(".dylib"))
    };
    let found = entries.filter(|entry| is_std(entry.file_name()));
    found.map(|entry| entry.path().to_owned()).min()
}

/// Returns the state of a file, or of the one that a link leads to. A link that leads nowhere is neither a
/// file nor a folder.
fn followed(path: &Utf8Path) -> Result<Metadata, ContentsError> {
    let found = fs::metadata(path).or_else(|_| path.symlink_metadata());
    found.map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Utf8Path, source: io::Error) -> ContentsError {
    ContentsError::Read {
        path: path.to_owned(),
        source,
    }
}
