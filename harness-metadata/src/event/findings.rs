//! Findings of the traces of a run, told at its end beside its counts.

use crate::{id::TestId, raw::RawString};
use serde::{Deserialize, Serialize};

/// Findings of the traces of a run, told at its end beside its counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Findings {
    /// Failed attempts, each with another test that changed at that time what they used. The first ones of a run
    /// are looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interferences: Vec<Interference>,
    /// Causes that several failed tests have in common, the one of the most tests first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CommonCause>,
    /// Tests that read files with keys, tokens or passwords.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialsRead>,
    /// The number of further such tests.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_credentials: usize,
}

/// Another test changed what a failed attempt used, while it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Interference {
    /// The test that failed.
    pub test: TestId,
    /// Its attempt.
    pub attempt: u32,
    /// The other test.
    pub other: TestId,
    /// The slot of the other test.
    pub slot: usize,
    /// A verb in the past tense, such as `wrote`.
    pub did: String,
    /// The thing that both used: a path, relative to the root of the workspace if it is inside, or an address.
    pub thing: RawString,
    /// The kind of that.
    pub kind: ThingKind,
    /// The entry that the other test changed, if the failed one used the folder around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<RawString>,
}

/// A kind of thing that two tests used.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum ThingKind {
    /// A file, or another path that is no folder as far as the trace shows.
    File,
    /// A folder.
    Folder,
    /// An address.
    Address,
}

/// A cause that several failed tests have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct CommonCause {
    /// The cause: a call that failed, with its target and error, or a panic with its place.
    pub cause: String,
    /// The number of tests.
    pub count: usize,
    /// The first of them.
    pub tests: Vec<TestId>,
}

/// A test that read files with keys, tokens or passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct CredentialsRead {
    /// The test.
    pub test: TestId,
    /// The first of the files, with `~` for the home folder.
    pub files: Vec<RawString>,
    /// The number of further files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
}

impl Findings {
    /// Returns whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}
