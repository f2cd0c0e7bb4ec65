//! The dynamic loader's search for libraries: which failures are steps of it.

use harness_metadata::{
    noise::{file_name, is_library, is_noise},
    trace::{FileCall, FileOperation},
};
use std::collections::HashSet;
use xxhash_rust::xxh64::xxh64;

/// More folders than this are not remembered.
const FOLDERS: usize = 1024;

/// Knows the folders in which libraries were looked for in vain. Must be shown the calls on files
/// in order.
#[derive(Debug, Default)]
pub struct Searches {
    /// Hashes of processes and folders.
    folders: HashSet<u64, foldhash::fast::RandomState>,
    /// Hashes of processes and the names of libraries that were found, if those are known.
    found: HashSet<u64, foldhash::fast::RandomState>,
}

impl Searches {
    /// Returns whether a call is a question that the loader asks of itself: when a folder has no
    /// such library, it asks whether there is a folder at all.
    pub(super) fn is_step(&mut self, pid: i32, call: &FileCall) -> bool {
        if !call.result.error().is_some_and(is_absence) {
            return false;
        }
        let path = call.path.path().as_bytes();
        let name = file_name(path);
        match call.operation {
            FileOperation::Open if is_library(name) => {
                if self.folders.len() >= FOLDERS {
                    self.folders.clear();
                }
                let folder = &path[..path.len() - name.len()];
                self.folders
                    .insert(key(pid, folder.strip_suffix(b"/").unwrap_or(folder)));
                false
            }
            FileOperation::Stat => self.folders.contains(&key(pid, path)),
            _ => false,
        }
    }

    /// Remembers a library that was found. To be called for all calls before
    /// [`Self::is_noise`] is asked.
    pub fn look_ahead(&mut self, pid: i32, call: &FileCall) {
        let name = file_name(call.path.path().as_bytes());
        let opened = call.operation == FileOperation::Open && call.result.error().is_none();
        if opened && is_library(name) {
            self.found.insert(key(pid, name));
        }
    }

    /// Returns whether a call failed as such calls do in many programs, which do not mind: the file
    /// is one that many ask for in vain, or the library was found elsewhere.
    pub fn is_noise(&mut self, pid: i32, call: &FileCall) -> bool {
        if self.is_step(pid, call) {
            return true;
        }
        if !call.result.error().is_some_and(is_absence) {
            return false;
        }
        let path = call.path.path().as_bytes();
        let name = file_name(path);
        is_noise(path)
            || call.operation == FileOperation::Open
                && is_library(name)
                && self.found.contains(&key(pid, name))
    }
}

fn key(pid: i32, bytes: &[u8]) -> u64 {
    xxh64(bytes, u64::from(pid.cast_unsigned()))
}

/// Whether a call has failed because what it names is not there.
pub(super) fn is_absence(errno: i32) -> bool {
    matches!(errno, libc::ENOENT | libc::ENOTDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_metadata::trace::{CallResult, TracedPath};

    const MISSING: CallResult = CallResult::Err(libc::ENOENT);

    fn call(operation: FileOperation, path: &str, result: CallResult) -> FileCall {
        FileCall {
            call: "call".to_owned(),
            operation,
            path: TracedPath {
                asked: path.into(),
                absolute: None,
            },
            to: None,
            access: None,
            result,
            file: None,
        }
    }

    #[test]
    fn the_search_for_a_library_that_is_found_is_noise_and_what_lacks_is_not() {
        use FileOperation::{Open, Stat};
        let calls = [
            (call(Open, "/app/deps/haswell/libc.so.6", MISSING), true),
            (call(Stat, "/app/deps/haswell", MISSING), true),
            (call(Open, "/app/deps/libc.so.6", MISSING), true),
            (call(Open, "/lib/libc.so.6", CallResult::Found), false),
            (call(Open, "/app/deps/libgone.so.1", MISSING), false),
            (call(Stat, "/app/fixtures", MISSING), false),
            (call(Open, "/app/data.json", MISSING), false),
            (call(Stat, "/etc/terminfo/x/xterm", MISSING), true),
            (
                call(Stat, "/etc/terminfo", CallResult::Err(libc::EACCES)),
                false,
            ),
        ];
        let mut searches = Searches::default();
        for (call, _) in &calls {
            searches.look_ahead(7, call);
        }
        for (call, noise) in &calls {
            assert_eq!(searches.is_noise(7, call), *noise, "{:?}", call.path);
        }
        let (of_another, _) = &calls[1];
        assert!(!searches.is_noise(8, of_another));
    }

    #[test]
    fn what_is_remembered_of_searches_is_bounded() {
        let mut searches = Searches::default();
        for number in 0..10 * FOLDERS {
            let path = format!("/{number}/libc.so");
            searches.is_noise(7, &call(FileOperation::Open, &path, MISSING));
        }
        assert!(searches.folders.len() <= FOLDERS);
    }
}
