//! `cargo harness inputs`: the files that a test needs of this machine.

use super::{
    GlobalOptions,
    filter_options::FilterArgs,
    prepared::{self, session_error},
    reuse_options::ReuseArgs,
    runner_options::one_of,
};
use crate::{
    cargo_options::CargoArgs,
    command_error::{CommandError, Kind},
};
use clap::Args;
use harness_metadata::exit_code;
use harness_runner::{
    config::CliOverrides,
    inputs::{Format, write},
    session::Start,
};
use std::io;

/// Build, and list the files that tests need of this machine to run elsewhere, with the reason of each.
#[derive(Debug, Args)]
pub(super) struct InputsCommand {
    #[command(flatten)]
    cargo: CargoArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    reuse: ReuseArgs,
    /// Print a list with reasons, the `data` of a rule for Bazel, or instructions for an image.
    #[arg(long, value_name = "FORMAT", default_value = "list", help_heading = "Output options",
        value_parser = one_of::<Format>(["list", "bazel", "dockerfile"]))]
    format: Format,
}

impl InputsCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let colors = global.stderr_colors();
        let filters = self.filter.interpret(false)?;
        let overrides = CliOverrides::default();
        let options =
            prepared::options(global, self.cargo, &self.reuse, filters.options, overrides)?;
        let mut notify = |notice| prepared::tell(&notice, colors);
        let start = Start::new(&options, &mut notify).map_err(session_error(colors))?;
        let session = start
            .prepare(&options, &mut notify)
            .map_err(session_error(colors))?;
        if session.plan.tests.is_empty() {
            return Err(CommandError::new(Kind::NoTests, "no test is selected"));
        }
        let failed = |error: io::Error| {
            CommandError::new(
                Kind::Setup,
                format!("the recorded runs cannot be read: {error}"),
            )
        };
        let finder = session.finder().map_err(failed)?;
        let needs = session.needs(&finder);
        match write(
            &mut io::stdout().lock(),
            self.format,
            finder.places(),
            &needs,
        ) {
            // The reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(exit_code::OK),
            Err(error) => Err(CommandError::new(Kind::Write, error)),
            Ok(()) => Ok(exit_code::OK),
        }
    }
}
