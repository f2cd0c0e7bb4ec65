//! A build that was made before, here or on another machine, taken up without cargo and rustc.
//!
//! Two files describe it: the answer of `cargo metadata`, and the summary that `list --list-type
//! binaries-only --message-format json` prints. Both have absolute paths, of which some may have moved.

use super::{
    BuildError, Built, CargoConfig, CargoOptions, ConfigError, MetadataError, Platforms, Workspace,
    artifacts::Artifacts, moved::Reused, workspace::Answer,
};
use crate::protocol::Environment;
use camino::Utf8Path;
use serde_json::Value;
use std::sync::{Arc, mpsc::Sender};
use thiserror::Error;

/// An error in the descriptions of a build.
#[derive(Debug, Error)]
pub enum ReuseError {
    /// There is no root in it.
    #[error("`{file}` names no `workspace_root`, so it is not the output of `cargo metadata`")]
    NoRoot {
        /// The file.
        file: String,
    },
    /// The answer does not describe a workspace.
    #[error(transparent)]
    Metadata(Box<MetadataError>),
    /// Cargo's configuration is wrong.
    #[error(transparent)]
    Config(Box<ConfigError>),
    /// The platforms of the build are not known.
    #[error("the build is for a platform that is not known")]
    Platform(#[source] Box<target_spec::Error>),
}

impl Reused {
    /// Returns the root of the workspace, as it is now.
    ///
    /// # Errors
    ///
    /// When the metadata does not say.
    pub fn root(&self) -> Result<&Utf8Path, ReuseError> {
        let moved = self.moved.workspace.as_deref();
        moved.map_or_else(|| self.old_root(), Ok)
    }

    fn old_root(&self) -> Result<&Utf8Path, ReuseError> {
        self.root_of_metadata().ok_or_else(|| ReuseError::NoRoot {
            file: self.metadata_file.clone(),
        })
    }

    /// Makes the workspace.
    ///
    /// # Errors
    ///
    /// When the files do not describe one, or cargo's configuration is wrong.
    pub fn workspace(
        &self,
        options: &CargoOptions,
        cwd: &Utf8Path,
    ) -> Result<Workspace, ReuseError> {
        let meta = &self.summary.rust_build_meta;
        let platforms = Platforms::of_summary(meta, self.moved.libdirs.as_ref())
            .map_err(|error| ReuseError::Platform(Box::new(error)))?;
        let config = CargoConfig::load(cwd, &options.config)
            .map_err(|error| ReuseError::Config(Box::new(error)))?;
        let mut metadata = self.metadata.clone();
        self.move_paths(&mut metadata)?;
        let answer = Answer {
            file: self.metadata_file.clone(),
            metadata,
            kept_in: self.kept_in.clone(),
        };
        Workspace::of_answer(answer, platforms, config, cwd)
            .map_err(|error| ReuseError::Metadata(Box::new(error)))
    }

    /// Writes into the metadata where its files are now. Ids of packages have paths too, and stay.
    fn move_paths(&self, metadata: &mut Value) -> Result<(), ReuseError> {
        let (old, new) = (self.old_root()?.to_owned(), self.root()?.to_owned());
        metadata["workspace_root"] = new.as_str().into();
        metadata["target_directory"] = self.target().as_str().into();
        metadata["build_directory"] = self.build().as_str().into();
        let moved = |value: &mut Value| {
            let inside = value.as_str().map(Utf8Path::new);
            if let Some(Ok(inside)) = inside.map(|path| path.strip_prefix(&old)) {
                *value = new.join(inside).as_str().into();
            }
        };
        for package in elements(metadata, "packages") {
            package.get_mut("manifest_path").map(moved);
            for target in elements(package, "targets") {
                target.get_mut("src_path").map(moved);
            }
            for dependency in elements(package, "dependencies") {
                dependency.get_mut("path").map(moved);
            }
        }
        Ok(())
    }

    /// Takes the build up. Its binaries go to `ready`; a receiver that hung up is no error.
    ///
    /// # Errors
    ///
    /// When a binary belongs to a package that the metadata does not know.
    pub fn built(
        &self,
        workspace: &Workspace,
        options: &CargoOptions,
        inherited: &Environment,
        ready: &Sender<Arc<super::TestBinary>>,
    ) -> Result<Built, BuildError> {
        let built = Artifacts::reused(workspace, options, inherited, self)?;
        for binary in &built.binaries {
            let _ = ready.send(Arc::clone(binary));
        }
        Ok(built)
    }
}

/// Returns the elements of an array in a table.
fn elements<'a>(table: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    let array = table.get_mut(key).and_then(Value::as_array_mut);
    array.into_iter().flatten()
}
