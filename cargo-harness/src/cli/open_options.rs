//! The flag `--open`.

use clap::{Args, ValueEnum};

/// The flag.
#[derive(Clone, Debug, Args)]
pub(super) struct OpenArgs {
    /// Open the HTML report in the browser (`report`), or the place of the first failure in the editor (`failure`).
    /// Default: the report if one is written, else the failure.
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        // `report` needs one of this group.
        group = "Reports",
        help_heading = "Reporter options"
    )]
    pub(super) open: Option<Option<Opened>>,
}

/// A thing that is opened.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Opened {
    /// The HTML report.
    Report,
    /// The place of the first failure.
    Failure,
}
