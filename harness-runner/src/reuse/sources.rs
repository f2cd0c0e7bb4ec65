//! The source files of the functions that tests entered.

use super::{Digest, ledger::Ledger, programs::Maps};
use crate::functions::source_files;
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::TestId;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
};

/// Returns for each test whose last result was a pass the source files of the workspace's functions that it
/// entered. Tests of which that is not known are left out: an executable has no debugging information, or is
/// another by now.
pub fn entered_files(store: &Utf8Path) -> BTreeMap<TestId, BTreeSet<String>> {
    let Ok(ledger) = Ledger::load(store) else {
        return BTreeMap::new();
    };
    let mut maps = Maps::of(store);
    let mut read: HashMap<(Utf8PathBuf, Digest), Option<Vec<Option<String>>>> = HashMap::new();
    let mut all = BTreeMap::new();
    for (test, stored) in &ledger.tests {
        let pass = stored.passes.first().filter(|_| stored.refused.is_none());
        let Some(pass) = pass.filter(|pass| !pass.entered.is_empty()) else {
            continue;
        };
        let mut files = BTreeSet::new();
        let known = pass.entered.iter().all(|entered| {
            let key = (entered.path.clone(), entered.digest);
            let of_program = read
                .entry(key)
                .or_insert_with(|| files_of(&entered.path, entered.digest, &mut maps));
            let Some(of_program) = of_program else {
                return false;
            };
            let functions = entered.functions.iter();
            files.extend(functions.filter_map(|it| of_program.get(*it as usize)?.clone()));
            true
        });
        if known {
            all.insert(test.clone(), files);
        }
    }
    all
}

/// Returns the file of each function of an executable; `None` if none is known.
fn files_of(path: &Utf8Path, digest: Digest, maps: &mut Maps) -> Option<Vec<Option<String>>> {
    let map = maps.get(digest)?;
    let bytes = fs::read(path).ok()?;
    if Digest::of(&bytes) != digest {
        return None;
    }
    let addresses: Vec<u64> = map.functions.iter().map(|it| it.address).collect();
    let files = source_files(&bytes, &addresses);
    files.iter().any(Option::is_some).then_some(files)
}
