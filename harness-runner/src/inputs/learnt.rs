//! Files that tests elsewhere have asked for in vain, kept from run to run.

use crate::cache::{Cache, Encoding, Memory};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::TestId;
use std::{collections::BTreeSet, io, time::Duration};

const LEARNT: Memory = Memory {
    file: "remote-inputs.json",
    version: 1,
    encoding: Encoding::Readable,
    longest: 16 * 1024 * 1024,
    // A trace of the test has them by then.
    lifetime: Some(Duration::from_secs(90 * 24 * 60 * 60)),
    most: 50_000,
};

/// Files that tests elsewhere have asked for in vain.
#[derive(Debug)]
pub struct Learnt {
    cache: Cache<BTreeSet<Utf8PathBuf>, ()>,
    kept_in: Utf8PathBuf,
}

impl Learnt {
    pub(super) fn load(kept_in: &Utf8Path) -> Self {
        Self {
            cache: Cache::load(LEARNT, kept_in),
            kept_in: kept_in.to_owned(),
        }
    }

    pub(super) fn of(&self, test: &TestId) -> impl Iterator<Item = &Utf8Path> {
        let known = self.cache.get(&test.to_string(), &());
        known.into_iter().flatten().map(|path| &**path)
    }

    /// Remembers files that a test has asked for in vain.
    pub fn add(&mut self, test: &TestId, files: impl IntoIterator<Item = Utf8PathBuf>) {
        let known = self.cache.get(&test.to_string(), &());
        let mut all = known.cloned().unwrap_or_default();
        all.extend(files);
        self.cache.put(test.to_string(), (), all);
    }

    /// Writes them down.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn save(self) -> io::Result<()> {
        self.cache.save(&self.kept_in, |_| true)
    }
}
