//! `cargo harness conflicts`: the pairs of tests that use one thing, and at least one changes it.

mod confirm;

use super::{
    GlobalOptions,
    kept::Kept,
    prepared,
    recordings::{self, Place},
    trials::Trials,
    who::{self, json_of, shown},
};
use crate::command_error::CommandError;
use clap::Args;
use confirm::{Tried, Trying};
use harness_metadata::TestId;
use harness_runner::{
    answers::{
        conflicts::{Clash, Conflict, Conflicts, Party, Sure, conflicts},
        groups::{groups, lines},
        rules::{Roots, reason_of},
        statistics::Look,
        uses::Use,
    },
    report::{
        plural,
        style::{Styles, escaped},
    },
    store::last::last_of_each,
};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Pairs that are shown, unless all are asked for.
const SHOWN: usize = 50;
/// Things of a pair that are shown.
const THINGS: usize = 3;

/// List the pairs of tests that use one file, folder, port or socket, and at least one changes it.
#[derive(Debug, Args)]
pub(super) struct ConflictsCommand {
    /// Only pairs with a test whose name has this part.
    #[arg(value_name = "TEST")]
    test: Option<String>,
    /// Show weak pairs too: a rule says why they may be harmless.
    #[arg(long)]
    weak: bool,
    /// Run so many pairs, the surest first, together and alone until it is clear whether they clash.
    #[arg(long, value_name = "PAIRS", num_args = 0..=1, require_equals = true, default_missing_value = "10")]
    confirm: Option<usize>,
    /// Print the lines of `.config/harness.toml` that keep the pairs apart, and say what that costs;
    /// with `--confirm` the confirmed pairs.
    #[arg(long, conflicts_with = "json")]
    learn_locks: bool,
    /// Print JSON, an object a pair.
    #[arg(long, help_heading = "Output options")]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl ConflictsCommand {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let Kept {
            root,
            store,
            target,
        } = self.place.locate(global)?;
        let roots = Roots::new(&root, &target);
        let tests = last_of_each(&store, &root).map_err(recordings::find_error)?;
        let mut found = conflicts(tests, &roots);
        if let Some(part) = &self.test {
            let has = |party: &Party| party.test.to_string().contains(part);
            found.pairs.retain(|it| has(&it.one) || has(&it.other));
        }
        let weak = found.pairs.iter().filter(|pair| is_weak(pair)).count();
        if !self.weak {
            found.pairs.retain(|pair| !is_weak(pair));
        }
        let styles = Styles::new(global.stdout_colors());
        let shown = match self.json || global.verbose {
            true => found.pairs.len(),
            false => self.confirm.unwrap_or(SHOWN),
        };
        let trying = Trying {
            trials: Trials {
                root: &root,
                target: &target,
                global,
            },
        };
        let tried = self.tried(&found, &trying)?;
        let mut text = String::new();
        let profile = global.profile.as_deref().unwrap_or("default");
        if self.learn_locks {
            text = learnt(&found, self.confirm.map(|_| &*tried), profile, global);
        } else {
            for (number, pair) in found.pairs.iter().take(shown).enumerate() {
                let tried = tried.get(number);
                text += &match self.json {
                    true => json_of_pair(pair, tried, &roots),
                    false => human(pair, tried, &roots, &styles),
                };
            }
        }
        let written = recordings::written(io::stdout().write_all(text.as_bytes()), "the pairs");
        conclude(&found, if self.weak { 0 } else { weak }, shown, global);
        written
    }
}

impl ConflictsCommand {
    /// Runs the first pairs, if that is asked for.
    fn tried(&self, found: &Conflicts, trying: &Trying<'_>) -> Result<Vec<Tried>, CommandError> {
        let pairs = self.confirm.unwrap_or(0).min(found.pairs.len());
        if pairs == 0 {
            return Ok(Vec::new());
        }
        trying.announce(pairs);
        let pairs = found.pairs.iter().take(pairs);
        pairs.map(|pair| trying.pair(pair)).collect()
    }
}

/// Returns the lines that keep pairs apart: those that are confirmed, if that was tried, else all.
fn learnt(
    found: &Conflicts,
    tried: Option<&[Tried]>,
    profile: &str,
    global: &GlobalOptions,
) -> String {
    let pairs = found.pairs.iter().enumerate().filter(|(number, _)| {
        tried.is_none_or(|tried| tried.get(*number).is_some_and(Tried::is_confirmed))
    });
    let groups = groups(pairs.map(|(_, pair)| pair));
    let colors = global.stderr_colors();
    if groups.is_empty() {
        prepared::note("there is no pair to keep apart", colors);
    }
    for group in &groups {
        let needless = match group.needless() {
            0 => String::new(),
            pairs => format!(
                "; {} of its tests that do not clash are kept apart too",
                plural(pairs, "pair", "pairs")
            ),
        };
        let text = format!(
            "`{}` has {} for {}: one after the other they take {:.3} s, beside each other at least {:.3} s{needless}",
            group.name,
            plural(group.tests.len(), "test", "tests"),
            plural(group.pairs, "pair", "pairs"),
            group.total().as_secs_f64(),
            group.longest().as_secs_f64(),
        );
        prepared::note(&text, colors);
    }
    if !groups.is_empty() {
        let text = "the first override that names a group counts: put these above others that do";
        prepared::note(text, colors);
    }
    lines(&groups, profile)
}

fn is_weak(pair: &Conflict) -> bool {
    matches!(pair.sure(), Sure::Weak(_))
}

