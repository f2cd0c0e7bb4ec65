//! Decides about all tests of a plan together.

use super::{
    decide::{Changed, Decision, Limits, Once, Shared, Why, binary, decide},
    key::Key,
    ledger::{Ledger, Pass, Stored},
    links::Links,
    programs::Programs,
    settle::Settled,
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
    programs: &mut Programs,
) -> Vec<Decision> {
    let mut world = Once::new(here);
    let unknown = Stored::default();
    let mut decisions: Vec<Decision> = candidates
        .iter()
        .map(|candidate| match &candidate.key {
            Err(reason) => Decision::run(Why::Circumstance(reason.clone())),
            Ok(key) => {
                let stored = ledger.tests.get(&candidate.test).unwrap_or(&unknown);
                decide(stored, (key, &candidate.test), limits, &mut world, programs)
            }
        })
        .collect();
    run_entangled(ledger, candidates, &mut decisions);
    decisions
}

/// Decides about each candidate by the files that have changed since a revision: the binary has to be the one of the
/// last pass, and none of its inputs may be among the files.
pub fn affected(
    ledger: &Ledger,
    candidates: &[Candidate],
    since: &Since,
    programs: &mut Programs,
) -> Vec<Decision> {
    let unknown = Stored::default();
    let mut links = Links::default();
    let changes = since.paths.iter().map(|path| path.as_os_str().as_bytes());
    // A test may have asked for a file by another way than the one that its repository knows.
    let changes: BTreeSet<Vec<u8>> = changes
        .flat_map(|path| [path.to_vec(), links.entry(path)])
        .collect();
    let mut decide = |candidate: &Candidate| {
        let stored = ledger.tests.get(&candidate.test).unwrap_or(&unknown);
        let key = match &candidate.key {
            Ok(key) => key,
            Err(reason) => return Decision::run(Why::Circumstance(reason.clone())),
        };
        if let Some((path, why)) = &since.all {
            let path = path.as_os_str().as_bytes().to_vec();
            return Decision::run(Why::OfAll { path, why });
        }
        affects(
            stored,
            (key, &candidate.test),
            &changes,
            &mut links,
            programs,
        )
    };
    let mut decisions: Vec<Decision> = candidates.iter().map(&mut decide).collect();
    run_entangled(ledger, candidates, &mut decisions);
    decisions
}

fn affects(
    stored: &Stored,
    (key, test): (&Key, &TestId),
    changes: &BTreeSet<Vec<u8>>,
    links: &mut Links,
    programs: &mut Programs,
) -> Decision {
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
    let mut changed = None;
    let mut same = |pass: &&Pass| {
        let before = &pass.key;
        let differs = binary(pass, key, test, stored, programs);
        let same =
            differs.is_none() && before.command == key.command && before.harness == key.harness;
        changed = changed.take().or(differs);
        same
    };
    let found = stored.passes.iter().find(&mut same);
    let Some(pass) = found else {
        return Decision::run(match (stored.passes.first(), changed) {
            (None, _) => Why::Unknown,
            (_, Some(changed)) => Why::Differs(changed),
            (Some(pass), _) if pass.key.harness != key.harness => Why::Differs(Changed::Harness {
                before: pass.key.harness.clone(),
            }),
            (Some(_), _) => Why::Differs(Changed::Command),
        });
    };
    for fact in pass.settled.inputs.iter().chain(&pass.settled.outputs) {
        let places = links.places(&fact.path);
        let mut touching =
            (places.iter()).filter_map(|place| touching(changes, place, &fact.state));
        if let Some(path) = touching.next() {
            return Decision::run(Why::Touched {
                path: path.clone(),
                asked: fact.path.clone(),
            });
        }
    }
    Decision::Reuse(pass.known())
}

/// Returns the first change that may change the state of a place. A folder that was not there may have come with a
/// file in it.
fn touching<'a>(
    changes: &'a BTreeSet<Vec<u8>>,
    place: &[u8],
    state: &State,
) -> Option<&'a Vec<u8>> {
    let mut at = place;
    loop {
        if let Some(path) = changes.get(at) {
            return Some(path);
        }
        if at.len() <= 1 {
            break;
        }
        at = parent(at);
    }
    let start = [place, b"/"].concat();
    let mut below = (changes.range(start.clone()..)).take_while(|path| path.starts_with(&start));
    match state {
        State::Names(_) => below.find(|path| parent(path) == place),
        State::Absent { .. } => below.next(),
        _ => None,
    }
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
