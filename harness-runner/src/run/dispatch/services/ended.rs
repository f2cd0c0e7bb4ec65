//! The end of a service's process in words.

use crate::report::signal_name;
use harness_metadata::{Exit, Outcome};

/// Returns how a process ended, as the end of a sentence.
pub(super) fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited(exit)
        | Outcome::TimedOut { exit: Some(exit) }
        | Outcome::Interrupted {
            exit: Some(exit), ..
        } => match exit {
            Exit::Code(code) => format!("ended with exit code {code}"),
            Exit::Signal { signal, .. } => {
                format!("was ended by {}", signal_name(*signal))
            }
        },
        Outcome::StartFailed(failure) => format!("could not be started: {}", failure.message),
        Outcome::HarnessFault(fault) => format!("was lost: {}", fault.message),
        _ => "did not end well".to_owned(),
    }
}
