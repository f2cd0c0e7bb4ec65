//! Binaries as filtersets know them: without the target.
//!
//! Where a package is built for several targets, the ids of its binaries end with `@TARGET`. Filtersets
//! are checked against the ids that the package graph has, and were written before anything was built
//! for several targets. So `binary_id(my-crate::tests)` means the binaries of all targets.

use nextest_filtering::{BinaryQuery, GroupLookup, NameMatcher, TestQuery};
use nextest_metadata::RustBinaryId;
use std::borrow::Cow;

/// Separates the id from the target. Cargo allows it in no name of a package or a target.
const SEPARATOR: char = '@';

/// The id of a query's binary as filtersets know it.
pub(crate) struct Known<'a>(Cow<'a, RustBinaryId>);

impl<'a> Known<'a> {
    pub(crate) fn new(query: &BinaryQuery<'a>) -> Self {
        Self(match query.binary_id.as_str().split_once(SEPARATOR) {
            Some((id, _)) => Cow::Owned(RustBinaryId::new(id)),
            None => Cow::Borrowed(query.binary_id),
        })
    }

    /// Returns a query with that id.
    pub(crate) fn binary<'b>(&'b self, query: &BinaryQuery<'b>) -> BinaryQuery<'b> {
        BinaryQuery {
            binary_id: &self.0,
            ..*query
        }
    }

    /// As [`Self::binary`], for a test.
    pub(crate) fn test<'b>(&'b self, query: &TestQuery<'b>) -> TestQuery<'b> {
        TestQuery {
            binary_query: self.binary(&query.binary_query),
            ..*query
        }
    }
}

/// Looks up the groups of a test by its whole id: which settings it has may depend on the target.
#[derive(Debug)]
pub(super) struct WholeId<'a> {
    pub(super) query: TestQuery<'a>,
    pub(super) groups: &'a (dyn GroupLookup + Send + Sync),
}

impl GroupLookup for WholeId<'_> {
    fn is_member_test(&self, _: &TestQuery<'_>, matcher: &NameMatcher) -> bool {
        self.groups.is_member_test(&self.query, matcher)
    }
}
