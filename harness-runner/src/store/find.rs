//! Finds the attempt that a user names.

use super::{PastRun, Record, recording::Head, runs};
use crate::tracer::record::file::{ReadError, Reader};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{TestId, Verdict};
use std::{
    collections::BTreeSet,
    io::{self, Read},
};
use thiserror::Error;

/// Names that an error lists.
const LISTED: usize = 10;

/// The number of the attempt.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The test's name or a part of it, `binary-id name`, or a part of that; `None` for any.
    pub test: Option<String>,
    /// The run.
    pub run: WhichRun,
    /// The attempt's number; `None` for the last one.
    pub attempt: Option<u32>,
    /// Only attempts that failed.
    pub failed: bool,
    /// Only runs of the workspace with this root, unless a run's id is given: several workspaces
    /// may share a target directory.
    pub workspace: Option<Utf8PathBuf>,
}

/// The run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WhichRun {
    /// The latest that has a trace of such a test, or else the latest that has such a test.
    #[default]
    Any,
    /// The latest.
    Latest,
    /// The one whose id begins so.
    Id(String),
}

/// The kind of runs to look at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RunsOf {
    /// Those of tests.
    Tests,
    /// Those of benchmarks too.
    Everything,
}

impl WhichRun {
    /// The run that a user names: `latest`, or the beginning of an id.
    pub fn named(run: &str) -> Self {
        match run {
            "latest" => Self::Latest,
            id => Self::Id(id.to_owned()),
        }
    }

    fn is_id(&self) -> bool {
        matches!(self, Self::Id(_))
    }
}

/// The found attempt.
#[derive(Clone, Debug)]
pub struct Found {
    /// The run.
    pub run: PastRun,
    /// The attempt.
    pub record: Record,
    /// A later run that has the test, without a trace.
    pub later: Option<PastRun>,
}

impl Found {
    /// Opens the trace, if there should be one.
    pub fn trace(&self) -> Option<Result<Reader<Box<dyn Read>>, ReadError>> {
        Some(self.run.trace(self.record.kept_trace.as_ref()?))
    }
}

/// The reason why there is nothing to show.
#[derive(Debug, Error)]
pub enum FindError {
    /// The store cannot be read.
    #[error("failed to read `{path}`")]
    Read {
        /// The folder.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// No run is kept.
    #[error("no run is kept in `{folder}`")]
    NoRuns {
        /// Their folder.
        folder: Utf8PathBuf,
    },
    /// Only runs of other workspaces are kept.
    #[error(
        "no run of the workspace `{workspace}` is kept in `{folder}`, only runs of {}",
        others.iter().map(|root| format!("`{root}`")).collect::<Vec<_>>().join(", ")
    )]
    OtherWorkspaces {
        /// The root of the workspace.
        workspace: Utf8PathBuf,
        /// The folder of runs.
        folder: Utf8PathBuf,
        /// The roots of the others.
        others: BTreeSet<Utf8PathBuf>,
    },
    /// No run has this id.
    #[error("no run whose id begins with `{id}` is kept")]
    NoSuchRun {
        /// The request.
        id: String,
        /// The ids of those that are kept, the latest first.
        kept: Vec<String>,
    },
    /// It has not come to its end.
    #[error("run `{id}` is still in progress")]
    InProgress {
        /// Its id.
        id: String,
    },
    /// Several runs have ids that begin so.
    #[error("several runs have an id that begins with `{id}`")]
    ManyRuns {
        /// The request.
        id: String,
        /// Their ids.
        runs: Vec<String>,
    },
    /// No attempt matches.
    #[error("no {}attempt of a test `{test}` is kept", if *.failed { "failed " } else { "" })]
    NotFound {
        /// The request.
        test: String,
        /// Whether only failed ones were asked for.
        failed: bool,
        /// The nearest names.
        nearest: Vec<String>,
    },
    /// Nothing failed.
    #[error("no test failed in the runs that are kept")]
    NothingFailed,
    /// Several tests match.
    #[error("`{test}` may be any of {count} tests")]
    Ambiguous {
        /// The request.
        test: String,
        /// Their number.
        count: usize,
        /// The first of them.
        candidates: Vec<String>,
    },
    /// The test has no attempt with this number.
    #[error("`{test}` has no {}attempt {attempt}", if *.failed { "failed " } else { "" })]
    NoAttempt {
        /// The test.
        test: TestId,
        /// The request.
        attempt: u32,
        /// Whether only failed ones were asked for.
        failed: bool,
    },
}

