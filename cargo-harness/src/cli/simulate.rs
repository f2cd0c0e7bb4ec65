//! `cargo harness simulate`: which tests would have been selected, commit by commit, and which would have been missed.
//!
//! The commits are checked out one after the other in a clone. In each, `plan` says which tests would run, then all
//! run, and what they did is compared with the commit before.

mod children;
mod mutants;
mod mutate;
mod shown;

use super::{GlobalOptions, changed, kept::working_directory, prepared};
use crate::command_error::{CommandError, Kind};
use camino::{Utf8Path, Utf8PathBuf};
use children::{AGAIN, Children, Failed, Reasons};
use clap::Args;
use harness_metadata::{TestId, exit_code};
use harness_runner::{
    answers::simulation::{Compared, Method, Verdicts},
    changes::{Checkout, CheckoutError, Commit, Past, Span},
    report::plural,
    reuse,
};
use shown::{Row, Shown};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
};

/// Build and test the last commits of the repository, one after the other, in a clone of it. For each, say which tests
/// would have been selected, and which would have been skipped though their result is another.
#[derive(Debug, Args)]
pub(super) struct SimulateCommand {
    /// The number of commits, the latest ones along first parents.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    commits: u32,
    /// Begin after this revision, and go on for so many commits at most.
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// End with this revision.
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    head: String,
    /// Compare so many small changes of the sources of the last revision instead, such as another operator or constant.
    /// They run with your rights: a program that is wrong may do anything.
    #[arg(long, value_name = "N", conflicts_with_all = ["commits", "base"], value_parser = clap::value_parser!(u32).range(1..))]
    mutants: Option<u32>,
    /// Choose them by this number.
    #[arg(long, value_name = "SEED", default_value = "0", requires = "mutants")]
    seed: u64,
    /// Path to Cargo.toml.
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<Utf8PathBuf>,
    /// Print JSON, an object for each commit and one for all.
    #[arg(long, help_heading = "Output options")]
    json: bool,
    /// Flags of each build and run, such as `--all-features`.
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

/// A commit whose tests have run.
struct Known {
    commit: String,
    verdicts: Verdicts,
    /// The source files that tests entered.
    files: BTreeMap<TestId, BTreeSet<String>>,
}

/// The tests that each way selects.
type Selected = BTreeMap<Method, BTreeSet<TestId>>;

/// A side of a comparison.
#[derive(Copy, Clone, Debug)]
enum Side {
    Before,
    Now,
}

/// The simulation of a history.
struct Simulation {
    checkout: Checkout,
    children: Children,
    /// The file `Cargo.lock` of the user, which may be ignored by git.
    lock: Utf8PathBuf,
}

impl SimulateCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let folder = self.folder()?;
        let past = self.past(&folder, global)?;
        let folder = folder.canonicalize_utf8().unwrap_or(folder);
        let below = folder.as_std_path().strip_prefix(&past.top).ok();
        let below = below.and_then(|it| it.to_str()).unwrap_or_default();
        let checkout = Checkout::new(&past.top).map_err(checkout_error)?;
        let simulation = Simulation {
            children: Children::new(&checkout, below, &self.flags, self.limit(), global)?,
            checkout,
            lock: folder.join("Cargo.lock"),
        };
        let noun = match self.mutants {
            None => ("commit", "commits"),
            Some(_) => ("mutant", "mutants"),
        };
        let mut shown = Shown::new(noun, self.json, global.stdout_colors());
        let done = match (self.mutants, past.commits.last()) {
            (Some(most), Some(head)) => {
                let choice = (most as usize, self.seed);
                simulation.mutate(head, choice, &mut shown, global)
            }
            _ => simulation.go_through(&past.commits, &mut shown, global),
        };
        let stopped = match done {
            Ok(()) => None,
            Err(Failed::Stopped(signal)) => Some(signal),
            Err(Failed::Broken(error)) => return Err(error),
            Err(Failed::NotBuilt(reason)) => {
                let message =
                    format!("none of these commits can be built and run; the last one: {reason}");
                return Err(CommandError::new(Kind::Build, message));
            }
        };
        shown.conclude()?;
        if let Some(signal) = stopped {
            let message = format!(
                "{signal} ended the simulation after {}",
                plural(shown.rows(), noun.0, noun.1)
            );
            return Err(CommandError::new(Kind::EndedBy(signal as i32), message));
        }
        match shown.wrong() {
            0 => Ok(exit_code::OK),
            wrong => {
                let results = plural(wrong, "result", "results");
                let message =
                    format!("{results} would have been missed by functions or executables");
                Err(CommandError::new(Kind::TestRun, message))
            }
        }
    }

    /// Returns the time limit of a test. A mutant may run without end.
    fn limit(&self) -> &'static str {
        match self.mutants {
            None => "2m",
            Some(_) => "10s",
        }
    }

    /// Returns the folder of the workspace.
    fn folder(&self) -> Result<Utf8PathBuf, CommandError> {
        let cwd = working_directory()?;
        let manifest = self.manifest_path.as_ref().map(|path| cwd.join(path));
        match manifest {
            None => Ok(cwd),
            Some(manifest) if manifest.is_file() => {
                let folder = manifest.parent();
                Ok(folder.map_or(cwd, Utf8Path::to_owned))
            }
            Some(manifest) => {
                let message = format!("there is no manifest `{manifest}`");
                Err(CommandError::new(Kind::Metadata, message))
            }
        }
    }

    fn past(&self, folder: &Utf8Path, global: &GlobalOptions) -> Result<Past, CommandError> {
        let span = Span {
            most: self.mutants.map_or(self.commits, |_| 1) as usize,
            base: self.base.clone(),
            head: self.head.clone(),
        };
        let past = Past::of(folder, &span).map_err(changed::git_error)?;
        let colors = global.stderr_colors();
        let pairs = past.commits.len().saturating_sub(1);
        let shallow = past.shallow && self.base.is_none() && pairs < span.most;
        let hint = "`git fetch --unshallow` fetches the rest of the history";
        if pairs == 0 && self.mutants.is_none() {
            let message = match &self.base {
                Some(base) => format!("`{}` has no commit after `{base}`", self.head),
                None => format!(
                    "`{}` is the only commit, and a comparison takes two",
                    self.head
                ),
            };
            let error = CommandError::new(Kind::Setup, message);
            return Err(if shallow {
                error.with_hint(hint)
            } else {
                error
            });
        }
        if shallow && self.mutants.is_none() {
            let text = format!(
                "this is a shallow clone, so only {} simulated; {hint}",
                plural(pairs, "commit is", "commits are")
            );
            prepared::warn(&text, colors);
        }
        if past.dirty {
            let text = "what is not committed is no part of the simulation";
            prepared::note(text, colors);
        }
        Ok(past)
    }
}