/// Says how many pairs there are, and what is not known.
fn conclude(found: &Conflicts, weak: usize, shown: usize, global: &GlobalOptions) {
    let colors = global.stderr_colors();
    let met = found.pairs.iter().filter(|it| it.sure() == Sure::Met);
    let mut text = format!(
        "{} of {} compared, {} met",
        plural(found.pairs.len(), "pair", "pairs"),
        plural(found.compared, "test", "tests"),
        met.count(),
    );
    if weak > 0 {
        let pairs = plural(weak, "weak pair is", "weak pairs are");
        text += &format!("; {pairs} left out, `--weak` shows them");
    }
    if found.pairs.len() > shown {
        text += &format!("; the first {shown} are shown, `--verbose` shows all");
    }
    prepared::note(&text, colors);
    if found.more > 0 {
        let text = format!("{} more shared things are not listed", found.more);
        prepared::warn(&text, colors);
    }
    if !found.excluded.is_empty() {
        let rules = found.excluded.iter();
        let rules: Vec<String> = rules
            .map(|(rule, count)| format!("{rule} {count}"))
            .collect();
        let text = format!("shared and no clash, by rule: {}", rules.join(", "));
        prepared::note(&text, colors);
    }
    for text in who::doubts(&found.unknown, global.verbose) {
        prepared::warn(&text, colors);
    }
}

fn human(pair: &Conflict, tried: Option<&Tried>, roots: &Roots, styles: &Styles) -> String {
    let mut text = format!(
        "{}\n{}\n",
        styles.name(&pair.one.test),
        styles.name(&pair.other.test)
    );
    for clash in pair.clashes.iter().take(THINGS) {
        text += &line(clash, roots);
    }
    let more = pair.more + pair.clashes.len().saturating_sub(THINGS);
    if more > 0 {
        text += &format!("    and {}\n", plural(more, "more thing", "more things"));
    }
    text += &format!("    {}\n", grade(pair));
    if let Some(tried) = tried {
        text += &format!("    {}\n", tried.words());
    }
    text
}

fn line(clash: &Clash, roots: &Roots) -> String {
    let thing = shown(&clash.thing, roots);
    let entry = clash.entry.as_ref().map(|entry| shown(entry, roots));
    let entry = entry.map_or_else(String::new, |entry| format!(" ({entry})"));
    format!(
        "    {thing}{entry}: {} | {}\n",
        moment(&clash.one),
        moment(&clash.other)
    )
}

/// Says what a test did with it: what changes it first.
fn moment(uses: &[Use]) -> String {
    let effect = uses.iter().find(|it| it.how.is_effect());
    let Some(it) = effect.or(uses.first()) else {
        return String::new();
    };
    format!(
        "{} at {:.3} s by {}",
        it.how.words(),
        it.at.as_secs_f64(),
        escaped(&it.call)
    )
}

fn grade(pair: &Conflict) -> String {
    match (pair.sure(), pair.run()) {
        (Sure::Met, run) => {
            let run = run.map_or_else(String::new, |run| run.to_string());
            let run = run.get(..8).unwrap_or(&run);
            format!("met: both had it at the same time in run {run}")
        }
        (Sure::SameAddress, _) => "both need the address for themselves".to_owned(),
        (Sure::Could, Some(_)) => "could meet: in their run they did not".to_owned(),
        (Sure::Could, None) => "could meet: they were traced in different runs".to_owned(),
        (Sure::Weak(rule), _) => format!("weak, by the rule `{rule}`: {}", reason_of(rule)),
    }
}

fn json_of_pair(pair: &Conflict, tried: Option<&Tried>, roots: &Roots) -> String {
    let party = |party: &Party| {
        let Party { test, run, .. } = party;
        let test: &TestId = test;
        json!({
            "test": test,
            "run_id": run.to_string(),
            "attempt": party.attempt,
            "seconds": party.elapsed.as_secs_f64(),
            "complete": !party.incomplete,
        })
    };
    let uses = |uses: &[Use]| {
        let uses = uses.iter().map(|it| {
            json!({
                "how": it.how,
                "seconds": it.at.as_secs_f64(),
                "last_seconds": it.last.as_secs_f64(),
                "pid": it.pid,
                "call": it.call,
                "count": it.count,
            })
        });
        uses.collect::<Value>()
    };
    let clashes = pair.clashes.iter().map(|clash| {
        let mut map = json_of(&clash.thing, roots);
        if let Some(entry) = &clash.entry {
            let entry = json_of(entry, roots).remove("path");
            map.insert("entry".to_owned(), entry.unwrap_or_default());
        }
        map.insert("sure".to_owned(), clash.sure.word().into());
        if let Sure::Weak(rule) = clash.sure {
            map.insert("rule".to_owned(), rule.into());
        }
        map.insert("one".to_owned(), uses(&clash.one));
        map.insert("other".to_owned(), uses(&clash.other));
        Value::Object(map)
    });
    let tried = tried.map(|tried| {
        let (Look::Confirmed(chance) | Look::Unclear(chance)) = tried.look;
        json!({
            "confirmed": tried.is_confirmed(),
            "chance": chance,
            "together": { "runs": tried.together.runs, "failed": tried.together.failed },
            "alone": { "runs": tried.alone.runs, "failed": tried.alone.failed },
        })
    });
    let mut line = json!({
        "one": party(&pair.one),
        "other": party(&pair.other),
        "sure": pair.sure().word(),
        "clashes": clashes.collect::<Value>(),
        "more": pair.more,
    });
    if let (Some(tried), Value::Object(line)) = (tried, &mut line) {
        line.insert("tried".to_owned(), tried);
    }
    line.to_string() + "\n"
}
