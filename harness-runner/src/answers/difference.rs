//! The answers that differ between two attempts of a test, one that failed and one that passed.
//!
//! Each attempt becomes a set of answers: what was asked (a call on a file, an address, a program, or the end
//! of a child), under names that do not change from attempt to attempt, and all answers to that. Order, times
//! and counts are left aside, and so is noise. A name that is made up anew each time is shown as the kind of
//! name that it is; two such names count as one.

mod observed;
#[cfg(test)]
mod tests;

pub use observed::{Answered, Asked, Moment, Said};

use super::{
    rules::{Roots, noise},
    uses::{Gap, How, Thing, Uses},
};
use crate::{
    store::{Found, last::Last},
    tracer::record::file::ReadError,
};
use chrono::{DateTime, Local};
use harness_metadata::{RawString, TestId, noise::Names};
pub(super) use observed::Observed;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    time::Duration,
};

/// Tests that are named as the cause of one difference.
const CAUSES: usize = 3;

/// The weight of a difference. The first one is the most likely reason.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It worked when the test passed, and not when it failed.
    Refused,
    /// A child ended in another way.
    Ended,
    /// It failed, and was not asked for when the test passed.
    NewFailure,
    /// Answers differ otherwise.
    Other,
    /// Only the attempt that failed did it.
    OnlyFailing,
}

/// A difference.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The question.
    pub asked: Asked,
    /// The weight.
    pub weight: Weight,
    /// The answers in the attempt that failed.
    pub failing: Answered,
    /// The answers in the attempt that passed; `None` if it did not ask.
    pub passing: Option<Answered>,
    /// The other tests that may have changed it.
    pub causes: Vec<Cause>,
}

/// Another test of the same run that changed a thing.
#[derive(Clone, Debug)]
pub struct Cause {
    /// The test.
    pub test: TestId,
    /// The change.
    pub how: How,
    /// The time from the change to the answer.
    pub before: Duration,
}

/// A file that both attempts read, and that was modified between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modified {
    /// The file.
    pub path: RawString,
    /// Its modification time.
    pub at: DateTime<Local>,
}

/// The differences of two attempts.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// Those of the attempt that failed, by weight and then by time.
    pub all: Vec<Difference>,
    /// The number of things that only the attempt that passed did: most of them come after the failure.
    pub only_passing: usize,
    /// Files that were modified between the two attempts, by their modification times.
    pub modified: Vec<Modified>,
    /// Files that both read and that were modified, or removed, since: what was in them is not known.
    pub modified_since: Vec<RawString>,
    /// The reasons why something may be missing in the trace of the attempt that failed.
    pub failing_gaps: Vec<Gap>,
    /// As before, of the one that passed.
    pub passing_gaps: Vec<Gap>,
    /// Whether one of them was traced without look-ups.
    pub blind_to_lookups: bool,
    /// The start of the trace of the attempt that failed, since 1970.
    began: Option<Duration>,
}

/// Compares an attempt that failed with one that passed. `all` counts noise as well.
///
/// # Errors
///
/// When a trace cannot be read.
pub fn differences(
    failing: &Found,
    passing: &Found,
    roots: &Roots,
    all: bool,
) -> Result<Differences, ReadError> {
    let wanted = |thing: &Thing| all || noise(thing, roots).is_none();
    let (a, used) = read(failing, roots, &wanted)?;
    let (b, used_before) = read(passing, roots, &wanted)?;
    let only_passing = b.asked.keys().filter(|asked| !a.asked.contains_key(*asked));
    let (modified, modified_since) = modified([failing, passing], [&used, &used_before]);
    Ok(Differences {
        all: compared(&a, &b),
        only_passing: only_passing.count(),
        modified,
        modified_since,
        began: used.began,
        blind_to_lookups: used.blind_to_lookups || used_before.blind_to_lookups,
        failing_gaps: used.gaps,
        passing_gaps: used_before.gaps,
    })
}

/// Reads the trace of an attempt, once.
fn read<'a>(
    found: &'a Found,
    roots: &Roots,
    wanted: &'a dyn Fn(&Thing) -> bool,
) -> Result<(Observed<'a>, Uses), ReadError> {
    let names = Names {
        workspace: found.run.header.workspace_root.as_str().into(),
        temp: roots.temp.as_str().into(),
        pids: BTreeSet::new(),
    };
    let mut observed = Observed::new(names, wanted);
    let mut uses = Uses::with_events(found, wanted, &mut |root, event| {
        observed.event(root, event)
    })?;
    if observed.left_out > 0 {
        uses.gaps.push(Gap::Dropped(observed.left_out));
    }
    Ok((observed, uses))
}

/// Returns the differences of an attempt that failed, by weight and then by time.
fn compared(failing: &Observed<'_>, passing: &Observed<'_>) -> Vec<Difference> {
    let mut found: Vec<Difference> = Vec::new();
    for (asked, answered) in &failing.asked {
        let before = passing.asked.get(asked);
        if let Some(weight) = weight(asked, answered, before) {
            found.push(Difference {
                asked: asked.clone(),
                weight,
                failing: answered.clone(),
                passing: before.cloned(),
                causes: Vec::new(),
            });
        }
    }
    found.sort_by_key(|it| (it.weight, it.failing.first.at));
    found
}

