//! Asks test binaries for their tests, while others are still being built.
//!
//! An implementation of [`Execute`] starts processes; the choice of binaries is
//! told by a callback. Which of the tests run is decided in `plan`.

mod collection;
mod located;
mod output;
mod parse;
mod recognise;
mod work;

pub use output::{Format, Listing, ListingTest, Styles, write_binaries, write_tests};
pub use parse::ParseError;

use crate::{
    cargo::{Harness, Identity, MissingRunner, Runners, TestBinary},
    protocol::Command,
};
use camino::Utf8Path;
use collection::Collection;
use harness_metadata::{Exit, Location, StartFailure};
use nextest_metadata::{RustBinaryId, RustTestKind, TestCaseName};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};
use thiserror::Error;
use work::{Answer, Job, work};

/// Runs a process to its end.
pub trait Execute: Send {
    /// Runs a command, captures its output, and kills it and all that it started when the limit
    /// is exceeded.
    ///
    /// # Errors
    ///
    /// When the executor itself fails; not when the process does.
    fn execute(&mut self, command: &Command, limit: Duration) -> io::Result<Executed>;
}

/// The end of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Its wait status; `None` if it exceeded the limit and was killed, or could not be started.
    pub exit: Option<Exit>,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
    /// The error that kept it from starting.
    pub start_failure: Option<StartFailure>,
}

/// A test and its properties.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TestKind {
    /// A test.
    Test,
    /// A benchmark.
    Bench,
}

impl From<TestKind> for RustTestKind {
    fn from(kind: TestKind) -> Self {
        match kind {
            TestKind::Test => Self::TEST,
            TestKind::Bench => Self::BENCH,
        }
    }
}

/// A test as its binary lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedTest {
    /// Its name.
    pub name: TestCaseName,
    /// Whether it is marked as ignored.
    pub ignored: bool,
    /// Test or benchmark.
    pub kind: TestKind,
    /// The reason of `#[ignore = "…"]`, if it is known.
    pub reason: Option<String>,
    /// Its place in the source, as the compiler has it; `None` if the harness does not say.
    pub location: Option<Arc<Location>>,
}

/// Whether a binary is to be asked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// It may hold tests that are wanted.
    Ask,
    /// The filtersets of the command line rule all its tests out.
    Skip,
    /// The profile's default filter rules all its tests out.
    SkipByDefault,
}

/// All tests.
#[derive(Clone, Debug, Default)]
pub struct TestList {
    /// The binaries, ordered by id.
    pub binaries: Vec<ListedBinary>,
}

impl TestList {
    /// Returns the binaries that [list nothing](ListedBinary::is_silent).
    pub fn silent(&self) -> impl Iterator<Item = &TestBinary> {
        let silent = self.binaries.iter().filter(|listed| listed.is_silent());
        silent.map(|listed| &*listed.binary)
    }
}

/// A binary and its tests.
#[derive(Clone, Debug)]
pub struct ListedBinary {
    /// The binary.
    pub binary: Arc<TestBinary>,
    /// Its tests, or the reason why they are unknown.
    pub status: Status,
    /// Whether the standard test harness was found in it; false if it was not asked.
    pub libtest: bool,
    /// Its state before it was asked; `None` if it was not asked or could not be looked at.
    pub identity: Option<Identity>,
}

impl ListedBinary {
    /// Returns true if the manifest says `harness = false` and the binary lists no tests:
    /// `cargo test` runs such a binary as one test, and nothing of it runs here.
    pub fn is_silent(&self) -> bool {
        let listed_none = matches!(&self.status, Status::Listed(tests) if tests.is_empty());
        listed_none && self.binary.harness == Harness::Custom
    }
}

/// The tests of a binary, or the reason why they are unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// All of them, ordered by name.
    Listed(Vec<ListedTest>),
    /// Nothing: filtersets of the command line rule the binary out.
    Skipped,
    /// Nothing: the profile's default filter rules the binary out.
    SkippedDefaultFilter,
}

