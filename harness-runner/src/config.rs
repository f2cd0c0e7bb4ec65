//! Reads `.config/harness.toml` and answers which settings a test runs under.
//!
//! Three steps, each with its own errors, as early as they can be known:
//!
//! 1. [`Config::load`] reads the file and checks all that needs no package graph, for every
//!    profile in it. It can run while cargo builds.
//! 2. [`Config::profile`] chooses a [`Profile`] and follows its `inherits`.
//! 3. [`Profile::compile`] resolves filtersets and platforms into a [`CompiledProfile`], which
//!    answers for each test.

mod archive_include;
pub mod budget;
mod compiled;
mod declared;
mod error;
mod file;
mod filter_text;
mod kind;
mod layer;
mod limit;
mod migrate;
mod names;
mod overrides;
mod parse;
mod place;
mod policy;
mod profile;
mod quarantine;
mod requirement;
mod rules;
mod schema;
pub(crate) mod scripts;
pub mod settings;
mod show;
mod size;
mod sources;
mod user;
mod value;
mod version;

#[cfg(test)]
mod tests;

pub use archive_include::{ArchiveInclude, Depth, OnMissing, RelativeTo};
pub use compiled::{BinarySettings, CompiledProfile, DefaultFilter, Resolved, TestScripts};
pub use declared::{
    CliOverrides, FlakyFailStatus, JunitSchema, RunLayer, RunOrigins, RunSetting, RunSettings,
    TestLayer, TestOrigins, TestSetting, TestValues, declared,
};
pub use error::{ConfigError, ConfigWarning, Place};
pub use layer::{Declared, Explained, Origin, OverrideOrigin, Scope};
pub use migrate::{Migrated, SCHEMA_FILE, migrate};
pub use profile::{Platforms, Profile};
pub use quarantine::QuarantineEntry;
pub use requirement::{PEER_VERSION, Program, Requirement, Standing};
pub use schema::{schema, user_schema};
pub use scripts::{
    CommandBase, Placeholder, Ready, ScriptCommand, Service, ServiceScope, SetupScript, StopSignal,
    WithRunner, WrapperScript, filled,
};
pub use sources::{InvalidToolFile, Sources, ToolFile, runs_dir};
pub use user::{Hyperlinks, PagerCommand, Paginate, ShowProgress, UserSettings, UserSource};

use camino::{Utf8Path, Utf8PathBuf};
use error::nearest;
use file::{FileTables, ProfileTable};
use guppy::graph::PackageGraph;
use nextest_filtering::{KnownGroups, ParseContext};
use parse::Found;
use settings::TestThreads;
use std::{collections::BTreeMap, sync::Arc};

/// The path of the configuration, relative to the workspace root.
pub const DEFAULT_PATH: &str = ".config/harness.toml";

/// The path of cargo-nextest's configuration, relative to the workspace root. It is read if there is
/// none at [`DEFAULT_PATH`].
pub const PEER_PATH: &str = ".config/nextest.toml";

/// The folder of cargo-nextest's reports, relative to the workspace root.
pub const PEER_STORE: &str = "target/nextest";

/// The profile that is used unless another is asked for, and from which all others inherit.
pub const DEFAULT_PROFILE: &str = "default";

/// The profile that is used under Miri unless another is asked for.
pub const MIRI_PROFILE: &str = "default-miri";

/// The program whose defaults hold.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Our own.
    #[default]
    Harness,
    /// Those of cargo-nextest, whose file is read.
    Peer,
}

/// The configuration of a workspace, read and checked.
#[derive(Debug)]
pub struct Config {
    /// The tables of each profile: the repository's, then those of tools.
    profiles: BTreeMap<Arc<str>, Vec<Arc<ProfileTable>>>,
    test_groups: Arc<BTreeMap<String, TestThreads>>,
    scripts: Arc<scripts::Scripts>,
    asks_for_dependencies: bool,
    dialect: Dialect,
    store_dir: Option<Utf8PathBuf>,
    runs_dir: Option<Utf8PathBuf>,
    requirements: Vec<Requirement>,
}

