//! A profile with all that it inherits, before filtersets and platforms are resolved.

use super::{
    CliOverrides, ConfigError,
    compiled::{
        Applicability, CompiledOverride, CompiledProfile, CompiledRule, DefaultFilter, OnTargets,
    },
    declared::{RunLayer, RunOrigins, RunSettings},
    file::ProfileTable,
    filter_text::FilterText,
    layer::{Explained, Origin},
    overrides::Selector,
    rules::RuleTable,
    scripts::Scripts,
    settings::TestThreads,
};
use crate::filter::parse_filterset;
use nextest_filtering::{Filterset, KnownGroups, ParseContext};
use std::{collections::BTreeMap, sync::Arc};
use target_spec::{Platform, TargetSpec};

/// The platforms of a build.
#[derive(Clone, Debug)]
pub struct Platforms {
    /// The platforms of cargo and of the harness.
    pub host: Platform,
    /// The targets of `--target`, each as its binaries' ids name it; none to build for the host.
    pub targets: Vec<(String, Platform)>,
}

/// A profile, its parents, and `default` at the end.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Each profile has a table in each file that mentions it.
    pub(super) chain: Vec<Arc<ProfileTable>>,
    /// The differences from the built-in defaults.
    pub(super) defaults: RunLayer,
    pub(super) test_groups: Arc<BTreeMap<String, TestThreads>>,
    pub(super) scripts: Arc<Scripts>,
}

impl Profile {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.chain[0].name
    }

    /// Returns the names of the profiles that it consists of: its own, its parents', `default`.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = self.chain.iter().map(|table| &*table.name).collect();
        names.dedup();
        names.into_iter()
    }

    /// Returns the settings of the run as a whole, which need no package graph.
    pub fn run_settings(&self, cli: &CliOverrides) -> (RunSettings, RunOrigins) {
        let origins: Vec<Origin> = self.origins().collect();
        let profiles = self.chain.iter().map(|table| &table.run).zip(&origins);
        let cli_run = std::iter::once((&cli.run, &Origin::CommandLine));
        let defaults = std::iter::once((&self.defaults, &Origin::Default));
        RunSettings::merge(cli_run.chain(profiles).chain(defaults))
    }

    /// Returns every setting of the run as a whole with its value and its origin.
    pub fn explain_run(&self, cli: &CliOverrides) -> Vec<Explained> {
        let (settings, origins) = self.run_settings(cli);
        settings.explain(&origins)
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
        let mut filters = Filters::new(packages);
        let mut overrides = Vec::new();
        // The first one counts. All are compiled, also those for other platforms, so that a
        // mistake shows everywhere.
        let mut default_filters = Vec::new();
        for table in self.chain.iter().flat_map(|profile| &profile.overrides) {
            let origin = Origin::Override(Arc::clone(&table.selector.origin));
            let applies = PlatformMatch::new(&table.selector, platforms);
            let filter = filters.compile(table.selector.filter.as_ref());
            if let Some(filter) = filters.compile(table.default_filter.as_ref())
                && applies.targets.all()
            {
                default_filters.push((filter, origin.clone()));
            }
            if applies.host || applies.targets.any() {
                overrides.push(CompiledOverride {
                    layer: table.test.clone(),
                    origin,
                    scope: applies.scope(filter),
                });
            }
        }
        for (profile, origin) in self.chain.iter().zip(self.origins()) {
            let filter = filters.compile(profile.default_filter.as_ref());
            default_filters.extend(filter.map(|filter| (filter, origin)));
        }
        let default_filter = match default_filters.into_iter().next() {
            Some((filter, origin)) => DefaultFilter {
                text: filter.input,
                compiled: filter.compiled,
                origin,
            },
            None => DefaultFilter::all(),
        };
        let rules = self.chain.iter().flat_map(|profile| &profile.rules);
        let rules = rules.map(|rule| compile_rule(rule, &mut filters, platforms));
        let rules = rules.collect();
        let quarantine = self.compile_quarantine(&mut filters);
        filters.finish()?;
        let (run, run_origins) = self.run_settings(&cli);
        let layers = self.chain.iter().map(|table| table.test.clone());
        let layers = layers.zip(self.origins());
        Ok(CompiledProfile::new(super::compiled::Parts {
            name: self.name().to_owned(),
            cli: cli.test,
            mode: cli.mode,
            overrides,
            profiles: layers.collect(),
            default_filter,
            quarantine,
            run,
            run_origins,
            test_groups: Arc::clone(&self.test_groups),
            scripts: Arc::clone(&self.scripts),
            rules,
        }))
    }

    fn compile_quarantine(
        &self,
        filters: &mut Filters<'_, '_>,
    ) -> Vec<super::quarantine::QuarantineEntry> {
        let tables = self.chain.iter().flat_map(|profile| &profile.quarantine);
        tables
            .filter_map(|table| {
                let filter = filters.compile(Some(&table.filter))?;
                Some(table.compiled(filter.compiled))
            })
            .collect()
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
    targets: OnTargets,
}

