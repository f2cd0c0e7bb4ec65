//! The policies of a run's tests, as stubs take them.

use super::Session;
use crate::{
    answers::policy::{Checked, check},
    cargo::Workspace,
    policy::{Bounds, Policy, Roots},
    store::{FindError, last::last_of_each},
};
use harness_metadata::PolicyMode;
use std::sync::Arc;

/// The policies of a run's tests. Tests with the same policy share one.
pub(super) struct Policies {
    roots: Roots,
    known: Vec<(Policy, Option<Arc<[u8]>>)>,
}

impl Policies {
    /// No policy yet, with the roots of a workspace.
    pub(super) fn new(workspace: &Workspace) -> Self {
        let (root, target) = (workspace.root(), workspace.target_directory());
        Self {
            roots: Roots::new(root.as_std_path(), target.as_std_path()),
            known: Vec::new(),
        }
    }

    /// Returns a policy as a stub takes it; `None` if it has no effect.
    pub(super) fn of(&mut self, policy: &Policy) -> Option<Arc<[u8]>> {
        if policy.mode == PolicyMode::Observe {
            return None;
        }
        if let Some((_, known)) = self.known.iter().find(|(known, _)| known == policy) {
            return known.clone();
        }
        let bounds = Bounds::new(policy, self.roots.clone());
        let bytes = (!bounds.is_empty()).then(|| Arc::from(bounds.to_bytes()));
        self.known.push((policy.clone(), bytes.clone()));
        bytes
    }
}

impl Session {
    /// Finds what the policies of the tests would deny of their last traces, whatever their modes are. Runs
    /// no test.
    ///
    /// # Errors
    ///
    /// When no run is kept, or one cannot be read.
    pub fn check_policies(&self) -> Result<Checked, FindError> {
        let roots = Policies::new(&self.workspace).roots;
        let tests = self.plan.tests.iter().map(|test| {
            let bounds = Bounds::new(&test.settings.policy, roots.clone());
            (test.id.clone(), bounds)
        });
        let bounds = tests.filter(|(_, bounds)| !bounds.is_empty()).collect();
        let last = last_of_each(&self.store, self.workspace.root())?;
        Ok(check(last, &bounds))
    }
}
