//! Lines that a service folds, so that the end of a log is what is seen first.

use super::Terminal;
use serde::{Deserialize, Serialize};
use std::io::Write;

/// The words around the lines of tests by which a service folds them.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fold {
    /// None.
    #[default]
    None,
    /// A section of GitLab's job logs, which begins unfolded.
    Gitlab,
    /// A group of Buildkite's logs, which is unfolded if the run fails.
    Buildkite,
}

/// The name of the section.
const NAME: &str = "cargo_harness_tests";

impl<W: Write> Terminal<W> {
    /// Begins the lines of tests.
    pub(super) fn fold(&mut self) {
        match self.options.fold {
            Fold::None => {}
            Fold::Gitlab => {
                let seconds = self.seconds();
                self.say(&format!(
                    "\x1b[0Ksection_start:{seconds}:{NAME}\r\x1b[0KTests"
                ));
            }
            Fold::Buildkite => self.say("--- Tests"),
        }
    }

    /// Ends the lines of tests.
    pub(super) fn unfold(&mut self) {
        match self.options.fold {
            Fold::None => {}
            Fold::Gitlab => {
                let seconds = self.seconds();
                self.say(&format!("\x1b[0Ksection_end:{seconds}:{NAME}\r\x1b[0K"));
            }
            Fold::Buildkite => {
                if !self.stats.success() {
                    self.say("^^^ +++");
                }
                self.say("+++ Test results");
            }
        }
    }

    /// Returns the seconds since 1970 (UTC).
    fn seconds(&self) -> i64 {
        let after = i64::try_from(self.at.as_secs()).unwrap_or_default();
        self.started_at.unwrap_or_default() + after
    }
}
