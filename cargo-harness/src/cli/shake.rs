//! `cargo harness shake`: runs one test under other conditions, and tells under which it fails more often.

use super::{
    GlobalOptions,
    conditions::Condition,
    kept::Kept,
    prepared,
    recordings::{self, Place},
    trials::{Results, Scratch, Trial, Trials},
};
use crate::command_error::{CommandError, Kind};
use clap::Args;
use harness_metadata::{TestId, exit_code};
use harness_runner::{
    answers::{
        groups::filter_of_binary,
        statistics::{Counts, ERROR, LOOKS, chance, highest_rate},
    },
    report::style::Styles,
    store::{Query, find},
};
use serde_json::json;
use std::io::{self, Write};

/// Run a test many times, as usual and under other conditions, and tell which of them make it fail.
#[derive(Debug, Args)]
pub(super) struct Shake {
    /// The test: its name, a part of it, or its binary's id and its name. A run of it must be kept.
    #[arg(value_name = "TEST", num_args = 1..=2, required = true)]
    test: Vec<String>,
    /// Print JSON, an object a line.
    #[arg(long, help_heading = "Output options")]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// The comparison of a condition with the usual ones.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Found {
    /// It fails more often: the probability that chance alone does so.
    More(f64),
    /// It fails less often.
    Less(f64),
    Unclear,
}

/// The runs under a condition.
#[derive(Copy, Clone, Debug)]
struct Shaken {
    condition: Condition,
    counts: Counts,
    found: Found,
}

/// Compares runs under a condition with as many usual ones. Each look at each condition may be wrong with a part
/// of [`ERROR`].
#[expect(clippy::cast_precision_loss, reason = "these are a few dozens")]
fn compare(counts: Counts, usual: Counts) -> Found {
    let limit = ERROR / (2 * LOOKS.len() * Condition::ALL.len()) as f64;
    let (more, less) = (chance(counts, usual), chance(usual, counts));
    match () {
        () if more < limit => Found::More(more),
        () if less < limit => Found::Less(less),
        () => Found::Unclear,
    }
}

impl Shake {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let Kept {
            root,
            store,
            target,
        } = self.place.locate(global)?;
        let query = Query {
            test: Some(self.test.join(" ")),
            workspace: Some(root.clone()),
            ..Query::default()
        };
        let found = find(&store, &query).map_err(recordings::find_error)?;
        let (test, _) = found.record.test.without_iteration();
        announce(&test, global);
        let trials = Trials {
            root: &root,
            target: &target,
            global,
        };
        let (usual, shaken) = shake(&trials, &test)?;
        let styles = Styles::new(global.stdout_colors());
        let text = match self.json {
            true => json(&test, usual, &shaken),
            false => words(&test, usual, &shaken, &styles),
        };
        recordings::written(io::stdout().write_all(text.as_bytes()), "the answer")?;
        Ok(exit_code::OK)
    }
}

fn announce(test: &TestId, global: &GlobalOptions) {
    let most = LOOKS[LOOKS.len() - 1];
    let conditions = Condition::ALL.len();
    let text = format!(
        "`{test}` runs at most {most} times as usual and {most} times under each of {conditions} conditions; it \
         is looked at after {LOOKS:?} times, and all looks together blame a condition wrongly with a \
         probability of at most {} %",
        100.0 * ERROR
    );
    prepared::note(&text, global.stderr_colors());
}

/// Tries all conditions until each is clear, or the last look.
fn shake(trials: &Trials<'_>, test: &TestId) -> Result<(Counts, Vec<Shaken>), CommandError> {
    let scratch = Scratch::new(trials.target)?;
    let mut usual = Counts::default();
    let mut shaken = Condition::ALL.map(|condition| Shaken {
        condition,
        counts: Counts::default(),
        found: Found::Unclear,
    });
    let mut before = 0;
    for at in LOOKS {
        let times = at - before;
        before = at;
        add(&mut usual, &trials.run(&one(test, times), &scratch.0)?);
        for it in shaken.iter_mut().filter(|it| it.found == Found::Unclear) {
            let results = under(it.condition, trials, test, times, &scratch)?;
            add(&mut it.counts, &results);
            it.found = compare(it.counts, usual);
        }
        if shaken.iter().all(|it| it.found != Found::Unclear) {
            break;
        }
    }
    Ok((usual, shaken.to_vec()))
}

