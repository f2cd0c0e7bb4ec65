//! The levels from which on a test has a line.

use super::TerminalOptions;
use crate::report::{progress::ProgressMode, wording::Class};
use harness_metadata::level::{FinalStatusLevel, StatusLevel};

/// Returns the least level at which a test of this kind has a line when it finishes.
pub(super) fn shown_from(class: Class, options: &TerminalOptions) -> StatusLevel {
    match class {
        Class::Failed | Class::Interrupted | Class::Quarantined => StatusLevel::Fail,
        Class::Flaky => StatusLevel::Retry,
        Class::Slow => StatusLevel::Slow,
        Class::Leaky => StatusLevel::Leak,
        Class::Passed if options.progress == ProgressMode::Only => StatusLevel::All,
        Class::Passed => StatusLevel::Pass,
    }
}

/// Returns the least level at which a test of this kind is in the list at the end.
pub(super) fn listed_from(class: Class) -> FinalStatusLevel {
    match class {
        Class::Failed | Class::Interrupted | Class::Quarantined => FinalStatusLevel::Fail,
        Class::Flaky => FinalStatusLevel::Flaky,
        Class::Slow => FinalStatusLevel::Slow,
        Class::Leaky => FinalStatusLevel::Leak,
        Class::Passed => FinalStatusLevel::Pass,
    }
}
