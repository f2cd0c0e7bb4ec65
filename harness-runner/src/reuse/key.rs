//! The part of a test's circumstances that no trace shows.

use super::digests::Digest;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The value of a circumstance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Value {
    /// It may be shown.
    Plain(String),
    /// It may be a secret: its digest, with the key of the ledger.
    Hidden(Digest),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(value) => write!(f, "`{value}`"),
            Self::Hidden(digest) => write!(f, "the value {digest}"),
        }
    }
}

/// Environment, machine, user, limits: each by its name, such as `variable HOME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Surroundings(pub BTreeMap<String, Value>);

/// All that has to be the same before inputs are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The version of the harness.
    pub harness: String,
    /// The content of the test's binary: the toolchain, features and flags are in it.
    pub binary: Digest,
    /// The command, its working directory and the settings that reach the process.
    pub command: Digest,
    /// The rest.
    pub surroundings: Arc<Surroundings>,
}

/// Returns the version of the harness and of its rules about inputs.
pub fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), "/2")
}

impl Key {
    /// Returns the key of a test whose results are never used again.
    pub fn none() -> Self {
        Self {
            harness: String::new(),
            binary: Digest::of(&[]),
            command: Digest::of(&[]),
            surroundings: Arc::default(),
        }
    }
}

impl Surroundings {
    /// Sets a variable of the environment.
    pub fn set_variable(&mut self, name: &str, value: &[u8], digest: impl FnOnce(&[u8]) -> Digest) {
        let value = Value::Hidden(digest(value));
        self.0.insert(format!("variable `{name}`"), value);
    }

    /// Returns the first name whose value differs from before, with the values.
    pub(super) fn first_difference<'a>(
        &'a self,
        before: &'a Self,
    ) -> Option<(&'a str, Option<&'a Value>, Option<&'a Value>)> {
        let names = before.0.keys().chain(self.0.keys());
        names
            .map(|name| (name.as_str(), before.0.get(name), self.0.get(name)))
            .find(|(_, before, now)| before != now)
    }
}
