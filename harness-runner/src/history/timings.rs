//! The timing file of a repository: how long each test takes, in milliseconds, for partitions by time
//! that come out the same on every machine.

use super::History;
use crate::own_files;
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::TestId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io, time::Duration};
use thiserror::Error;

/// Grows with every change of the form.
const VERSION: u32 = 1;

/// A longer file is none of ours.
const LONGEST: u64 = 64 * 1024 * 1024;

/// A reason why a timing file cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each field is what its name says")]
pub enum TimingsError {
    /// It cannot be read.
    #[error("failed to read the timing file `{file}`")]
    Read {
        file: Utf8PathBuf,
        source: io::Error,
    },
    /// It is not of the form that is written.
    #[error("{file}:{line}:{column}: not a timing file: {problem}")]
    Form {
        file: Utf8PathBuf,
        line: usize,
        column: usize,
        problem: String,
    },
    /// It has another version.
    #[error(
        "`{file}` is a timing file of version {found}, and this program reads version {VERSION}"
    )]
    Version { file: Utf8PathBuf, found: u32 },
    /// It cannot be written.
    #[error("failed to write the timing file `{file}`")]
    Write {
        file: Utf8PathBuf,
        source: io::Error,
    },
}

/// The duration of each test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    version: u32,
    /// By binary, then by name.
    milliseconds: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The fate of the tests of a timing file that are not among those that update it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Others {
    /// They stay: other tests were not looked for.
    Stay,
    /// They leave the file: there are no other tests.
    Leave,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            version: VERSION,
            milliseconds: BTreeMap::new(),
        }
    }
}

impl Timings {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no timing file.
    pub fn read(file: &Utf8Path) -> Result<Self, TimingsError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let bytes = own_files::read(file, LONGEST).map_err(|source| TimingsError::Read {
            file: file.to_owned(),
            source,
        })?;
        let form = |error: serde_json::Error| {
            let problem = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            TimingsError::Form {
                file: file.to_owned(),
                line: error.line(),
                column: error.column(),
                problem: problem.strip_suffix(&place).unwrap_or(&problem).to_owned(),
            }
        };
        let Version { version } = serde_json::from_slice(&bytes).map_err(form)?;
        if version != VERSION {
            return Err(TimingsError::Version {
                file: file.to_owned(),
                found: version,
            });
        }
        serde_json::from_slice(&bytes).map_err(form)
    }

    /// Writes a file: one line for each test, in order.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, file: &Utf8Path) -> Result<(), TimingsError> {
        let mut text = serde_json::to_string_pretty(self).expect("it is made of names and numbers");
        text.push('\n');
        own_files::replace(file, text.as_bytes()).map_err(|source| TimingsError::Write {
            file: file.to_owned(),
            source,
        })
    }

    /// Returns how long a test takes.
    pub fn of(&self, test: &TestId) -> Option<Duration> {
        let binary = self.milliseconds.get(test.binary.as_str())?;
        binary
            .get(test.name.as_str())
            .copied()
            .map(Duration::from_millis)
    }

    /// Returns the number of tests.
    pub fn len(&self) -> usize {
        self.milliseconds.values().map(BTreeMap::len).sum()
    }

    /// Returns true if it has no test.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a test. A known one keeps its number if the difference is less than a quarter or 10 ms, so that
    /// a new file differs from the old one where something has changed.
    pub fn add(&mut self, test: &TestId, duration: Duration) {
        let binary = self.milliseconds.entry(test.binary.to_string());
        let tests = binary.or_default();
        let new = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let old = tests.entry(test.name.to_string()).or_insert(new);
        if old.abs_diff(new) > 10.max(*old / 4) {
            *old = new;
        }
    }

    /// Returns the durations of these tests as a history has them, those that it lacks as this file has
    /// them.
    pub fn updated<'a>(
        &self,
        tests: impl IntoIterator<Item = &'a TestId>,
        others: Others,
        history: &History,
    ) -> Self {
        let mut updated = match others {
            Others::Stay => self.clone(),
            Others::Leave => Self::default(),
        };
        for test in tests {
            let old = self.of(test);
            if let Some(old) = old {
                updated.add(test, old);
            }
            if let Some(past) = history.of(test) {
                updated.add(test, past.elapsed());
            }
        }
        updated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use std::fs;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    struct Scene(tempfile::TempDir);

    impl Scene {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self) -> Utf8PathBuf {
            let folder = Utf8Path::from_path(self.0.path()).unwrap();
            folder.join("timings.json")
        }

        fn message(&self, text: &str) -> String {
            fs::write(self.file(), text).unwrap();
            let error = Timings::read(&self.file()).unwrap_err().to_string();
            error.replace(self.file().as_str(), "FILE")
        }
    }

    #[test]
    fn a_timing_file_reads_as_it_was_written() {
        let scene = Scene::new();
        let mut timings = Timings::default();
        timings.add(&sample::test("b"), millis(20));
        timings.add(&sample::test("a"), millis(1500));
        timings.write(&scene.file()).unwrap();
        let text = fs::read_to_string(scene.file()).unwrap();
        let expected = "{\n  \"version\": 1,\n  \"milliseconds\": {\n    \"sample\": {\n      \
                        \"a\": 1500,\n      \"b\": 20\n    }\n  }\n}\n";
        assert_eq!(text, expected);
        let read = Timings::read(&scene.file()).unwrap();
        assert_eq!(read.of(&sample::test("a")), Some(millis(1500)));
        assert_eq!(read.of(&sample::test("c")), None);
    }

    #[test]
    fn a_file_that_is_no_timing_file_is_an_error_with_its_place() {
        let scene = Scene::new();
        assert_eq!(
            scene.message("{\n  \"version\": 1,\n  \"milliseconds\": 3\n}"),
            "FILE:3:19: not a timing file: invalid type: integer `3`, expected a map"
        );
        assert_eq!(
            scene.message("[]"),
            "FILE:1:2: not a timing file: invalid length 0, expected struct Version with 1 element"
        );
        assert_eq!(
            scene.message("{\"version\":2,\"seconds\":1}"),
            "`FILE` is a timing file of version 2, and this program reads version 1"
        );
        fs::remove_file(scene.file()).unwrap();
        let error = Timings::read(&scene.file()).unwrap_err().to_string();
        assert!(error.starts_with("failed to read the timing file"));
    }

    #[test]
    fn a_small_difference_changes_no_number() {
        let mut timings = Timings::default();
        let test = sample::test("a");
        for (now, then) in [
            (100, 100),
            (120, 100),
            (130, 130),
            (120, 130),
            (5, 5),
            (14, 5),
        ] {
            timings.add(&test, millis(now));
            assert_eq!(timings.of(&test), Some(millis(then)), "{now}");
        }
    }

    #[test]
    fn tests_that_are_gone_leave_the_file_and_unknown_ones_are_not_in_it() {
        let mut timings = Timings::default();
        timings.add(&sample::test("kept"), millis(1000));
        timings.add(&sample::test("gone"), millis(1000));
        let mut history = History::empty();
        history.add("sample new", millis(3000), false);
        let tests = ["kept", "new", "unknown"].map(sample::test);
        let all = timings.updated(&tests, Others::Stay, &history);
        assert_eq!(all.len(), 3);
        let updated = timings.updated(&tests, Others::Leave, &history);
        assert_eq!(updated.len(), 2);
        assert_eq!(updated.of(&tests[0]), Some(millis(1000)));
        assert_eq!(updated.of(&tests[1]), Some(millis(3000)));
    }
}
