//! Remembers from run to run which tests the usual tracer is in the way of, in
//! `<target>/harness/backends.json`. The file may be removed at any time.
//!
//! A remembered backend holds as long as the test's binary is the same, for thirty days, and for
//! this version of the program. A test that fails with a remembered backend is run again, and the
//! new result is remembered.

use crate::{
    cache::{Cache, Encoding, Memory},
    cargo::Identity,
    report::{Outputs, Sink, SinkError},
    run::ladder::Disturbances,
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{
    Attempt, Event, EventKind, RustBinaryId, TestId, event::TestFinished, trace::Disturbance,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    time::Duration,
};

/// The facts about tests, by their ids.
const LESSONS: Memory = Memory {
    file: "harness/backends.json",
    version: 1,
    encoding: Encoding::Readable,
    longest: 16 * 1024 * 1024,
    lifetime: Some(Duration::from_secs(30 * 24 * 60 * 60)),
    most: 10_000,
};

/// The remembered facts about a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lesson {
    /// Its disturbances.
    met: Vec<Disturbance>,
    /// Whether only without a trace it was left alone.
    pub(super) untraced: bool,
}

impl Lesson {
    #[cfg(test)]
    pub(super) fn new(met: Vec<Disturbance>, untraced: bool) -> Self {
        Self { met, untraced }
    }

    /// Returns what the test met.
    pub(super) fn met(&self) -> Disturbances {
        self.met.iter().copied().collect()
    }

    /// Returns what an attempt teaches that followed others, or that met something itself.
    fn of(attempt: &Attempt) -> Option<Self> {
        let mut met: Vec<_> = attempt.disturbances();
        let earlier = attempt.earlier.iter();
        met.extend(earlier.flat_map(|time| time.disturbances.iter().copied()));
        met.sort_unstable();
        met.dedup();
        // Neither time said what it was, but only the last one was good.
        let untraced = attempt.earlier.len() > 1 && attempt.trace.is_none();
        let learned = !attempt.earlier.is_empty() || !met.is_empty();
        learned.then_some(Self { met, untraced })
    }
}

/// The binaries of a run.
pub(super) type Binaries = HashMap<RustBinaryId, Identity>;

/// The facts about tests, by their ids.
pub(super) struct Known {
    lessons: Cache<Lesson>,
    binaries: Binaries,
}

impl Known {
    /// Reads what earlier runs have found. What cannot be read has to be found out once more.
    pub(super) fn load(target: &Utf8Path, binaries: Binaries) -> Self {
        Self {
            lessons: Cache::load(LESSONS, target),
            binaries,
        }
    }

    /// Returns what is known of a test.
    pub(super) fn of(&self, test: &TestId) -> Option<Lesson> {
        let binary = self.binaries.get(&test.binary)?;
        self.lessons.get(&test.to_string(), binary).cloned()
    }
}

/// The sink that adds what a run finds.
pub(super) struct Learning {
    target: Utf8PathBuf,
    binaries: Binaries,
    /// The tests that may be run again. Where settings or another run decide, there is nothing to be
    /// learned.
    tests: HashSet<TestId>,
    new: BTreeMap<String, (Identity, Lesson)>,
}

impl Learning {
    pub(super) fn new(target: &Utf8Path, binaries: Binaries, tests: HashSet<TestId>) -> Self {
        Self {
            target: target.to_owned(),
            binaries,
            tests,
            new: BTreeMap::new(),
        }
    }

    fn finished(&mut self, test: &TestFinished) {
        let Some(lesson) = test.attempts.iter().rev().find_map(Lesson::of) else {
            return;
        };
        let (once, _) = test.test.without_iteration();
        let Some(binary) = self.binaries.get(&once.binary) else {
            return;
        };
        if self.tests.contains(&once) {
            self.new.insert(once.to_string(), (*binary, lesson));
        }
    }

    /// Adds to what is there by now. A writer at the same moment may lose its facts.
    fn write(&self) -> io::Result<()> {
        let mut all: Cache<Lesson> = Cache::load(LESSONS, &self.target);
        for (test, (binary, lesson)) in &self.new {
            let mut lesson = lesson.clone();
            // What a remembered step has prevented this time is still so.
            if let Some(before) = all.get(test, binary) {
                lesson.met.extend(&before.met);
                lesson.met.sort_unstable();
                lesson.met.dedup();
            }
            all.put(test.clone(), *binary, lesson);
        }
        all.save(&self.target, |_| true)
    }
}

