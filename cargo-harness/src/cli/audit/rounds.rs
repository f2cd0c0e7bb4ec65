//! Runs of some tests at the level `full`, and what each test did in them.

use super::super::{
    conditions::Condition,
    trials::{Scratch, Trials, finish},
};
use crate::command_error::{CommandError, Kind};
use camino::Utf8Path;
use harness_metadata::{Attempt, Event, EventKind, TestId};
use harness_runner::{
    answers::{
        audit::{Observation, Places, observe},
        rules::Roots,
    },
    report::attempt_status,
    store::{Found, last::last_of_each},
};
use std::{collections::BTreeMap, fs, process::Command, time::Duration};

/// The observations of one run, by test.
pub(super) type Round = BTreeMap<TestId, Observation>;

/// A test in one run.
pub(super) struct Ran {
    pub(super) attempt: Attempt,
    /// Its trace, if it has one.
    pub(super) found: Option<Found>,
}

/// The runs of an audit.
pub(super) struct Rounds<'a> {
    /// The tests, as `run` takes them.
    pub(super) names: &'a [String],
    pub(super) trials: &'a Trials<'a>,
    pub(super) scratch: &'a Scratch,
    pub(super) roots: &'a Roots,
    pub(super) places: &'a Places,
}

impl Rounds<'_> {
    /// Makes runs as usual.
    pub(super) fn usual(&self, times: u64) -> Result<Vec<Round>, CommandError> {
        let round = |_| {
            self.one(|command| {
                command.args(self.names).args(["-j", "1"]);
            })
        };
        (0..times).map(round).collect()
    }

    /// Makes runs under a condition. `binaries` selects all tests of the binaries of these tests.
    pub(super) fn under(
        &self,
        condition: Condition,
        binaries: &str,
        times: u64,
    ) -> Result<Vec<Round>, CommandError> {
        let scratch = &self.scratch.0;
        let round = |_| {
            let env = condition.env(scratch).map_err(|error| {
                let message = format!("failed to write `{scratch}`: {error}");
                CommandError::new(Kind::Write, message)
            })?;
            condition.during(|| {
                self.one(|command| {
                    command.envs(env);
                    match condition {
                        Condition::Beside => command.args(["-E", binaries, "-j", "num-cpus"]),
                        _ => command.args(self.names).args(["-j", "1"]),
                    };
                })
            })
        };
        (0..times).map(round).collect()
    }

    fn one(&self, choose: impl FnOnce(&mut Command)) -> Result<Round, CommandError> {
        let runs = self.scratch.0.join("runs");
        let ran = self.ran(&runs, None, choose)?;
        let round = ran.into_iter().map(|(test, ran)| {
            let observed = self.observed(&ran).map_err(|message| {
                let message = format!("the trace of `{test}` cannot be read: {message}");
                CommandError::new(Kind::Internal, message)
            })?;
            Ok((test, observed))
        });
        let round = round.collect();
        // The next run has the folder for itself. What stays goes with the folder of all.
        let _ = fs::remove_dir_all(&runs);
        round
    }

    /// Makes a run, and returns its tests. With a limit for each of them, the run is ended when one exceeds it.
    pub(super) fn ran(
        &self,
        runs: &Utf8Path,
        limit: Option<Duration>,
        choose: impl FnOnce(&mut Command),
    ) -> Result<BTreeMap<TestId, Ran>, CommandError> {
        let events = self.scratch.0.join("events");
        let mut command = self.trials.command(runs, &events)?;
        command.args(["--trace", "full", "--no-tests", "pass", "--no-cached"]);
        choose(&mut command);
        let text = finish(command, &events, &self.names.join(" "), limit)?;
        let mut ran = attempts(&text);
        // Without a test there is no run.
        let traced = match ran.is_empty() {
            true => Vec::new(),
            false => last_of_each(runs, self.trials.root)
                .map_err(|error| CommandError::new(Kind::Internal, error))?,
        };
        for last in traced {
            if let Some(ran) = ran.get_mut(&last.test) {
                ran.found = last.found;
            }
        }
        Ok(ran)
    }

    pub(super) fn observed(&self, ran: &Ran) -> Result<Observation, String> {
        let ending = attempt_status(&ran.attempt);
        match &ran.found {
            Some(found) => {
                observe(found, ending, self.roots, self.places).map_err(|error| error.to_string())
            }
            None => Ok(Observation::without_trace(ending)),
        }
    }
}

/// Returns the last attempt of each test that ended.
fn attempts(events: &str) -> BTreeMap<TestId, Ran> {
    let events = events.lines();
    let events = events.filter_map(|line| serde_json::from_str::<Event>(line).ok());
    let ended = events.filter_map(|event| match event.kind {
        EventKind::TestFinished(mut finished) => {
            let attempt = finished.attempts.pop()?;
            Some((
                finished.test,
                Ran {
                    attempt,
                    found: None,
                },
            ))
        }
        _ => None,
    });
    ended.collect()
}
