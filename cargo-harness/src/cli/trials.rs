//! Runs of a few tests, many times, by this program itself, to see how often they fail.

use super::GlobalOptions;
use crate::command_error::{CommandError, Kind};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{Event, EventKind, TestId, Verdict, exit_code};
use harness_runner::answers::groups::filter_of;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Whether all tests passed, by the number of the iteration.
pub(super) type Results = BTreeMap<usize, bool>;

/// The files of the runs, which go when it is over.
pub(super) struct Scratch(pub(super) Utf8PathBuf);

impl Scratch {
    pub(super) fn new(target: &Utf8Path) -> Result<Self, CommandError> {
        let folder = target.join("harness").join("trials");
        let folder = folder.join(std::process::id().to_string());
        fs::create_dir_all(&folder).map_err(|error| {
            let message = format!("failed to write `{folder}`: {error}");
            CommandError::new(Kind::Write, message)
        })?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If that fails, the files stay in the target folder.
        let _ = fs::remove_dir_all(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

/// Runs to be made.
pub(super) struct Trial<'a> {
    /// The tests whose results count.
    pub(super) tests: Vec<&'a TestId>,
    /// The tests that run.
    pub(super) filter: String,
    /// The tests at a time.
    pub(super) jobs: String,
    /// The number of iterations.
    pub(super) times: u64,
    /// The environment of the runs, beside that of this program.
    pub(super) env: Vec<(&'static str, String)>,
}

impl<'a> Trial<'a> {
    /// These tests at the same time, so many times.
    pub(super) fn of(tests: &[&'a TestId], times: u64) -> Self {
        let filter: Vec<String> = tests.iter().map(|test| filter_of(test)).collect();
        Self {
            tests: tests.to_vec(),
            filter: filter.join(" | "),
            jobs: "2".to_owned(),
            times,
            env: Vec::new(),
        }
    }
}

/// The place and the options of runs.
pub(super) struct Trials<'a> {
    pub(super) root: &'a Utf8Path,
    pub(super) target: &'a Utf8Path,
    pub(super) global: &'a GlobalOptions,
}

impl Trials<'_> {
    /// Makes runs, and returns how each iteration ended.
    pub(super) fn run(
        &self,
        trial: &Trial<'_>,
        scratch: &Utf8Path,
    ) -> Result<Results, CommandError> {
        let failed = |what: String| CommandError::new(Kind::Internal, what);
        let first = trial.tests[0];
        let events = scratch.join("events");
        let mut command = self.command(&scratch.join("runs"), &events)?;
        command
            .args(["-j", &trial.jobs, "--run-ignored", "all"])
            .args(["--stress-count", &trial.times.to_string()])
            .args(["-E", &trial.filter])
            .envs(trial.env.iter().map(|(name, value)| (name, value)));
        let text = finish(command, &events, &first.to_string(), None)?;
        let results = iterations(&text, &trial.tests);
        match u64::try_from(results.len()) == Ok(trial.times) {
            true => Ok(results),
            false => {
                let message = format!(
                    "of {} runs of `{first}` only {} came to an end; has the test another name by now?",
                    trial.times,
                    results.len()
                );
                Err(failed(message))
            }
        }
    }

    /// Returns the command of a run that nothing but its events tells of, with its own store of runs.
    pub(super) fn command(
        &self,
        runs: &Utf8Path,
        events: &Utf8Path,
    ) -> Result<Command, CommandError> {
        let program = env::current_exe().map_err(|error| {
            let message = format!("this program cannot be found: {error}");
            CommandError::new(Kind::Internal, message)
        })?;
        let global = self.global;
        let file = global.config_file.iter();
        let mut command = Command::new(program);
        command
            .args(["run", "--cargo-quiet", "--no-fail-fast", "--retries", "0"])
            .args(["--ignore-default-filter"])
            .args(["--status-level", "none", "--final-status-level", "none"])
            .args(["--events", events.as_str(), "--runs-dir", runs.as_str()])
            .args(["--manifest-path", self.root.join("Cargo.toml").as_str()])
            .args(["--target-dir", self.target.as_str()])
            .args(global.profile.iter().flat_map(|name| ["-P", name]))
            .args(file.flat_map(|file| ["--config-file", file.as_str()]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(command)
    }
}

/// Makes a run of these tests, and returns its events. With a limit for each test, the run is ended by SIGTERM when one
/// exceeds it.
pub(super) fn finish(
    mut command: Command,
    events: &Utf8Path,
    tests: &str,
    limit: Option<Duration>,
) -> Result<String, CommandError> {
    let failed = |what: String| CommandError::new(Kind::Internal, what);
    let started = |error| failed(format!("a run could not be started: {error}"));
    // Those of the run before say nothing.
    let _ = fs::remove_file(events);
    let errors = events.with_extension("errors");
    command.stderr(File::create(&errors).map_err(started)?);
    let mut child = command.spawn().map_err(started)?;
    let mut watched = Watched::new(events, limit);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(started)? {
            break status;
        }
        if watched.is_over() {
            // It cannot be another process: nothing has waited for it.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        }
        thread::sleep(LOOK);
    };
    let ended = watched
        .ended
        .then_some(exit_code::ended_by(Signal::SIGTERM as i32));
    let code = status.code();
    let expected = [Some(exit_code::OK), Some(exit_code::TEST_RUN_FAILED), ended];
    if code.is_none() || !expected.contains(&code) {
        let said = fs::read_to_string(&errors).unwrap_or_default();
        let message = format!("a run of `{tests}` ended with {status}");
        return Err(failed(message).with_detail(said));
    }
    fs::read_to_string(events)
        .map_err(|error| failed(format!("failed to read `{events}`: {error}")))
}

/// The time between two looks at a run.
const LOOK: Duration = Duration::from_millis(10);

/// The events of a run whose tests have a limit.
struct Watched<'a> {
    events: &'a Utf8Path,
    limit: Option<Duration>,
    /// The start of the test, as far as it has been seen.
    began: Option<Instant>,
    /// Whether it has been ended.
    ended: bool,
}

impl<'a> Watched<'a> {
    fn new(events: &'a Utf8Path, limit: Option<Duration>) -> Self {
        Self {
            events,
            limit,
            began: None,
            ended: false,
        }
    }

    /// Returns whether the time of the test is over, once. To build and to list does not count.
    fn is_over(&mut self) -> bool {
        let Some(limit) = self.limit.filter(|_| !self.ended) else {
            return false;
        };
        let Some(began) = self.began else {
            let text = fs::read_to_string(self.events).unwrap_or_default();
            self.began = text.contains("\"attempt-started\"").then(Instant::now);
            return false;
        };
        self.ended = began.elapsed() >= limit;
        self.ended
    }
}

/// Returns for each iteration in which all of these tests ended whether all passed.
fn iterations(events: &str, tests: &[&TestId]) -> Results {
    let mut results: BTreeMap<usize, (usize, bool)> = BTreeMap::new();
    for line in events.lines() {
        let Ok(event) = serde_json::from_str::<Event>(line) else {
            continue;
        };
        let EventKind::TestFinished(finished) = event.kind else {
            continue;
        };
        let (test, iteration) = finished.test.without_iteration();
        if !tests.contains(&&test) {
            continue;
        }
        let passed = finished.verdict == Verdict::Pass;
        let (ended, all) = results.entry(iteration.unwrap_or(0)).or_insert((0, true));
        *ended += 1;
        *all &= passed;
    }
    let whole = results
        .into_iter()
        .filter(|(_, (ended, _))| *ended == tests.len());
    whole
        .map(|(number, (_, passed))| (number, passed))
        .collect()
}
