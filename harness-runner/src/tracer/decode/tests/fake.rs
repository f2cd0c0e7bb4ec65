//! A task that is made up: memory, files, descriptors and sockets from tables.

use crate::tracer::{
    decode::{Bound, Environment, Question, ReadError, Task},
    disturbed,
};
use harness_metadata::trace::{Address, Disturbance, FileId};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

pub(super) const PID: i32 = 100;
pub(super) const TID: i32 = 101;

#[derive(Default)]
pub(in crate::tracer) struct Fake {
    /// Regions of memory by where they start. They do not overlap.
    pub(in crate::tracer) memory: BTreeMap<u64, Vec<u8>>,
    /// The address of the next region.
    next: u64,
    /// The error of every read of memory.
    pub(super) refused: Option<ReadError>,
    pub(super) cwd: Option<Vec<u8>>,
    pub(super) root: Option<Vec<u8>>,
    pub(super) descriptors: BTreeMap<i32, Vec<u8>>,
    /// Files by path, as `look` is asked for them; a directory's ends with a slash.
    pub(super) files: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) names: BTreeMap<i32, Address>,
    pub(super) peers: BTreeMap<i32, Address>,
    pub(super) own_peers: BTreeMap<i32, bool>,
    pub(super) environment: Option<Rc<Environment>>,
    pub(super) sockets: RefCell<Bound>,
    /// Whether the task may have other rights than the tracer.
    pub(super) other_rights: Cell<bool>,
    /// The answers that the tracer causes.
    pub(super) met: Vec<Question>,
    /// The number of reads of memory.
    pub(super) reads: Cell<usize>,
    /// The number of questions for the peer of a socket.
    pub(super) peer_questions: Cell<usize>,
    /// The questions of `look`, and whether links were to be followed.
    pub(super) looks: RefCell<Vec<(i32, Vec<u8>, bool)>>,
}

impl Fake {
    /// The address of a string for tests that choose addresses.
    pub(in crate::tracer) const STRING: u64 = 0x5000_0000_0000;

    pub(in crate::tracer) fn new() -> Self {
        Self {
            next: 0x1_0000,
            cwd: Some(b"/work".to_vec()),
            ..Self::default()
        }
    }

    /// Puts bytes somewhere, on pages of their own, and returns where.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let at = self.next;
        self.next += (bytes.len() as u64).next_multiple_of(4096) + 4096;
        self.memory.insert(at, bytes.to_vec());
        at
    }

    /// Puts a string somewhere, with its NUL.
    pub(super) fn string(&mut self, string: &str) -> u64 {
        self.bytes(&[string.as_bytes(), b"\0"].concat())
    }

    pub(super) fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.bytes(&bytes)
    }

    /// Puts a vector of strings somewhere, with its NULL.
    pub(super) fn strings(&mut self, strings: &[&str]) -> u64 {
        let mut words: Vec<u64> = strings.iter().map(|string| self.string(string)).collect();
        words.push(0);
        self.words(&words)
    }

    pub(super) fn with_file(mut self, path: &str, content: &[u8]) -> Self {
        self.files.insert(path.into(), content.to_vec());
        self
    }

    pub(super) fn with_descriptor(mut self, fd: i32, target: &str) -> Self {
        self.descriptors.insert(fd, target.into());
        self
    }

    /// Completes a path as the kernel would, without links.
    fn whole(&self, directory: i32, path: &[u8]) -> Option<Vec<u8>> {
        if path.first() == Some(&b'/') {
            return Some(path.to_vec());
        }
        let start = match directory {
            libc::AT_FDCWD => self.cwd.clone()?,
            fd => self.descriptors.get(&fd)?.clone(),
        };
        if path.is_empty() {
            return Some(start);
        }
        Some([&start[..], b"/", path].concat())
    }
}

/// The identity of a file in the tables: its inode is its path's length.
pub(super) fn id(path: &str, directory: bool) -> FileId {
    FileId {
        device: 1,
        inode: path.len() as u64,
        directory,
    }
}

impl Task for Fake {
    fn meets_tracer(&self, question: Question) -> bool {
        self.met.contains(&question)
    }

    fn sees_tracer(&self, path: &[u8]) -> Option<Disturbance> {
        Some(disturbed::shown(path)?.disturbance)
    }

    fn pid(&self) -> i32 {
        PID
    }

    fn tid(&self) -> i32 {
        TID
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        self.reads.set(self.reads.get() + 1);
        assert!(
            address % 4096 + buffer.len() as u64 <= 4096,
            "over a page's end"
        );
        if let Some(error) = self.refused {
            return Err(error);
        }
        let (start, bytes) = self
            .memory
            .range(..=address)
            .next_back()
            .ok_or(ReadError::Fault)?;
        let rest = bytes
            .get((address - start) as usize..)
            .filter(|rest| !rest.is_empty())
            .ok_or(ReadError::Fault)?;
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn cwd(&self) -> Option<Vec<u8>> {
        self.cwd.clone()
    }

    fn root(&self) -> Option<Vec<u8>> {
        self.root.clone()
    }

    fn descriptor(&self, fd: i32) -> Option<Vec<u8>> {
        self.descriptors.get(&fd).cloned()
    }

    fn descriptors(&self) -> Vec<(i32, Vec<u8>)> {
        let all = self.descriptors.iter().rev();
        all.map(|(fd, target)| (*fd, target.clone())).collect()
    }

    fn look(&self, directory: i32, path: &[u8], follow: bool) -> Result<FileId, i32> {
        let question = (directory, path.to_vec(), follow);
        self.looks.borrow_mut().push(question);
        let path = self.whole(directory, path).ok_or(libc::EBADF)?;
        let is_directory = self.files.contains_key(&[&path[..], b"/"].concat());
        if !is_directory && !self.files.contains_key(&path) {
            return Err(libc::ENOENT);
        }
        Ok(FileId {
            device: 1,
            inode: path.len() as u64,
            directory: is_directory,
        })
    }

    fn file(&self, directory: i32, path: &[u8], offset: u64, buffer: &mut [u8]) -> Option<usize> {
        let content = self.files.get(&self.whole(directory, path)?)?;
        let rest = content.get(usize::try_from(offset).ok()?..)?;
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Some(length)
    }

    fn socket_name(&self, fd: i32) -> Option<Address> {
        self.names.get(&fd).cloned()
    }

    fn peer_name(&self, fd: i32) -> Option<Address> {
        self.peer_questions.set(self.peer_questions.get() + 1);
        self.peers.get(&fd).cloned()
    }

    fn peer_is_own(&self, fd: i32) -> Option<bool> {
        self.own_peers.get(&fd).copied()
    }

    fn is_own(&self, process: i32) -> bool {
        [PID, TID].contains(&process)
    }

    fn changes_rights(&self) {
        self.other_rights.set(true);
    }

    fn confines(&self) {
        self.other_rights.set(true);
    }

    fn executed(&self) {}

    fn environment(&self) -> Option<Rc<Environment>> {
        self.environment.clone()
    }

    fn sockets(&self) -> &RefCell<Bound> {
        &self.sockets
    }
}