/// Returns how much a difference weighs; `None` if there is none.
fn weight(asked: &Asked, failing: &Answered, passing: Option<&Answered>) -> Option<Weight> {
    let Some(passing) = passing else {
        let failed = failing.said.iter().any(|said| said.is_failure());
        return Some(match (asked.is_end(), failed) {
            (true, true) => Weight::Ended,
            (false, true) => Weight::NewFailure,
            // The question itself says that something new was asked.
            (true, false) => return None,
            (false, false) => Weight::OnlyFailing,
        });
    };
    if failing.said == passing.said {
        return None;
    }
    let new = |said: &&Said| !passing.said.contains(said);
    let failed_anew = failing.said.iter().filter(new).any(Said::is_failure);
    let lacks = passing.said.difference(&failing.said);
    let lacks_success = lacks.clone().any(|said| !said.is_failure());
    Some(match (asked.is_end(), failed_anew || lacks_success) {
        (true, _) => Weight::Ended,
        (false, true) => Weight::Refused,
        (false, false) => Weight::Other,
    })
}

/// Returns the files that both have read and neither has changed, and whose modification time is between the
/// two, as they are now; and those that were modified or removed later.
fn modified(attempts: [&Found; 2], uses: [&Uses; 2]) -> (Vec<Modified>, Vec<RawString>) {
    let starts = attempts.map(|found| found.record.started_at);
    let (early, late) = match starts[0] <= starts[1] {
        true => (starts[0], starts[1] + attempts[1].record.elapsed),
        false => (starts[1], starts[0] + attempts[0].record.elapsed),
    };
    let (mut modified, mut since) = (Vec::new(), Vec::new());
    for (thing, ways) in &uses[0].things {
        let Some(path) = thing.path() else { continue };
        let Some(before) = uses[1].things.get(thing) else {
            continue;
        };
        let read = |ways: &[super::uses::Use]| {
            let mut ways = ways.iter().map(|it| it.how);
            ways.any(|how| matches!(how, How::Read | How::Executed))
        };
        let changed = ways.iter().chain(before).any(|it| it.how.is_effect());
        if changed || !read(ways) || !read(before) {
            continue;
        }
        let file = fs::metadata(Path::new(OsStr::from_bytes(path)));
        let path = RawString::from(path.to_vec());
        match file.as_ref().map(modification_time) {
            Ok(Some(at)) if early < at && at <= late => modified.push(Modified { path, at }),
            Ok(Some(at)) if at <= early => {}
            Ok(Some(_)) | Err(_) => since.push(path),
            Ok(None) => {}
        }
    }
    modified.sort_by_key(|it| it.at);
    (modified, since)
}

/// Returns when a file was modified; `None` if it is none.
fn modification_time(file: &fs::Metadata) -> Option<DateTime<Local>> {
    let nanos = u32::try_from(file.mtime_nsec()).ok()?;
    let at = DateTime::from_timestamp(file.mtime(), nanos)?;
    file.is_file().then(|| at.with_timezone(&Local))
}

impl Differences {
    /// Returns whether nothing that a trace can show differs.
    pub fn none(&self) -> bool {
        self.all.is_empty() && self.modified.is_empty()
    }

    /// Returns whether nothing can be missing in the two traces, look-ups aside.
    pub fn complete(&self) -> bool {
        self.failing_gaps.is_empty() && self.passing_gaps.is_empty()
    }

    /// Returns the things whose answers differ, for [`Self::add_causes`].
    pub fn things(&self) -> BTreeSet<Thing> {
        let things = self.all.iter().filter_map(|it| it.failing.thing.clone());
        things.collect()
    }

    /// Adds which of these tests changed what was answered differently, of the attempts of the failing one's
    /// run.
    pub fn add_causes(&mut self, failing: &Found, others: &[Last]) {
        let things = self.things();
        let Some(own) = self.began else { return };
        let mut effects: BTreeMap<Thing, Vec<(Duration, TestId, How)>> = BTreeMap::new();
        for Last { test, found } in others {
            let Some(found) = found.as_ref().filter(|_| *test != failing.record.test) else {
                continue;
            };
            let Ok(uses) = Uses::of(found, &|thing| things.contains(thing)) else {
                continue;
            };
            let Some(start) = uses.began else { continue };
            for (thing, ways) in uses.things {
                for it in ways.iter().filter(|it| it.how.is_effect()) {
                    for at in [it.at, it.last] {
                        let effect = (start.saturating_add(at), test.clone(), it.how);
                        effects.entry(thing.clone()).or_default().push(effect);
                    }
                }
            }
        }
        for difference in &mut self.all {
            let answered = &difference.failing;
            let Some(of_it) = answered.thing.as_ref().and_then(|it| effects.get(it)) else {
                continue;
            };
            let moment = own.saturating_add(answered.first.at);
            let mut before: Vec<_> = of_it.iter().filter(|(at, ..)| *at <= moment).collect();
            before.sort_by_key(|(at, ..)| Reverse(*at));
            let mut seen = BTreeSet::new();
            before.retain(|(_, test, how)| seen.insert((test.clone(), *how)));
            let causes = before
                .into_iter()
                .take(CAUSES)
                .map(|(at, test, how)| Cause {
                    test: test.clone(),
                    how: *how,
                    before: moment.saturating_sub(*at),
                });
            difference.causes = causes.collect();
        }
    }
}
