//! A profile with all that it inherits, before filtersets and platforms are resolved.

use super::{
    CliOverrides, ConfigError,
    compiled::{CompiledOverride, CompiledProfile, DefaultFilter},
    file::{FilterText, ProfileTable},
    layer::{Origin, RunOrigins, RunSettings},
    overrides::OverrideTable,
    settings::TestThreads,
};
use nextest_filtering::{Filterset, KnownGroups, ParseContext};
use std::{collections::BTreeMap, sync::Arc};
use target_spec::Platform;

/// The platforms of a build.
#[derive(Clone, Debug)]
pub struct Platforms {
    /// Where cargo and the harness run.
    pub host: Platform,
    /// What `--target` names; `None` to build for the host.
    pub target: Option<Platform>,
}

impl Platforms {
    /// Returns what tests are built for.
    pub fn target(&self) -> &Platform {
        self.target.as_ref().unwrap_or(&self.host)
    }
}

/// A profile, its parents, and `default` at the end.
#[derive(Clone, Debug)]
pub struct Profile {
    pub(super) chain: Vec<Arc<ProfileTable>>,
    pub(super) test_groups: Arc<BTreeMap<String, TestThreads>>,
}

impl Profile {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.chain[0].name
    }

    /// Returns the names of the profiles that it consists of: its own, its parents', `default`.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        self.chain.iter().map(|table| &*table.name)
    }

    /// Returns the settings of the run as a whole, which need no package graph.
    pub fn run_settings(&self, cli: &CliOverrides) -> (RunSettings, RunOrigins) {
        let origins: Vec<Origin> = self.origins().collect();
        let profiles = self.chain.iter().map(|table| &table.run).zip(&origins);
        let cli = std::iter::once((&cli.run, &Origin::CommandLine));
        RunSettings::merge(cli.chain(profiles))
    }

    /// Resolves filtersets and platforms.
    ///
    /// # Errors
    ///
    /// When a filterset names a package or a binary that does not exist, or uses a predicate that
    /// is not allowed where it stands.
    pub fn compile(
    filter: Option<&FilterText>,
    packages: &ParseContext<'_>,
) -> Result<Option<Filterset>, ConfigError> {
    let Some(FilterText { kind, text, key, place }) = filter else {
        return Ok(None);
    };
    // `group()` is not allowed in configuration, so no groups are needed.
    match Filterset::parse(text.clone(), packages, *kind, &KnownGroups::Unavailable) {
        Ok(filterset) => Ok(Some(filterset)),
        Err(errors) => Err(ConfigError::Filterset {
            place: place.clone(),
            key: key.clone(),
            source: errors.into(),
        }),
    }
}
