//! Finds the things that two tests share, and at least one changes.

use super::{Clash, Conflict, Conflicts, Known, Sure, graded, micros};
use crate::answers::{
    rules::{Roots, Shared, exclusion},
    uses::{How, Thing, Use},
};
use harness_metadata::{RawString, noise::file_name};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

/// Pairs that are remembered.
const PAIRS: usize = 20_000;
/// Things of a pair that are remembered.
const THINGS: usize = 8;
/// Users of a thing that are compared, each with each. A thing that more use has as many pairs that
/// nothing more is learnt.
const USERS: usize = 400;

/// The things of a pair.
#[derive(Default)]
struct Found {
    clashes: Vec<Clash>,
    more: usize,
}

pub(super) struct Pairs<'a> {
    tests: &'a [Known],
    roots: &'a Roots,
    /// The tests that use a thing.
    users: BTreeMap<&'a Thing, Vec<usize>>,
    pairs: HashMap<(usize, usize), Found>,
    excluded: BTreeMap<&'static str, usize>,
    more: usize,
}

/// A thing that may be a clash of two tests.
struct Candidate<'a> {
    tests: (usize, usize),
    thing: &'a Thing,
    entry: Option<&'a Thing>,
    one: &'a [Use],
    other: &'a [Use],
}

impl<'a> Pairs<'a> {
    pub(super) fn new(tests: &'a [Known], roots: &'a Roots) -> Self {
        let mut users: BTreeMap<&Thing, Vec<usize>> = BTreeMap::new();
        for (number, known) in tests.iter().enumerate() {
            for thing in known.uses.things.keys() {
                users.entry(thing).or_default().push(number);
            }
        }
        Self {
            tests,
            roots,
            users,
            pairs: HashMap::new(),
            excluded: BTreeMap::new(),
            more: 0,
        }
    }

