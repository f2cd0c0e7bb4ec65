//! The processes of a simulation: this program itself, as `plan` and as `run`, in the clone.

use crate::{
    cli::{
        GlobalOptions,
        watch::signals::{Heard, Run, Signals},
    },
    command_error::{CommandError, Kind},
};
use camino::Utf8PathBuf;
use harness_metadata::{Event, EventKind, TestId, exit_code};
use harness_runner::{
    answers::{groups::filter_of, simulation::Verdicts},
    changes::{Checkout, OF_ANOTHER_REPOSITORY},
};
use nix::sys::signal::{Signal, kill};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsString,
    fs, io,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
};

/// The times that a test runs again on each side before it counts as missed.
pub(super) const AGAIN: usize = 3;

/// Signals that end a simulation, and the process that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    signal: Arc<AtomicI32>,
    running: Arc<Run>,
}

impl Stop {
    /// Listens to signals from now on.
    pub(super) fn listen() -> io::Result<Self> {
        let stop = Self::default();
        let heard = stop.clone();
        Signals::block()?.listen(Arc::clone(&stop.running), move |it| heard.hear(it))?;
        Ok(stop)
    }

    fn hear(&self, heard: Heard) -> bool {
        self.signal.store(heard.signal as i32, Ordering::SeqCst);
        // The terminal has sent it to the whole group.
        if let Some(pid) = self.running.pid().filter(|_| !heard.from_terminal) {
            let _ = kill(pid, heard.signal);
        }
        true
    }

    /// Returns the signal that came.
    pub(super) fn signal(&self) -> Option<Signal> {
        Signal::try_from(self.signal.load(Ordering::SeqCst)).ok()
    }
}

/// A process without a result.
#[derive(Debug)]
pub(super) enum Failed {
    /// A signal ends the simulation.
    Stopped(Signal),
    /// It did not build, or could not be planned, for this reason.
    NotBuilt(String),
    /// The simulation itself cannot go on.
    Broken(CommandError),
}

impl From<CommandError> for Failed {
    fn from(error: CommandError) -> Self {
        Self::Broken(error)
    }
}

/// The decision about a test.
#[derive(Deserialize)]
struct Planned {
    test: TestId,
    decision: String,
    reason: String,
}

/// For each test the reason why it would run; `None` if it would not.
pub(super) type Reasons = BTreeMap<TestId, Option<String>>;

/// Starts processes.
pub(super) struct Children {
    program: Utf8PathBuf,
    /// The arguments of each, after its name.
    args: Vec<OsString>,
    /// The folder of the workspace in the clone.
    pub(super) folder: Utf8PathBuf,
    /// The folder of the stores of its runs.
    stores: Utf8PathBuf,
    events: Utf8PathBuf,
    pub(super) stop: Stop,
}

impl Children {
    /// `below` is the folder of the workspace in the repository, `flags` are those of each build, and `limit` is that of a
    /// test, unless the workspace has one.
    pub(super) fn new(
        checkout: &Checkout,
        below: &str,
        flags: &[OsString],
        limit: &str,
        global: &GlobalOptions,
    ) -> Result<Self, CommandError> {
        let internal = |error: io::Error| CommandError::new(Kind::Internal, error);
        let settings = checkout.beside("settings.toml");
        let text = format!(
            "[profile.default]\nslow-timeout = {{ period = \"{limit}\", terminate-after = 1 }}\n"
        );
        fs::write(&settings, text).map_err(internal)?;
        let program = env::current_exe().map_err(internal)?;
        let program = Utf8PathBuf::from_path_buf(program)
            .map_err(|_| internal(io::Error::other("the name of this program is not UTF-8")))?;
        let stores = checkout.beside("stores");
        let target = checkout.beside("target");
        let mut args: Vec<OsString> = Vec::new();
        let mut add = |flag: &str, value: &str| args.extend([flag, value].map(Into::into));
        add("--target-dir", target.as_str());
        add("--runs-dir", stores.as_str());
        add("--tool-config-file", &format!("simulate:{settings}"));
        if let Some(profile) = &global.profile {
            add("--profile", profile);
        }
        if let Some(file) = &global.config_file {
            let file = file.canonicalize_utf8();
            add("--config-file", file.map_err(internal)?.as_str());
        }
        args.push("--cargo-quiet".into());
        args.extend(flags.iter().cloned());
        Ok(Self {
            program,
            args,
            folder: checkout.tree().join(below),
            stores,
            events: checkout.beside("events"),
            stop: Stop::listen().map_err(internal)?,
        })
    }

