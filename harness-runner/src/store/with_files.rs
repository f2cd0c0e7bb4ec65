//! The last trace of each test that saw files.

use super::{PastRun, Record, runs};
use camino::Utf8Path;
use harness_metadata::{TestId, event::TraceLevel, trace::TraceSummary};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

/// The traces of tests.
type Traces = BTreeMap<TestId, Box<TraceSummary>>;

/// Returns the last trace of each of these tests that saw files, in this workspace.
///
/// # Errors
///
/// When the recordings cannot be read.
pub fn last_with_files(
    store: &Utf8Path,
    workspace: &Utf8Path,
    tests: &[TestId],
) -> io::Result<Traces> {
    of_runs(&runs(store)?, workspace, tests)
}

/// As [`last_with_files`], of these runs, the last one first.
fn of_runs(runs: &[PastRun], workspace: &Utf8Path, tests: &[TestId]) -> io::Result<Traces> {
    let mut wanted: BTreeSet<&TestId> = tests.iter().collect();
    let mut found = Traces::new();
    for run in runs {
        if wanted.is_empty() {
            break;
        }
        if run.header.workspace_root != workspace {
            continue;
        }
        let records = match run.records() {
            Ok(records) => records,
            // Another process packs and deletes runs at any moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut of_run = Traces::new();
        for Record { test, trace, .. } in records {
            let trace = trace.filter(|trace| trace.level >= TraceLevel::Io);
            if let Some(trace) = trace.filter(|_| wanted.contains(&test)) {
                of_run.insert(test, trace);
            }
        }
        wanted.retain(|test| !of_run.contains_key(*test));
        found.extend(of_run);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{kept, target};
    use fixture_kit::sample::test;
    use std::fs;

    #[test]
    fn a_run_that_goes_while_it_is_looked_at_is_passed_over() {
        let (_folder, target) = target();
        kept(&target, 0, &[("a", 1, 0), ("b", 1, 0)]);
        kept(&target, 60, &[("a", 1, 0)]);
        let tests = ["a", "b"].map(|name| test("crate::tests", name));
        let runs = runs(&target).expect("they can be read");
        let workspace = runs[0].header.workspace_root.clone();
        let of = |runs: &[PastRun]| of_runs(runs, &workspace, &tests).expect("they can be read");
        assert_eq!(of(&runs).len(), 2);
        fs::remove_dir_all(&runs[0].path).expect("it is there");
        assert_eq!(of(&runs).len(), 2, "the run before it has both");
        fs::remove_dir_all(&runs[1].path).expect("it is there");
        assert!(of(&runs).is_empty());
    }
}
