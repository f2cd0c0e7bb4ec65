//! Binaries as filtersets ask for them.

use crate::cargo::TestBinary;
use guppy::PackageId;
use nextest_filtering::BinaryQuery;
use nextest_metadata::BuildPlatform;

/// Returns the facts about a binary by which a filterset selects it.
pub(super) fn query<'a>(binary: &'a TestBinary, package_id: &'a PackageId) -> BinaryQuery<'a> {
    BinaryQuery {
        package_id,
        binary_id: &binary.id,
        binary_name: &binary.name,
        kind: &binary.kind,
        platform: match binary.platform {
            BuildPlatform::Host => guppy::graph::cargo::BuildPlatform::Host,
            BuildPlatform::Target => guppy::graph::cargo::BuildPlatform::Target,
        },
    }
}
