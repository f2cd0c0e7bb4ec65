//! The selection of tests.

use super::runner_options::one_of;
use crate::command_error::{CommandError, Kind};
use clap::{Args, ValueEnum};
use harness_metadata::event::RunMode;
use harness_runner::changes::Since;
use harness_runner::filter::{
    BuildPlatform, DefaultFilterUse, Emulated, FilterOptions, Partition, RunIgnored,
    check_filtersets,
};

/// Options that select tests.
#[derive(Debug, Default, Args)]
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
    /// Run tests that are built for this platform, as `-E 'platform(host)'` does.
    #[arg(long, value_name = "PLATFORM")]
    platform_filter: Option<Platform>,
    /// Run what failed, did not run or is new since this run: `latest`, or the beginning of an id.
    /// Tests that have passed since do not run again.
    #[arg(
        long,
        short = 'R',
        value_name = "RUN",
        num_args = 0..=1,
        default_missing_value = "latest",
        conflicts_with = "last_failed"
    )]
    rerun: Option<String>,
    /// Run tests that failed when they ran last.
    #[arg(long, visible_alias = "lf")]
    last_failed: bool,
    /// Run tests of packages that have changed since the working tree left this revision, and of
    /// those that depend on them; without a revision since it left the main branch.
    #[arg(
        long,
        value_name = "BASE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    changed: Option<String>,
    /// Run tests that used this file, folder or glob when they were traced last, and those of which
    /// that is not known.
    #[arg(long, value_name = "PATH")]
    touching: Vec<String>,
    /// Run only the selected tests of this package. The build stays the same.
    #[arg(long, value_name = "NAME")]
    among_package: Vec<String>,
    /// Run only the selected tests whose names contain this.
    #[arg(long, value_name = "PART", allow_hyphen_values = true)]
    among_names: Option<String>,
    /// Further names, and flags of the standard test harness: `--ignored`,
    /// `--include-ignored`, `--skip NAME`, `--exact`, `--nocapture`.
    #[arg(
        last = true,
        value_name = "FILTERS_AND_ARGS",
        allow_hyphen_values = true
    )]
    after_dashes: Vec<String>,
}

/// The platform that tests are built for.
#[derive(Copy, Clone, Debug, ValueEnum)]
enum Platform {
    /// The one that the build is for.
    Target,
    /// The one that the build runs on: tests of procedural macros and build dependencies.
    Host,
    /// Both.
    Any,
}

impl Platform {
    fn built_for(self) -> Option<BuildPlatform> {
        match self {
            Self::Target => Some(BuildPlatform::Target),
            Self::Host => Some(BuildPlatform::Host),
            Self::Any => None,
        }
    }
}

/// The interpreted options.
pub(super) struct Filters {
    pub(super) options: FilterOptions,
    /// Whether output is to be captured.
    pub(super) no_capture: bool,
    /// The part of earlier runs in it.
    pub(super) before: Before,
}

/// The options that look at earlier runs and states.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// `--rerun`: `latest`, or the beginning of an id.
    pub(super) rerun: Option<String>,
    pub(super) last_failed: bool,
    pub(super) failed_first: bool,
    /// The revision to compare with.
    pub(super) changed: Option<Since>,
    /// The files that tests must have used.
    pub(super) touching: Vec<String>,
}

impl FilterArgs {
    pub(super) fn is_rerun(&self) -> bool {
        self.rerun.is_some()
    }

    pub(super) fn wants_changed(&self) -> bool {
        self.changed.is_some()
    }

    pub(super) fn wants_touching(&self) -> bool {
        !self.touching.is_empty()
    }

    pub(super) fn wants_last_failed(&self) -> bool {
        self.last_failed
    }

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
            mode: RunMode::Test,
            partition: self.partition,
            passed: None,
            among: None,
            packages: None,
            without: None,
            among_packages: self.among_package.clone(),
            among_names: self.among_names.clone(),
            platform: self.platform_filter.and_then(Platform::built_for),
        };
        Ok(Filters {
            options,
            no_capture,
            before: Before {
                rerun: self.rerun.clone(),
                last_failed: self.last_failed,
                failed_first: false,
                touching: self.touching.clone(),
                changed: self.changed.as_ref().map(|base| match base.as_str() {
                    "" => Since::Main,
                    base => Since::Revision(base.to_owned()),
                }),
            },
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
