//! A profile with all that it inherits, before filtersets and platforms are resolved.

use super::{
    CliOverrides, ConfigError,
    compiled::{CompiledOverride, CompiledProfile, DefaultFilter},
    file::{FilterText, ProfileTable},
    layer::{Origin, RunOrigins, RunSettings},
    overrides::OverrideTable,
    settings::TestThreads,
};
use nextest_filtering::{Filterset, FiltersetKind, KnownGroups, ParseContext};
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
        &self,
        packages: &ParseContext<'_>,
        platforms: &Platforms,
        cli: CliOverrides,
    ) -> Result<CompiledProfile, ConfigError> {
        let mut overrides = Vec::new();
        let mut default_filter = None;
        for profile in &self.chain {
            for table in &profile.overrides {
                let matches = PlatformMatch::new(table, platforms);
                let filter = table.filter.as_ref();
                let filter = filter.map(|filter| {
                    compile(
                        filter,
                        &profile.name,
                        packages,
                        FiltersetKind::OverrideFilter,
                    )
                });
                // Compiled even if the platform does not match, so that a mistake shows
                // everywhere.
                let filter = filter.transpose()?;
                let default = table.default_filter.as_ref().map(|filter| {
                    compile(
                        filter,
                        &profile.name,
                        packages,
                        FiltersetKind::DefaultFilter,
                    )
                });
                let origin = Origin::Override(Arc::clone(&table.origin));
                if let Some(filter) = default.transpose()?
                    && matches.target
                    && default_filter.is_none()
                {
                    default_filter = Some((filter, origin.clone()));
                }
                if matches.host || matches.target {
                    overrides.push(CompiledOverride {
                        layer: table.test.clone(),
                        origin,
                        filter: filter.map(|filter| filter.compiled),
                        on_host: matches.host,
                        on_target: matches.target,
                    });
                }
            }
        }
        for (profile, origin) in self.chain.iter().zip(self.origins()) {
            if let Some(filter) = &profile.default_filter {
                let filter = compile(
                    filter,
                    &profile.name,
                    packages,
                    FiltersetKind::DefaultFilter,
                )?;
                default_filter.get_or_insert((filter, origin));
            }
        }
        let default_filter =
            default_filter.map_or_else(DefaultFilter::all, |(filter, origin)| DefaultFilter {
                text: filter.input,
                compiled: filter.compiled,
                origin,
            });
        let (run, run_origins) = self.run_settings(&cli);
        let layers = self
            .chain
            .iter()
            .map(|table| table.test.clone())
            .zip(self.origins());
        Ok(CompiledProfile::new(super::compiled::Parts {
            name: self.name().to_owned(),
            cli: cli.test,
            overrides,
            profiles: layers.collect(),
            default_filter,
            run,
            run_origins,
            test_groups: Arc::clone(&self.test_groups),
        }))
    }

    fn origins(&self) -> impl Iterator<Item = Origin> {
        self.chain
            .iter()
            .map(|table| Origin::Profile(Arc::clone(&table.name)))
    }
}

/// Whether an override is for tests that are built for the host (proc macros) and for those that
/// are built for the target.
struct PlatformMatch {
    host: bool,
    target: bool,
}

impl PlatformMatch {
    fn new(table: &OverrideTable, platforms: &Platforms) -> Self {
        // What depends on target features that nobody knows might well hold.
        let holds = |spec: &Option<target_spec::TargetSpec>, platform| {
            spec.as_ref()
                .is_none_or(|spec| spec.eval(platform).unwrap_or(true))
        };
        let host = holds(&table.host, &platforms.host);
        Self {
            host: host && holds(&table.target, &platforms.host),
            target: host && holds(&table.target, platforms.target()),
        }
    }
}

fn compile(
    filter: &FilterText,
    profile: &str,
    packages: &ParseContext<'_>,
    kind: FiltersetKind,
) -> Result<Filterset, ConfigError> {
    // `group()` is not allowed in configuration, so no groups are needed.
    Filterset::parse(
        filter.text.clone(),
        packages,
        kind,
        &KnownGroups::Unavailable,
    )
    .map_err(|errors| ConfigError::Filterset {
        place: filter.place.clone(),
        key: filter.key.clone(),
        profile: profile.to_owned(),
        source: errors.into(),
    })
}
