//! The inputs of a run.

use super::{BreakExec, dispatch::Stress, engine::Away, ladder::Ladder};
use crate::{
    config::settings::{MaxFail, TestSettings},
    protocol::{self, Environment, Identity, Recording, terminated},
    store::TraceFiles,
    stub::cgroup::Cgroups,
    stub::link::Stub,
    tracer::entries::EntryFiles,
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{
    Exit, Fault, Location, Outcome, Quarantine, RunId, TestId,
    event::{RunMode, TraceLevel},
    trace::Backend,
};
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap, ffi::OsString, net::TcpListener, path::PathBuf, sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

/// Everything that a run needs. Complete before the first test starts.
#[derive(Debug)]
pub struct Work {
    /// The run's id.
    pub run_id: RunId,
    /// The kind of items that run.
    pub mode: RunMode,
    /// The profile's name, for the tests' environment.
    pub profile: String,
    /// When the run started.
    pub started_at: chrono::DateTime<chrono::FixedOffset>,
    /// The tests, in the order in which they start.
    pub tests: Vec<Test>,
    /// The binaries that hold them.
    pub binaries: Vec<Binary>,
    /// Tests that can run at the same time; at least 1.
    pub slots: usize,
    /// CPUs of the machine.
    pub cpus: usize,
    /// Bytes of memory for the tests that need some; `None` if that is not known.
    pub memory: Option<u64>,
    /// Limits of test groups.
    pub groups: BTreeMap<String, usize>,
    /// When the run gives up.
    pub max_fail: MaxFail,
    /// The iterations of a stress run.
    pub stress: Option<Stress>,
    /// When the run as a whole is out of time.
    pub global_timeout: Option<Duration>,
    /// The number of listed tests that do not run, for the counts.
    pub skipped: usize,
    /// The number of bytes of a stream to keep.
    pub output_cap: u64,
    /// Whether output is captured or goes where the run's own goes.
    pub capture: Capture,
    /// The standard input of tests without capture.
    pub stdin: StandardInput,
    /// True if every event of a trace is sent at once:
    /// [`harness_metadata::EventKind::AttemptTraced`].
    pub trace_live: bool,
    /// Whether the output of tests is shown while they run.
    pub output_live: bool,
    /// The processes to stop for a debugger, and the command for each.
    pub break_exec: Option<BreakExec>,
    /// The folder for traces; `None` to write none.
    pub trace_files: Option<TraceFiles>,
    /// The files for the functions that tests enter; `None` to record none.
    pub entries: Option<EntryFiles>,
    /// The cgroup of attempts; `None` if cgroups are unavailable.
    pub cgroups: Option<Arc<Cgroups>>,
    /// Stubs that have been started already.
    pub stubs: Vec<Stub>,
    /// The setup scripts, in the order in which they run.
    pub scripts: Vec<Script>,
    /// The services, each as often as there are instances of it.
    pub services: Vec<Service>,
    /// The engine that runs tests elsewhere; `None` if all run here.
    pub remote: Option<Away>,
}

/// A setup script.
#[derive(Debug)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// Its settings and its command.
    pub setup: (Arc<TestSettings>, Binary),
    /// As before, for its teardown.
    pub teardown: Option<(Arc<TestSettings>, Binary)>,
    /// Whether its standard output and its standard error are captured.
    pub capture: [bool; 2],
    /// The tests that want it.
    pub tests: Vec<usize>,
}

/// An instance of a service.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The test group or the binary that it is for; `None` if it is for the whole run.
    pub instance: Option<String>,
    /// Its settings.
    pub settings: Arc<TestSettings>,
    /// Its command.
    pub binary: Binary,
    /// When it is ready.
    pub ready: ReadyWhen,
    /// The command that finds out whether it is ready.
    pub probe: Option<(Arc<TestSettings>, Binary)>,
    /// Variables of the tests that want it.
    pub variables: BTreeMap<String, String>,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// The setup scripts whose variables it has.
    pub scripts: Vec<usize>,
    /// The tests that want it.
    pub tests: Vec<usize>,
    /// They hold its ports until it starts.
    pub reserved: Vec<TcpListener>,
    /// A folder of its own.
    pub folder: Option<TempDir>,
}

/// When a service is ready: everything that is given here holds.
#[derive(Debug)]
pub struct ReadyWhen {
    /// A line of its output matches.
    pub line: Option<Regex>,
    /// A host and a port accept connections.
    pub port: Option<String>,
    /// A file is there. If it is a socket, it accepts connections.
    pub path: Option<PathBuf>,
    /// The time in which that has to be so.
    pub timeout: Duration,
    /// The time between two looks.
    pub interval: Duration,
}

/// The target of the tests' output.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Capture {
    /// Into pipes that the run reads.
    Pipes,
    /// The target of the run's own output. One test runs at a time.
    Inherit {
        /// Whether it has the terminal.
        terminal: bool,
    },
}

/// A program that runs a test's process, such as a debugger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    /// The program and its arguments. The test's command follows.
    pub words: Vec<OsString>,
    /// Its standard input.
    pub stdin: StandardInput,
}

/// The standard input of a test without capture.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum StandardInput {
    /// The input of the run, if it is a terminal.
    #[default]
    Terminal,
    /// The input of the run.
    Own,
    /// None.
    Null,
}

