//! The uses that a call makes of the files that it names.

use super::{failures::is_interruption, search::is_absence};
use harness_metadata::{
    RawString,
    trace::{FileCall, FileOperation, FileUse},
};

/// All uses: bit N is the Nth of these.
pub(super) const USES: [FileUse; 14] = [
    FileUse::Executed,
    FileUse::Read,
    FileUse::Written,
    FileUse::Created,
    FileUse::Truncated,
    FileUse::Removed,
    FileUse::RenamedFrom,
    FileUse::RenamedTo,
    FileUse::Linked,
    FileUse::MetadataChanged,
    FileUse::Queried,
    FileUse::Listed,
    FileUse::Missing,
    FileUse::Refused,
];

/// Returns the bit of a use.
pub(super) fn bit(file_use: FileUse) -> u16 {
    1 << file_use as u16
}

/// Returns the uses of which the bits are set.
pub(super) fn uses_of(bits: u16) -> Vec<FileUse> {
    let uses = USES.into_iter();
    uses.filter(|file_use| bits & bit(*file_use) != 0).collect()
}

/// Tells which files a call used and how, as bits of [`USES`].
pub(super) fn uses_by(call: &FileCall, mut used: impl FnMut(&RawString, u16)) {
    let path = call.path.path();
    if let Some(errno) = call.result.error() {
        if !is_interruption(errno) {
            used(path, bit(use_of_error(errno)));
        }
        return;
    }
    used(
        path,
        match call.operation {
            FileOperation::Open => uses_by_opening(call),
            operation => bit(operation.file_use()),
        },
    );
    if let (Some(second), Some(to)) = (call.operation.second_use(), &call.to) {
        used(to.path(), bit(second));
    }
}

fn uses_by_opening(call: &FileCall) -> u16 {
    let access = call.access.unwrap_or_default();
    if access.path_only || access.unnamed {
        return bit(FileUse::Queried);
    }
    let mut uses = 0;
    if access.read || !access.write {
        uses |= bit(FileUse::Read);
    }
    if access.write {
        uses |= bit(FileUse::Written);
    }
    if access.truncate {
        uses |= bit(FileUse::Truncated);
    }
    // Without O_EXCL it may have been there: only certain facts are reported.
    if access.create && access.exclusive {
        uses |= bit(FileUse::Created);
    }
    uses
}

/// Returns what a call that failed has found out of its path.
pub(super) fn use_of_error(errno: i32) -> FileUse {
    match is_absence(errno) {
        true => FileUse::Missing,
        false => FileUse::Refused,
    }
}
