//! Finds the files of a workspace that its tests were seen to use, in the recordings of earlier runs.

use crate::store;
use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use harness_metadata::{
    TestId,
    trace::{FileUse, TraceSummary},
};
use std::{collections::BTreeSet, io};

/// Files that cargo and the harness read of a workspace, wherever they are in it.
const ALWAYS: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    ".cargo/config.toml",
    ".cargo/config",
    ".config/harness.toml",
    ".config/nextest.toml",
];

/// The files of a workspace that its tests need, as far as traces have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The root of the workspace.
    pub(super) root: Utf8PathBuf,
    /// The files, relative to the root.
    pub files: BTreeSet<Utf8PathBuf>,
    /// The tests whose last trace was read.
    pub traced: usize,
    /// The tests of which no trace is kept that has files.
    pub untraced: Vec<TestId>,
    /// The tests whose trace may lack files.
    pub doubtful: Vec<TestId>,
}

/// The places of a workspace.
#[derive(Copy, Clone, Debug)]
pub struct Places<'a> {
    /// Its root.
    pub root: &'a Utf8Path,
    /// The store of its runs.
    pub store: &'a Utf8Path,
    /// The directories of what is built, which is no input.
    pub built: [&'a Utf8Path; 2],
    /// The directories of its packages.
    pub packages: &'a BTreeSet<Utf8PathBuf>,
}

impl Inputs {
    /// Looks at the latest trace of each test.
    ///
    /// # Errors
    ///
    /// When the recordings cannot be read.
    pub fn find(places: Places<'_>, tests: &[TestId]) -> io::Result<Self> {
        let found = store::last_with_files(places.store, places.root, tests)?;
        let untraced = tests.iter().filter(|test| !found.contains_key(*test));
        let mut inputs = Self {
            root: places.root.to_owned(),
            traced: found.len(),
            untraced: untraced.cloned().collect(),
            ..Self::default()
        };
        inputs.add_manifests(places);
        for (test, trace) in found {
            if !trace.complete() || trace.dropped.files > 0 {
                inputs.doubtful.push(test);
            }
            inputs.add(places, &trace);
        }
        Ok(inputs)
    }

    fn add_manifests(&mut self, places: Places<'_>) {
        let root = [places.root.to_owned()];
        for folder in root.iter().chain(places.packages) {
            for name in ALWAYS {
                self.add_file(places, &folder.join(name));
            }
        }
    }

    fn add(&mut self, places: Places<'_>, trace: &TraceSummary) {
        for file in &trace.files {
            // A file that the test makes is its own business.
            let is_used = file
                .uses
                .iter()
                .any(|of| matches!(of, FileUse::Executed | FileUse::Read | FileUse::Queried));
            if !is_used || file.uses.contains(&FileUse::Created) {
                continue;
            }
            if let Ok(path) = str::from_utf8(file.path.as_bytes()) {
                self.add_file(places, Utf8Path::new(path));
            }
        }
    }

    fn add_file(&mut self, places: Places<'_>, path: &Utf8Path) {
        let is_built = places.built.iter().any(|built| path.starts_with(built));
        let Ok(inside) = path.strip_prefix(places.root) else {
            return;
        };
        let is_plain = (inside.components()).all(|part| matches!(part, Utf8Component::Normal(_)));
        if !is_built && is_plain && path.is_file() {
            self.files.insert(inside.to_owned());
        }
    }
}
