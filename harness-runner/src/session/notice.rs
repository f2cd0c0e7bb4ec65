//! What the user is told before the run begins.

use crate::{build::Workspace, config::ConfigWarning, store};
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
    /// The runner of an earlier run was killed.
    Killed(store::Killed),
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
    if let Some(runner) = &runners.target {
        let program = runner.program.display();
        notify(Notice::UsesRunner(format!(
            "tests are run by `{program}` ({})",
            runner.origin
        )));
    }
}