fn add(counts: &mut Counts, results: &Results) {
    counts.runs += results.len() as u64;
    counts.failed += results.values().filter(|passed| !**passed).count() as u64;
}

fn one(test: &TestId, times: u64) -> Trial<'_> {
    let mut trial = Trial::of(&[test], times);
    trial.jobs = "1".to_owned();
    trial
}

/// Runs the test under a condition.
fn under(
    condition: Condition,
    trials: &Trials<'_>,
    test: &TestId,
    times: u64,
    scratch: &Scratch,
) -> Result<Results, CommandError> {
    let mut trial = one(test, times);
    trial.env = condition.env(&scratch.0).map_err(|error| {
        let message = format!("failed to write `{}`: {error}", scratch.0);
        CommandError::new(Kind::Write, message)
    })?;
    if condition == Condition::Beside {
        trial.filter = filter_of_binary(test);
        trial.jobs = "num-cpus".to_owned();
    }
    condition.during(|| trials.run(&trial, &scratch.0))
}

/// Returns the answer as lines.
fn words(test: &TestId, usual: Counts, shaken: &[Shaken], styles: &Styles) -> String {
    let mut text = format!("{}\n", styles.name(test));
    let mut line = |words: &str, counts: Counts, said: &str| {
        let Counts { runs, failed } = counts;
        text += &format!("  {words:<40} failed {failed:>2} of {runs:>2} times{said}\n");
    };
    line("as usual", usual, "");
    for it in shaken {
        let said = match it.found {
            Found::More(chance) => format!("  more often (Fisher's exact test, p = {chance:.1e})"),
            Found::Less(chance) => format!("  less often (Fisher's exact test, p = {chance:.1e})"),
            Found::Unclear => String::new(),
        };
        line(it.condition.words(), it.counts, &said);
    }
    if shaken.iter().all(|it| it.found == Found::Unclear) {
        text += "\nNo condition makes a difference that is clear.";
        let failures = shaken.iter().map(|it| it.counts.failed).sum::<u64>() + usual.failed;
        if failures == 0 {
            text += &format!(
                " Without one failure in {} runs, it may still fail in up to {:.1} % of them as usual (99 % \
                 confidence).",
                usual.runs,
                100.0 * highest_rate(usual.runs)
            );
        }
        text.push('\n');
    }
    text
}

fn json(test: &TestId, usual: Counts, shaken: &[Shaken]) -> String {
    let row = |condition: &str, counts: Counts, found: Found| {
        let (found, chance) = match found {
            Found::More(chance) => ("more-often", Some(chance)),
            Found::Less(chance) => ("less-often", Some(chance)),
            Found::Unclear => ("unclear", None),
        };
        json!({
            "test": test,
            "condition": condition,
            "runs": counts.runs,
            "failed": counts.failed,
            "found": found,
            "chance": chance,
        })
        .to_string()
            + "\n"
    };
    let mut text = row("as usual", usual, Found::Unclear);
    text.extend(
        shaken
            .iter()
            .map(|it| row(it.condition.words(), it.counts, it.found)),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(failed: u64, runs: u64) -> Counts {
        Counts { runs, failed }
    }

    #[test]
    fn a_condition_is_blamed_when_chance_alone_is_unlikely() {
        assert!(matches!(
            compare(counts(10, 10), counts(0, 10)),
            Found::More(_)
        ));
        assert!(matches!(
            compare(counts(0, 10), counts(10, 10)),
            Found::Less(_)
        ));
        // For one look at one condition this would be clear.
        assert_eq!(compare(counts(5, 10), counts(0, 10)), Found::Unclear);
        assert_eq!(compare(counts(10, 10), counts(10, 10)), Found::Unclear);
        assert_eq!(compare(counts(0, 60), counts(0, 60)), Found::Unclear);
    }
}