    fn uses(&self, test: usize, thing: &Thing) -> &'a [Use] {
        let tests: &'a [Known] = self.tests;
        let uses = tests[test].uses.things.get(thing);
        uses.map_or(&[], Vec::as_slice)
    }

    pub(super) fn find(&mut self) {
        let users: Vec<(&'a Thing, Vec<usize>)> = self
            .users
            .iter()
            .map(|(thing, users)| (*thing, users.iter().copied().take(USERS).collect()))
            .collect();
        for (thing, users) in &users {
            self.same_thing(thing, users);
            if let Thing::Path(path) = thing {
                for user in users {
                    self.entries_of_a_folder(*user, thing, path);
                    self.below_a_renamed_folder(*user, thing, path);
                }
            }
        }
    }

    /// Both use it, and one changes it.
    fn same_thing(&mut self, thing: &'a Thing, users: &[usize]) {
        for (at, one) in users.iter().enumerate() {
            let ones = self.uses(*one, thing);
            // A test that finds an address taken wants it as well.
            let claims = |it: &Use| it.how.is_effect() || it.how == How::Taken;
            let changes = ones.iter().any(claims);
            for other in &users[at + 1..] {
                let others = self.uses(*other, thing);
                if changes || others.iter().any(claims) {
                    self.add(Candidate {
                        tests: (*one, *other),
                        thing,
                        entry: None,
                        one: ones,
                        other: others,
                    });
                }
            }
        }
    }

    /// One makes, renames or removes an entry of a folder that the other one lists.
    fn entries_of_a_folder(&mut self, one: usize, entry: &'a Thing, path: &RawString) {
        let uses = self.uses(one, entry);
        if !uses.iter().any(|it| it.how.changes_names()) {
            return;
        }
        let path = path.as_bytes();
        let folder = &path[..path.len() - file_name(path).len()];
        let folder = folder.strip_suffix(b"/").unwrap_or_default();
        let folder = Thing::Path(folder.to_vec().into());
        let Some((folder, listers)) = self.users.get_key_value(&folder) else {
            return;
        };
        let (folder, listers) = (*folder, listers.clone());
        for other in listers.into_iter().take(USERS) {
            let others = self.uses(other, folder);
            let lists = others.iter().any(|it| it.how == How::Listed);
            if other != one && lists {
                self.add(Candidate {
                    tests: (one, other),
                    thing: folder,
                    entry: Some(entry),
                    one: uses,
                    other: others,
                });
            }
        }
    }

    /// One renames a folder that the other one uses something in.
    fn below_a_renamed_folder(&mut self, one: usize, folder: &'a Thing, path: &RawString) {
        let uses = self.uses(one, folder);
        let renames = |it: &Use| matches!(it.how, How::RenamedFrom | How::RenamedTo);
        if !uses.iter().any(renames) {
            return;
        }
        let begin = [path.as_bytes(), b"/"].concat();
        let from = Thing::Path(begin.clone().into());
        let range = (Bound::Excluded(&from), Bound::Unbounded);
        let below = self.users.range::<Thing, _>(range);
        let below = below
            .take_while(|(thing, _)| thing.path().is_some_and(|path| path.starts_with(&begin)));
        let below: Vec<(&'a Thing, Vec<usize>)> = below
            .take(USERS)
            .map(|(thing, users)| (*thing, users.clone()))
            .collect();
        for (thing, users) in below {
            for other in users.into_iter().filter(|other| *other != one).take(USERS) {
                let others = self.uses(other, thing);
                self.add(Candidate {
                    tests: (one, other),
                    thing: folder,
                    entry: Some(thing),
                    one: uses,
                    other: others,
                });
            }
        }
    }

    fn add(&mut self, candidate: Candidate<'a>) {
        let (one, other) = candidate.tests;
        let (a, b) = (&self.tests[one], &self.tests[other]);
        let same_run = a.party.run == b.party.run;
        let locked: Vec<Vec<u8>> = a
            .locked
            .iter()
            .filter(|folder| b.locked.contains(folder))
            .cloned()
            .collect();
        let rule = exclusion(
            &Shared {
                thing: candidate.thing,
                one: candidate.one,
                other: candidate.other,
                locked: &locked,
                pids: (a.uses.root, b.uses.root),
                entry: candidate.entry.is_some(),
                same_run,
            },
            self.roots,
        );
        let sure = match () {
            () if same_run && overlap(a, candidate.one, b, candidate.other) => Sure::Met,
            () if both_bind(candidate.one, candidate.other) => Sure::SameAddress,
            () => Sure::Could,
        };
        let sure = match graded(sure, rule) {
            Ok(sure) => sure,
            Err(rule) => {
                *self.excluded.entry(rule.name).or_default() += 1;
                return;
            }
        };
        self.put(candidate, sure);
    }

    fn put(&mut self, candidate: Candidate<'a>, sure: Sure) {
        let (one, other) = candidate.tests;
        let (key, turned) = match one < other {
            true => ((one, other), false),
            false => ((other, one), true),
        };
        if self.pairs.len() == PAIRS && !self.pairs.contains_key(&key) {
            self.more += 1;
            return;
        }
        let (first, second) = match turned {
            false => (candidate.one, candidate.other),
            true => (candidate.other, candidate.one),
        };
        let found = self.pairs.entry(key).or_default();
        let known = |it: &Clash| it.thing == *candidate.thing;
        if found.clashes.iter().any(known) {
            return;
        }
        found.clashes.push(Clash {
            thing: candidate.thing.clone(),
            entry: candidate.entry.cloned(),
            one: first.to_vec(),
            other: second.to_vec(),
            sure,
        });
        found.clashes.sort_by(|a, b| rank(a).cmp(&rank(b)));
        if found.clashes.len() > THINGS {
            found.clashes.pop();
            found.more += 1;
        }
    }

    pub(super) fn put_into(self, conflicts: &mut Conflicts) {
        let pairs = self.pairs.into_iter();
        conflicts.pairs = pairs
            .map(|((one, other), found)| Conflict {
                one: self.tests[one].party.clone(),
                other: self.tests[other].party.clone(),
                clashes: found.clashes,
                more: found.more,
            })
            .collect();
        conflicts.pairs.sort_by(|a, b| {
            let key = |it: &Conflict| (it.sure(), std::cmp::Reverse(it.clashes.len() + it.more));
            let names = |it: &Conflict| (it.one.test.clone(), it.other.test.clone());
            key(a).cmp(&key(b)).then_with(|| names(a).cmp(&names(b)))
        });
        conflicts.excluded = self.excluded;
        conflicts.more = self.more;
    }
}

/// Returns the order of clashes: the surest first, contents before names of a folder.
fn rank(clash: &Clash) -> (Sure, bool, &Thing) {
    (clash.sure, clash.entry.is_some(), &clash.thing)
}

fn both_bind(one: &[Use], other: &[Use]) -> bool {
    let binds = |uses: &[Use]| {
        uses.iter()
            .any(|it| matches!(it.how, How::Bound | How::Taken))
    };
    binds(one) && binds(other)
}

/// Returns whether both had it at the same time. When a file is closed is not seen, so a test has it from
/// its first use to its own end, or until it removes it.
fn overlap(a: &Known, one: &[Use], b: &Known, other: &[Use]) -> bool {
    let (Some((from, to)), Some((other_from, other_to))) = (had(a, one), had(b, other)) else {
        return false;
    };
    from < other_to && other_from < to
}

fn had(known: &Known, uses: &[Use]) -> Option<(i64, i64)> {
    let first = uses.iter().map(|it| it.at).min()?;
    let last = uses.iter().max_by_key(|it| it.last)?;
    let end = match last.how {
        How::Removed | How::RenamedFrom => known.start.saturating_add(micros(last.last)),
        _ => known.end,
    };
    Some((known.start.saturating_add(micros(first)), end))
}
