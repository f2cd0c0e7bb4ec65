//! `cargo harness hermetic`: what tests depend on that is not theirs, from their last traces.

use super::{
    GlobalOptions,
    history::short,
    kept::Kept,
    prepared,
    recordings::{self, Place},
    who::{doubts, json_of, shown},
};
use crate::command_error::CommandError;
use clap::Args;
use harness_metadata::{TestId, exit_code};
use harness_runner::{
    answers::{
        hermetic::{Class, Dependences, Dependent, dependences},
        rules::Roots,
        uses::{Gap, Thing},
    },
    report::{
        plural,
        style::{Styles, escaped},
    },
    store::{
        FindError,
        last::{Last, last_of_each},
        the_test,
    },
};
use serde_json::json;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

/// Things that are named of each class, unless all are asked for.
const NAMED: usize = 5;

/// Rank what tests depend on that is not theirs: credentials, the home folder, the network, the source tree,
/// files that stay.
#[derive(Debug, Args)]
pub(super) struct Hermetic {
    /// One test: its name, a part of it, or its binary's id and its name. Default: all.
    #[arg(value_name = "TEST", num_args = 0..=2)]
    test: Vec<String>,
    /// Name everything, and the tests of each.
    #[arg(long)]
    all: bool,
    /// Print JSON, an object for each dependence of a test.
    #[arg(long, help_heading = "Output options")]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Hermetic {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let Kept {
            root,
            store,
            target,
        } = self.place.locate(global)?;
        let roots = Roots::new(&root, &target);
        let mut tests = last_of_each(&store, &root).map_err(recordings::find_error)?;
        if !self.test.is_empty() {
            self.choose(&mut tests).map_err(recordings::find_error)?;
        }
        let one = !self.test.is_empty();
        let found = dependences(tests, &roots);
        let styles = Styles::new(global.stdout_colors());
        let text = match (self.json, one) {
            (true, _) => found.tests.iter().map(|it| json(it, &roots)).collect(),
            (false, true) => found.tests.iter().map(|it| details(it, &roots)).collect(),
            (false, false) => self.ranking(&found, &roots, &styles),
        };
        recordings::written(io::stdout().write_all(text.as_bytes()), "the answer")?;
        conclude(&found, global);
        Ok(exit_code::OK)
    }

    fn choose(&self, tests: &mut Vec<Last>) -> Result<(), FindError> {
        let names: BTreeSet<TestId> = tests.iter().map(|it| it.test.clone()).collect();
        let chosen = the_test(&names, &self.test.join(" "))?;
        tests.retain(|it| it.test == chosen);
        Ok(())
    }

    /// Returns each class with its things, those of the most tests first.
    fn ranking(&self, found: &Dependences, roots: &Roots, styles: &Styles) -> String {
        let mut text = String::new();
        for class in Class::ALL {
            let mut things: BTreeMap<&Thing, BTreeSet<&TestId>> = BTreeMap::new();
            let mut tests = BTreeSet::new();
            for dependent in &found.tests {
                for finding in dependent.findings.iter().filter(|it| it.class == class) {
                    let of_it = things.entry(&finding.thing).or_default();
                    of_it.insert(&dependent.test);
                    tests.insert(&dependent.test);
                }
            }
            if tests.is_empty() {
                continue;
            }
            let mut things: Vec<_> = things.into_iter().collect();
            things.sort_by_key(|(_, tests)| Reverse(tests.len()));
            let count = plural(tests.len(), "test", "tests");
            text += &format!("{}: {}, by {count}\n", class.name(), class.words());
            let named = if self.all { things.len() } else { NAMED };
            for (thing, tests) in things.iter().take(named) {
                let count = plural(tests.len(), "test", "tests");
                let first = tests
                    .first()
                    .map(|test| styles.name(test))
                    .unwrap_or_default();
                let example = match tests.len() {
                    1 => first,
                    _ => format!("{count}, as {first}"),
                };
                text += &format!("  {}  ({example})\n", shown(thing, roots));
                if self.all && tests.len() > 1 {
                    for test in tests {
                        text += &format!("      {}\n", styles.name(test));
                    }
                }
            }
            let more = things.len().saturating_sub(named);
            if more > 0 {
                text += &format!("  and {more} more: `--all` names them\n");
            }
        }
        text
    }
}

/// Returns the dependences of a test as lines.
fn details(dependent: &Dependent, roots: &Roots) -> String {
    let lines = dependent.findings.iter().map(|finding| {
        let by = &finding.by;
        format!(
            "{:<11}  {} {}  ({} at {:.3} s by {})\n",
            finding.class.name(),
            by.how.words(),
            shown(&finding.thing, roots),
            escaped(&by.call),
            by.at.as_secs_f64(),
            by.pid,
        )
    });
    lines.collect()
}

fn json(dependent: &Dependent, roots: &Roots) -> String {
    let lines = dependent.findings.iter().map(|finding| {
        let by = &finding.by;
        let line = json!({
            "test": dependent.test,
            "class": finding.class,
            "thing": json_of(&finding.thing, roots),
            "how": by.how,
            "call": by.call,
            "seconds": by.at.as_secs_f64(),
            "pid": by.pid,
            "run_id": dependent.found.run.header.run_id,
            "gaps": dependent.gaps.iter().map(Gap::words).collect::<Vec<_>>(),
        });
        line.to_string() + "\n"
    });
    lines.collect()
}

/// Says what the answer lacks.
fn conclude(found: &Dependences, global: &GlobalOptions) {
    let colors = global.stderr_colors();
    let free = plural(found.free, "test depends", "tests depend");
    prepared::note(
        &format!("{free} on nothing of that, as far as traces show"),
        colors,
    );
    for text in doubts(&found.unknown, global.verbose) {
        prepared::warn(&text, colors);
    }
    let incomplete = found.tests.iter().filter(|it| !it.gaps.is_empty());
    if let Some(first) = incomplete.clone().next() {
        let count = plural(incomplete.count(), "test", "tests");
        let run = short(&first.found.run);
        prepared::note(
            &format!(
                "{count} above may depend on more: the trace is incomplete, as that of `{}` in run {run}",
                first.test
            ),
            colors,
        );
    }
    if found.blind_to_lookups > 0 {
        let tests = plural(found.blind_to_lookups, "test was", "tests were");
        prepared::note(
            &format!(
                "{tests} traced without look-ups: what is only asked about is seen at `--trace full`"
            ),
            colors,
        );
    }
}