    /// Returns the store of the workspace, which is the only one in its folder.
    pub(super) fn store(&self) -> Option<Utf8PathBuf> {
        let mut stores = self.stores.read_dir_utf8().ok()?.flatten();
        stores.next().map(|store| store.path().to_owned())
    }

    /// Plans, and returns for each test why it would run, if so.
    pub(super) fn plan(&self, more: &[&str]) -> Result<Reasons, Failed> {
        let output = self.output(&[&["plan", "--json"], more].concat())?;
        if output.status.code() != Some(exit_code::OK) {
            return Err(Failed::NotBuilt(reason(&output)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let planned = text.lines().map(serde_json::from_str::<Planned>);
        let planned: Result<Vec<Planned>, _> = planned.collect();
        let planned = planned.map_err(|error| CommandError::new(Kind::Internal, error))?;
        let tests = planned.into_iter();
        let why = |it: Planned| {
            let runs = it.decision != "cached";
            (it.test, runs.then_some(it.reason))
        };
        Ok(tests.map(why).collect())
    }

    /// Runs all tests, and returns their verdicts.
    pub(super) fn run(&self, more: &[&str]) -> Result<Verdicts, Failed> {
        let finished = self.finished(more)?;
        Ok(finished.into_iter().collect())
    }

    /// Runs tests several times, and returns those whose verdict was the same each time, with it.
    pub(super) fn again(&self, tests: &BTreeSet<TestId>) -> Result<Verdicts, Failed> {
        let filters: Vec<String> = tests.iter().map(filter_of).collect();
        let (times, filter) = (AGAIN.to_string(), filters.join(" | "));
        let args = ["--no-cached", "--stress-count", &times, "-E", &filter];
        let mut all = BTreeMap::<TestId, Vec<_>>::new();
        for (test, verdict) in self.finished(&args)? {
            all.entry(test.without_iteration().0)
                .or_default()
                .push(verdict);
        }
        let same = all.into_iter().filter_map(|(test, verdicts)| {
            let first = verdicts[0];
            (verdicts.iter().all(|it| *it == first)).then_some((test, first))
        });
        Ok(same.collect())
    }

    fn finished(&self, more: &[&str]) -> Result<Vec<(TestId, harness_metadata::Verdict)>, Failed> {
        let events = self.events.as_str();
        let own = ["run", "--no-fail-fast", "--no-tests", "pass"];
        let quiet = ["--status-level", "none", "--final-status-level", "none"];
        let output = self.output(&[&own[..], &quiet, &["--events", events], more].concat())?;
        match output.status.code() {
            Some(exit_code::OK | exit_code::TEST_RUN_FAILED) => {}
            _ => return Err(Failed::NotBuilt(reason(&output))),
        }
        let text = fs::read_to_string(events);
        let text = text.map_err(|error| CommandError::new(Kind::Internal, error))?;
        let finished =
            text.lines().filter_map(
                |line| match serde_json::from_str::<Event>(line).ok()?.kind {
                    EventKind::TestFinished(finished) => Some((finished.test, finished.verdict)),
                    _ => None,
                },
            );
        Ok(finished.collect())
    }

    /// Runs this program to its end.
    fn output(&self, own: &[&str]) -> Result<Output, Failed> {
        if let Some(signal) = self.stop.signal() {
            return Err(Failed::Stopped(signal));
        }
        if !self.folder.join("Cargo.toml").is_file() {
            let reason = "there is no `Cargo.toml` where the workspace is".to_owned();
            return Err(Failed::NotBuilt(reason));
        }
        let internal = |error: io::Error| CommandError::new(Kind::Internal, error);
        let mut command = Command::new(&self.program);
        for name in OF_ANOTHER_REPOSITORY {
            command.env_remove(name);
        }
        let child = command
            .args(own)
            .args(&self.args)
            .current_dir(&self.folder)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(internal)?;
        let running = &self.stop.running;
        running.begin(nix::unistd::Pid::from_raw(child.id().cast_signed()));
        let output = child.wait_with_output();
        running.end();
        // Its result may be that of a part.
        match self.stop.signal() {
            Some(signal) => Err(Failed::Stopped(signal)),
            None => Ok(output.map_err(internal)?),
        }
    }
}

/// Returns the reason that a process gave, in a line.
fn reason(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let errors = said.lines().filter(|line| line.starts_with("error"));
    let first = errors.map(str::trim).next();
    first.map_or_else(|| format!("it ended with {}", output.status), str::to_owned)
}
