//! `--confirm`: runs pairs together and each test alone until it is clear whether they clash.

use super::super::{
    prepared,
    trials::{Results, Scratch, Trial, Trials},
};
use crate::command_error::CommandError;
use camino::Utf8Path;
use harness_metadata::TestId;
use harness_runner::{
    answers::{
        conflicts::Conflict,
        statistics::{Counts, ERROR, LOOKS, Look, highest_rate, look},
    },
    report::plural,
};

/// The result of trying a pair.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) struct Tried {
    pub(super) together: Counts,
    pub(super) alone: Counts,
    pub(super) look: Look,
}

impl Tried {
    pub(super) fn is_confirmed(&self) -> bool {
        matches!(self.look, Look::Confirmed(_))
    }

    /// Says what came out.
    pub(super) fn words(&self) -> String {
        let Self {
            together, alone, ..
        } = self;
        let counts = format!(
            "failed {} of {} times together and {} of {} times alone",
            together.failed, together.runs, alone.failed, alone.runs
        );
        match self.look {
            Look::Confirmed(chance) => {
                format!("confirmed: {counts} (Fisher's exact test, p = {chance:.1e})")
            }
            Look::Unclear(_) if together.failed == 0 => format!(
                "not seen: {counts}; a rate of up to {:.1} % is possible (99 % confidence)",
                100.0 * highest_rate(together.runs)
            ),
            Look::Unclear(chance) => {
                format!("unclear: {counts} (Fisher's exact test, p = {chance:.2})")
            }
        }
    }
}

/// Tries pairs.
pub(super) struct Trying<'a> {
    pub(super) trials: Trials<'a>,
}

impl Trying<'_> {
    /// Says how many runs a number of pairs takes at most, and how it is decided.
    pub(super) fn announce(&self, pairs: usize) {
        let most = LOOKS[LOOKS.len() - 1];
        let pairs = plural(pairs, "pair is", "pairs are");
        let text = format!(
            "{pairs} run, each at most {most} times together and each test {most} times alone; it is looked at \
             after {LOOKS:?} times, and all looks at a pair together confirm a clash wrongly with a probability \
             of at most {} %",
            100.0 * ERROR
        );
        prepared::note(&text, self.trials.global.stderr_colors());
    }

    /// Tries a pair until it is clear, or the last look.
    pub(super) fn pair(&self, pair: &Conflict) -> Result<Tried, CommandError> {
        let scratch = Scratch::new(self.trials.target)?;
        let (one, other) = (&pair.one.test, &pair.other.test);
        let (mut together, mut alone) = (Counts::default(), Counts::default());
        let mut before = 0;
        loop {
            let index = LOOKS.iter().position(|at| *at > before);
            let at = LOOKS[index.expect("the loop ends with the last look")];
            let times = at - before;
            let both = self.run(&[one, other], times, &scratch.0)?;
            together.runs += times;
            together.failed += failed(&[&both]);
            // A run of both alone fails if one of them does, as one of both together.
            let ones = self.run(&[one], times, &scratch.0)?;
            let others = self.run(&[other], times, &scratch.0)?;
            alone.runs += times;
            alone.failed += failed(&[&ones, &others]);
            let look = look(together, alone);
            let tried = Tried {
                together,
                alone,
                look,
            };
            if tried.is_confirmed() || at == LOOKS[LOOKS.len() - 1] {
                return Ok(tried);
            }
            before = at;
        }
    }

    /// Runs tests at the same time, so many times.
    fn run(
        &self,
        tests: &[&TestId],
        times: u64,
        scratch: &Utf8Path,
    ) -> Result<Results, CommandError> {
        self.trials.run(&Trial::of(tests, times), scratch)
    }
}

/// Returns in how many iterations one of these failed.
fn failed(runs: &[&Results]) -> u64 {
    let numbers = runs[0].keys();
    let fails = |number: &&usize| runs.iter().any(|run| run.get(*number) == Some(&false));
    numbers.filter(fails).count() as u64
}
