//! The last calls that failed, for the report of a failing test.

use super::search::{Searches, is_absence};
use harness_metadata::{
    noise::{file_name, is_library, is_noise},
    trace::{Failure, FileCall, FileOperation, Operation},
};
use std::{collections::VecDeque, time::Duration};
use xxhash_rust::xxh64::xxh64;

/// Calls that are kept.
pub(super) const FAILURES: usize = 32;

/// The last failures.
#[derive(Debug, Default)]
pub(super) struct Failures {
    last: VecDeque<Failed>,
    searches: Searches,
}

#[derive(Debug)]
struct Failed {
    failure: Failure,
    /// The subject of a failure: a later call of the same process about it takes its place.
    about: u64,
    /// Whether programs often ask for this in vain: such are forgotten first.
    minor: bool,
}

impl Failures {
    /// Remembers a failure. Of several about the same thing the last one is kept: one line is
    /// enough for a search, and for a server that is not there yet.
    pub(super) fn fail(&mut self, failure: Failure, about: u64, minor: bool) {
        self.succeed(about);
        if self.last.len() == FAILURES {
            let oldest = self.last.iter().position(|failed| failed.minor);
            self.last.remove(oldest.unwrap_or(0));
        }
        self.last.push_back(Failed {
            failure,
            about,
            minor,
        });
    }

    /// Adds a call on a file. Returns whether it is a failure, or may make others forgotten.
    pub(super) fn file_call(&mut self, at: Duration, pid: i32, call: &FileCall) -> bool {
        let step = self.searches.is_step(pid, call);
        if step || !bears_on_failures(call) {
            return false;
        }
        let about = about_file(pid, call);
        let Some(errno) = call.result.error() else {
            self.succeed(about);
            return true;
        };
        let failure = Failure {
            at,
            pid,
            call: call.call.clone(),
            operation: Some(Operation::File(call.operation)),
            target: call.path.path().clone(),
            errno,
        };
        self.fail(failure, about, is_minor(call.operation, errno));
        true
    }

    /// Returns whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// Forgets the failures that were steps on the way to a success.
    pub(super) fn succeed(&mut self, about: u64) {
        if !self.last.is_empty() {
            self.last.retain(|failed| failed.about != about);
        }
    }

    /// Returns them in order.
    pub(super) fn list(&self) -> Vec<Failure> {
        let failures = self.last.iter();
        failures.map(|failed| failed.failure.clone()).collect()
    }
}

/// Returns whether a call on a file is a failure, or makes others forgotten.
fn bears_on_failures(call: &FileCall) -> bool {
    let Some(errno) = call.result.error() else {
        return true;
    };
    // That a file is no link is the answer, not a failure.
    let answer = call.operation == FileOperation::ReadLink && errno == libc::EINVAL;
    let noise = is_absence(errno) && is_noise(call.path.path().as_bytes());
    !is_interruption(errno) && !answer && !noise
}

/// Whether the call was not decided: it is made again, or did not want to wait.
pub(super) fn is_interruption(errno: i32) -> bool {
    // ERESTARTSYS and its like, which a tracer sees and no program does.
    matches!(errno, libc::EINTR | libc::EAGAIN | 512..=516)
}

/// Whether programs ask for this in vain without minding: whether something is there, to remove
/// what is not there, to create a directory that is.
fn is_minor(operation: FileOperation, errno: i32) -> bool {
    match operation {
        operation if operation.only_asks() => true,
        FileOperation::Remove | FileOperation::RemoveDirectory => is_absence(errno),
        FileOperation::MakeDirectory => errno == libc::EEXIST,
        _ => false,
    }
}

/// Returns what a call is about.
fn about_file(pid: i32, call: &FileCall) -> u64 {
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
