//! Answers which settings are in force, and why.

use super::{Notice, Options, Session, SessionError, Start, prepare, query::query};
use crate::{
    cargo::{Workspace, locate_workspace},
    config::{
        Checked, Config, Explained, Origin, OverrideOrigin, Platforms, Sources,
        settings::TestThreads,
    },
    plan::PlannedTest,
};
use guppy::PackageId;
use harness_metadata::TestId;
use nextest_filtering::TestQuery;
use std::{collections::BTreeMap, sync::Arc};

/// A test with its settings.
#[derive(Clone, Debug)]
pub struct ExplainedTest {
    /// The test.
    pub id: TestId,
    /// The name of its group, `@global` for none.
    pub group: String,
    /// Every setting with its value and its origin.
    pub settings: Vec<Explained>,
    /// The scripts that run for it, as settings.
    pub scripts: Vec<Explained>,
}

/// A profile, and from where it takes what it does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedProfile {
    /// Its name.
    pub name: String,
    /// The profiles that it inherits from, the nearest first.
    pub inherits: Vec<String>,
    /// Whether this profile is the one in use.
    pub used: bool,
}

/// Returns the files of the configuration.
pub(super) fn sources(options: &Options) -> Sources {
    let mut sources = options.sources.clone();
    sources.config_file = sources.config_file.map(|file| options.cwd.join(file));
    sources
}

/// Returns the platforms of a build.
pub(super) fn platforms(workspace: &Workspace) -> Platforms {
    let targets = workspace.platforms.targets.iter();
    Platforms {
        host: workspace.platforms.host.clone(),
        targets: targets
            .map(|target| (target.folder().to_owned(), target.platform.clone()))
            .collect(),
    }
}

impl Start {
    /// Looks for all mistakes of the configuration at once, in every profile.
    ///
    /// # Errors
    ///
    /// When there are mistakes, or no workspace.
    pub fn check(
        options: &Options,
        notify: &mut dyn FnMut(Notice),
    ) -> Result<Checked, SessionError> {
        let root = locate_workspace(options.cargo.manifest_path.as_deref(), &options.cwd)?;
        let checked = Config::check(&root, &sources(options), |config| {
            let graph = prepare::graph(config, options);
            let workspace = Workspace::load(&options.cargo, &options.cwd, graph)?;
            let platforms = platforms(&workspace);
            Ok::<_, SessionError>((workspace.graph, platforms))
        })?;
        let warnings = checked.warnings.iter().cloned();
        warnings.map(Notice::Config).for_each(notify);
        if let Some(name) = &options.profile {
            checked.config.profile(name)?;
        }
        Ok(checked)
    }

    /// Returns every setting of the run as a whole with its value and its origin.
    pub fn explain_run(&self, options: &Options) -> Vec<Explained> {
        self.profile.explain_run(&options.overrides)
    }

    /// Returns all profiles, in byte order of their names.
    pub fn explain_profiles(&self) -> Vec<ExplainedProfile> {
        let profiles = self.config.profile_names().filter_map(|name| {
            let profile = self.config.profile(name).ok()?;
            Some(ExplainedProfile {
                name: name.to_owned(),
                inherits: profile.chain().skip(1).map(str::to_owned).collect(),
                used: name == self.profile.name(),
            })
        });
        profiles.collect()
    }
}

impl Session {
    /// Returns the tests that would run, in the order of the plan, with their settings.
    pub fn explain_tests(&self) -> Vec<ExplainedTest> {
        let tests = self.plan.tests.iter().map(|test| {
            let binary = &self.tests.binaries[test.binary].binary;
            let package_id = PackageId::new(binary.package_id.clone());
            let resolved = self.profile.settings_for(&TestQuery {
                binary_query: query(binary, &package_id),
                test_name: &test.id.name,
            });
            ExplainedTest {
                id: test.id.clone(),
                group: resolved.settings.test_group.name().to_owned(),
                settings: resolved.explain(),
                scripts: self.explain_scripts(test),
            }
        });
        tests.collect()
    }

    fn explain_scripts(&self, test: &PlannedTest) -> Vec<Explained> {
        let explained = |key, name: &str, rule: &Arc<OverrideOrigin>| Explained {
            key,
            value: format!("{name:?}"),
            origin: Origin::Rule(Arc::clone(rule)),
            place: Some(rule.place.clone()),
        };
        let all = self.profile.setup_scripts();
        let setup = test.scripts.setup.iter();
        let setup = setup.map(|(index, rule)| explained("setup", &all[*index].name, rule));
        let wrapper = test.scripts.run_wrapper.iter();
        let wrapper = wrapper.map(|(script, rule)| explained("run-wrapper", &script.name, rule));
        let binary = &self.tests.binaries[test.binary].binary;
        let package_id = PackageId::new(binary.package_id.clone());
        let list = self.profile.list_wrapper(&query(binary, &package_id));
        let list = list.iter();
        let list = list.map(|(script, rule)| explained("list-wrapper", &script.name, rule));
        let services = test.scripts.services.iter();
        let services = services
            .map(|(index, rule)| explained("service", &self.profile.services()[*index].name, rule));
        (setup.chain(services).chain(wrapper).chain(list)).collect()
    }

    /// Returns the test groups and how many of their tests may run at once.
    pub fn test_groups(&self) -> &BTreeMap<String, TestThreads> {
        self.profile.test_groups()
    }
}
