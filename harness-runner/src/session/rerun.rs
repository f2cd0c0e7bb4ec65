//! Reruns: which tests are still to do, and with which build.

use super::{Options, Session};
use crate::{
    cargo::CargoOptions,
    filter::TestSet,
    list::{Status, TestList},
    plan::Plan,
    store::{Chain, Standing},
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{RustBinaryId, TestId};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};

/// The scope of a build, for reruns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The options for cargo.
    pub cargo: CargoOptions,
    /// The manifest, given or found: without options it decides which packages are tested.
    pub manifest: Option<Utf8PathBuf>,
}

impl Scope {
    /// Returns the scope of a build that is started in `cwd`.
    pub fn of(cargo: &CargoOptions, cwd: &Utf8Path) -> Self {
        let given = cargo.manifest_path.as_ref().map(|path| cwd.join(path));
        let found = || {
            let mut above = cwd.ancestors().map(|folder| folder.join("Cargo.toml"));
            above.find(|manifest| manifest.is_file())
        };
        Self {
            cargo: cargo.scope(),
            manifest: given.or_else(found),
        }
    }
}

impl Options {
    /// Continues a chain of runs: what has passed does not run again, and the build has the scope of
    /// the chain unless these options have one of their own. Returns the scope that was taken over.
    pub fn continue_chain(&mut self, standing: Standing) -> Option<Scope> {
        self.filter.passed = Some(Arc::new(standing.passed.clone()));
        let scope = standing.scope.clone();
        self.rerun = Some(Arc::new(standing));
        if self.cargo.scope() != CargoOptions::default() {
            return None;
        }
        let scope: Scope = serde_json::from_value(scope?).ok()?;
        let manifest = scope.manifest.clone().filter(|path| path.is_file());
        let own = self.cargo.manifest_path.take();
        self.cargo = self.cargo.with_scope(&scope.cargo);
        self.cargo.manifest_path = own.or(manifest);
        Some(scope)
    }
}

/// Returns what a rerun of this run needs to know.
pub(super) fn chain(options: &Options, tests: &TestList, plan: &Plan) -> Chain {
    let selected: TestSet = plan.tests.iter().map(|test| test.id.clone()).collect();
    let scope = Scope::of(&options.cargo, &options.cwd);
    let mut chain = Chain {
        scope: serde_json::json!(scope),
        selected,
        ..Chain::default()
    };
    if let Some(before) = &options.rerun {
        let (asked, listed) = listed(tests);
        // A binary that was not built or not asked may still have the test.
        let gone = |test: &TestId| {
            asked.contains(&test.binary) && !listed.contains(&test.binary, &test.name)
        };
        let chosen = |test: &TestId| chain.selected.contains(&test.binary, &test.name);
        let passed = before.passed.iter().filter(|test| !gone(test));
        let left = before.outstanding.iter();
        let left = left.filter(|test| !chosen(test) && !gone(test));
        let (passed, left) = (passed.collect(), left.collect());
        chain.rerun_of = Some(before.run);
        chain.passed = passed;
        chain.outstanding = left;
    }
    chain
}

/// Returns the binaries that were asked for their tests, and these tests.
fn listed(tests: &TestList) -> (BTreeSet<&RustBinaryId>, TestSet) {
    let (mut asked, mut listed) = (BTreeSet::new(), TestSet::default());
    for binary in &tests.binaries {
        if let Status::Listed(tests) = &binary.status {
            asked.insert(&binary.binary.id);
            listed.extend(tests.iter().map(|test| TestId {
                binary: binary.binary.id.clone(),
                name: test.name.clone(),
            }));
        }
    }
    (asked, listed)
}

impl Session {
    /// Returns the outstanding tests that this run leaves aside; `None` unless it is a rerun.
    pub fn left_aside(&self) -> Option<&TestSet> {
        self.chain.rerun_of.map(|_| &self.chain.outstanding)
    }
}