/// A configuration without mistakes.
#[derive(Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// The files that it is read from.
    pub files: Vec<Arc<Utf8Path>>,
    /// The warnings about it.
    pub warnings: Vec<ConfigWarning>,
}

impl Config {
    /// Reads what `sources` name, or else [`DEFAULT_PATH`] below the workspace root, or else
    /// [`PEER_PATH`].
    ///
    /// # Errors
    ///
    /// When a file cannot be read or what it says makes no sense, in whichever profile. What
    /// merely has no effect is a warning.
    pub fn load(
        workspace_root: &Utf8Path,
        sources: &Sources,
    ) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        sources::load(workspace_root, sources)
    }

    /// Reads as [`Config::load`] does, and resolves the filtersets of every profile for the workspace
    /// that `workspace` answers, whatever other mistakes there are.
    ///
    /// # Errors
    ///
    /// With all mistakes, or with the first error of `workspace`, if there are no others.
    pub fn check<E>(
        root: &Utf8Path,
        sources: &Sources,
        workspace: impl FnOnce(&Self) -> Result<(PackageGraph, Platforms), E>,
    ) -> Result<Checked, E>
    where
        E: From<ConfigError>,
    {
        let (config, found, files) = sources::load_all(root, sources)?;
        match workspace(&config) {
            Ok((graph, platforms)) => config.check_filtersets(&graph, &platforms, &found),
            Err(error) if found.mistakes.borrow().is_empty() => return Err(error),
            Err(_) => {}
        }
        let warnings = sources::finish(found, &files)?;
        Ok(Checked {
            config,
            files,
            warnings,
        })
    }

    /// Notes the filtersets that name what does not exist, each once.
    fn check_filtersets(&self, graph: &PackageGraph, platforms: &Platforms, found: &Found) {
        let packages = ParseContext::new(graph);
        for name in self.profiles.keys() {
            // A profile with wrong parents may be in a circle.
            if file::follow(&self.profiles, name).is_err() {
                continue;
            }
            let compiled = self
                .profile(name)
                .and_then(|profile| profile.compile(&packages, platforms, CliOverrides::default()));
            let Err(error) = compiled else { continue };
            for mistake in error.into_each() {
                let known = |known: &ConfigError| known.place() == mistake.place();
                if !found.mistakes.borrow().iter().any(known) {
                    found.note(mistake);
                }
            }
        }
    }

    /// Reads a configuration from its text. `file` is what messages call it.
    ///
    /// # Errors
    ///
    /// As for [`Config::load`].
    pub fn parse(file: &Utf8Path, text: String) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        sources::parse(file, text)
    }

    /// Puts the tables of several files together, the one of highest precedence first.
    fn from_files(files: Vec<FileTables>, dialect: Dialect) -> Self {
        let mut config = Self {
            profiles: BTreeMap::new(),
            test_groups: Arc::default(),
            scripts: Arc::default(),
            asks_for_dependencies: false,
            dialect,
            store_dir: None,
            runs_dir: None,
            requirements: Vec::new(),
        };
        for name in [DEFAULT_PROFILE, MIRI_PROFILE] {
            config.profiles.insert(Arc::from(name), Vec::new());
        }
        let mut test_groups = BTreeMap::new();
        let mut scripts = scripts::Scripts::default();
        for file in files {
            for profile in file.profiles {
                let name = Arc::clone(&profile.name);
                let tables = config.profiles.entry(name).or_default();
                tables.push(Arc::new(profile));
            }
            test_groups.extend(file.test_groups);
            scripts.setup.extend(file.scripts.setup);
            scripts.wrapper.extend(file.scripts.wrapper);
            scripts.service.extend(file.scripts.service);
            config.asks_for_dependencies |= file.asks_for_dependencies;
            config.store_dir = config.store_dir.or(file.store_dir);
            config.runs_dir = config.runs_dir.or(file.runs_dir);
            config.requirements.extend(file.requirements);
        }
        for (name, tables) in &mut config.profiles {
            if tables.is_empty() {
                tables.push(Arc::new(ProfileTable::empty(name)));
            }
        }
        config.test_groups = Arc::new(test_groups);
        config.scripts = Arc::new(scripts);
        config
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
        while let Some(tables) = next {
            chain.extend(tables.iter().map(Arc::clone));
            next = match file::parent(tables) {
                Some((parent, _)) => self.profiles.get(parent.as_str()),
                None if &*tables[0].name == DEFAULT_PROFILE => None,
                None => self.profiles.get(DEFAULT_PROFILE),
            };
        }
        Ok(Profile {
            chain,
            defaults: self.defaults(),
            test_groups: Arc::clone(&self.test_groups),
            scripts: Arc::clone(&self.scripts),
        })
    }

    /// Returns what differs from the built-in defaults for a file of cargo-nextest.
    fn defaults(&self) -> RunLayer {
        match self.dialect {
            Dialect::Harness => RunLayer::default(),
            Dialect::Peer => RunLayer {
                junit_report_name: Some("nextest-run".to_owned()),
                ..RunLayer::default()
            },
        }
    }

    /// Returns the names of all profiles, in byte order.
    pub fn profile_names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(|name| &**name)
    }

    /// Returns the test groups and how many of their tests may run at once.
    pub fn test_groups(&self) -> &BTreeMap<String, TestThreads> {
        &self.test_groups
    }

    /// Returns whether a filterset in the files may ask for dependencies.
    pub fn asks_for_dependencies(&self) -> bool {
        self.asks_for_dependencies
    }

    /// Returns whose defaults hold.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns where the reports of profiles go, each in a folder of its own below, if that is not
    /// `harness` below the target directory.
    pub fn reports(&self, workspace_root: &Utf8Path) -> Option<Utf8PathBuf> {
        match (&self.store_dir, self.dialect) {
            (Some(folder), _) => Some(workspace_root.join(folder)),
            (None, Dialect::Peer) => Some(workspace_root.join(PEER_STORE)),
            (None, Dialect::Harness) => None,
        }
    }

    /// Returns the folder for recorded runs, relative to the workspace root, if one is chosen.
    pub fn runs_dir(&self) -> Option<&Utf8PathBuf> {
        self.runs_dir.as_ref()
    }

    /// Returns which versions the workspace requires and recommends.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Returns whether another configuration comes to the same, wherever its parts are written.
    fn says_the_same(&self, other: &Self) -> bool {
        let cli = CliOverrides::default();
        let run = |config: &Self, name: &str| -> Option<Vec<(&'static str, String)>> {
            let settings = config.profile(name).ok()?.explain_run(&cli);
            let values = settings.into_iter();
            Some(values.map(|setting| (setting.key, setting.value)).collect())
        };
        let asked = |config: &Self| -> Vec<_> {
            let asked = config.requirements.iter();
            asked
                .map(|asked| (asked.program, asked.standing, asked.version.clone()))
                .collect()
        };
        let root = Utf8Path::new("/");
        let names: Vec<&str> = self.profile_names().collect();
        let with_report = |name: &str| {
            let profile = self.profile(name);
            profile.is_ok_and(|profile| profile.run_settings(&cli).0.junit_path.is_some())
        };
        names == other.profile_names().collect::<Vec<_>>()
            && names.iter().all(|name| {
                let (mut ours, mut theirs) = (run(self, name), run(other, name));
                if !with_report(name) {
                    for settings in [&mut ours, &mut theirs].into_iter().flatten() {
                        settings.retain(|(key, _)| *key != "junit.report-name");
                    }
                }
                ours == theirs && file::same(&self.profiles[*name], &other.profiles[*name])
            })
            && self.test_groups == other.test_groups
            && self.scripts == other.scripts
            && asked(self) == asked(other)
            && (self.reports(root) == other.reports(root)
                || !names.iter().any(|name| with_report(name)))
    }

    /// Returns the groups that a `group()` predicate can name.
    pub fn known_groups(&self) -> KnownGroups {
        KnownGroups::Known {
            custom_groups: self.test_groups.keys().cloned().collect(),
        }
    }
}
