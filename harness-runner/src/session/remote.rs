//! The tests that may run elsewhere, and what they need there.

use super::{Notice, RunOptions, Session};
use crate::{
    inputs::{Basis, Binary, Finder, Needs, Places},
    plan::PlannedTest,
    report::plural,
    run::{self, Away, MayGo},
};
use camino::Utf8Path;
use harness_metadata::TestId;
use std::{cell::RefCell, collections::BTreeMap, fmt, io, sync::Arc};

/// The reason why a test stays here although the run has an engine.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stays {
    Configured,
    Services,
    Scripts,
    Wrapper,
    Limits,
    Policy,
    Inputs,
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "`remote.allow` is false",
            Self::Services => "a service that is used runs here",
            Self::Scripts => "a setup script has prepared this machine",
            Self::Wrapper => "another program runs the test",
            Self::Limits => "limits need a cgroup",
            Self::Policy => "the policy denies by rules of this machine",
            Self::Inputs => "no trace says which files of a large package are needed",
        })
    }
}

impl Session {
    /// Returns a finder of what tests need.
    ///
    /// # Errors
    ///
    /// When the recordings of earlier runs cannot be read.
    pub fn finder(&self) -> io::Result<Finder> {
        let workspace = &self.workspace;
        let members = workspace.graph.workspace().iter();
        let folders = members.filter_map(|member| member.manifest_path().parent());
        let mut built = vec![workspace.target_directory().to_owned()];
        if !workspace.build_directory().starts_with(&built[0]) {
            built.push(workspace.build_directory().to_owned());
        }
        let places = Places {
            root: workspace.root().to_owned(),
            store: self.store.clone(),
            built,
            packages: folders.map(Utf8Path::to_owned).collect(),
            kept_in: workspace.kept_in().to_owned(),
        };
        let tests: Vec<TestId> = self.plan.tests.iter().map(|test| test.id.clone()).collect();
        Finder::new(places, &tests)
    }

    /// Returns what each test of the plan needs, to run elsewhere.
    pub fn needs(&self, finder: &Finder) -> Vec<(TestId, Needs)> {
        let binaries = self.binaries(None);
        let tests = self.plan.tests.iter();
        let needs = tests.map(|test| (test.id.clone(), self.needs_of(finder, test, &binaries)));
        needs.collect()
    }

    fn needs_of(&self, finder: &Finder, test: &PlannedTest, binaries: &[run::Binary]) -> Needs {
        let listed = &self.tests.binaries[test.binary].binary;
        let binary = Binary {
            file: &listed.path,
            package: &listed.cwd,
            environment: &binaries[test.binary].environment,
        };
        finder.needs(&test.id, binary)
    }

    /// Returns why a test stays here, if it does. `program` is how it is started.
    fn stays(&self, test: &PlannedTest, work: &run::Test, program: usize) -> Option<Stays> {
        let settings = &test.settings;
        let kinds = settings.limits.kinds();
        [
            (!settings.remote.allow, Stays::Configured),
            (!work.services.is_empty(), Stays::Services),
            (!work.scripts.is_empty(), Stays::Scripts),
            (work.wrapped.is_some() || program > 1, Stays::Wrapper),
            (kinds.into_iter().next().is_some(), Stays::Limits),
            (work.policy.is_some(), Stays::Policy),
        ]
        .into_iter()
        .find_map(|(holds, why)| holds.then_some(why))
    }

    /// Returns the engine of a run, with the tests that may go there; `None` if all run here. Tells how many stay.
    pub(super) fn away(
        &self,
        options: &RunOptions,
        tests: &[run::Test],
        binaries: &[run::Binary],
    ) -> io::Result<Option<Away>> {
        let Some(remote) = &options.remote else {
            return Ok(None);
        };
        let finder = self.finder()?;
        let (mut away, mut stay) = (BTreeMap::new(), BTreeMap::<Stays, usize>::new());
        for (index, (planned, test)) in self.plan.tests.iter().zip(tests).enumerate() {
            let program = binaries[test.binary].program.len();
            let why = self.stays(planned, test, program);
            let needs = why
                .is_none()
                .then(|| self.needs_of(&finder, planned, binaries));
            let small = needs.filter(|needs| needs.basis != Basis::LargePackage);
            let Some(needs) = small else {
                *stay.entry(why.unwrap_or(Stays::Inputs)).or_default() += 1;
                continue;
            };
            let may_go = MayGo {
                needs: Arc::new(needs),
                properties: Arc::new(planned.settings.remote.properties.clone()),
            };
            away.insert(index, may_go);
        }
        for (why, count) in stay {
            let count = plural(count, "test runs", "tests run");
            (remote.notify)(Notice::Remote(format!(
                "{count} here and not elsewhere: {why}"
            )));
        }
        let settings = self.profile.run_settings();
        Ok(Some(Away {
            engine: Arc::clone(&remote.engine),
            slots: settings.remote_slots,
            tests: away,
            places: finder.places().clone(),
            learnt: RefCell::new(Some(finder.into_learnt())),
            variables: settings.remote_variables.clone(),
            patience: settings.remote_patience,
            tries: u32::try_from(settings.remote_tries).unwrap_or(u32::MAX),
        }))
    }
}