/// Finds an attempt.
///
/// # Errors
///
/// When there is none, or it is not clear which one is meant.
pub fn find(target: &Utf8Path, query: &Query) -> Result<Found, FindError> {
    let folder = super::folder(target);
    let failed = |source| FindError::Read {
        path: folder.clone(),
        source,
    };
    let mut kept = runs(target).map_err(failed)?;
    if let Some(workspace) = query.workspace.as_deref().filter(|_| !query.run.is_id()) {
        kept = of_workspace(kept, &folder, workspace)?;
    }
    let runs = chosen_runs(kept, &folder, &query.run)?;
    let mut names = BTreeSet::new();
    let mut untraced = None;
    for run in runs {
        let record = match look_in(&run, query, &failed)? {
            Looked::Found(record) => *record,
            Looked::Others(others) => {
                names.extend(others);
                continue;
            }
            Looked::Nothing => continue,
        };
        if record.kept_trace.is_none() && query.run == WhichRun::Any {
            let later = None;
            untraced.get_or_insert(Found { run, record, later });
            continue;
        }
        let later = untraced.map(|found| found.run);
        return Ok(Found { run, record, later });
    }
    if let Some(found) = untraced {
        return Ok(found);
    }
    match &query.test {
        None => Err(FindError::NothingFailed),
        Some(test) => Err(FindError::NotFound {
            test: test.clone(),
            failed: query.failed,
            nearest: nearest(names, test),
        }),
    }
}

/// Returns the run that is meant, of the workspace with this root: the latest that is not in
/// progress, unless an id is given.
///
/// # Errors
///
/// When there is none that has ended, or it is not clear which one is meant.
pub fn ended(
    target: &Utf8Path,
    workspace: &Utf8Path,
    which: &WhichRun,
    of: RunsOf,
) -> Result<PastRun, FindError> {
    let folder = super::folder(target);
    let kept = runs(target).map_err(|source| FindError::Read {
        path: folder.clone(),
        source,
    })?;
    let runs = match which {
        WhichRun::Id(_) => chosen_runs(kept, &folder, which)?,
        _ if of == RunsOf::Tests => of_tests(kept, &folder, workspace)?,
        WhichRun::Any | WhichRun::Latest => kept_of(kept, &folder, workspace)?,
    };
    let latest = runs[0].header.run_id.to_string();
    let ended = runs.into_iter().find(|run| !run.in_progress());
    ended.ok_or(FindError::InProgress { id: latest })
}

/// Returns the runs of tests of a workspace, the latest first: at least one. Those of benchmarks measure, and
/// say nothing of what is left to do.
pub(super) fn of_tests(
    mut runs: Vec<PastRun>,
    folder: &Utf8Path,
    workspace: &Utf8Path,
) -> Result<Vec<PastRun>, FindError> {
    runs.retain(|run| run.header.mode.is_test());
    kept_of(runs, folder, workspace)
}

/// Returns the runs of a workspace, the latest first: at least one.
pub(super) fn kept_of(
    runs: Vec<PastRun>,
    folder: &Utf8Path,
    workspace: &Utf8Path,
) -> Result<Vec<PastRun>, FindError> {
    let runs = of_workspace(runs, folder, workspace)?;
    chosen_runs(runs, folder, &WhichRun::Any)
}

/// The part of a run that answers a query.
enum Looked {
    /// The attempt.
    Found(Box<Record>),
    /// Attempts of these tests only.
    Others(Vec<TestId>),
    /// Its record cannot be read.
    Nothing,
}

/// Looks for an attempt in one run.
fn look_in(
    run: &PastRun,
    query: &Query,
    failed: &dyn Fn(io::Error) -> FindError,
) -> Result<Looked, FindError> {
    let heads: Vec<_> = run
        .lines()
        .map_err(failed)?
        .enumerate()
        .filter_map(|(line, text)| Some((line, Head::parse(&text)?)))
        .filter(|(_, head)| !query.failed || head.verdict == Verdict::Fail)
        .collect();
    let matching = match &query.test {
        None => heads.iter().map(|(_, head)| &head.test).next_back(),
        Some(test) => matching(&heads, test)?,
    };
    let Some(test) = matching else {
        let others = heads.into_iter().map(|(_, head)| head.test);
        return Ok(Looked::Others(others.collect()));
    };
    let mut attempts = heads.iter().filter(|(_, head)| head.test == *test);
    let line = match query.attempt {
        None => attempts.max_by_key(|(_, head)| head.attempt),
        Some(number) => attempts.rfind(|(_, head)| head.attempt == number),
    };
    let Some((line, _)) = line else {
        return Err(FindError::NoAttempt {
            test: test.clone(),
            attempt: query.attempt.unwrap_or_default(),
            failed: query.failed,
        });
    };
    let text = run.lines().map_err(failed)?.nth(*line);
    let record = text.and_then(|text| Record::parse(&text));
    Ok(record.map_or(Looked::Nothing, |record| Looked::Found(Box::new(record))))
}

