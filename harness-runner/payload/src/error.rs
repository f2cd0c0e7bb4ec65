//! The reasons why a payload has no report.

use std::{error, fmt};

/// An error of a payload. A failed check, a wrong exit code and a time-out are none.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A call of the builder was wrong. Nothing was started.
    Misuse {
        /// The name of the payload.
        payload: String,
        /// The name of the call.
        call: &'static str,
        /// The fault of it.
        fault: String,
    },
    /// A test must not start a payload of this kind in this way.
    Refused {
        /// The name of the payload.
        payload: String,
        /// The reason, and what to call instead.
        reason: &'static str,
    },
    /// The program could not be started.
    Start {
        /// The name of the payload.
        payload: String,
        /// The reason.
        reason: String,
    },
    /// The result was taken before.
    Taken {
        /// The name of the payload.
        payload: String,
    },
    /// The guardian was killed by another process, so the end of the program is not known.
    Lost {
        /// The name of the payload.
        payload: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misuse {
                payload,
                call,
                fault,
            } => write!(f, "payload `{payload}`: `{call}`: {fault}"),
            Self::Refused { payload, reason } => {
                write!(f, "payload `{payload}` must not be started so: {reason}")
            }
            Self::Start { payload, reason } => {
                write!(f, "payload `{payload}` could not be started: {reason}")
            }
            Self::Taken { payload } => write!(
                f,
                "payload `{payload}` has no result any more: `wait`, `try_wait`, `stop` or `kill` has \
                 returned it"
            ),
            Self::Lost { payload } => write!(
                f,
                "the result of payload `{payload}` is not known: the process that supervises it was killed"
            ),
        }
    }
}

/// As for people: it is the text of the panic of an `unwrap`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl error::Error for Error {}
