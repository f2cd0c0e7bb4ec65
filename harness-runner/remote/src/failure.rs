//! The reasons why an action has no result.

use std::{error::Error, fmt};
use tonic::{Code, Status};

/// Whether it is of use to try again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// The next time may be another one.
    NotNecessarily,
    /// The engine lacked something that it was said to have.
    UntilUploaded,
    /// The same comes of it each time.
    Always,
}

/// The reason why an action has no result. Its words are a sentence fragment for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The words.
    pub message: String,
    /// Whether it is of use to try again.
    pub lasts: Lasts,
    /// The reasons of its earlier tries.
    pub earlier: Vec<String>,
}

impl Failure {
    pub(crate) fn new(lasts: Lasts, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            lasts,
            earlier: Vec::new(),
        }
    }

    /// The answer of an engine to a call.
    pub(crate) fn of(what: &str, status: &Status) -> Self {
        let lasts = lasts(status.code());
        Self::new(lasts, format!("{what}: {}", words(status)))
    }

    /// The word of an engine about an action.
    pub(crate) fn said(code: i32, message: &str) -> Self {
        let code = Code::from_i32(code);
        let lasts = match code {
            // It lacks the action or one of its inputs.
            Code::NotFound | Code::FailedPrecondition => Lasts::UntilUploaded,
            code => lasts(code),
        };
        let message = sentence(message);
        let words = match code {
            Code::DeadlineExceeded => {
                "the engine ended the action, which exceeded its time limit there".to_owned()
            }
            _ if message.is_empty() => format!("the engine failed ({code:?})"),
            _ => format!("the engine failed ({code:?}): {message}"),
        };
        Self::new(lasts, words)
    }
}

fn lasts(code: Code) -> Lasts {
    match code {
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::OutOfRange
        | Code::DeadlineExceeded => Lasts::Always,
        _ => Lasts::NotNecessarily,
    }
}

/// Returns what a status says, with what is behind it. Metadata of the call, which has the token, is not part of it.
pub(crate) fn words(status: &Status) -> String {
    let code = status.code();
    let mut words = match code {
        Code::Unauthenticated => "the engine does not accept the token".to_owned(),
        Code::PermissionDenied => "the engine does not allow it".to_owned(),
        Code::Unimplemented => "the engine does not offer it".to_owned(),
        Code::Unavailable => "the engine cannot be reached".to_owned(),
        code => format!("the engine answered {code:?}"),
    };
    let said = sentence(status.message());
    if !said.is_empty() {
        words.push_str(&format!(" ({said})"));
    }
    let mut source = status.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !words.contains(&text) {
            words.push_str(&format!(": {text}"));
        }
        source = error.source();
    }
    words
}

/// Returns what an engine says as a part of a line: no longer than a few lines, without control characters.
fn sentence(text: &str) -> String {
    const MOST: usize = 400;
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let clean: String = clean.take(MOST).collect();
    clean.trim().trim_end_matches('.').to_owned()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}
