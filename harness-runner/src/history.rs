//! Remembers from run to run how each test ended, how long it took and how much memory it used, in
//! `history.cache` in the store. The file may be removed at any time.
//!
//! The facts are about a test by the id of its binary and its name, whatever becomes of the binary:
//! a changed test takes about as long as before.

mod timings;

pub use timings::{Others, Timings, TimingsError};

use crate::{
    cache::{Cache, Encoding, Memory},
    report::{Outputs, Sink, SinkError},
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{Attempt, Event, EventKind, Outcome, TestId, Verdict, event::TestFinished};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io, time::Duration};

/// The facts about tests, by their ids.
const HISTORY: Memory = Memory {
    file: "history.cache",
    version: 1,
    encoding: Encoding::Compact,
    longest: 16 * 1024 * 1024,
    lifetime: None,
    most: 50_000,
};

/// The last result of a test.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The running time in microseconds.
    micros: u64,
    /// True if it counted as a failure.
    pub failed: bool,
    /// The peak memory in bytes: that of all processes where a cgroup counted it, else that of the
    /// largest process.
    pub memory: u64,
}

impl Past {
    /// Returns the running time of the last attempt.
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.micros)
    }
}

/// The facts of one result.
#[derive(Copy, Clone, Debug)]
struct Ending {
    failed: bool,
    /// `None` if the test could not be started.
    ran: Option<Past>,
}

impl Ending {
    /// Returns the facts of a result; `None` if the test was interrupted, which says nothing of it.
    fn of(finished: &TestFinished) -> Option<Self> {
        let failed = match finished.verdict {
            // Its failure is expected, and need not come first.
            Verdict::Pass | Verdict::Quarantined => false,
            Verdict::Fail => true,
            Verdict::Interrupted => return None,
        };
        let ran = finished.attempts.iter().rev().find(|it| has_run(it));
        let ran = ran.map(|attempt| Past {
            micros: attempt.elapsed.as_micros().try_into().unwrap_or(u64::MAX),
            failed,
            memory: (attempt.usage.peak_tree_memory).unwrap_or(attempt.usage.peak_memory),
        });
        Some(Self { failed, ran })
    }

    /// Returns what to remember. A test that could not be started takes as long as `before`.
    fn after(self, before: Option<&Past>) -> Option<Past> {
        let failed = self.failed;
        let before = before.map(|before| Past { failed, ..*before });
        self.ran.or(before)
    }
}

/// Returns true if the attempt took the time that the test takes.
fn has_run(attempt: &Attempt) -> bool {
    match &attempt.outcome {
        Outcome::Exited(_) | Outcome::TimedOut { .. } | Outcome::NoResult(_) => true,
        Outcome::StartFailed(_)
        | Outcome::Interrupted { .. }
        | Outcome::HarnessFault(_)
        | Outcome::BinaryChanged(_) => false,
    }
}

/// The last results of tests.
#[derive(Debug)]
pub struct History(Cache<Past, ()>);

impl History {
    /// Reads the results that earlier runs have left in a store; none if they cannot be read.
    pub fn load(store: &Utf8Path) -> Self {
        Self(Cache::load(HISTORY, store))
    }

    /// Returns a history without results.
    pub fn empty() -> Self {
        Self(Cache::empty(HISTORY))
    }

    /// Returns the last result of a test.
    pub fn of(&self, test: &TestId) -> Option<&Past> {
        self.0.get(&test.to_string(), &())
    }

    /// Adds a result.
    #[cfg(test)]
    pub(crate) fn add(&mut self, test: &str, elapsed: Duration, failed: bool) {
        let past = Past {
            micros: elapsed.as_micros().try_into().unwrap_or(u64::MAX),
            failed,
            memory: 0,
        };
        self.0.put(test.to_owned(), (), past);
    }
}

/// The sink that adds the results of a run.
#[derive(Debug)]
pub(crate) struct Remembering {
    store: Utf8PathBuf,
    new: BTreeMap<String, Ending>,
}

impl Remembering {
    /// Adds to the history of a store.
    pub(crate) fn new(store: &Utf8Path) -> Self {
        Self {
            store: store.to_owned(),
            new: BTreeMap::new(),
        }
    }

    /// Adds to what is there by now. A writer at the same moment may lose its facts.
    fn write(&mut self) -> io::Result<()> {
        let new = std::mem::take(&mut self.new);
        if new.is_empty() {
            return Ok(());
        }
        let mut all: Cache<Past, ()> = Cache::load(HISTORY, &self.store);
        for (test, ending) in new {
            if let Some(past) = ending.after(all.get(&test, &())) {
                all.put(test, (), past);
            }
        }
        all.save(&self.store, |_| true)
    }
}

