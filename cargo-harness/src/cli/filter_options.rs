//! The selection of tests.

use super::runner_options::one_of;
use crate::command_error::{CommandError, Kind};
use clap::Args;
use harness_runner::filter::{
    DefaultFilterUse, Emulated, FilterOptions, Mode, Partition, RunIgnored, check_filtersets,
};

/// Options that select tests.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filter options")]
pub(crate) struct FilterArgs {
    /// Run tests whose name contains one of these.
    #[arg(value_name = "FILTERS")]
    filters: Vec<String>,
    /// Run tests in this set (`package(a) & test(/b/)`). Several sets are united.
    #[arg(
        long = "filterset",
        short = 'E',
        alias = "filter-expr",
        value_name = "EXPR",
        allow_hyphen_values = true
    )]
    filtersets: Vec<String>,
    /// Do not bound the selection by the profile's `default-filter`.
    #[arg(long)]
    ignore_default_filter: bool,
    /// Choose among tests marked `#[ignore]`.
    #[arg(
        long,
        value_name = "WHICH",
        value_parser = one_of::<RunIgnored>(["default", "only", "ignored-only", "all"])
    )]
    run_ignored: Option<RunIgnored>,
    /// Run one part of several: `slice:1/3`, `hash:1/3`, `count:1/3`.
    #[arg(long, value_name = "PARTITION")]
    partition: Option<Partition>,
    /// Further names, and flags of the standard test harness: `--ignored`,
    /// `--include-ignored`, `--skip NAME`, `--exact`, `--nocapture`.
    #[arg(
        last = true,
        value_name = "FILTERS_AND_ARGS",
        allow_hyphen_values = true
    )]
    after_dashes: Vec<String>,
}

/// The interpreted options.
pub(super) struct Filters {
    pub(super) options: FilterOptions,
    /// Whether output is to be captured.
    pub(super) no_capture: bool,
}

impl FilterArgs {
    /// Interprets the options. `no_capture` is the option before `--`.
    pub(super) fn interpret(&self, no_capture: bool) -> Result<Filters, CommandError> {
        let setup = |error| CommandError::new(Kind::Setup, error);
        let emulated = Emulated::parse(self.after_dashes.iter().cloned()).map_err(setup)?;
        let run_ignored = emulated.run_ignored(self.run_ignored).map_err(setup)?;
        let no_capture = emulated.no_capture(no_capture).map_err(setup)?;
        check(&self.filtersets)?;
        let default_filter = match self.ignore_default_filter {
            true => DefaultFilterUse::Ignore,
            false => DefaultFilterUse::Bound,
        };
        let options = FilterOptions {
            names: emulated.names(self.filters.clone()),
            filtersets: self.filtersets.clone(),
            run_ignored,
            default_filter,
            mode: Mode::Tests,
            partition: self.partition,
        };
        Ok(Filters {
            options,
            no_capture,
        })
    }
}

/// Checks the syntax of filtersets, before anything is built.
pub(super) fn check(filtersets: &[String]) -> Result<(), CommandError> {
    check_filtersets(filtersets).map_err(|error| filtersets_error(error, false))
}

/// An invalid filterset, with its caret diagrams.
pub(super) fn filtersets_error(
    error: harness_runner::filter::FiltersetsError,
    colors: bool,
) -> CommandError {
    let detail: Vec<String> = error.0.iter().map(|error| error.render(colors)).collect();
    CommandError::new(Kind::Filterset, error).with_detail(detail.join("\n"))
}
