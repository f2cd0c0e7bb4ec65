//! The versions that a workspace requires and recommends: `harness-version`, and `nextest-version`
//! where it comes from cargo-nextest.
//!
//! They are read before all else, because an older program may not understand the rest.

use super::{
    error::{ConfigError, Place},
    parse::{Table, Value},
};
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

/// How strongly a version is asked for.
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
    /// How strongly it is asked for.
    pub standing: Standing,
    /// The least version.
    pub version: Version,
    /// Where it is written.
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

/// Reads what a document asks for.
pub(super) fn read(root: &mut Table<'_>) -> Result<Vec<Requirement>, ConfigError> {
    let mut requirements = Vec::new();
    if let Some(value) = root.get("harness-version") {
        versions(Program::Harness, &value, &mut requirements)?;
    }
    if let Some(value) = root.get("nextest-version") {
        versions(Program::Peer, &value, &mut requirements)?;
    }
    Ok(requirements)
}

/// Reads a version, which is required, or a table with `required` and `recommended`.
fn versions(
    program: Program,
    value: &Value<'_>,
    requirements: &mut Vec<Requirement>,
) -> Result<(), ConfigError> {
    let mut push = |standing, value: &Value<'_>| {
        let text = value.string()?;
        let version = Version::parse(text).map_err(|error| {
            value.invalid(format!("is not a version such as `\"1.2.3\"`: {error}"))
        })?;
        requirements.push(Requirement {
            program,
            standing,
            version,
            place: value.place(),
        });
        Ok(())
    };
    if value.as_str().is_some() {
        return push(Standing::Required, value);
    }
    let Some(mut table) = value.as_table() else {
        return Err(value.wrong_type(
            "a version or a table with `required` and `recommended`",
            None,
        ));
    };
    if let Some(required) = table.get("required") {
        push(Standing::Required, &required)?;
    }
    if let Some(recommended) = table.get("recommended") {
        push(Standing::Recommended, &recommended)?;
    }
    table.warn_of_unknown();
    Ok(())
}