impl Sink for Learning {
    fn handle(&mut self, event: &Event, _: &dyn Outputs) -> Result<(), SinkError> {
        match &event.kind {
            EventKind::TestFinished(test) => self.finished(test),
            EventKind::RunFinished(_) if !self.new.is_empty() => {
                // If it cannot be kept, the next run finds it out again.
                let _ = self.write();
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn lesson(met: Disturbance) -> Lesson {
        Lesson {
            met: vec![met],
            untraced: false,
        }
    }

    fn learn<'a>(
        target: &Utf8Path,
        binary: Identity,
        tests: impl IntoIterator<Item = (&'a str, Disturbance)>,
    ) {
        let mut learning = Learning::new(target, Binaries::default(), HashSet::new());
        let lessons = tests.into_iter();
        let lessons = lessons.map(|(test, met)| (test.to_owned(), (binary, lesson(met))));
        learning.new.extend(lessons);
        learning.write().unwrap();
    }

    fn test(binary: &str, name: &str) -> TestId {
        TestId {
            binary: RustBinaryId::new(binary),
            name: harness_metadata::TestCaseName::new(name),
        }
    }

    /// A target folder with a file in it that stands for a binary.
    fn scene() -> (tempfile::TempDir, Utf8PathBuf, Identity) {
        let folder = tempfile::tempdir().unwrap();
        let target = Utf8Path::from_path(folder.path()).unwrap().to_owned();
        fs::create_dir(target.join("harness")).unwrap();
        fs::write(target.join("binary"), "1").unwrap();
        let identity = Identity::of(&target.join("binary")).unwrap();
        (folder, target, identity)
    }

    #[test]
    fn what_two_runs_have_learned_is_known_to_the_third_until_the_binary_changes() {
        let (_folder, target, identity) = scene();
        let binaries = || Binaries::from([(RustBinaryId::new("a"), identity)]);
        assert_eq!(Known::load(&target, binaries()).of(&test("a", "x")), None);
        use Disturbance::{PtraceRefused, SeccompAsked};
        learn(&target, identity, [("a x", PtraceRefused)]);
        learn(
            &target,
            identity,
            [("a y", SeccompAsked), ("a x", PtraceRefused)],
        );
        let known = Known::load(&target, binaries());
        let found = known.of(&test("a", "x")).unwrap();
        assert_eq!(found.met, [PtraceRefused]);
        let found = known.of(&test("a", "y")).unwrap();
        assert_eq!(found.met, [SeccompAsked]);
        let files = fs::read_dir(target.join("harness")).unwrap().count();
        assert_eq!(files, 1, "nothing is left of writing");

        fs::write(target.join("binary"), "another one").unwrap();
        let changed = Identity::of(&target.join("binary")).unwrap();
        let binaries = Binaries::from([(RustBinaryId::new("a"), changed)]);
        assert_eq!(Known::load(&target, binaries).of(&test("a", "x")), None);
    }

    #[test]
    fn what_prevents_one_thing_and_meets_another_has_met_both() {
        let (_folder, target, identity) = scene();
        learn(&target, identity, [("a x", Disturbance::PtraceRefused)]);
        learn(&target, identity, [("a x", Disturbance::ListenerRefused)]);
        let binaries = Binaries::from([(RustBinaryId::new("a"), identity)]);
        let lesson = Known::load(&target, binaries).of(&test("a", "x")).unwrap();
        let both = [Disturbance::PtraceRefused, Disturbance::ListenerRefused];
        assert_eq!(lesson.met, both);
    }

    #[test]
    fn a_file_that_makes_no_sense_teaches_nothing_and_is_replaced() {
        let (_folder, target, identity) = scene();
        let of_before = b"{\"a x\": \"notify\"}";
        for nonsense in [&b"[1]"[..], b"{\"a\": \"magic\"}", b"\xff", of_before] {
            fs::write(target.join(LESSONS.file), nonsense).unwrap();
            let binaries = Binaries::from([(RustBinaryId::new("a"), identity)]);
            assert_eq!(Known::load(&target, binaries).of(&test("a", "x")), None);
        }
        learn(&target, identity, [("a x", Disturbance::StatusRead)]);
        let binaries = Binaries::from([(RustBinaryId::new("a"), identity)]);
        assert!(Known::load(&target, binaries).of(&test("a", "x")).is_some());
    }
}
