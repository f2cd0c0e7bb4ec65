//! The progress of a run in the terminal's task bar or tab (OSC 9;4).

use anstyle_progress::TermProgress;
use harness_metadata::RunStats;

/// The state of the task bar.
#[derive(Clone, Debug, Default)]
pub(super) struct Taskbar {
    /// The percentage, and whether a test has failed.
    shown: Option<(u8, bool)>,
    /// Whether the run is suspended.
    hidden: bool,
}

impl Taskbar {
    /// Returns what makes the task bar show how far the run is, if it does not show that.
    pub(super) fn update(&mut self, stats: &RunStats) -> Option<String> {
        let done = 100 * stats.finished.min(stats.selected) / stats.selected.max(1);
        let now = (u8::try_from(done).unwrap_or(100), stats.failures() > 0);
        if self.hidden || self.shown == Some(now) {
            return None;
        }
        self.shown = Some(now);
        let progress = match now.1 {
            true => TermProgress::error(),
            false => TermProgress::start(),
        };
        Some(progress.percent(now.0).to_string())
    }

    /// Returns what clears the task bar, if it shows something.
    pub(super) fn clear(&mut self) -> Option<String> {
        self.shown.take()?;
        Some(TermProgress::remove().to_string())
    }

    /// Hides the progress, or shows it again.
    pub(super) fn hide(&mut self, hidden: bool) {
        self.hidden = hidden;
    }
}