impl PlatformMatch {
    fn new(selector: &Selector, platforms: &Platforms) -> Self {
        // An expression about unknown target features may hold.
        let holds = |spec: &Option<TargetSpec>, platform: &Platform| {
            spec.as_ref()
                .is_none_or(|spec| spec.eval(platform).unwrap_or(true))
        };
        let host = holds(&selector.host, &platforms.host);
        let on = |platform: &Platform| host && holds(&selector.target, platform);
        let on_host = on(&platforms.host);
        Self {
            host: on_host,
            targets: match &platforms.targets[..] {
                [] => OnTargets::One(on_host),
                [(_, platform)] => OnTargets::One(on(platform)),
                several => {
                    let of =
                        |(name, platform): &(String, Platform)| (format!("@{name}"), on(platform));
                    OnTargets::Several(several.iter().map(of).collect())
                }
            },
        }
    }

    fn scope(self, filter: Option<Filterset>) -> Applicability {
        Applicability {
            filter: filter.map(|filter| filter.compiled),
            on_host: self.host,
            on_targets: self.targets,
        }
    }
}

fn compile_rule(
    rule: &RuleTable,
    filters: &mut Filters<'_, '_>,
    platforms: &Platforms,
) -> CompiledRule {
    let filter = filters.compile(rule.selector.filter.as_ref());
    CompiledRule {
        origin: Arc::clone(&rule.selector.origin),
        scripts: rule.run.clone(),
        scope: PlatformMatch::new(&rule.selector, platforms).scope(filter),
    }
}

/// Resolves filtersets, and collects the mistakes of those that name what does not exist.
struct Filters<'a, 'g> {
    packages: &'a ParseContext<'g>,
    mistakes: Vec<ConfigError>,
}

impl<'a, 'g> Filters<'a, 'g> {
    fn new(packages: &'a ParseContext<'g>) -> Self {
        Self {
            packages,
            mistakes: Vec::new(),
        }
    }

    /// Fails if there were mistakes.
    fn finish(mut self) -> Result<(), ConfigError> {
        self.mistakes.sort_by_cached_key(|mistake| {
            let place = mistake.place()?;
            Some((place.file.to_owned(), place.line, place.column))
        });
        ConfigError::of(self.mistakes)
    }

    fn compile(&mut self, filter: Option<&FilterText>) -> Option<Filterset> {
        let filter = filter?;
        // `group()` is not allowed in configuration, so no groups are needed.
        let (text, groups) = (filter.text.clone(), KnownGroups::Unavailable);
        match parse_filterset(text, self.packages, filter.kind, &groups) {
            Ok(filterset) => Some(filterset),
            Err(source) => {
                self.mistakes.push(ConfigError::Filterset {
                    place: filter.place.clone(),
                    key: filter.key.clone(),
                    source,
                });
                None
            }
        }
    }
}
