//! Versions that a workspace asks for.

use super::place::Place;
use semver::Version;
use std::fmt;

/// The version of cargo-nextest whose behavior is followed.
pub const PEER_VERSION: &str = "0.9.143";

/// The program that a version is one of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// This one.
    Harness,
    /// cargo-nextest, in whose place this one stands.
    Peer,
}

impl Program {
    /// Returns the version that this program has, or stands for.
    pub fn version(self) -> Version {
        let version = match self {
            Self::Harness => env!("CARGO_PKG_VERSION"),
            Self::Peer => PEER_VERSION,
        };
        version.parse().expect("the version of a program is one")
    }

    /// Returns the key under which a version is required.
    pub fn key(self) -> &'static str {
        match self {
            Self::Harness => "harness-version",
            Self::Peer => "nextest-version",
        }
    }
}

/// The force of a request for a version.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Without it nothing works.
    Required,
    /// Without it there is a warning.
    Recommended,
}

/// A version that a workspace asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The program.
    pub program: Program,
    /// The force of the request.
    pub standing: Standing,
    /// The least version.
    pub version: Version,
    /// The position of the request.
    pub place: Place,
}

impl Requirement {
    /// Returns whether the program is new enough.
    pub fn holds(&self) -> bool {
        self.program.version() >= self.version
    }
}

/// The message for a program that is too old.
impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, version) = (&self.place, &self.version);
        let verb = match self.standing {
            Standing::Required => "requires",
            Standing::Recommended => "recommends",
        };
        let current = self.program.version();
        match self.program {
            Program::Harness => write!(
                f,
                "{place}: this workspace {verb} cargo harness {version} or later, but this is {current}; \
                 update it"
            ),
            Program::Peer => write!(
                f,
                "{place}: this workspace {verb} cargo-nextest {version} or later, but cargo harness \
                 stands for {current}; update it"
            ),
        }
    }
}
