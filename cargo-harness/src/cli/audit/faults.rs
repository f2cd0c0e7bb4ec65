//! `cargo harness audit --faults`: each call of a test fails once, in a run of its own.

mod judge;
mod words;

use super::{
    Audit,
    rounds::{Ran, Rounds},
};
use crate::{
    cli::{GlobalOptions, prepared, recordings},
    command_error::{CommandError, Kind},
};
use harness_metadata::{TestId, Verdict, exit_code};
use harness_runner::{
    answers::{
        faults::{Fault, faults},
        groups::filter_of,
    },
    report::{plural, style::Styles},
};
use judge::{Findings, Usual};
use nix::errno::Errno;
use std::{
    fs,
    io::{self, Write},
    time::Duration,
};

/// The least time after which a test counts as one that hangs.
const LEAST: Duration = Duration::from_secs(10);

/// So many times as long as usual counts as hanging, if that is more.
const TIMES: u32 = 10;

/// A call that failed, and the result.
struct Tried {
    fault: Fault,
    /// The request, as `run --inject` takes it.
    request: String,
    findings: Findings,
}

/// The trials of one test.
struct Tested {
    test: TestId,
    tried: Vec<Tried>,
    /// The number of calls that were not tried.
    left_out: usize,
}

impl Audit {
    /// Has the calls of the tests fail, one in each run.
    pub(super) fn faults(
        &self,
        rounds: &Rounds<'_>,
        global: &GlobalOptions,
    ) -> Result<i32, CommandError> {
        let colors = global.stderr_colors();
        let runs = rounds.scratch.0.join("usual");
        let usual = rounds.ran(&runs, None, |command| {
            command.args(&self.tests).args(["-j", "1"]);
        })?;
        if usual.is_empty() {
            return Err(self.no_test());
        }
        let mut all = Vec::new();
        for (test, ran) in usual {
            match self.chosen(rounds, &test, &ran)? {
                Ok((usual, chosen, left_out)) => {
                    let calls = plural(chosen.len(), "call", "calls");
                    prepared::note(
                        &format!("{calls} of `{test}` fail, each in a run of its own"),
                        colors,
                    );
                    let tried = chosen.into_iter();
                    let tried = tried.map(|fault| self.one(rounds, &test, &usual, fault));
                    let tried = tried.collect::<Result<Vec<_>, _>>()?;
                    all.push(Tested {
                        test,
                        tried,
                        left_out,
                    });
                }
                Err(why) => prepared::warn(
                    &format!("no call of `{test}` is made to fail: {why}"),
                    colors,
                ),
            }
        }
        let styles = Styles::new(global.stdout_colors());
        let text: String = match self.json {
            true => all.iter().map(words::json).collect(),
            false => all
                .iter()
                .map(|it| words::text(it, self.all, &styles))
                .collect(),
        };
        recordings::written(io::stdout().write_all(text.as_bytes()), "the answer")?;
        prepared::note(words::NOT_TRIED, colors);
        let mut findings = all.iter().flat_map(|it| &it.tried);
        Ok(match findings.any(|it| it.findings.is_fault()) {
            true => exit_code::TEST_RUN_FAILED,
            false => exit_code::OK,
        })
    }

    /// Returns a test as usual, the failures to try, and how many are left out; or why none can be tried.
    #[expect(
        clippy::type_complexity,
        reason = "the parts are named where they arrive"
    )]
    fn chosen(
        &self,
        rounds: &Rounds<'_>,
        test: &TestId,
        ran: &Ran,
    ) -> Result<Result<(Usual, Vec<Fault>, usize), String>, CommandError> {
        if ran.attempt.verdict != Verdict::Pass {
            return Ok(Err("it does not pass as usual".to_owned()));
        }
        let Some(found) = &ran.found else {
            return Ok(Err("it cannot be traced here".to_owned()));
        };
        let unreadable = |error: String| {
            let message = format!("the trace of `{test}` cannot be read: {error}");
            CommandError::new(Kind::Internal, message)
        };
        let all = faults(found, rounds.roots, rounds.places);
        let mut all = all.map_err(|error| unreadable(error.to_string()))?;
        let usual = Usual::of(rounds, ran).map_err(unreadable)?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let left_out = all.len().saturating_sub(limit);
        all.truncate(limit);
        Ok(match all.is_empty() {
            true => Err("it makes none on a place of its own".to_owned()),
            false => Ok((usual, all, left_out)),
        })
    }

    /// Runs a test while one call of it fails.
    fn one(
        &self,
        rounds: &Rounds<'_>,
        test: &TestId,
        usual: &Usual,
        fault: Fault,
    ) -> Result<Tried, CommandError> {
        let errno = format!("{:?}", Errno::from_raw(fault.errno));
        let request = fault.request(&errno);
        let runs = rounds.scratch.0.join("runs");
        let limit = match self.hang_after {
            Some(seconds) => Duration::from_secs(seconds),
            None => LEAST.max(usual.elapsed * TIMES),
        };
        let ran = rounds.ran(&runs, Some(limit), |command| {
            command.args(["-E", &filter_of(test), "-j", "1"]);
            command.args(["--inject", &request]);
        })?;
        let findings = match ran.get(test) {
            Some(ran) => Findings::of(rounds, usual, ran, &fault),
            None => Err("it did not run".to_owned()),
        };
        let _ = fs::remove_dir_all(&runs);
        let findings = findings.map_err(|why| {
            let message =
                format!("the run of `{test}` with `--inject '{request}'` says nothing: {why}");
            CommandError::new(Kind::Internal, message)
        })?;
        Ok(Tried {
            fault,
            request,
            findings,
        })
    }
}
