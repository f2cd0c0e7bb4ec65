//! The options of the terminal's output.

use super::Fold;
use crate::report::{
    links::Links,
    progress::{ProgressMode, terminal_size},
};
use harness_metadata::level::{DurationsBy, FinalStatusLevel, StatusLevel};
use serde::{Deserialize, Serialize};

/// The form of what is shown, and how much of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct TerminalOptions {
    /// The tests that get a line as they finish.
    pub status_level: StatusLevel,
    /// The tests that get a line at the end of the run.
    pub final_status_level: FinalStatusLevel,
    /// Whether tests are also listed as skipped that were not asked for: by name, filterset or
    /// partition.
    pub skipped_by_choice: bool,
    /// Whether to use colors, and to keep those of the tests.
    #[serde(skip)]
    pub colors: bool,
    /// Whether characters beyond ASCII may be used.
    pub unicode: bool,
    /// The form of progress. Resolved: see [`ProgressMode::resolve`].
    pub progress: ProgressMode,
    /// The most running tests that the bar lists.
    pub max_progress_running: usize,
    /// Whether captured output is indented.
    pub indent_output: bool,
    /// The number of slowest tests to list at the end.
    pub durations: usize,
    /// The use by which these are the largest.
    pub durations_by: DurationsBy,
    /// Columns and rows. `None` asks the terminal at standard error, again at each tick.
    #[serde(skip)]
    pub size: Option<(u16, u16)>,
    /// Whether lines are made to fit a terminal: names lose their middle, and the end of the run has one line
    /// for each failure and no more than a screen of them.
    pub fitted: bool,
    /// Whether tests that pass get no line if there is a bar and more of them than rows.
    pub brief: bool,
    /// Whether the terminal's task bar shows the progress.
    pub taskbar: bool,
    /// The form of links to places in the source; `None` for none.
    pub links: Option<Links>,
    /// The words around the lines of tests by which a service folds them.
    pub fold: Fold,
    /// The number of `-v` flags.
    pub verbosity: u8,
    /// Whether tests write to the terminal themselves.
    pub no_capture: bool,
    /// Whether their output is not shown again when they have ended, because it was shown live.
    pub shown_live: bool,
}

impl Default for TerminalOptions {
    fn default() -> Self {
        Self {
            status_level: StatusLevel::default(),
            final_status_level: FinalStatusLevel::default(),
            skipped_by_choice: true,
            colors: false,
            unicode: true,
            progress: ProgressMode::Counter,
            max_progress_running: 8,
            indent_output: true,
            durations: 0,
            durations_by: DurationsBy::Time,
            size: Some((80, 24)),
            fitted: false,
            brief: false,
            taskbar: false,
            links: None,
            fold: Fold::None,
            verbosity: 0,
            no_capture: false,
            shown_live: false,
        }
    }
}

impl TerminalOptions {
    /// Returns columns and rows, if lines are made to fit.
    pub(super) fn room(&self) -> Option<(usize, usize)> {
        let size = self.size.or_else(terminal_size).filter(|_| self.fitted);
        size.map(|(columns, rows)| (usize::from(columns.max(1)), usize::from(rows.max(1))))
    }

    /// Returns the columns, if lines are made to fit.
    pub(super) fn columns(&self) -> Option<usize> {
        self.room().map(|room| room.0)
    }
}
