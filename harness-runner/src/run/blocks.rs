//! The environment of a process, as the stub takes it.

use super::{Role, Test, environment::OfAttempt, shared::Shared};

/// Returns the environment block of a test's attempt. What the configuration sets for the test
/// replaces what its binary has, what its setup scripts and its services set replaces both, and what its wrapper sets
/// replaces all.
pub(super) fn of_attempt(shared: &Shared, of: &OfAttempt<'_>) -> Vec<u8> {
    let work = &shared.work;
    let set = &of.test.settings.env;
    let wrapper = of.test.wrapped.iter().flat_map(|wrapped| &wrapped.env);
    let differs = !(of.test.scripts.is_empty() && of.test.services.is_empty() && set.is_empty())
        || wrapper.clone().next().is_some();
    let own = differs.then(|| {
        let mut environment = work.binaries[of.test.binary].environment.clone();
        for (name, value) in set {
            environment.set(name, value);
        }
        shared.scripts.add_to(&mut environment, &of.test.scripts);
        shared.services.add_to(&mut environment, &of.test.services);
        for (name, value) in wrapper {
            environment.set(name, value);
        }
        environment
    });
    work.blocks.of_attempt(of, own)
}

/// Returns the environment block of a script. Its teardown sees the variables that it has set.
pub(super) fn of_script(shared: &Shared, test: &Test) -> Vec<u8> {
    let work = &shared.work;
    let mut environment = work.binaries[test.binary].environment.clone();
    match test.role {
        Role::Teardown { script, .. } => shared.scripts.add_to(&mut environment, &[script]),
        Role::Service { service } | Role::Probe { service } => {
            let scripts = shared.services.scripts(service);
            shared.scripts.add_to(&mut environment, scripts);
        }
        Role::Test | Role::Setup { .. } => {}
    }
    work.blocks.of_run(environment)
}
