//! The last trace of each test, over all runs that are kept.

use super::{
    FindError, Found, PastRun, Record,
    find::kept_of,
    recording::{self, Head},
    runs,
};
use camino::Utf8Path;
use harness_metadata::{TestId, Verdict, event::TraceLevel};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
};

/// A test of the runs that are kept, with its last trace. One that sees files counts before a later one
/// that sees processes only.
#[derive(Clone, Debug)]
pub struct Last {
    /// The test; iterations of a stress run count as the test that they repeat.
    pub test: TestId,
    /// The attempt that was traced last; `None` if no trace of the test is kept.
    pub found: Option<Found>,
}

/// Returns each test of the runs of a workspace that have ended, with its last trace. Of a run with
/// several attempts of a test, the last one that was traced counts.
///
/// # Errors
///
/// When no such run is kept, or one cannot be read.
pub fn last_of_each(store: &Utf8Path, workspace: &Utf8Path) -> Result<Vec<Last>, FindError> {
    let folder = super::folder(store);
    let failed = |source| FindError::Read {
        path: folder.clone(),
        source,
    };
    let kept = runs(store).map_err(&failed)?;
    let mut kept = kept_of(kept, &folder, workspace)?;
    kept.retain(|run| !run.in_progress());
    let mut tests = Tests::default();
    for run in kept {
        match tests.add(&run) {
            // Another process deletes old runs at any moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            added => added.map_err(&failed)?,
        }
    }
    Ok(tests.ended())
}

/// Returns the attempts of one run that were traced, the last of each test.
///
/// # Errors
///
/// When the run cannot be read.
pub fn last_of_run(run: &PastRun) -> io::Result<Vec<Last>> {
    let mut tests = Tests::default();
    tests.add(run)?;
    Ok(tests.ended())
}

/// Returns whether a trace is kept, or a summary that lacks nothing: of processes only.
fn is_traced(record: &Record) -> bool {
    record.kept_trace.is_some() || level(record) == TraceLevel::Process
}

fn level(record: &Record) -> TraceLevel {
    let trace = record.trace.as_deref();
    trace.map_or(TraceLevel::Off, |trace| trace.level)
}

#[derive(Default)]
struct Tests {
    traced: BTreeMap<TestId, Found>,
    /// The last trace of processes only.
    processes: BTreeMap<TestId, Found>,
    /// The latest run that has the test without a trace.
    untraced: BTreeMap<TestId, PastRun>,
}

impl Tests {
    /// Adds what a run has of tests that no later run has a trace of.
    fn add(&mut self, run: &PastRun) -> io::Result<()> {
        let mut lines: HashMap<TestId, Record> = HashMap::new();
        let mut seen = HashSet::new();
        for line in run.lines()? {
            // The name is cheaper to read than the whole line.
            let ends = matches!(
                recording::kind(&line),
                Some(b"attempt-failed" | b"test-finished")
            );
            let Some(head) = ends.then(|| Head::parse(&line)).flatten() else {
                continue;
            };
            let (test, _) = head.test.without_iteration();
            if self.traced.contains_key(&test) {
                continue;
            }
            seen.insert(test.clone());
            let record = Record::parse(&line).filter(is_traced);
            if let Some(record) = record
                && lines
                    .get(&test)
                    .is_none_or(|it| level(it) <= level(&record))
            {
                lines.insert(test, record);
            }
        }
        for test in seen {
            match lines.remove(&test) {
                Some(record) => {
                    let later = self.untraced.get(&test).cloned();
                    let sees_files = level(&record) >= TraceLevel::Io;
                    let run = run.clone();
                    let found = Found { run, record, later };
                    match sees_files {
                        true => _ = self.traced.insert(test, found),
                        false => _ = self.processes.entry(test).or_insert(found),
                    }
                }
                None => {
                    self.untraced.entry(test).or_insert_with(|| run.clone());
                }
            }
        }
        Ok(())
    }

    fn ended(self) -> Vec<Last> {
        let untraced = self.untraced.into_keys().map(|test| (test, None));
        let traced = self.processes.into_iter().chain(self.traced);
        let traced = traced.map(|(test, found)| (test, Some(found)));
        let all: BTreeMap<_, _> = untraced.chain(traced).collect();
        all.into_iter()
            .map(|(test, found)| Last { test, found })
            .collect()
    }
}

/// Returns the attempts of a test in a run, in order. Iterations of a stress run count.
///
/// # Errors
///
/// When the run cannot be read.
pub fn attempts_of(run: &PastRun, test: &TestId) -> io::Result<Vec<Found>> {
    let mut attempts = Vec::new();
    for line in run.lines()? {
        let head = Head::parse(&line);
        if head.is_some_and(|head| head.test.without_iteration().0 == *test)
            && let Some(record) = Record::parse(&line)
        {
            attempts.push(Found {
                run: run.clone(),
                record,
                later: None,
            });
        }
    }
    Ok(attempts)
}

/// Returns the attempt of a test that passed and was traced at `io` or higher, to compare one that failed with:
/// the last one of the same run, else the last one before it, else the first one after it.
///
/// # Errors
///
/// When a run cannot be read.
pub fn passing_beside(
    store: &Utf8Path,
    workspace: &Utf8Path,
    failing: &Found,
) -> Result<Option<Found>, FindError> {
    let folder = super::folder(store);
    let failed = |source| FindError::Read {
        path: folder.clone(),
        source,
    };
    let (test, _) = failing.record.test.without_iteration();
    let last_passed = |run: &PastRun| -> Result<Option<Found>, FindError> {
        let attempts = match attempts_of(run, &test) {
            // Another process deletes old runs at any moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            attempts => attempts.map_err(&failed)?,
        };
        let mut attempts = attempts.into_iter();
        Ok(attempts.rfind(|it| passed_and_traced(&it.record)))
    };
    if let Some(found) = last_passed(&failing.run)? {
        return Ok(Some(found));
    }
    let mut kept = kept_of(runs(store).map_err(&failed)?, &folder, workspace)?;
    kept.retain(|run| !run.in_progress() && run.header.run_id != failing.run.header.run_id);
    let started = failing.run.header.started_at;
    // The latest comes first.
    let (after, before): (Vec<_>, Vec<_>) = kept
        .into_iter()
        .partition(|run| run.header.started_at > started);
    for run in before.iter().chain(after.iter().rev()) {
        if let Some(found) = last_passed(run)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Returns whether an attempt passed and its calls on files were traced.
pub fn passed_and_traced(record: &Record) -> bool {
    record.verdict == Verdict::Pass
        && record.kept_trace.is_some()
        && level(record) >= TraceLevel::Io
}
