//! Answers from the traces that are kept: which test used a file, an address or a program, and which
//! tests clash.
//!
//! The last trace of each test counts, over all runs in the store. An answer says what it cannot know:
//! a test without a trace, or with an incomplete one, is unknown, and never counts as one that did
//! nothing. Nothing is started here.

pub mod audit;
pub mod conflicts;
pub mod difference;
pub mod faults;
pub mod gathered;
pub mod groups;
pub mod hermetic;
pub mod interference;
pub mod interval;
pub mod policy;
pub mod question;
pub mod regression;
pub mod rules;
pub mod simulation;
pub mod statistics;
pub mod uses;

#[cfg(test)]
mod tests;

use crate::{
    filter::TestSet,
    store::{
        FindError, Found,
        last::{Last, last_of_each},
    },
};
use camino::Utf8Path;
use harness_metadata::TestId;
use question::Question;
use rules::{Roots, noise};
use uses::{Gap, How, Thing, Use, Uses};

/// A test that did what was asked for.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The test.
    pub test: TestId,
    /// The attempt that the answer rests on.
    pub found: Found,
    /// The uses, in order of their first times.
    pub uses: Vec<(Thing, Use)>,
    /// The reasons why there may be more.
    pub gaps: Vec<Gap>,
}

/// A test of which the answer is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The test.
    pub test: TestId,
    /// The reason; `None` if no trace of it is kept.
    pub reason: Option<String>,
}

/// The answer to a question.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The tests that did it.
    pub hits: Vec<Hit>,
    /// The tests of which that is unknown.
    pub unknown: Vec<Unknown>,
    /// The tests that did not do it, as their traces say.
    pub others: Vec<TestId>,
    /// The number of tests whose look-ups were not seen.
    pub blind_to_lookups: usize,
    /// The number of uses that were left out as noise.
    pub noise: usize,
}

/// Answers a question about the tests of a workspace, from the runs of a store. `all` counts noise as well.
///
/// # Errors
///
/// When no run is kept, or one cannot be read.
pub fn answer(
    store: &Utf8Path,
    roots: &Roots,
    question: &Question,
    all: bool,
) -> Result<Answer, FindError> {
    let tests = last_of_each(store, &roots.workspace)?;
    Ok(answer_of(tests, question, roots, all))
}

/// Answers a question about these tests.
fn answer_of(tests: Vec<Last>, question: &Question, roots: &Roots, all: bool) -> Answer {
    let all = all || question.asks_for(|thing| noise(thing, roots).is_some());
    let mut answer = Answer::default();
    for last in tests {
        let (test, found, uses) = match seen(last, &|thing| question.concerns(thing)) {
            Ok(seen) => seen,
            Err(unknown) => {
                answer.unknown.push(unknown);
                continue;
            }
        };
        answer.blind_to_lookups += usize::from(uses.blind_to_lookups);
        let mut hits = chosen(&uses, question);
        if !all {
            let before = hits.len();
            hits.retain(|(thing, _)| noise(thing, roots).is_none());
            answer.noise += before - hits.len();
        }
        let gaps = relevant(&uses, question);
        if !hits.is_empty() {
            answer.hits.push(Hit {
                test,
                found,
                uses: hits,
                gaps,
            });
        } else if let Some(gap) = gaps.first() {
            let reason = Some(gap.words());
            answer.unknown.push(Unknown { test, reason });
        } else {
            answer.others.push(test);
        }
    }
    answer
}

/// Reads the last trace of a test. Things that `wanted` refuses are left out.
fn seen(last: Last, wanted: &dyn Fn(&Thing) -> bool) -> Result<(TestId, Found, Uses), Unknown> {
    let Last { test, found } = last;
    let Some(found) = found else {
        return Err(Unknown { test, reason: None });
    };
    match Uses::of(&found, wanted) {
        Ok(uses) => Ok((test, found, uses)),
        Err(error) => {
            let reason = Some(error.to_string());
            Err(Unknown { test, reason })
        }
    }
}

/// Returns the uses that answer a question, in order of their first times.
fn chosen(uses: &Uses, question: &Question) -> Vec<(Thing, Use)> {
    if let Some(host) = question.host() {
        let asked = uses.things.keys().any(|thing| match thing {
            Thing::Host(name) => {
                let name = name.to_string().to_ascii_lowercase();
                name.trim_end_matches('.') == host
            }
            _ => false,
        });
        if !asked {
            return Vec::new();
        }
    }
    let mut chosen: Vec<(Thing, Use)> = Vec::new();
    for (thing, uses) in &uses.things {
        let fitting = uses.iter();
        let fitting = fitting.filter(|it| question.is_answered_by(thing, it.how));
        chosen.extend(fitting.map(|it| (thing.clone(), it.clone())));
    }
    chosen.sort_by_key(|(_, it)| it.at);
    chosen
}

/// Returns the gaps that matter for a question: programs are seen at every level.
fn relevant(uses: &Uses, question: &Question) -> Vec<Gap> {
    let programs = matches!(question, Question::Runs(_));
    let matters = |gap: &&Gap| match gap {
        Gap::Level(level) => !programs || *level == harness_metadata::event::TraceLevel::Off,
        _ => true,
    };
    uses.gaps.iter().filter(matters).cloned().collect()
}

impl Answer {
    /// Returns the tests that are known not to do it: all others may.
    pub fn known_not_to(&self) -> TestSet {
        self.others.iter().cloned().collect()
    }
}

impl Hit {
    /// Returns the ways, without duplicates, in order of their first times.
    pub fn ways(&self) -> Vec<How> {
        let mut ways: Vec<How> = Vec::new();
        for (_, it) in &self.uses {
            if !ways.contains(&it.how) {
                ways.push(it.how);
            }
        }
        ways
    }
}
