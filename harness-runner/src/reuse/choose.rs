//! Decides about all tests of a plan together.

use super::{
    decide::{Changed, Decision, Limits, Once, Shared, Why, decide},
    key::Key,
    ledger::{Ledger, Pass, Stored},
    settle::{Fact, Settled},
    state::{Here, State, parent},
};
use harness_metadata::TestId;
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// A test of a plan.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The test.
    pub test: TestId,
    /// The circumstances that have to be the same before inputs are compared; or why there are none.
    pub key: Result<Key, String>,
}

/// The files that have changed since a revision.
#[derive(Clone, Debug)]
pub struct Since {
    /// Their absolute paths.
    pub paths: BTreeSet<PathBuf>,
    /// A file that any test may depend on, and the reason.
    pub all: Option<(PathBuf, &'static str)>,
}

/// Decides about each candidate, in their order, by all that its last pass rests on.
pub fn choose(
    ledger: &Ledger,
    candidates: &[Candidate],
    limits: Limits,
    here: &mut Here,
) -> Vec<Decision> {
    let mut world = Once::new(here);
    let unknown = Stored::default();
    let mut decisions: Vec<Decision> = candidates
        .iter()
        .map(|candidate| match &candidate.key {
            Err(reason) => Decision::run(Why::Circumstance(reason.clone())),
            Ok(key) => {
                let stored = ledger.tests.get(&candidate.test).unwrap_or(&unknown);
                decide(stored, key, limits, &mut world)
            }
        })
        .collect();
    run_entangled(ledger, candidates, &mut decisions);
    decisions
}

/// Decides about each candidate by the files that have changed since a revision: the binary has to be the one of the
/// last pass, and none of its inputs may be among the files.
pub fn affected(ledger: &Ledger, candidates: &[Candidate], since: &Since) -> Vec<Decision> {
    let unknown = Stored::default();
    let decide = |candidate: &Candidate| {
        let stored = ledger.tests.get(&candidate.test).unwrap_or(&unknown);
        let key = match &candidate.key {
            Ok(key) => key,
            Err(reason) => return Decision::run(Why::Circumstance(reason.clone())),
        };
        affects(stored, key, since)
    };
    let mut decisions: Vec<Decision> = candidates.iter().map(decide).collect();
    run_entangled(ledger, candidates, &mut decisions);
    decisions
}

fn affects(stored: &Stored, key: &Key, since: &Since) -> Decision {
    if let Some(distrust) = stored
        .distrust
        .as_ref()
        .filter(|it| it.binary == key.binary)
    {
        return Decision::run(Why::Distrusted(distrust.reason.clone()));
    }
    if let Some(reason) = &stored.refused {
        return Decision::run(Why::NotStored(reason.clone()));
    }
    if let Some((path, why)) = &since.all {
        let path = path.as_os_str().as_bytes().to_vec();
        return Decision::run(Why::OfAll { path, why });
    }
    let same = |pass: &&Pass| {
        let before = &pass.key;
        (before.binary, before.command) == (key.binary, key.command)
            && before.harness == key.harness
    };
    let Some(pass) = stored.passes.iter().find(same) else {
        return Decision::run(match stored.passes.first() {
            None => Why::Unknown,
            Some(pass) if pass.key.binary != key.binary => Why::Differs(Changed::Binary {
                before: pass.key.binary,
                now: key.binary,
            }),
            Some(pass) if pass.key.harness != key.harness => Why::Differs(Changed::Harness {
                before: pass.key.harness.clone(),
            }),
            Some(_) => Why::Differs(Changed::Command),
        });
    };
    let paths = since.paths.iter().map(|path| path.as_os_str().as_bytes());
    for path in paths {
        let concerns = |fact: &&Fact| concerns(path, fact);
        let facts = pass.settled.inputs.iter().chain(&pass.settled.outputs);
        if let Some(fact) = facts.clone().find(concerns) {
            return Decision::run(Why::Touched {
                path: path.to_vec(),
                asked: fact.path.clone(),
            });
        }
    }
    Decision::Reuse(pass.known())
}

/// Returns whether a change of a path may change a fact. A folder that was not there may have come with a file in it.
fn concerns(path: &[u8], fact: &Fact) -> bool {
    let is_below = |path: &[u8], folder: &[u8]| {
        let rest = path.strip_prefix(folder);
        rest.is_some_and(|rest| rest.first() == Some(&b'/'))
    };
    let by_state = match fact.state {
        State::Names(_) => parent(path) == fact.path,
        State::Absent { .. } => is_below(path, &fact.path),
        _ => false,
    };
    path == fact.path || is_below(&fact.path, path) || by_state
}

/// Lets tests run that share a path with one that runs and changes it.
fn run_entangled(ledger: &Ledger, candidates: &[Candidate], decisions: &mut [Decision]) {
    loop {
        let running = candidates.iter().zip(&*decisions);
        let running = running.filter(|(_, decision)| matches!(decision, Decision::Run(_)));
        let running =
            running.filter_map(|(candidate, _)| ledger.tests.get_key_value(&candidate.test));
        let shared = Shared::new(running);
        let mut more = false;
        for (candidate, decision) in candidates.iter().zip(&mut *decisions) {
            let Some(stored) = ledger.tests.get(&candidate.test) else {
                continue;
            };
            if matches!(decision, Decision::Reuse(_))
                && let Some((path, with)) = shared.first(&candidate.test, stored)
            {
                *decision = Decision::run(Why::Entangled { path, with });
                more = true;
            }
        }
        if !more {
            return;
        }
    }
}

/// Lets a part of the tests run whose passes would be used, chosen at random: so many percent, one at least.
pub fn sample<'a>(decisions: impl Iterator<Item = &'a mut Decision>, percent: u8) {
    let mut reused: Vec<_> = decisions
        .filter(|decision| matches!(decision, Decision::Reuse(_)))
        .collect();
    if percent == 0 {
        return;
    }
    let wanted = (reused.len() * usize::from(percent)).div_ceil(100);
    fastrand::shuffle(&mut reused);
    for decision in reused.into_iter().take(wanted) {
        if let Decision::Reuse(known) = decision {
            *decision = Decision::run(Why::Sampled(known.clone()));
        }
    }
}

/// Returns what the pass rests on that would have been used for a test that runs as a sample.
pub fn of_sample(ledger: &Ledger, test: &TestId, decision: &Decision) -> Option<Settled> {
    let Decision::Run(why) = decision else {
        return None;
    };
    let Why::Sampled(known) = &**why else {
        return None;
    };
    let passes = ledger.tests.get(test)?.passes.iter();
    let mut passes = passes.filter(|pass| pass.known() == *known);
    passes.next().map(|pass| pass.settled.clone())
}

/// Counts decisions by their kind.
pub fn counts(decisions: &[Decision]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for decision in decisions {
        *counts.entry(decision.word()).or_default() += 1;
    }
    counts
}