impl Sink for Remembering {
    fn handle(&mut self, event: &Event, _: &dyn Outputs) -> Result<(), SinkError> {
        match &event.kind {
            EventKind::TestFinished(finished) => {
                if let Some(ending) = Ending::of(finished) {
                    let (test, _) = finished.test.without_iteration();
                    self.new.insert(test.to_string(), ending);
                }
            }
            EventKind::RunFinished(_) => {
                // The next run has a worse order if it cannot be kept.
                let _ = self.write();
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        let _ = self.write();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use harness_metadata::{Exit, StartFailure};
    use std::fs;

    /// A target folder.
    struct Scene(tempfile::TempDir);

    impl Scene {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn target(&self) -> &Utf8Path {
            Utf8Path::from_path(self.0.path()).unwrap()
        }

        /// Runs a test once.
        fn run(&self, name: &str, attempts: Vec<Attempt>) {
            let events = sample::run(vec![(sample::test(name), attempts)]);
            let mut sink = Remembering::new(self.target());
            sample::feed(&mut sink, &events, &sample::Memory::default());
        }

        fn past(&self, name: &str) -> Option<(Duration, bool)> {
            let history = History::load(self.target());
            let past = history.of(&sample::test(name))?;
            Some((past.elapsed(), past.failed))
        }
    }

    fn took(millis: u64, code: i32) -> Attempt {
        Attempt {
            elapsed: Duration::from_millis(millis),
            ..sample::code(1, code)
        }
    }

    #[test]
    fn the_last_result_of_each_test_is_remembered() {
        let scene = Scene::new();
        assert_eq!(scene.past("a"), None);
        scene.run("a", vec![took(20, 0)]);
        scene.run("b", vec![took(30, 1), took(40, 0)]);
        assert_eq!(scene.past("a"), Some((Duration::from_millis(20), false)));
        assert_eq!(scene.past("b"), Some((Duration::from_millis(40), false)));
        scene.run("a", vec![took(10, 1)]);
        assert_eq!(scene.past("a"), Some((Duration::from_millis(10), true)));
        assert_eq!(scene.past("b"), Some((Duration::from_millis(40), false)));
    }

    #[test]
    fn a_test_that_was_not_started_fails_and_takes_as_long_as_before() {
        let scene = Scene::new();
        let failure = StartFailure {
            message: String::new(),
            errno: 2,
        };
        let start_failed = || {
            let outcome = Outcome::StartFailed(failure.clone());
            vec![sample::attempt(1, outcome, Verdict::Fail)]
        };
        scene.run("a", start_failed());
        assert_eq!(scene.past("a"), None);
        scene.run("a", vec![took(20, 0)]);
        scene.run("a", start_failed());
        assert_eq!(scene.past("a"), Some((Duration::from_millis(20), true)));
    }

    #[test]
    fn an_interrupted_test_changes_nothing() {
        let scene = Scene::new();
        scene.run("a", vec![took(20, 0)]);
        let outcome = Outcome::Exited(Exit::Code(1));
        let attempt = sample::attempt(1, outcome, Verdict::Interrupted);
        scene.run("a", vec![attempt]);
        assert_eq!(scene.past("a"), Some((Duration::from_millis(20), false)));
    }

    #[test]
    fn a_file_of_another_making_is_no_history() {
        let scene = Scene::new();
        scene.run("a", vec![took(20, 0)]);
        let file = scene.target().join(HISTORY.file);
        let mut bytes = fs::read(&file).unwrap();
        bytes.pop();
        fs::write(&file, bytes).unwrap();
        assert_eq!(scene.past("a"), None);
        scene.run("b", vec![took(20, 0)]);
        assert_eq!(scene.past("b"), Some((Duration::from_millis(20), false)));
    }

    #[test]
    fn ten_thousand_tests_take_less_than_a_megabyte() {
        let scene = Scene::new();
        let mut history = History::empty();
        for number in 0..10_000 {
            let name = format!("some-crate::integration module::test_{number}");
            history.add(&name, Duration::from_millis(number), number % 7 == 0);
        }
        history.0.save(scene.target(), |_| true).unwrap();
        let length = fs::metadata(scene.target().join(HISTORY.file))
            .unwrap()
            .len();
        assert!(length < 1_000_000, "{length} bytes");
    }
}
