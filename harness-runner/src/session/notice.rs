//! The lines that the user reads before the run begins.

use crate::{
    cargo::{Runner, Runners, Workspace},
    config::ConfigWarning,
    store,
};
use std::time::Duration;

/// Something to tell the user before the run begins.
#[derive(Debug)]
pub enum Notice {
    /// The configuration is that of cargo-nextest, because there is none of our own.
    PeerConfig,
    /// The configuration says something that has no effect.
    Config(ConfigWarning),
    /// A target runner's setting makes no sense.
    Runner(String),
    /// A target runner is used.
    UsesRunner(String),
    /// An archive was extracted.
    Archive(String),
    /// Something is not in the archive.
    LeftOut(String),
    /// Parts by time rest on the record of this machine, because the profile has no timing file.
    PartsOfThisMachine,
    /// An entry of the quarantine has expired, or has no test.
    Quarantine(String),
    /// The runner of an earlier run was killed.
    Killed(store::Killed),
    /// The stored passes cannot be used.
    Ledger(String),
    /// The functions of an executable are not known.
    Functions(String),
    /// Documentation tests are compiled.
    Doctests(String),
    /// Some tests stay here although the run has an engine.
    Remote(String),
    /// Binaries cannot be listed now, because the system does not have enough. It is tried again.
    AwaitsSystem {
        /// Of what.
        because: String,
        /// For how long it is tried.
        limit: Duration,
    },
}

/// Tells of the runners of targets.
pub(super) fn notify_of_runners(workspace: &Workspace, notify: &mut dyn FnMut(Notice)) {
    let runners = &workspace.runners;
    for warning in &runners.warnings {
        notify(Notice::Runner(warning.clone()));
    }
    let used = match workspace.platforms.targets.is_empty() {
        true => runners
            .host
            .iter()
            .map(|runner| ("tests".to_owned(), runner))
            .collect(),
        false => of_targets(runners, workspace.platforms.targets.len()),
    };
    for (tests, runner) in used {
        let (program, origin) = (runner.program.display(), &runner.origin);
        notify(Notice::UsesRunner(format!(
            "{tests} are run by `{program}` ({origin})"
        )));
    }
}

/// Returns the runners of targets, each with the tests that it runs.
fn of_targets(runners: &Runners, targets: usize) -> Vec<(String, &Runner)> {
    let of = |(target, runner)| match targets {
        1 => ("tests".to_owned(), runner),
        _ => (format!("tests for `{target}`"), runner),
    };
    runners.targets.iter().map(of).collect()
}
