//! Collects what is known of binaries: from memory, and from their answers.

use super::{
    ListError, ListedBinary, ListedTest, Selection, Status, TestList, parse,
    work::{Answer, Call, Job, Output, Question},
};
use crate::{
    cache::{Cache, Encoding, Memory},
    cargo::{Harness, Identity, TestBinary},
};
use camino::Utf8Path;
use nextest_metadata::RustBinaryId;
use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc,
        mpsc::{Receiver, Sender},
    },
};

/// The tests of binaries that have the standard harness, by path.
const TESTS: Memory = Memory {
    file: "harness/tests.cache",
    version: 4,
    encoding: Encoding::Compact,
    longest: 256 * 1024 * 1024,
    lifetime: None,
    most: usize::MAX,
};

/// The binaries of a run, listed or asked.
pub(super) struct Collection {
    cache: Cache<Vec<ListedTest>>,
    listed: BTreeMap<RustBinaryId, ListedBinary>,
    asked: BTreeMap<RustBinaryId, Asked>,
}

impl Collection {
    pub(super) fn new(target_directory: Option<&Utf8Path>) -> Self {
        Self {
            cache: match target_directory {
                Some(target) => Cache::load(TESTS, target),
                None => Cache::empty(TESTS),
            },
            listed: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Adds a binary, and asks for its tests if they are wanted and not known.
    pub(super) fn add(
        &mut self,
        binary: Arc<TestBinary>,
        selection: Selection,
        jobs: &Sender<Job>,
    ) {
        let unasked = |status| ListedBinary {
            binary: Arc::clone(&binary),
            status,
            libtest: false,
            identity: None,
        };
        let known = match selection {
            Selection::Skip => Some(unasked(Status::Skipped)),
            Selection::SkipByDefault => Some(unasked(Status::SkippedDefaultFilter)),
            Selection::Ask => None,
        };
        // Taken before it is asked: if it changes meanwhile, the entry is worth nothing.
        let identity = match known {
            None => Identity::of(&binary.path),
            Some(_) => None,
        };
        if let Some(known) = known.or_else(|| self.remembered(&binary, identity)) {
            self.listed.insert(binary.id.clone(), known);
            return;
        }
        let questions = match binary.harness {
            Harness::Libtest => &[Question::Everything][..],
            Harness::Custom => &[Question::Names(Call::All), Question::Names(Call::Ignored)],
        };
        for question in questions {
            let _ = jobs.send(Job {
                binary: Arc::clone(&binary),
                question: *question,
            });
        }
        let asked = Asked {
            binary: Arc::clone(&binary),
            identity,
            libtest: false,
            tests: None,
            all: None,
            ignored: None,
        };
        self.asked.insert(binary.id.clone(), asked);
    }

    /// Returns a binary whose tests are remembered. What has a harness of its own may list others each
    /// time.
    fn remembered(
        &self,
        binary: &Arc<TestBinary>,
        identity: Option<Identity>,
    ) -> Option<ListedBinary> {
        let tests = match binary.harness {
            Harness::Libtest => self.cache.get(binary.path.as_str(), &identity?)?,
            Harness::Custom => return None,
        };
        Some(ListedBinary {
            binary: Arc::clone(binary),
            status: Status::Listed(tests.to_vec()),
            libtest: true,
            identity,
        })
    }

    /// Takes all answers. Fails with the first that is none.
    pub(super) fn hear(&mut self, answered: Receiver<Answer>) -> Result<(), ListError> {
        let mut error = None;
        for answer in answered {
            match answer.output {
                Ok(output) => {
                    let asked = self
                        .asked
                        .get_mut(&answer.id)
                        .expect("only what was asked answers");
                    asked.libtest |= answer.libtest;
                    match output {
                        Output::Tests(tests) => asked.tests = Some(tests),
                        Output::Names(Call::All, output) => asked.all = Some(output),
                        Output::Names(Call::Ignored, output) => asked.ignored = Some(output),
                    }
                }
                Err(why) => drop(error.get_or_insert(why)),
            }
        }
        error.map_or(Ok(()), Err)
    }

    /// Takes the answers apart. The workers have done so with each of them already, but of two that
    /// belong together.
    pub(super) fn parse(&mut self) -> Result<(), ListError> {
        for (id, asked) in mem::take(&mut self.asked) {
            let Asked {
                binary,
                identity,
                libtest,
                tests,
                all,
                ignored,
            } = asked;
            let named = || {
                const ANSWERED: &str = "each call was answered, or an error was returned above";
                let (all, ignored) = (all.expect(ANSWERED), ignored.expect(ANSWERED));
                parse::parse(&all, &ignored).map_err(|source| ListError::Malformed {
                    command: binary.path.to_string(),
                    stdout: String::from_utf8_lossy(&all).into_owned(),
                    source,
                })
            };
            let tests = tests.map_or_else(named, Ok)?;
            if let Some(identity) = identity.filter(|_| libtest) {
                let name = binary.path.to_string();
                self.cache.put(name, identity, tests.clone());
            }
            let listed = ListedBinary {
                binary,
                status: Status::Listed(tests),
                libtest,
                identity,
            };
            self.listed.insert(id, listed);
        }
        Ok(())
    }

    /// Remembers what is new, and returns all.
    pub(super) fn finish(self, target_directory: Option<&Utf8Path>) -> TestList {
        if let Some(directory) = target_directory
            && let Err(error) = (self.cache).save(directory, |path| Utf8Path::new(path).exists())
        {
            tracing::warn!("failed to write the cache of test lists in `{directory}`: {error}");
        }
        TestList {
            binaries: self.listed.into_values().collect(),
        }
    }
}

/// A binary that has been asked.
struct Asked {
    binary: Arc<TestBinary>,
    identity: Option<Identity>,
    libtest: bool,
    /// The answer to all at once; `None` if the two calls were answered instead.
    tests: Option<Vec<ListedTest>>,
    /// The answer of the call without `--ignored`.
    all: Option<Vec<u8>>,
    /// The answer of the call with `--ignored`.
    ignored: Option<Vec<u8>>,
}