fn checkout_error(error: CheckoutError) -> CommandError {
    match error {
        CheckoutError::Git(error) => changed::git_error(error),
        error => CommandError::new(Kind::Write, error),
    }
}

impl Simulation {
    /// Goes through the commits, the oldest first. The first one that can be built is the one to begin with.
    fn go_through(
        &self,
        commits: &[Commit],
        shown: &mut Shown,
        global: &GlobalOptions,
    ) -> Result<(), Failed> {
        let mut last: Option<Known> = None;
        let mut reason = String::new();
        for (number, commit) in commits.iter().enumerate() {
            self.checkout
                .to(&commit.id)
                .map_err(|error| self.git(error))?;
            if number == 0 {
                self.take_lock();
            }
            let stepped = match &last {
                None => self.begin(commit).map(|known| (known, None)),
                Some(last) => self.step(last, commit, global),
            };
            match stepped {
                Ok((known, row)) => {
                    last = Some(known);
                    if let Some(row) = row {
                        shown.add(row)?;
                    }
                }
                Err(Failed::NotBuilt(why)) => {
                    reason.clone_from(&why);
                    shown.add(Row::not_built(commit, why))?;
                }
                Err(failed) => return Err(failed),
            }
        }
        match last {
            Some(_) => Ok(()),
            None => Err(Failed::NotBuilt(reason)),
        }
    }

    /// Copies `Cargo.lock` if the repository has none: the dependencies could be others than the user's.
    fn take_lock(&self) {
        let own = self.children.folder.join("Cargo.lock");
        if self.lock.is_file() && !own.exists() {
            // Then cargo chooses versions.
            let _ = fs::copy(&self.lock, own);
        }
    }

    /// Returns an error of git, which a signal may have ended.
    fn git(&self, error: harness_runner::changes::GitError) -> Failed {
        match self.children.stop.signal() {
            Some(signal) => Failed::Stopped(signal),
            None => Failed::Broken(changed::git_error(error)),
        }
    }

