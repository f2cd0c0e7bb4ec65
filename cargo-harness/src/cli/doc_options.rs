//! Options of `run` and `list` about documentation tests.

use crate::command_error::{CommandError, Kind};
use clap::Args;
use harness_runner::{cargo::CargoOptions, config::settings::Doctests as Wanted};

/// Options about documentation tests.
#[derive(Debug, Args)]
pub(super) struct DocArgs {
    /// Take documentation tests in, as `doctests = "run"` does.
    #[arg(long, conflicts_with = "no_doc", help_heading = "Filter options")]
    pub(super) doc: bool,
    /// Leave documentation tests out, and do not mention them.
    #[arg(long, help_heading = "Filter options")]
    pub(super) no_doc: bool,
}

impl DocArgs {
    /// Returns the value that beats that of the profile.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        match (self.doc, self.no_doc) {
            (true, _) => Some(Wanted::Run),
            (_, true) => Some(Wanted::Skip),
            _ => None,
        }
    }

    /// Refuses a choice of targets, which are others.
    pub(super) fn check(&self, cargo: &CargoOptions) -> Result<(), CommandError> {
        match self.doc && cargo.selects_targets() {
            true => {
                let message = "`--doc` does not go with a choice of targets, such as `--lib`";
                Err(CommandError::new(Kind::Usage, message))
            }
            false => Ok(()),
        }
    }
}
