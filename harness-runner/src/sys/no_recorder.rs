//! For architectures without a hook: nothing is recorded, and every call stops.

use super::Tid;
use harness_metadata::trace::FileId;
use syscalls::Sysno;

/// There is none.
pub(crate) const HOOK: u64 = 0;
/// There is none.
pub(crate) const HOOK_SIZE: u64 = 0;
/// There is none.
pub(crate) const RECORDED: &[Sysno] = &[];

/// There is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) tid: Tid,
    pub(crate) number: u64,
    pub(crate) args: [u64; 6],
    pub(crate) result: Option<i64>,
    pub(crate) time: u64,
    pub(crate) rewritten: bool,
    pub(crate) path: Vec<u8>,
    pub(crate) start: Option<Vec<u8>>,
    pub(crate) file: Option<FileId>,
    pub(crate) named: Option<Result<FileId, i32>>,
}

impl Record {
    pub(crate) fn directory(&self) -> i32 {
        self.args[0] as i32
    }

    pub(crate) fn address(&self) -> u64 {
        0
    }
}

/// There is none.
pub(crate) fn behind_call() -> u64 {
    0
}

/// There is none.
pub(crate) fn lead_on(_: Tid) -> bool {
    false
}

/// There is none.
pub(crate) fn instruction(_: Tid) -> Option<u64> {
    None
}
