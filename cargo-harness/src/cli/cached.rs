//! Passes that are used again: the options of `run`, and what is said about them.

use super::{changed, prepared, runner_options::RunnerArgs};
use crate::command_error::{CommandError, Kind};
use clap::Args;
use harness_metadata::TestId;
use harness_runner::{
    changes::Since,
    config::{
        CliOverrides,
        settings::{Percent, ReuseMode},
    },
    report::plural,
    reuse::Observed,
    session::{Deciding, Session},
};
use std::collections::BTreeMap;

/// Options for passes that are used again.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Reuse options")]
pub(super) struct CachedArgs {
    /// Leave out tests that cannot have changed since they passed; store what passes rest on. Tests are traced at the
    /// level `full`.
    #[arg(long, conflicts_with = "no_cached")]
    pub(super) cached: bool,
    /// Store no passes and use none, whatever the profile says.
    #[arg(long)]
    pub(super) no_cached: bool,
    /// Store what passes rest on, and run all tests, whatever the profile says.
    #[arg(long, conflicts_with_all = ["cached", "no_cached", "affected"])]
    pub(super) record: bool,
    /// Leave out tests that asked for no file that has changed since this revision, or since the main branch.
    #[arg(
        long,
        value_name = "BASE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        conflicts_with_all = ["cached", "no_cached"]
    )]
    pub(super) affected: Option<String>,
    /// Run this part of the tests that need not run, and compare; one test at least, unless it is `0%`.
    #[arg(long, value_name = "PERCENT")]
    pub(super) audit: Option<Percent>,
    /// Use stored passes, and store none.
    #[arg(long, env = "HARNESS_CACHE_READ_ONLY", value_parser = clap::builder::FalseyValueParser::new())]
    pub(super) cache_read_only: bool,
}

impl CachedArgs {
    /// Adds the settings of the command line.
    pub(super) fn add_to(&self, overrides: &mut CliOverrides) {
        overrides.run.reuse_mode = match (self.cached, self.no_cached, self.record) {
            (true, ..) => Some(ReuseMode::Cached),
            (_, true, _) => Some(ReuseMode::Off),
            (.., true) => Some(ReuseMode::Record),
            _ => None,
        };
        overrides.run.reuse_audit = self.audit;
        overrides.run.reuse_read_only = self.cache_read_only.then_some(true);
    }

    /// Returns the measure by which tests need not run.
    pub(super) fn deciding(&self) -> Deciding {
        match self.affected.as_deref() {
            None => Deciding::Profile,
            Some("") => Deciding::Affected(Since::Main),
            Some(base) => Deciding::Affected(Since::Revision(base.to_owned())),
        }
    }

    fn given(&self) -> Option<&'static str> {
        match (self.cached, &self.affected, self.record) {
            (true, ..) => Some("--cached"),
            (_, Some(_), _) => Some("--affected"),
            (.., true) => Some("--record"),
            _ => None,
        }
    }

    /// Leaves out the tests of a session that need not run. Returns whether there was none before.
    pub(super) fn leave_out(
        &self,
        runner: &RunnerArgs,
        no_capture: bool,
        session: &mut Session,
        colors: bool,
    ) -> Result<bool, CommandError> {
        let none = session.plan.tests.is_empty();
        let deciding = self.deciding();
        if !session.reuses(&deciding) {
            return Ok(none);
        }
        if let Some((flag, why)) = in_the_way(runner, no_capture) {
            return match self.given() {
                Some(given) => {
                    let message = format!("`{given}` cannot be used with `{flag}`: {why}");
                    Err(CommandError::new(Kind::Usage, message))
                }
                None => {
                    let text = format!("passes are neither stored nor used with `{flag}`: {why}");
                    prepared::note(&text, colors);
                    Ok(none)
                }
            };
        }
        let mut notify = |notice| prepared::tell(&notice, colors);
        let decided = session
            .decide(&deciding, &mut notify)
            .map_err(changed::git_error)?;
        if session.uses_passes(&deciding) {
            session.leave_out(&deciding, decided);
        }
        Ok(none)
    }
}

/// Returns a flag with which a test does not run as its pass would say, and why.
fn in_the_way(runner: &RunnerArgs, no_capture: bool) -> Option<(&'static str, &'static str)> {
    if runner.runs_below() {
        return Some(("--debugger", "the test runs below another program"));
    }
    if runner.break_exec.is_some() {
        return Some(("--break-exec", "its processes are stopped"));
    }
    if !runner.inject.is_empty() {
        return Some(("--inject", "calls fail that worked when the test passed"));
    }
    if runner.stress().is_some() {
        return Some(("--stress-count", "a stress run is there to run all tests"));
    }
    if no_capture {
        return Some(("--no-capture", "tests see the terminal"));
    }
    None
}

/// Says what has been learned of passes, if something is wrong; `verbose` says all.
pub(super) fn conclude(observed: Option<&Observed>, verbose: bool, colors: bool) {
    let Some(observed) = observed else { return };
    for audit in &observed.audits {
        if let Some(mismatch) = &audit.mismatch {
            let text = format!(
                "reuse is off for `{}` until its binary changes: {mismatch}, though nothing that its pass rests \
                 on had changed",
                audit.test
            );
            prepared::warn(&text, colors);
        }
    }
    let right = observed.audits.iter().filter(|it| it.mismatch.is_none());
    let right = right.count();
    if right > 0 {
        let tests = plural(right, "test", "tests");
        let text = format!("{tests} ran as a sample, and nothing differed");
        prepared::note(&text, colors);
    }
    if let Some(error) = &observed.unwritten {
        prepared::warn(&format!("{error}, so no pass is stored"), colors);
    }
    let mut unrecorded: BTreeMap<&str, Vec<&TestId>> = BTreeMap::new();
    for (test, reason) in &observed.unrecorded {
        unrecorded.entry(reason).or_default().push(test);
    }
    for (reason, tests) in unrecorded {
        let more = match tests.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let text = format!(
            "the functions that `{}`{more} entered are not known, so executables count as a whole for it: {reason}",
            tests[0]
        );
        prepared::note(&text, colors);
    }
    if verbose {
        for (test, reason) in &observed.refused {
            let text = format!("the pass of `{test}` is not used again: {reason}");
            prepared::note(&text, colors);
        }
    }
}
