//! The end of a run as an exit code, or as the reason of a failure.

use crate::command_error::{CommandError, Kind};
use harness_metadata::{event::CancelReason, exit_code};
use harness_runner::{report::signal_name, session::Summary};

/// Returns the exit code of a run that has come to its end, or why it failed.
pub(in crate::cli) fn verdict(summary: &Summary) -> Result<i32, CommandError> {
    if let Some(signal) = summary.cancelled.and_then(CancelReason::signal) {
        let why = format!("test run was ended by {}", signal_name(signal));
        return Err(CommandError::new(Kind::EndedBy(signal), why));
    }
    let failed = || CommandError::new(Kind::SetupScript, failed_helpers(summary));
    let all_well = summary.failed_scripts.is_empty() && summary.failed_services.is_empty();
    match summary.cancelled {
        Some(CancelReason::SetupFailed) => Err(failed()),
        None if summary.stats.success() && !all_well => Err(failed()),
        None if summary.stats.success() => Ok(exit_code::OK),
        Some(CancelReason::GlobalTimeout) => Err(CommandError::new(
            Kind::OutOfTime,
            "test run ran out of time (`global-timeout`)",
        )),
        _ => Err(CommandError::new(Kind::TestRun, "test run failed")),
    }
}

/// Returns which setup scripts and services failed, as a sentence.
fn failed_helpers(summary: &Summary) -> String {
    let failed = |noun: &str, names: &[String]| {
        let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        match names.len() {
            0 => None,
            1 => Some(format!("{noun} {} failed", quoted[0])),
            _ => Some(format!("{noun}s {} failed", quoted.join(", "))),
        }
    };
    let scripts = failed("setup script", &summary.failed_scripts);
    let services = failed("service", &summary.failed_services);
    let all: Vec<String> = scripts.into_iter().chain(services).collect();
    all.join(", ")
}