/// A test to run.
#[derive(Debug)]
pub struct Test {
    /// Its id.
    pub id: TestId,
    /// Its settings.
    pub settings: Arc<TestSettings>,
    /// The bytes of memory that have to be available before it starts.
    pub memory: u64,
    /// The entry of the quarantine that has it.
    pub quarantine: Option<Box<Quarantine>>,
    /// Index of its binary.
    pub binary: usize,
    /// Whether it is marked as ignored.
    pub ignored: bool,
    /// The place of its definition.
    pub location: Option<Arc<Location>>,
    /// Its tracing.
    pub tracing: Tracing,
    /// Its policy, as a stub takes it; `None` for none.
    pub policy: Option<Arc<[u8]>>,
    /// The calls that fail, as a stub takes them; `None` for none.
    pub inject: Option<Arc<[u8]>>,
    /// Whether the traces of its attempts are kept whole.
    pub keeps_trace: bool,
    /// Its part in the run.
    pub role: Role,
    /// Whether it is a benchmark that measures.
    pub measured: bool,
    /// The setup scripts whose variables it has.
    pub scripts: Vec<usize>,
    /// The services that it uses.
    pub services: Vec<usize>,
    /// The wrapper that runs it, or its own program, if there is one.
    pub wrapped: Option<Wrapped>,
}

/// A test's process that does not begin with its binary: a wrapper, or the program of a documentation
/// test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// The program and its first arguments, the test's binary included.
    pub program: Vec<OsString>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
    /// The side that knows which test of the binary is to run.
    pub selection: Selection,
}

/// The side that knows which test of a binary is to run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// A test harness, which is given the name, and reports the result.
    Harness,
    /// The command itself. Its exit code is its only word.
    Command,
}

impl Test {
    /// Returns the program and its first arguments.
    pub(super) fn program<'a>(&'a self, binary: &'a Binary) -> &'a [OsString] {
        let wrapped = self.wrapped.as_ref();
        wrapped.map_or(&binary.program, |wrapped| &wrapped.program)
    }

    /// Returns true if its command takes no arguments and has no harness.
    pub(super) fn runs_by_itself(&self) -> bool {
        let wrapped = self.wrapped.as_ref();
        wrapped.is_some_and(|wrapped| wrapped.selection == Selection::Command)
    }
}

/// The part of a process in a run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is a test.
    Test,
    /// It prepares tests.
    Setup {
        /// The script, by its index.
        script: usize,
        /// Whether its standard output and its standard error are captured.
        capture: [bool; 2],
        /// The unit that undoes what it did.
        teardown: Option<usize>,
    },
    /// It undoes what a setup script did.
    Teardown {
        /// The script, by its index.
        script: usize,
        /// As above.
        capture: [bool; 2],
    },
    /// It is a service.
    Service {
        /// The service, by its index.
        service: usize,
    },
    /// It finds out whether a service is ready.
    Probe {
        /// The service, by its index.
        service: usize,
    },
}

/// The tracing of a test, from its settings and the working backends.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracing {
    /// The level.
    pub level: TraceLevel,
    /// By what.
    pub backend: Backend,
    /// Whether calls are recorded where they are made.
    pub recording: Recording,
    /// Whether no_new_privs may be set for it.
    pub no_new_privs: bool,
    /// The tracing of a second time, after a disturbance; `None` for no second time.
    pub ladder: Option<Ladder>,
}

/// A binary that holds tests.
#[derive(Debug)]
pub struct Binary {
    /// The program and its first arguments: a target runner, if there is one, then the binary.
    pub program: Vec<OsString>,
    /// The working directory of its tests.
    pub cwd: PathBuf,
    /// The environment of its tests, without the variables of the run and the test.
    pub environment: Environment,
    /// Whether the standard test harness was found in it.
    pub libtest: bool,
    /// The file that its tests were listed by; `None` if its state is not known.
    pub image: Option<Image>,
}

impl Binary {
    /// Returns the outcome of an attempt that passed. What a target runner executes, and when, is not
    /// known: if the file has changed by now, neither is what has passed.
    pub(super) fn judge_image(&self, test: &Test, exit: Exit) -> Outcome {
        let runs_below = test.program(self).len() > 1;
        match self.image.as_ref().filter(|_| runs_below) {
            Some(image) if image.has_changed() => Outcome::BinaryChanged(Fault {
                message: format!(
                    "`{}` was rebuilt or replaced while its target runner ran, which may have \
                     executed either; start another run",
                    image.path
                ),
            }),
            _ => Outcome::Exited(exit),
        }
    }
}

/// A file as it was when it was asked for its tests.
#[derive(Clone, Debug)]
pub struct Image {
    path: Utf8PathBuf,
    /// The path as a stub takes it.
    terminated: Vec<u8>,
    identity: Identity,
}

impl Image {
    /// A file that was in this state.
    pub fn new(path: &Utf8Path, identity: Identity) -> Self {
        Self {
            path: path.to_owned(),
            terminated: terminated(path.as_os_str()),
            identity,
        }
    }

    pub(super) fn to_protocol(&self) -> protocol::Image<'_> {
        protocol::Image {
            path: &self.terminated,
            identity: self.identity,
        }
    }

    /// Returns true if another file is there now, or none.
    pub(super) fn has_changed(&self) -> bool {
        let found = Identity::of(&self.path);
        !found.is_some_and(|found| found.is_same_content(&self.identity))
    }
}
