//! The last results of tests before a run, for its report.

use super::{
    PastRun,
    files::Files,
    find,
    recording::{kind, lines_of},
    replay::OneOutput,
    runs,
};
use crate::report::earlier::{EarlierRun, EarlierRuns, Wanted};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{RunId, TestId, event::TestFinished};
use serde::Deserialize;
use std::io;

/// The number of runs that are looked at for tests that the last one has not run.
const MOST_RUNS: usize = 10;

/// After this many bytes of results no further run is begun.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// The runs of a workspace that are kept in a folder. Those from elsewhere do not count.
#[derive(Clone, Debug)]
pub struct Earlier {
    store: Utf8PathBuf,
    workspace: Utf8PathBuf,
}

impl Earlier {
    /// Returns the runs of the workspace with this root that are kept in this store.
    pub fn new(store: &Utf8Path, workspace: &Utf8Path) -> Self {
        Self {
            store: store.to_owned(),
            workspace: workspace.to_owned(),
        }
    }
}

impl EarlierRuns for Earlier {
    fn look(&self, before: RunId, wanted: &mut dyn Wanted) {
        let kept = runs(&self.store).unwrap_or_default();
        let kept = find::of_tests(kept, &super::folder(&self.store), &self.workspace);
        let kept = kept.unwrap_or_default().into_iter();
        let earlier = kept
            .skip_while(|run| run.header.run_id != before)
            .skip(1)
            .filter(|run| !run.in_progress());
        let mut bytes = 0;
        for run in earlier.take(MOST_RUNS) {
            if wanted.is_complete() || bytes > MOST_BYTES {
                return;
            }
            // A run that cannot be read is as one that is not kept.
            bytes += look_in(&run, wanted).unwrap_or_default();
        }
    }
}

/// Hands over the results of one run. Returns how many bytes it has.
fn look_in(run: &PastRun, wanted: &mut dyn Wanted) -> io::Result<usize> {
    #[derive(Deserialize)]
    struct Named {
        test: TestId,
    }
    let files = Files::of(&run.path)?;
    let output = files.output().ok();
    let earlier = EarlierRun {
        id: run.header.run_id,
        started_at: run.header.started_at,
    };
    let mut bytes = 0;
    for line in lines_of(files)? {
        bytes += line.len();
        if kind(&line) != Some(b"test-finished") {
            continue;
        }
        // Most of a line is its traces, which are read if they are wanted.
        let Ok(Named { test }) = serde_json::from_slice(&line) else {
            continue;
        };
        if !wanted.wants(&test) {
            continue;
        }
        if let Ok(finished) = serde_json::from_slice::<TestFinished>(&line) {
            let outputs = OneOutput::of(output.as_ref(), &line, &finished);
            wanted.take(&earlier, &finished, &outputs);
        }
        if wanted.is_complete() {
            break;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{Belongings, Run};
    use super::*;
    use crate::report::Outputs;
    use fixture_kit::sample;
    use harness_metadata::{Event, EventKind, event::RunStarted};
    use std::{collections::BTreeSet, time::Duration};

    /// Wants some tests, and remembers the second at which the run began that had them.
    struct Asks {
        left: BTreeSet<&'static str>,
        found: Vec<(String, i64)>,
    }

    impl Wanted for Asks {
        fn wants(&self, test: &TestId) -> bool {
            self.left.contains(test.name.as_str())
        }

        fn take(&mut self, run: &EarlierRun, finished: &TestFinished, _: &dyn Outputs) {
            let name = finished.test.name.as_str();
            self.left.remove(name);
            let second = (run.started_at - sample::time(0)).num_seconds();
            self.found.push((name.to_owned(), second));
        }

        fn is_complete(&self) -> bool {
            self.left.is_empty()
        }
    }

    /// Keeps a run with these tests. As long as it is not dropped it is in progress.
    fn kept(target: &Utf8Path, second: i64, tests: &[&str]) -> (RunId, Run) {
        let began = RunStarted {
            run_id: RunId::random(),
            started_at: sample::time(second),
            tests: tests.len(),
            ..sample::started()
        };
        let mut run = Run::create(target, began.run_id, None).expect("there is room");
        let finished = tests.iter().map(|name| {
            let finished = sample::finished(sample::test("crate", name), vec![sample::code(1, 0)]);
            EventKind::TestFinished(Box::new(finished))
        });
        let id = began.run_id;
        for kind in std::iter::once(EventKind::RunStarted(Box::new(began))).chain(finished) {
            let at = Duration::ZERO;
            run.record(&Event { at, kind }, Belongings::default())
                .expect("there is room");
        }
        (id, run)
    }

    fn ask(target: &Utf8Path, run: RunId, tests: &[&'static str]) -> Vec<(String, i64)> {
        let mut asks = Asks {
            left: tests.iter().copied().collect(),
            found: Vec::new(),
        };
        Earlier::new(target, Utf8Path::new("/work")).look(run, &mut asks);
        asks.found
    }

    #[test]
    fn the_latest_result_before_a_run_counts() {
        let folder = tempfile::tempdir().expect("there is room");
        let target = Utf8Path::from_path(folder.path()).expect("it is UTF-8");
        let (_, first) = kept(target, 1, &["one", "two", "three"]);
        first.end().expect("there is room");
        let (second, run) = kept(target, 2, &["one", "two"]);
        run.end().expect("there is room");
        let (third, run) = kept(target, 3, &["one"]);
        assert_eq!(ask(target, second, &["one"]), [("one".to_owned(), 1)]);
        let found = |name: &str, second| (name.to_owned(), second);
        assert_eq!(
            ask(target, third, &["one", "three"]),
            [found("one", 2), found("three", 1)]
        );
        let (fourth, _run) = kept(target, 4, &["one"]);
        assert_eq!(
            ask(target, fourth, &["one"]),
            [found("one", 2)],
            "the third is in progress"
        );
        assert_eq!(ask(target, RunId::random(), &["one"]), []);
        drop(run);
    }

    #[test]
    fn a_run_that_is_no_longer_readable_is_left_out() {
        let folder = tempfile::tempdir().expect("there is room");
        let target = Utf8Path::from_path(folder.path()).expect("it is UTF-8");
        let (_, first) = kept(target, 1, &["one"]);
        first.end().expect("there is room");
        let (id, run) = kept(target, 2, &["one"]);
        run.end().expect("there is room");
        let pack = super::super::folder(target).join(format!("{id}.run"));
        let mut bytes = std::fs::read(&pack).expect("it is there");
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0x5a);
        std::fs::write(&pack, bytes).expect("there is room");
        let (now, _run) = kept(target, 3, &["one"]);
        let found = ask(target, now, &["one"]);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
