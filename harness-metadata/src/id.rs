//! Names of things: a run, a test, an attempt.

use nextest_metadata::{RustBinaryId, TestCaseName};
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// One invocation of `cargo harness run`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    /// Returns a new random (version 4) id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A test: the binary that holds it and its name therein. Ordered by binary, then by name, in
/// byte order. Clones are cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TestId {
    /// The binary's id, such as `my-crate::tests`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub binary: RustBinaryId,
    /// The test's name as its binary lists it, such as `module::test`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub name: TestCaseName,
}

/// The end of the id of a binary in an iteration of a stress run, before its number.
const ITERATION: &str = "@stress-";

impl TestId {
    /// Returns the id of the test's instance in an iteration of a stress run, from 0.
    pub fn of_iteration(&self, number: usize) -> Self {
        Self {
            binary: RustBinaryId::new(&format!("{}{ITERATION}{number}", self.binary)),
            name: self.name.clone(),
        }
    }

    /// Returns the id of the test itself and, if this is one of its instances in a stress run, the number
    /// of the iteration.
    pub fn without_iteration(&self) -> (Self, Option<usize>) {
        let parts = self.binary.as_str().rsplit_once(ITERATION);
        match parts.and_then(|(binary, number)| Some((binary, number.parse().ok()?))) {
            Some((binary, number)) => {
                let binary = RustBinaryId::new(binary);
                let name = self.name.clone();
                (Self { binary, name }, Some(number))
            }
            None => (self.clone(), None),
        }
    }
}

impl fmt::Display for TestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.binary, self.name)
    }
}

/// One execution of a test. A retried test has several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AttemptId {
    /// The test.
    pub test: TestId,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}
