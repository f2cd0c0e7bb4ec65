//! Remembers from run to run which tests the usual tracer is in the way of, in
//! `<target>/harness/backends.json`. The file may be removed at any time.

use crate::{
    own_files,
    report::{Outputs, Sink, SinkError},
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{
    Event, EventKind, TestId,
    event::TestFinished,
    trace::{Backend, Doubt},
};
use std::{collections::BTreeMap, io};

/// As many tests are remembered.
const TESTS: usize = 10_000;

/// A file that is longer is not ours.
const LONGEST: u64 = 16 * 1024 * 1024;

/// What is known of tests, by their ids.
#[derive(Default)]
pub(super) struct Known(BTreeMap<String, Backend>);

impl Known {
    /// Reads what earlier runs have found. What cannot be read has to be found out once more.
    pub(super) fn load(target: &Utf8Path) -> Self {
        let text = own_files::read(file(target), LONGEST).ok();
        Self(
            text.and_then(|text| serde_json::from_slice(&text).ok())
                .unwrap_or_default(),
        )
    }

    /// Returns what a test needs.
    pub(super) fn of(&self, test: &TestId) -> Option<Backend> {
        self.0.get(&test.to_string()).copied()
    }
}

/// The sink that adds what a run finds.
pub(super) struct Learning {
    target: Utf8PathBuf,
    new: Known,
}

impl Learning {
    pub(super) fn new(target: &Utf8Path) -> Self {
        Self {
            target: target.to_owned(),
            new: Known::default(),
        }
    }

    fn finished(&mut self, test: &TestFinished) {
        let Some(last) = test.attempts.iter().rfind(|last| last.rerun.is_some()) else {
            return;
        };
        let backend = match &last.trace {
            // Neither will do.
            Some(trace) if trace.doubts.contains(&Doubt::Obstructed) => Backend::None,
            Some(trace) => trace.backend,
            None => Backend::None,
        };
        self.new.0.insert(test.test.to_string(), backend);
    }

    /// Adds to what is there by now. Whoever writes at the same moment may have to learn again.
    fn write(&self) -> io::Result<()> {
        let mut all = Known::load(&self.target).0;
        all.extend(self.new.0.clone());
        // Which ones go does not matter: they are found out again.
        while all.len() > TESTS {
            all.pop_first();
        }
        own_files::replace(&file(&self.target), &serde_json::to_vec_pretty(&all)?)
    }
}

impl Sink for Learning {
    fn handle(&mut self, event: &Event, _: &dyn Outputs) -> Result<(), SinkError> {
        match &event.kind {
            EventKind::TestFinished(test) => self.finished(test),
            EventKind::RunFinished(_) if !self.new.0.is_empty() => {
                // If it cannot be kept, the next run finds it out again.
                let _ = self.write();
            }
            _ => {}
        }
        Ok(())
    }
}

fn file(target: &Utf8Path) -> Utf8PathBuf {
    target.join("harness").join("backends.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn learn(target: &Utf8Path, tests: impl IntoIterator<Item = (String, Backend)>) {
        let mut learning = Learning::new(target);
        learning.new.0.extend(tests);
        learning.write().unwrap();
    }

    #[test]
    fn what_two_runs_have_learned_is_known_to_the_third() {
        let folder = tempfile::tempdir().unwrap();
        let target = Utf8Path::from_path(folder.path()).unwrap();
        fs::create_dir(target.join("harness")).unwrap();
        assert!(Known::load(target).0.is_empty());
        learn(target, [("a x".to_owned(), Backend::Notify)]);
        learn(target, [("b y".to_owned(), Backend::None)]);
        let known = Known::load(target);
        let test = TestId {
            binary: "a".into(),
            name: harness_metadata::TestCaseName::new("x"),
        };
        assert_eq!(known.of(&test), Some(Backend::Notify));
        assert_eq!(known.0.len(), 2);
        let files = fs::read_dir(target.join("harness")).unwrap().count();
        assert_eq!(files, 1, "nothing is left of writing");
    }

    #[test]
    fn a_file_that_makes_no_sense_is_replaced_and_none_grows_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let target = Utf8Path::from_path(folder.path()).unwrap();
        fs::create_dir(target.join("harness")).unwrap();
        for nonsense in [&b"[1]"[..], b"{\"a\": \"magic\"}", b"\xff"] {
            fs::write(file(target), nonsense).unwrap();
            assert!(Known::load(target).0.is_empty());
        }
        let many = (0..TESTS + 10).map(|test| (test.to_string(), Backend::Notify));
        learn(target, many);
        assert_eq!(Known::load(target).0.len(), TESTS);
    }
}
