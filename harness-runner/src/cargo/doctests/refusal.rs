//! The errors that keep documentation tests from being listed one by one.

use std::{
    io,
    process::{ExitStatus, Output},
};
use thiserror::Error;

/// An error that kept documentation tests from being listed or compiled one by one.
#[derive(Debug, Error)]
pub enum DoctestError {
    /// The path of this program is not known.
    #[error("the path of this program is not known")]
    Own(#[source] io::Error),
    /// A process could not be started.
    #[error("failed to start `{command}`")]
    Start {
        /// The command.
        command: String,
        /// The reason.
        source: io::Error,
    },
    /// Cargo failed, and has said why.
    #[error("`{command}` failed ({status})")]
    Cargo {
        /// The command line.
        command: String,
        /// Its status.
        status: ExitStatus,
    },
    /// Files of documentation tests could not be read or written.
    #[error("failed to read or write files of documentation tests")]
    Records(#[source] io::Error),
    /// Rustdoc refused an option, or failed.
    #[error("rustdoc failed ({status}): {said}")]
    Refused {
        /// Its status.
        status: ExitStatus,
        /// The first line that it printed.
        said: String,
    },
    /// Cargo tests the documentation of a package that is no member of the workspace.
    #[error("the package in `{folder}` is no member of the workspace")]
    Stranger {
        /// Its folder.
        folder: String,
    },
    /// Rustdoc answered something else.
    #[error("rustdoc described its tests in a form that is not known: {0}")]
    Answer(#[from] serde_json::Error),
}

impl DoctestError {
    pub(super) fn refused(output: &Output) -> Self {
        let said = String::from_utf8_lossy(&output.stderr);
        let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        Self::Refused {
            status: output.status,
            said: lines.next().unwrap_or("it printed nothing").to_owned(),
        }
    }

    /// Returns true if the tests can still be run as a whole.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Stranger { .. } | Self::Answer(_) | Self::Own(_) => true,
            Self::Start { .. } | Self::Cargo { .. } | Self::Records(_) => false,
        }
    }
}
