//! The output of tests while they run.

use crate::{id::TestId, raw::RawString};
use serde::{Deserialize, Serialize};

/// Lines that an attempt has printed, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct AttemptPrinted {
    /// The test.
    pub test: TestId,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The slot that it runs in.
    pub slot: usize,
    /// The stream.
    pub stream: OutputStream,
    /// The lines, without their line feeds.
    pub lines: Vec<RawString>,
    /// True if the last of them has no line feed, and the stream is at its end.
    pub unfinished: bool,
    /// The number of lines left out before these, because they came faster than they could be shown.
    pub dropped: u64,
}

/// A stream that tests print to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
