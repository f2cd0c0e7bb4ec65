//! The last trace of each test that saw files.

use super::{Record, runs};
use camino::Utf8Path;
use harness_metadata::{TestId, event::TraceLevel, trace::TraceSummary};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

/// Returns the last trace of each of these tests that saw files, in this workspace.
///
/// # Errors
///
/// When the recordings cannot be read.
pub fn last_with_files(
    store: &Utf8Path,
    workspace: &Utf8Path,
    tests: &[TestId],
) -> io::Result<BTreeMap<TestId, Box<TraceSummary>>> {
    let mut wanted: BTreeSet<&TestId> = tests.iter().collect();
    let mut found = BTreeMap::new();
    for run in runs(store)? {
        if wanted.is_empty() {
            break;
        }
        if run.header.workspace_root != workspace {
            continue;
        }
        let mut of_run = BTreeMap::new();
        for Record { test, trace, .. } in run.records()? {
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