    fn begin(&self, commit: &Commit) -> Result<Known, Failed> {
        let verdicts = self.children.run(&["--record"])?;
        Ok(self.known(commit, verdicts))
    }

    fn known(&self, commit: &Commit, verdicts: Verdicts) -> Known {
        let tree = format!("{}/", self.checkout.tree());
        let store = self.children.store();
        let files = store.map(|store| reuse::entered_files(&store));
        let files = files.unwrap_or_default().into_iter();
        let files = files.map(|(test, files)| {
            let files = files.iter().filter_map(|it| it.strip_prefix(&tree));
            (test, files.map(str::to_owned).collect())
        });
        Known {
            commit: commit.id.clone(),
            verdicts,
            files: files.collect(),
        }
    }

    /// Compares a commit with the last one whose tests ran.
    fn step(
        &self,
        last: &Known,
        commit: &Commit,
        global: &GlobalOptions,
    ) -> Result<(Known, Option<Row>), Failed> {
        let changed = self.checkout.changed(&last.commit, &commit.id);
        let changed = changed.map_err(|error| self.git(error))?;
        let since = format!("--changed={}", last.commit);
        let (selected, reasons) = self.selected(last, &changed, &since)?;
        let verdicts = self.children.run(&["--record"])?;
        let known = self.known(commit, verdicts);
        let mut compared = Compared::new(&last.verdicts, &known.verdicts, &selected);
        let suspects = compared.suspects();
        if !suspects.is_empty() {
            let to = |side| {
                let commit = match side {
                    Side::Before => &last.commit,
                    Side::Now => &known.commit,
                };
                self.checkout.to(commit).map_err(|error| self.git(error))
            };
            let verdicts = (&last.verdicts, &known.verdicts);
            compared.clear(self.by_chance(verdicts, &suspects, &to, global)?);
        }
        let row = Row::new(commit, &changed, compared, reasons);
        Ok((known, Some(row)))
    }

    /// Returns the tests that each way selects, and the reasons of the first one.
    fn selected(
        &self,
        last: &Known,
        changed: &[String],
        since: &str,
    ) -> Result<(Selected, Reasons), Failed> {
        let children = &self.children;
        let (reasons, whole) = (
            children.plan(&[])?,
            children.plan(&["--whole-executables"])?,
        );
        let of_packages = children.plan(&[since])?.into_keys();
        let run = |reasons: &Reasons| -> BTreeSet<TestId> {
            let tests = reasons.iter().filter(|(_, reason)| reason.is_some());
            tests.map(|(test, _)| test.clone()).collect()
        };
        let mut selected = BTreeMap::from([
            (Method::Functions, run(&reasons)),
            (Method::Executables, run(&whole)),
            (Method::Packages, of_packages.collect()),
        ]);
        let touched = |test: &&TestId| {
            let files = last.files.get(*test);
            files.is_none_or(|files| changed.iter().any(|it| files.contains(it)))
        };
        // Where no executable has debugging information, nothing can be said.
        if !last.files.is_empty() {
            let files = last.verdicts.keys().filter(touched).cloned().collect();
            selected.insert(Method::Files, files);
        }
        Ok((selected, reasons))
    }

    /// Runs tests again on both sides, which `to` brings about, and returns those that do not have the same verdicts as
    /// before each time.
    fn by_chance(
        &self,
        verdicts: (&Verdicts, &Verdicts),
        suspects: &BTreeSet<TestId>,
        to: &dyn Fn(Side) -> Result<(), Failed>,
        global: &GlobalOptions,
    ) -> Result<BTreeSet<TestId>, Failed> {
        let text = format!(
            "{} with another result and would have been skipped: {AGAIN} more runs on both sides",
            plural(suspects.len(), "test ended", "tests ended")
        );
        prepared::note(&text, global.stderr_colors());
        let after = self.children.again(suspects)?;
        to(Side::Before)?;
        let before = self.children.again(suspects)?;
        to(Side::Now)?;
        let same = |test: &TestId| {
            let sides = [(&before, verdicts.0), (&after, verdicts.1)];
            let mut sides = sides.iter();
            sides.all(|(again, first)| again.get(test) == first.get(test))
        };
        Ok(suspects.iter().filter(|it| !same(it)).cloned().collect())
    }
}
