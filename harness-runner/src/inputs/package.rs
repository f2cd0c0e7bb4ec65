//! The files of a folder, for a test of which no trace is kept.

use super::Places;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;

/// The most files and folders of a package that are sent for a test without a trace.
const MOST: usize = 5_000;

/// The files of folders, each looked for once.
#[derive(Debug, Default)]
pub(super) struct Packages(BTreeMap<Utf8PathBuf, Option<Vec<Utf8PathBuf>>>);

impl Packages {
    /// Returns the files and folders below a folder; `None` if there are too many.
    pub(super) fn files(&mut self, folder: &Utf8Path, places: &Places) -> Option<&[Utf8PathBuf]> {
        let known = self.0.entry(folder.to_owned());
        let files = known.or_insert_with(|| below(folder, places));
        files.as_deref()
    }
}

/// Returns the files and folders below a folder: without what is built, without git's own, and without other
/// packages. `None` if there are too many.
pub(super) fn below(folder: &Utf8Path, places: &Places) -> Option<Vec<Utf8PathBuf>> {
    let built = places.is_built(folder);
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        // A folder that cannot be read is not read by the test either.
        for entry in next.read_dir_utf8().into_iter().flatten().flatten() {
            let path = entry.path().to_owned();
            let other = places.packages.contains(&path) || path.file_name() == Some(".git");
            if other || (!built && places.is_built(&path)) {
                continue;
            }
            // A link to a folder may lead round in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path.clone());
            }
            found.push(path);
            if found.len() > MOST {
                return None;
            }
        }
    }
    Some(found)
}
