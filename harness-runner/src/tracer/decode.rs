//! Turns system calls into events.

use harness_metadata::{TraceEventKind, event::TraceLevel, trace::FileId};

/// A system call as a stop shows it (ptrace(2), PTRACE_GET_SYSCALL_INFO; seccomp_unotify(2)).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// AUDIT_ARCH_* of the call.
    pub arch: u32,
    /// Its number in that architecture.
    pub number: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// Why memory of a task could not be read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// There is nothing at this address. The call will fail as well.
    Fault,
    /// The task may not be read (PR_SET_DUMPABLE).
    Refused,
    /// The task is gone.
    Gone,
}

/// The task that made a call, while it is stopped.
pub trait Task {
    /// Reads memory from an address on, as much as there is up to the buffer's length. Returns how
    /// much, at least 1 for a buffer that is not empty.
    ///
    /// # Errors
    ///
    /// When nothing can be read.
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<usize, ReadError>;

    /// The working directory of this thread; `None` if it is not known.
    fn cwd(&self) -> Option<Vec<u8>>;

    /// What a descriptor is, as /proc/TID/fd/N tells.
    fn descriptor(&self, fd: i32) -> Option<Vec<u8>>;

    /// Asks the kernel for a file as the task would see it: relative to its root directory, or to
    /// `directory` (AT_FDCWD for its working directory) if `path` is relative. Does not wait and
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// The errno.
    fn look(&self, directory: i32, path: &[u8], follow: bool) -> Result<FileId, i32>;
}

/// What is to be done about a call at its entry.
#[derive(Debug)]
pub enum Entry {
    /// Nothing more: what there was to tell has been told.
    Done,
    /// Its result is needed: stop at its exit and call [`exit`].
    Await(Pending),
}

/// What is known of a call that has not returned.
#[derive(Debug)]
pub struct Pending {
    kind: TraceEventKind,
}

/// Decodes a call at its entry. What can be told already is pushed to `events`.
pub fn entry(
    call: &Syscall,
    level: TraceLevel,
    task: &dyn Task,
    events: &mut Vec<TraceEventKind>,
) -> Entry {
    let _ = (call, level, task, events);
    Entry::Done
}

/// Completes a call that returned `result`: a value, or a negated errno.
pub fn exit(pending: Pending, result: i64, task: &dyn Task, events: &mut Vec<TraceEventKind>) {
    let _ = (result, task);
    events.push(pending.kind);
}
