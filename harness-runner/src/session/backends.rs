//! Remembers from run to run which tests the usual tracer is in the way of, in
//! `<target>/harness/backends.json`. The file may be removed at any time.
//!
//! A remembered backend holds as long as the test's binary is the same, for [`LIFETIME`], and for
//! this version of the program. A test that fails with a remembered backend is run again, and the
//! new result is remembered.

use crate::{
    cargo::Identity,
    own_files,
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
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// As many tests are remembered.
const TESTS: usize = 10_000;

/// A file that is longer is not ours.
const LONGEST: u64 = 16 * 1024 * 1024;

/// The time for which a fact is remembered.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

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

/// A lesson, and of what it is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    lesson: Lesson,
    /// The binary that it was learned of.
    binary: Identity,
    /// When that was, in seconds since 1970.
    at: u64,
    /// By which version of the program.
    version: String,
}

impl Entry {
    /// Returns whether it still holds.
    fn holds(&self, now: u64, binary: Option<&Identity>) -> bool {
        let age = now.checked_sub(self.at);
        self.version == env!("CARGO_PKG_VERSION")
            && Some(&self.binary) == binary
            && age.is_some_and(|age| age < LIFETIME.as_secs())
    }
}

/// The binaries of a run.
pub(super) type Binaries = HashMap<RustBinaryId, Identity>;

/// The facts about tests, by their ids.
#[derive(Default)]
pub(super) struct Known {
    entries: BTreeMap<String, Entry>,
    binaries: Binaries,
    now: u64,
}

impl Known {
    /// Reads what earlier runs have found. What cannot be read has to be found out once more.
    pub(super) fn load(target: &Utf8Path, binaries: Binaries) -> Self {
        Self {
            entries: read(target),
            binaries,
            now: now(),
        }
    }

    /// Returns what is known of a test.
    pub(super) fn of(&self, test: &TestId) -> Option<Lesson> {
        let entry = self.entries.get(&test.to_string())?;
        let holds = entry.holds(self.now, self.binaries.get(&test.binary));
        holds.then(|| entry.lesson.clone())
    }
}

fn read(target: &Utf8Path) -> BTreeMap<String, Entry> {
    let text = own_files::read(file(target), LONGEST).ok();
    text.and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The sink that adds what a run finds.
pub(super) struct Learning {
    target: Utf8PathBuf,
    binaries: Binaries,
    /// The tests that may be run again. Where settings or another run decide, there is nothing to be
    /// learned.
    tests: HashSet<TestId>,
    new: BTreeMap<String, Entry>,
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
        let Some(binary) = self.binaries.get(&test.test.binary) else {
            return;
        };
        if self.tests.contains(&test.test) {
            let entry = Entry {
                lesson,
                binary: *binary,
                at: now(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            self.new.insert(test.test.to_string(), entry);
        }
    }

    /// Adds to what is there by now. A writer at the same moment may lose its facts.
    fn write(&self) -> io::Result<()> {
        let now = now();
        let mut all = read(&self.target);
        for (test, entry) in &self.new {
            let mut entry = entry.clone();
            // What a remembered step has prevented this time is still so.
            if let Some(before) = all
                .get(test)
                .filter(|before| before.holds(now, Some(&entry.binary)))
            {
                entry.lesson.met.extend(&before.lesson.met);
                entry.lesson.met.sort_unstable();
                entry.lesson.met.dedup();
            }
            all.insert(test.clone(), entry);
        }
        all.retain(|_, entry| entry.holds(now, Some(&entry.binary)));
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
            EventKind::RunFinished(_) if !self.new.is_empty() => {
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

    fn entry(binary: Identity, met: Disturbance) -> Entry {
        Entry {
            lesson: Lesson {
                met: vec![met],
                untraced: false,
            },
            binary,
            at: now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    fn learn(target: &Utf8Path, tests: impl IntoIterator<Item = (String, Entry)>) {
        let mut learning = Learning::new(target, Binaries::default(), HashSet::new());
        learning.new.extend(tests);
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
        let refused = entry(identity, Disturbance::PtraceRefused);
        learn(&target, [("a x".to_owned(), refused.clone())]);
        let asked = entry(identity, Disturbance::SeccompAsked);
        learn(
            &target,
            [("a y".to_owned(), asked), ("a x".to_owned(), refused)],
        );
        let known = Known::load(&target, binaries());
        let lesson = known.of(&test("a", "x")).unwrap();
        assert_eq!(lesson.met, [Disturbance::PtraceRefused]);
        assert_eq!(known.entries.len(), 2);
        let files = fs::read_dir(target.join("harness")).unwrap().count();
        assert_eq!(files, 1, "nothing is left of writing");

        fs::write(target.join("binary"), "another one").unwrap();
        let changed = Identity::of(&target.join("binary")).unwrap();
        let binaries = Binaries::from([(RustBinaryId::new("a"), changed)]);
        assert_eq!(Known::load(&target, binaries).of(&test("a", "x")), None);
    }

    #[test]
    fn what_is_old_or_of_another_version_is_forgotten() {
        let (_folder, _target, identity) = scene();
        let learned = entry(identity, Disturbance::StatusRead);
        let at = learned.at;
        assert!(learned.holds(at + LIFETIME.as_secs() - 1, Some(&identity)));
        assert!(!learned.holds(at + LIFETIME.as_secs(), Some(&identity)));
        assert!(
            !learned.holds(at - 1, Some(&identity)),
            "learned in the future"
        );
        assert!(!learned.holds(at, None));
        let other = Entry {
            version: "0.0.0-other".to_owned(),
            ..learned
        };
        assert!(!other.holds(at, Some(&identity)));
    }

    #[test]
    fn what_prevents_one_thing_and_meets_another_has_met_both() {
        let (_folder, target, identity) = scene();
        let first = entry(identity, Disturbance::PtraceRefused);
        let second = entry(identity, Disturbance::ListenerRefused);
        learn(&target, [("a x".to_owned(), first)]);
        learn(&target, [("a x".to_owned(), second)]);
        let binaries = Binaries::from([(RustBinaryId::new("a"), identity)]);
        let lesson = Known::load(&target, binaries).of(&test("a", "x")).unwrap();
        let both = [Disturbance::PtraceRefused, Disturbance::ListenerRefused];
        assert_eq!(lesson.met, both);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_replaced_and_none_grows_without_end() {
        let (_folder, target, identity) = scene();
        let of_before = b"{\"a x\": \"notify\"}";
        for nonsense in [&b"[1]"[..], b"{\"a\": \"magic\"}", b"\xff", of_before] {
            fs::write(file(&target), nonsense).unwrap();
            assert!(read(&target).is_empty());
        }
        let learned = entry(identity, Disturbance::StatusRead);
        let many = (0..TESTS + 10).map(|test| (test.to_string(), learned.clone()));
        learn(&target, many);
        assert_eq!(read(&target).len(), TESTS);
    }
}
