//! Reads `.config/harness.toml` and answers which settings a test runs under.
//!
//! Three steps, each with its own errors, as early as they can be known:
//!
//! 1. [`Config::load`] reads the file and checks all that needs no package graph, for every
//!    profile in it. It can run while cargo builds.
//! 2. [`Config::profile`] chooses a [`Profile`] and follows its `inherits`.
//! 3. [`Profile::compile`] resolves filtersets and platforms into a [`CompiledProfile`], which
//!    answers for each test.

mod compiled;
mod declared;
mod error;
mod file;
mod kind;
mod layer;
mod overrides;
mod parse;
mod profile;
mod schema;
pub mod settings;
mod show;
mod size;
mod value;

#[cfg(test)]
mod tests;

pub use compiled::{BinarySettings, CompiledProfile, DefaultFilter, Resolved};
pub use declared::{
    CliOverrides, FlakyFailStatus, RunLayer, RunOrigins, RunSetting, RunSettings, TestLayer,
    TestOrigins, TestSetting, TestValues, declared,
};
pub use error::{ConfigError, ConfigWarning, Place};
pub use layer::{Declared, Explained, Origin, OverrideOrigin, Scope};
pub use profile::{Platforms, Profile};
pub use schema::schema;

use crate::filter;
use camino::Utf8Path;
use error::nearest;
use file::ProfileTable;
use nextest_filtering::KnownGroups;
use parse::Document;
use settings::TestThreads;
use std::{cell::RefCell, collections::BTreeMap, fs, io, sync::Arc};

/// Where the configuration is, relative to the workspace root.
pub const DEFAULT_PATH: &str = ".config/harness.toml";

/// The profile that is used unless another is asked for, and from which all others inherit.
pub const DEFAULT_PROFILE: &str = "default";

/// The profile that is used under Miri unless another is asked for.
pub const MIRI_PROFILE: &str = "default-miri";

/// A configuration file, read and checked.
#[derive(Debug)]
pub struct Config {
    profiles: BTreeMap<Arc<str>, Arc<ProfileTable>>,
    test_groups: Arc<BTreeMap<String, TestThreads>>,
    asks_for_dependencies: bool,
}

impl Config {
    /// Reads `config_file`, or else [`DEFAULT_PATH`] below the workspace root if it is there.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or what it says makes no sense, in whichever profile. What
    /// merely has no effect is a warning.
    pub fn load(
        workspace_root: &Utf8Path,
        config_file: Option<&Utf8Path>,
    ) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let default_path = workspace_root.join(DEFAULT_PATH);
        let path = config_file.unwrap_or(&default_path);
        let file = path.strip_prefix(workspace_root).unwrap_or(path);
        match fs::read(path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Self::parse(file, text),
                Err(error) => Err(ConfigError::Read {
                    file: file.to_owned(),
                    source: io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()),
                }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => match config_file {
                None => Self::parse(file, String::new()),
                Some(_) => Err(ConfigError::Missing {
                    file: file.to_owned(),
                }),
            },
            Err(source) => Err(ConfigError::Read {
                file: file.to_owned(),
                source,
            }),
        }
    }

    /// Reads a configuration from its text. `file` is what messages call it.
    ///
    /// # Errors
    ///
    /// As for [`Config::load`].
    pub fn parse(file: &Utf8Path, text: String) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let document = Document {
            file: Arc::from(file),
            text,
        };
        let root = document.parse()?;
        let asks_for_dependencies = filter::asks_for_dependencies(&document.text);
        let warnings = RefCell::new(Vec::new());
        let test_groups = RefCell::new(Vec::new());
        let context = parse::Context {
            document: &document,
            warnings: &warnings,
            test_groups: &test_groups,
        };
        let (profiles, test_groups) = file::read(parse::Table::root(context, &root))?;
        drop(root);
        let mut warnings = warnings.into_inner();
        warnings.sort_by_key(|warning| (warning.place().line, warning.place().column));
        Ok((
            Self {
                profiles,
                test_groups: Arc::new(test_groups),
                asks_for_dependencies,
            },
            warnings,
        ))
    }

    /// Returns a profile with all that it inherits.
    ///
    /// # Errors
    ///
    /// When there is no such profile.
    pub fn profile(&self, name: &str) -> Result<Profile, ConfigError> {
        let mut chain = Vec::new();
        let mut next = self.profiles.get(name);
        if next.is_none() {
            let known: Vec<String> = self.profile_names().map(str::to_owned).collect();
            return Err(ConfigError::UnknownProfile {
                name: name.to_owned(),
                nearest: nearest(name, self.profile_names()).map(str::to_owned),
                known,
            });
        }
        while let Some(table) = next {
            chain.push(Arc::clone(table));
            next = match &table.inherits {
                Some((parent, _)) => self.profiles.get(parent.as_str()),
                None if &*table.name == DEFAULT_PROFILE => None,
                None => self.profiles.get(DEFAULT_PROFILE),
            };
        }
        Ok(Profile {
            chain,
            test_groups: Arc::clone(&self.test_groups),
        })
    }

    /// Returns the names of all profiles, in byte order.
    pub fn profile_names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(|name| &**name)
    }

    /// Returns the test groups and how many of their tests may run at once.
    pub fn test_groups(&self) -> &BTreeMap<String, TestThreads> {
        &self.test_groups
    }

    /// Returns whether a filterset in the file may ask for dependencies.
    pub fn asks_for_dependencies(&self) -> bool {
        self.asks_for_dependencies
    }

    /// Returns the groups that a `group()` predicate can name.
    pub fn known_groups(&self) -> KnownGroups {
        KnownGroups::Known {
            custom_groups: self.test_groups.keys().cloned().collect(),
        }
    }
}
