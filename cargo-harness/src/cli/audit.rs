//! `cargo harness audit`: what a test does otherwise under other conditions.

mod faults;
mod rounds;
mod words;

use super::{
    GlobalOptions,
    conditions::{self, Condition},
    kept::Kept,
    prepared,
    recordings::{self, Place},
    trials::{Scratch, Trials},
};
use crate::command_error::{CommandError, Kind};
use clap::Args;
use harness_metadata::{TestId, exit_code};
use harness_runner::{
    answers::{
        audit::{Comparison, Observation, Places, compare},
        groups::filter_of_binary,
        rules::Roots,
    },
    report::{plural, style::Styles},
};
use rounds::{Round, Rounds};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

/// Run tests as usual and under other conditions, and tell what they do otherwise: files, addresses, programs, order.
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// The tests, as `run` takes them: parts of their names.
    #[arg(value_name = "TEST", num_args = 1.., required = true)]
    tests: Vec<String>,
    /// Run them so many times as usual and under each condition.
    #[arg(
        long,
        value_name = "N",
        default_value = "2",
        value_parser = clap::value_parser!(u64).range(2..=50)
    )]
    times: u64,
    /// Show every difference.
    #[arg(long)]
    all: bool,
    /// Have each call of the tests fail once instead, in a run of its own, and tell what they make of it.
    #[arg(long, conflicts_with = "times")]
    faults: bool,
    /// Have at most so many calls of a test fail.
    #[arg(
        long,
        value_name = "N",
        default_value = "60",
        requires = "faults",
        value_parser = clap::value_parser!(u64).range(1..=100_000)
    )]
    limit: u64,
    /// Count a test as one that hangs after so many seconds; by default 10, or ten times as long as usual.
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "faults",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    hang_after: Option<u64>,
    /// Print JSON, an object a line.
    #[arg(long, help_heading = "Output options")]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// The comparisons of one test.
struct Audited {
    test: TestId,
    /// The ways in which it ends as usual.
    endings: Vec<String>,
    /// The usual runs among each other.
    usual: Comparison,
    conditions: Vec<(Condition, Comparison)>,
    /// The reasons why a trace may lack something.
    gaps: BTreeSet<String>,
}

impl Audit {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let Kept { root, target, .. } = self.place.locate(global)?;
        let trials = Trials {
            root: &root,
            target: &target,
            global,
        };
        let scratch = Scratch::new(&target)?;
        let roots = Roots::new(&root, &target);
        let [temporary, home] = conditions::folders(&scratch.0);
        let places = Places::new(&roots, temporary.as_std_path(), home.as_std_path());
        let rounds = Rounds {
            names: &self.tests,
            trials: &trials,
            scratch: &scratch,
            roots: &roots,
            places: &places,
        };
        if self.faults {
            return self.faults(&rounds, global);
        }
        let usual = rounds.usual(self.times)?;
        self.announce(&usual, global)?;
        let mut here = Vec::new();
        let binaries = binaries(&usual);
        for condition in Condition::ALL {
            here.push((condition, rounds.under(condition, &binaries, self.times)?));
        }
        let audited = audited(&usual, &here);
        let styles = Styles::new(global.stdout_colors());
        let text: String = match self.json {
            true => audited.iter().map(words::json).collect(),
            false => audited
                .iter()
                .map(|it| words::text(it, self.times, self.all, &styles))
                .collect(),
        };
        recordings::written(io::stdout().write_all(text.as_bytes()), "the answer")?;
        prepared::note(words::INVISIBLE, global.stderr_colors());
        let changes = audited.iter().any(Audited::ends_differently);
        Ok(match changes {
            true => exit_code::TEST_RUN_FAILED,
            false => exit_code::OK,
        })
    }

    fn no_test(&self) -> CommandError {
        let message = format!("no test matches `{}`", self.tests.join(" "));
        CommandError::new(Kind::NoTests, message)
    }

    fn announce(&self, usual: &[Round], global: &GlobalOptions) -> Result<(), CommandError> {
        let count = usual.first().map_or(0, BTreeMap::len);
        if count == 0 {
            return Err(self.no_test());
        }
        let tests = plural(count, "test runs", "tests run");
        let text = format!(
            "{tests} {} times as usual and {} times under each of {} conditions",
            self.times,
            self.times,
            Condition::ALL.len()
        );
        prepared::note(&text, global.stderr_colors());
        Ok(())
    }
}

impl Audited {
    /// Returns whether it ends otherwise under a condition, or from run to run.
    fn ends_differently(&self) -> bool {
        let mut conditions = self.conditions.iter();
        self.endings.len() > 1 || conditions.any(|(_, found)| found.changes_ending())
    }
}

/// Returns a filterset of the binaries that the tests are in.
fn binaries(rounds: &[Round]) -> String {
    let tests = rounds.iter().flat_map(Round::keys);
    let filters: BTreeSet<String> = tests.map(filter_of_binary).collect();
    filters.into_iter().collect::<Vec<_>>().join(" | ")
}

/// Compares the runs of each test.
fn audited(usual: &[Round], here: &[(Condition, Vec<Round>)]) -> Vec<Audited> {
    let tests: BTreeSet<&TestId> = usual.iter().flat_map(Round::keys).collect();
    let of = |test: &TestId, rounds: &[Round]| -> Vec<Observation> {
        let runs = rounds.iter();
        runs.map(|round| round.get(test).cloned().unwrap_or_else(did_not_run))
            .collect()
    };
    let audited = tests.into_iter().map(|test| {
        let as_usual = of(test, usual);
        let conditions = here.iter().map(|(condition, rounds)| {
            let runs = of(test, rounds);
            (*condition, compare(&as_usual, &runs))
        });
        let endings: BTreeSet<String> = as_usual.iter().map(|run| run.ending.clone()).collect();
        let all = here.iter().flat_map(|(_, rounds)| rounds);
        let all = usual.iter().chain(all).filter_map(|round| round.get(test));
        let gaps = all.flat_map(|run| &run.gaps).map(|gap| gap.words());
        Audited {
            test: test.clone(),
            endings: endings.into_iter().collect(),
            usual: compare(&as_usual, &[]),
            conditions: conditions.collect(),
            gaps: gaps.collect(),
        }
    });
    audited.collect()
}

fn did_not_run() -> Observation {
    Observation::without_trace("no result".to_owned())
}
