//! Pairs of tests that clash: both use one file, folder, port or socket, and at least one changes it.
//!
//! A clash is a fact about traces: what each test did with the thing, and whether both had it at the
//! same time. Whether one of them fails because of it, only a run can show.

mod found;

use super::{
    Unknown,
    rules::{Effect, Roots, Rule, locks_folder, noise},
    seen,
    uses::{Thing, Use, Uses},
};
use crate::store::last::Last;
use found::Pairs;
use harness_metadata::{RunId, TestId};
use std::{collections::BTreeMap, time::Duration};

/// The grade of a clash, the surest first.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sure {
    /// Both had it at the same time, in one run.
    Met,
    /// Both need the same address for themselves.
    SameAddress,
    /// They did not meet when they were traced, but nothing in their traces keeps them apart.
    Could,
    /// A rule says why it may be harmless.
    Weak(&'static str),
}

impl Sure {
    /// Returns its word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::SameAddress => "same-address",
            Self::Could => "could",
            Self::Weak(_) => "weak",
        }
    }
}

/// A thing that two tests clash on.
#[derive(Clone, Debug)]
pub struct Clash {
    /// The thing.
    pub thing: Thing,
    /// The entry of the folder that the first of both made, renamed or removed, if the other one lists the
    /// folder.
    pub entry: Option<Thing>,
    /// The uses of the first of both.
    pub one: Vec<Use>,
    /// Those of the second.
    pub other: Vec<Use>,
    /// The grade.
    pub sure: Sure,
}

/// Two tests that clash.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// The first test.
    pub one: Party,
    /// The second test.
    pub other: Party,
    /// The things, the surest first.
    pub clashes: Vec<Clash>,
    /// The number of further things.
    pub more: usize,
}

impl Conflict {
    /// Returns the grade of its surest clash.
    pub fn sure(&self) -> Sure {
        self.clashes[0].sure
    }

    /// Returns the run that both were in, if it is one.
    pub fn run(&self) -> Option<RunId> {
        (self.one.run == self.other.run).then_some(self.one.run)
    }
}

/// A test in a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The test.
    pub test: TestId,
    /// The run that it was traced in.
    pub run: RunId,
    /// The number of the attempt.
    pub attempt: u32,
    /// The time that it took.
    pub elapsed: Duration,
    /// Whether its trace is incomplete.
    pub incomplete: bool,
    /// The start of its trace, in microseconds since 1970.
    pub started: i64,
}

/// The conflicts of a suite.
#[derive(Clone, Debug, Default)]
pub struct Conflicts {
    /// The pairs, the surest first.
    pub pairs: Vec<Conflict>,
    /// The number of pairs that are left out because there are too many.
    pub more: usize,
    /// The number of tests that were compared.
    pub compared: usize,
    /// The tests of which nothing is known, or not all.
    pub unknown: Vec<Unknown>,
    /// The shared things that a rule excludes, by its name.
    pub excluded: BTreeMap<&'static str, usize>,
    /// The number of tests whose look-ups were not seen.
    pub blind_to_lookups: usize,
}

/// A test with all that it used.
struct Known {
    party: Party,
    uses: Uses,
    /// The time of its start in microseconds since 1970.
    start: i64,
    /// The time of its end.
    end: i64,
    /// The folders that it keeps locked by their own locks.
    locked: Vec<Vec<u8>>,
}

/// Compares the traces of these tests, each with each.
pub fn conflicts(tests: Vec<Last>, roots: &Roots) -> Conflicts {
    let mut conflicts = Conflicts::default();
    let mut known = Vec::new();
    for last in tests {
        let (test, found, uses) = match seen(last, &|thing| noise(thing, roots).is_none()) {
            Ok(seen) => seen,
            Err(unknown) => {
                conflicts.unknown.push(unknown);
                continue;
            }
        };
        if let Some(gap) = uses.gaps.first() {
            conflicts.unknown.push(Unknown {
                test: test.clone(),
                reason: Some(gap.words()),
            });
        }
        conflicts.blind_to_lookups += usize::from(uses.blind_to_lookups);
        let record = &found.record;
        // The times of a trace begin with its root.
        let start = match uses.began {
            Some(began) => micros(began),
            None => record.started_at.timestamp_micros(),
        };
        let paths = uses.things.keys().filter_map(Thing::path);
        known.push(Known {
            start,
            end: start.saturating_add(micros(record.elapsed)),
            locked: paths.filter_map(locks_folder).collect(),
            party: Party {
                test,
                run: found.run.header.run_id,
                attempt: record.attempt,
                elapsed: record.elapsed,
                incomplete: !uses.complete(),
                started: start,
            },
            uses,
        });
    }
    conflicts.compared = known.len();
    let mut pairs = Pairs::new(&known, roots);
    pairs.find();
    pairs.put_into(&mut conflicts);
    conflicts
}

pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Returns the grade that a rule leaves; `None` if it excludes the clash.
fn graded(sure: Sure, rule: Option<(Rule, Effect)>) -> Result<Sure, Rule> {
    match rule {
        Some((rule, Effect::Excluded)) => Err(rule),
        Some((rule, Effect::Weaker)) => Ok(Sure::Weak(rule.name)),
        None => Ok(sure),
    }
}
