//! Remembers the tests of binaries that have the standard harness and have not changed.
//!
//! The file is only ever a shortcut: whatever is wrong with it, it is ignored and written anew.

use super::ListedTest;
use crate::{cargo::Identity, own_files};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io};

/// Grows with every change of what is stored.
const VERSION: u32 = 2;
const FILE: &str = "harness/tests.cache";

/// A file that is longer is not ours.
const LONGEST: u64 = 256 * 1024 * 1024;

/// The tests of binaries, by path.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: BTreeMap<Utf8PathBuf, Entry>,
    changed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    identity: Identity,
    tests: Vec<ListedTest>,
}

impl Cache {
    /// Reads the cache of a target directory; it is empty if that is not possible.
    pub(super) fn load(target_directory: &Utf8Path) -> Self {
        let entries = own_files::read(target_directory.join(FILE), LONGEST)
            .ok()
            .and_then(|bytes| postcard::from_bytes::<(u32, _)>(&bytes).ok())
            .filter(|(version, _)| *version == VERSION)
            .map(|(_, entries)| entries)
            .unwrap_or_default();
        Self {
            entries,
            changed: false,
        }
    }

    /// Returns the tests of a binary in this state.
    pub(super) fn get(&self, path: &Utf8Path, identity: Identity) -> Option<&[ListedTest]> {
        let entry = self.entries.get(path)?;
        (entry.identity == identity).then_some(&entry.tests[..])
    }

    /// Remembers the tests of a binary that had this state before it was asked.
    pub(super) fn put(&mut self, path: &Utf8Path, identity: Identity, tests: &[ListedTest]) {
        let entry = Entry {
            identity,
            tests: tests.to_vec(),
        };
        self.entries.insert(path.to_owned(), entry);
        self.changed = true;
    }

    /// Writes the cache if anything changed, without the binaries that are gone.
    pub(super) fn save(mut self, target_directory: &Utf8Path) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        self.entries.retain(|path, _| path.exists());
        let bytes = postcard::to_stdvec(&(VERSION, &self.entries)).map_err(io::Error::other)?;
        own_files::replace(&target_directory.join(FILE), &bytes)
    }
}
