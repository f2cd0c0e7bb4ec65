//! A recorded call, as [`decode`](super::decode) asks about it: what was written down beside it is the answer, and
//! the kernel is not asked again.

use super::{
    decode::{Bound, Environment, Question, ReadError, Task},
    live::Live,
};
use crate::sys::recorder::Record;
use harness_metadata::trace::{Address, Disturbance, FileId};
use std::{cell::RefCell, rc::Rc};

/// The task that made a recorded call, at that time.
pub(super) struct Recorded<'a> {
    live: Live<'a>,
    record: &'a Record,
    /// Whether the call has opened the file that it names.
    opened: bool,
}

impl<'a> Recorded<'a> {
    pub(super) fn new(live: Live<'a>, record: &'a Record) -> Self {
        Self {
            live,
            record,
            opened: record.named.is_some(),
        }
    }
}

impl Task for Recorded<'_> {
    fn pid(&self) -> i32 {
        self.live.pid()
    }

    fn tid(&self) -> i32 {
        self.live.tid()
    }

    /// The only memory that was written down is the path.
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let offset = address.checked_sub(self.record.address());
        let path = offset.and_then(|offset| self.record.path.get(usize::try_from(offset).ok()?..));
        let path = path
            .filter(|path| !path.is_empty())
            .ok_or(ReadError::Fault)?;
        let length = path.len().min(buffer.len());
        buffer[..length].copy_from_slice(&path[..length]);
        Ok(length)
    }

    fn cwd(&self) -> Option<Vec<u8>> {
        self.descriptor(libc::AT_FDCWD)
    }

    /// Nothing is recorded any more once a root may be another one.
    fn root(&self) -> Option<Vec<u8>> {
        None
    }

    /// The only one that was asked for is that of the directory which a relative path starts with.
    fn descriptor(&self, fd: i32) -> Option<Vec<u8>> {
        let start = self.record.start.as_ref();
        start.filter(|_| fd == self.record.directory()).cloned()
    }

    fn descriptors(&self) -> Vec<(i32, Vec<u8>)> {
        Vec::new()
    }

    /// An empty path is the descriptor that the call has returned.
    fn look(&self, _: i32, path: &[u8], _: bool) -> Result<FileId, i32> {
        match self.record.named {
            Some(named) if self.opened && !path.is_empty() => named,
            _ => self.record.file.ok_or(libc::EAGAIN),
        }
    }

    fn file(&self, _: i32, _: &[u8], _: u64, _: &mut [u8]) -> Option<usize> {
        None
    }

    fn socket_name(&self, _: i32) -> Option<Address> {
        None
    }

    fn peer_name(&self, _: i32) -> Option<Address> {
        None
    }

    fn is_own(&self, process: i32) -> bool {
        self.live.is_own(process)
    }

    fn changes_rights(&self) {
        self.live.changes_rights();
    }

    fn confines(&self) {
        self.live.confines();
    }

    fn executed(&self) {
        self.live.executed();
    }

    fn meets_tracer(&self, question: Question) -> bool {
        self.live.meets_tracer(question)
    }

    fn sees_tracer(&self, path: &[u8]) -> Option<Disturbance> {
        self.live.sees_tracer(path)
    }

    fn environment(&self) -> Option<Rc<Environment>> {
        self.live.environment()
    }

    fn sockets(&self) -> &RefCell<Bound> {
        self.live.sockets()
    }
}
