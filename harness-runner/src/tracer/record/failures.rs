//! The last calls that failed, as somebody wants them who reads the report of a failing test.

use super::noise::{file_name, is_library};
use harness_metadata::{
    RawString, TraceEvent,
    trace::{Failure, FileCall, FileOperation},
};
use std::collections::VecDeque;
use xxhash_rust::xxh64::xxh64;

/// Calls that are kept.
pub(super) const FAILURES: usize = 32;

/// The last failures.
#[derive(Debug, Default)]
pub(super) struct Failures(VecDeque<Failed>);

#[derive(Debug)]
struct Failed {
    failure: Failure,
    /// What a later call of the same process is about that takes its place.
    about: u64,
    /// Whether programs often ask for this in vain: such are forgotten first.
    minor: bool,
}

impl Failures {
    /// Remembers a failure. Of several about the same thing the last one is kept: one line is
    /// enough for a search, and for a server that is not there yet.
    pub(super) fn fail(
        &mut self,
        event: &TraceEvent,
        call: &str,
        target: &RawString,
        errno: i32,
        about: u64,
        minor: bool,
    ) {
        self.succeed(about);
        if self.0.len() == FAILURES {
            let oldest = self.0.iter().position(|failed| failed.minor);
            self.0.remove(oldest.unwrap_or(0));
        }
        self.0.push_back(Failed {
            failure: Failure {
                at: event.at,
                pid: event.pid,
                call: call.to_owned(),
                target: target.clone(),
                errno,
            },
            about,
            minor,
        });
    }

    /// Forgets the failures that were steps on the way to a success.
    pub(super) fn succeed(&mut self, about: u64) {
        if !self.0.is_empty() {
            self.0.retain(|failed| failed.about != about);
        }
    }

    /// Returns them in order.
    pub(super) fn list(&self) -> Vec<Failure> {
        let failures = self.0.iter();
        failures.map(|failed| failed.failure.clone()).collect()
    }
}

pub(super) fn is_absence(errno: i32) -> bool {
    matches!(errno, libc::ENOENT | libc::ENOTDIR)
}

/// Whether the call was not decided: it is made again, or did not want to wait.
pub(super) fn is_interruption(errno: i32) -> bool {
    // ERESTARTSYS and its like, which a tracer sees and no program does.
    matches!(errno, libc::EINTR | libc::EAGAIN | 512..=516)
}

/// Whether programs ask for this in vain without minding: whether something is there, to remove
/// what is not there, to create a directory that is.
pub(super) fn is_minor(operation: FileOperation, errno: i32) -> bool {
    match operation {
        FileOperation::Stat | FileOperation::Access | FileOperation::ReadLink => true,
        FileOperation::Remove | FileOperation::RemoveDirectory => is_absence(errno),
        FileOperation::MakeDirectory => errno == libc::EEXIST,
        _ => false,
    }
}

/// Returns what a call is about.
pub(super) fn about_file(pid: i32, call: &FileCall) -> u64 {
    let path = call.path.path().as_bytes();
    let name = file_name(path);
    if call.operation == FileOperation::Open && is_library(name) {
        // A library is searched for by name.
        return about(pid, "library", name);
    }
    about(pid, &call.call, path)
}

/// Returns what a call is about.
pub(super) fn about(pid: i32, what: &str, name: &[u8]) -> u64 {
    let what = xxh64(what.as_bytes(), u64::from(pid.cast_unsigned()));
    xxh64(name, what)
}
