//! A chain of reruns: the tests that have passed in it, and those that are outstanding.
//!
//! A run notes, before its first test starts, what it took over from the run that it continues, and
//! which tests it selected. Together with the results in its recording that says what is still to
//! do, also if the runner is killed. The note has all that is needed: earlier runs of the chain may
//! have been deleted.

use super::{
    CHAIN, FindError, LONGEST_CHAIN, PastRun, Run, RunsOf, WhichRun, files::Files, find, recording,
    retention::recent, runs,
};
use crate::{filter::TestSet, own_files};
use camino::Utf8Path;
use harness_metadata::{RunId, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;

/// The latest runs that are asked for failures.
const RECENT: usize = 10;

/// The note of a run about its chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// The run that this one continues.
    pub rerun_of: Option<RunId>,
    /// The scope of the build, in the words of those who build.
    pub scope: Value,
    /// Tests that passed in earlier runs of the chain.
    pub passed: TestSet,
    /// Tests that are outstanding from earlier runs and were not selected.
    pub outstanding: TestSet,
    /// The tests that were selected.
    pub selected: TestSet,
}

/// The state of a chain after a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The run.
    pub run: RunId,
    /// The scope of its build; `None` if it is not known.
    pub scope: Option<Value>,
    /// Tests that passed in it or before.
    pub passed: TestSet,
    /// Tests that failed, or were to run and have no result.
    pub outstanding: TestSet,
}

impl Run {
    /// Notes what a rerun will need to know.
    ///
    /// # Errors
    ///
    /// When it cannot be written. A rerun then knows the recorded results only.
    pub fn note_chain(&self, chain: &Chain) -> io::Result<()> {
        own_files::replace_in(&self.folder.join(CHAIN), &serde_json::to_vec(chain)?)
    }
}

impl Standing {
    /// Returns the state after a run.
    ///
    /// # Errors
    ///
    /// When its recording cannot be read.
    pub fn after(run: &PastRun) -> io::Result<Self> {
        let noted = Files::of(&run.path).and_then(|files| files.note(CHAIN, LONGEST_CHAIN));
        let noted = noted.ok();
        let chain: Option<Chain> = noted.and_then(|text| serde_json::from_slice(&text).ok());
        let scope = chain.as_ref().map(|chain| chain.scope.clone());
        let chain = chain.unwrap_or_default();
        let (mut passed, mut outstanding) = (chain.passed, chain.outstanding);
        outstanding.extend(chain.selected.iter());
        for (test, verdict) in recording::results(&run.path)? {
            // A failure in quarantine fails no run, so it leaves nothing to do either.
            if matches!(verdict, Verdict::Pass | Verdict::Quarantined) {
                outstanding.remove(&test);
                passed.insert(test);
            } else {
                outstanding.insert(test);
            }
        }
        Ok(Self {
            run: run.header.run_id,
            scope,
            passed,
            outstanding,
        })
    }

    /// Returns the state after the run that `which` means, of the workspace with this root.
    ///
    /// # Errors
    ///
    /// When there is no such run, or it is still in progress.
    pub fn of(
        target: &Utf8Path,
        workspace: &Utf8Path,
        which: &WhichRun,
    ) -> Result<Self, FindError> {
        let run = find::ended(target, workspace, which, RunsOf::Tests)?;
        Self::after(&run).map_err(|source| FindError::Read {
            path: run.recording(),
            source,
        })
    }
}

/// Returns the tests that failed when they last had a result, of the workspace with this root.
///
/// # Errors
///
/// When no run of it is kept.
pub fn last_failed(target: &Utf8Path, workspace: &Utf8Path) -> Result<TestSet, FindError> {
    let folder = super::folder(target);
    let kept = runs(target).map_err(|source| FindError::Read {
        path: folder.clone(),
        source,
    })?;
    let kept = find::of_tests(kept, &folder, workspace)?;
    // Each of them is read.
    let (_, recent) = recent(&kept, RECENT);
    let kept = recent.into_iter().map(|number| &kept[number]);
    let (mut failed, mut known) = (TestSet::default(), TestSet::default());
    for run in kept {
        // One that is being deleted has no results.
        let results = recording::results(&run.path);
        let results: Vec<_> = results.into_iter().flatten().collect();
        for (test, verdict) in results {
            if verdict == Verdict::Interrupted || known.contains(&test.binary, &test.name) {
                continue;
            }
            if verdict == Verdict::Fail {
                failed.insert(test.clone());
            }
            known.insert(test);
        }
    }
    Ok(failed)
}