/// An error that kept a binary from being listed.
#[derive(Debug, Error)]
pub enum ListError {
    /// The program that runs the binaries is missing.
    #[error(transparent)]
    Runner(MissingRunner),
    /// The executor failed.
    #[error("failed to run `{command}`")]
    Execute {
        /// The command line.
        command: String,
        /// The reason.
        source: io::Error,
    },
    /// The binary could not be started.
    #[error("failed to start `{command}`: {}", failure.message)]
    Start {
        /// The command line.
        command: String,
        /// The reason.
        failure: StartFailure,
    },
    /// The binary did not answer in time.
    #[error("`{binary}` did not list its tests within {}; `{command}` was killed", humantime::format_duration(*limit))]
    TooSlow {
        /// The binary.
        binary: RustBinaryId,
        /// The command line.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// The binary failed.
    #[error("`{command}` {}{}", ended(*exit), dump(stdout, stderr))]
    Failed {
        /// The command line.
        command: String,
        /// Its wait status.
        exit: Exit,
        /// Its standard output.
        stdout: String,
        /// Its standard error.
        stderr: String,
    },
    /// The binary printed something else.
    #[error("`{command}` did not print a list of tests{}", dump(stdout, ""))]
    Malformed {
        /// The command line.
        command: String,
        /// Its standard output.
        stdout: String,
        /// The mistake.
        source: ParseError,
    },
    /// A binary with a harness of its own does not know what to do.
    #[error(
        "`{binary}` {} and does not answer `--list --format terse`; set `test = false` for it in `Cargo.toml`, or let it print `NAME: test` for each of its tests",
        own_harness(*declared)
    )]
    Harness {
        /// The binary.
        binary: RustBinaryId,
        /// Whether the manifest says so.
        declared: bool,
        /// Its behavior.
        source: Box<ListError>,
    },
}

fn own_harness(declared: bool) -> &'static str {
    match declared {
        true => "has `harness = false`",
        false => "has a test runner of its own (`#![test_runner]`)",
    }
}

fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal { signal, .. } => format!("was ended by signal {signal}"),
    }
}

fn dump(stdout: &str, stderr: &str) -> String {
    let part = |name, text: &str| match text.trim_end() {
        "" => String::new(),
        text => format!("\n--- {name}:\n{text}"),
    };
    part("standard output", stdout) + &part("standard error", stderr)
}

/// The options of listing.
pub struct ListOptions<'a> {
    /// The program that runs the binaries.
    pub runners: &'a Runners,
    /// The time limit of a binary for each of its two answers.
    pub limit: Duration,
    /// The path of the cache; `None` for no cache.
    pub target_directory: Option<&'a Utf8Path>,
    /// Variables that depend on the run, such as `NEXTEST_RUN_ID`.
    pub environment: &'a [(OsString, OsString)],
    /// Returns what stands before the path of a binary that a wrapper lists.
    pub wrapper: &'a (dyn Fn(&TestBinary) -> Option<Wrapper> + Sync),
}

impl fmt::Debug for ListOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListOptions")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// A wrapper that lists a binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapper {
    /// The words before the path of the binary, at least one.
    pub words: Vec<OsString>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
}

/// Lists binaries as they arrive, as many processes at a time as there are workers.
///
/// # Errors
///
/// With the first binary that could not be listed.
///
/// # Panics
///
/// Without any worker.
pub fn list(
    binaries: Receiver<Arc<TestBinary>>,
    workers: Vec<Box<dyn Execute + '_>>,
    select: &dyn Fn(&TestBinary) -> Selection,
    options: &ListOptions<'_>,
) -> Result<TestList, ListError> {
    assert!(!workers.is_empty(), "without workers nothing can be listed");
    let mut collection = Collection::new(options.target_directory);
    let (jobs, queue) = mpsc::channel::<Job>();
    let (answers, answered) = mpsc::channel::<Answer>();
    let queue = Mutex::new(queue);
    let failed = AtomicBool::new(false);
    let count = workers.len();
    let workers = Mutex::new(workers);
    let next = || workers.lock().expect("no worker panics there").pop();
    let work = |answers: Sender<Answer>| {
        if let Some(mut worker) = next() {
            work(&mut *worker, &queue, &answers, &failed, options);
        }
    };
    thread::scope(|scope| {
        let work = &work;
        let threads = (0..count).filter(|_| {
            let answers = answers.clone();
            let thread = thread::Builder::new();
            thread.spawn_scoped(scope, move || work(answers)).is_ok()
        });
        let is_alone = threads.count() == 0;
        for binary in binaries {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let selection = select(&binary);
            collection.add(binary, selection, &jobs);
        }
        drop(jobs);
        if is_alone {
            // There was no thread to be had.
            work(answers);
        } else {
            drop(answers);
        }
        collection.hear(answered)
    })?;
    collection.parse()?;
    Ok(collection.finish(options.target_directory))
}

#[cfg(test)]
mod tests;
