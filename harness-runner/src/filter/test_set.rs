//! A set of tests.

use harness_metadata::TestId;
use nextest_metadata::{RustBinaryId, TestCaseName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Tests by their binaries, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TestSet(BTreeMap<RustBinaryId, BTreeSet<TestCaseName>>);

impl TestSet {
    /// Returns whether it has this test.
    pub fn contains(&self, binary: &RustBinaryId, name: &TestCaseName) -> bool {
        let names = self.0.get(binary);
        names.is_some_and(|names| names.contains(name))
    }

    /// Returns whether it has a test of this binary.
    pub fn has_binary(&self, binary: &RustBinaryId) -> bool {
        self.0.contains_key(binary)
    }

    /// Adds a test.
    pub fn insert(&mut self, test: TestId) {
        self.0.entry(test.binary).or_default().insert(test.name);
    }

    /// Takes a test out.
    pub fn remove(&mut self, test: &TestId) {
        if let Some(names) = self.0.get_mut(&test.binary) {
            names.remove(&test.name);
            if names.is_empty() {
                self.0.remove(&test.binary);
            }
        }
    }

    /// Returns the number of tests.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Returns whether no test is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the tests in order.
    pub fn iter(&self) -> impl Iterator<Item = TestId> + '_ {
        self.0.iter().flat_map(|(binary, names)| {
            names.iter().map(|name| TestId {
                binary: binary.clone(),
                name: name.clone(),
            })
        })
    }
}

impl FromIterator<TestId> for TestSet {
    fn from_iter<I: IntoIterator<Item = TestId>>(tests: I) -> Self {
        let mut set = Self::default();
        tests.into_iter().for_each(|test| set.insert(test));
        set
    }
}

impl Extend<TestId> for TestSet {
    fn extend<I: IntoIterator<Item = TestId>>(&mut self, tests: I) {
        tests.into_iter().for_each(|test| self.insert(test));
    }
}