fn of_workspace(
    mut runs: Vec<PastRun>,
    folder: &Utf8Path,
    workspace: &Utf8Path,
) -> Result<Vec<PastRun>, FindError> {
    let others: BTreeSet<_> = runs
        .iter()
        .filter(|run| !run.imported)
        .map(|run| run.header.workspace_root.clone())
        .filter(|root| is_another(root, workspace))
        .collect();
    // An imported one is not the latest here, whenever it was.
    runs.retain(|run| !run.imported && !others.contains(&run.header.workspace_root));
    match runs.is_empty() && !others.is_empty() {
        true => Err(FindError::OtherWorkspaces {
            workspace: workspace.to_owned(),
            folder: folder.to_owned(),
            others,
        }),
        false => Ok(runs),
    }
}

/// Returns whether there is another workspace. One that is gone may be this one, which was moved.
pub(super) fn is_another(root: &Utf8Path, workspace: &Utf8Path) -> bool {
    let place = |path: &Utf8Path| path.canonicalize_utf8().ok();
    root.join("Cargo.toml").is_file() && place(root) != place(workspace)
}

fn chosen_runs(
    mut runs: Vec<PastRun>,
    folder: &Utf8Path,
    which: &WhichRun,
) -> Result<Vec<PastRun>, FindError> {
    if runs.is_empty() {
        return Err(FindError::NoRuns {
            folder: folder.to_owned(),
        });
    }
    let ids = |runs: &[PastRun]| {
        let ids = runs.iter().map(|run| run.header.run_id.to_string());
        ids.collect::<Vec<_>>()
    };
    match which {
        WhichRun::Any => {}
        WhichRun::Latest => runs.truncate(1),
        WhichRun::Id(id) => {
            let kept = ids(&runs);
            let begins = |run: &PastRun| run.header.run_id.to_string().starts_with(id);
            runs.retain(begins);
            match runs.len() {
                0 => {
                    let id = id.clone();
                    return Err(FindError::NoSuchRun { id, kept });
                }
                1 => {}
                _ => {
                    return Err(FindError::ManyRuns {
                        id: id.clone(),
                        runs: ids(&runs),
                    });
                }
            }
        }
    }
    Ok(runs)
}

/// Returns the one test of these that is meant: by its whole name if there is such a test, and else by a
/// part of it.
///
/// # Errors
///
/// When there is none, or several.
pub fn the_test(tests: &BTreeSet<TestId>, name: &str) -> Result<TestId, FindError> {
    match among(tests.iter().collect(), name)? {
        Some(test) => Ok(test.clone()),
        None => Err(FindError::NotFound {
            test: name.to_owned(),
            failed: false,
            nearest: nearest(tests.clone(), name),
        }),
    }
}

/// Returns the runs of a workspace that are not in progress, the latest first: at least one.
///
/// # Errors
///
/// When there is none.
pub fn ended_runs(
    target: &Utf8Path,
    workspace: &Utf8Path,
    of: RunsOf,
) -> Result<Vec<PastRun>, FindError> {
    let folder = super::folder(target);
    let kept = runs(target).map_err(|source| FindError::Read {
        path: folder.clone(),
        source,
    })?;
    let mut runs = match of {
        RunsOf::Tests => of_tests(kept, &folder, workspace)?,
        RunsOf::Everything => kept_of(kept, &folder, workspace)?,
    };
    runs.retain(|run| !run.in_progress());
    chosen_runs(runs, &folder, &WhichRun::Any)
}

/// Returns the one test that is meant: by its whole name if there is such a test, and else by a
/// part of it.
fn matching<'a>(heads: &'a [(usize, Head)], test: &str) -> Result<Option<&'a TestId>, FindError> {
    among(heads.iter().map(|(_, head)| &head.test).collect(), test)
}

/// As [`matching`], among these tests.
fn among<'a>(tests: BTreeSet<&'a TestId>, test: &str) -> Result<Option<&'a TestId>, FindError> {
    let whole = |id: &TestId| id.name.as_str() == test || id.to_string() == test;
    let part = |id: &TestId| id.to_string().contains(test);
    let mut found: Vec<_> = tests.iter().copied().filter(|id| whole(id)).collect();
    if found.is_empty() {
        found = tests.into_iter().filter(|id| part(id)).collect();
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(FindError::Ambiguous {
            test: test.to_owned(),
            count: several.len(),
            candidates: several
                .iter()
                .take(LISTED)
                .map(|id| id.to_string())
                .collect(),
        }),
    }
}

/// Returns the names that the user may have meant.
fn nearest(names: BTreeSet<TestId>, test: &str) -> Vec<String> {
    let mut scored: Vec<_> = names
        .iter()
        .map(|id| {
            let last = id.name.as_str().rsplit("::").next().unwrap_or_default();
            let shown = id.to_string();
            let score = [id.name.as_str(), last, &shown]
                .map(|name| strsim::jaro_winkler(name, test))
                .into_iter()
                .fold(0.0, f64::max);
            (score, shown)
        })
        .filter(|(score, _)| *score > 0.8)
        .collect();
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    scored.into_iter().take(3).map(|(_, shown)| shown).collect()
}
