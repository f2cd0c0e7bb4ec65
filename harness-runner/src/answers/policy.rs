//! Policies and traces: what the last traces show beyond a policy, and the policy that allows what they show.

use super::{
    Unknown,
    uses::{Gap, Uses},
};
use crate::{
    policy::{Bounds, Entries, Ipc, Judge, Look, Net, Policy, Right, Root, Roots},
    store::{Found, last::Last},
};
use harness_metadata::{TestId, Violation, Word};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// A test whose trace shows more than its policy allows.
#[derive(Clone, Debug)]
pub struct Violator {
    /// The test.
    pub test: TestId,
    /// The attempt that this rests on.
    pub found: Found,
    /// The violations, in order.
    pub violations: Vec<Violation>,
}

/// The violations of traces.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// The tests that have some.
    pub tests: Vec<Violator>,
    /// The tests of which it is not known whether they have.
    pub unknown: Vec<Unknown>,
    /// The number of tests without, as their traces say.
    pub free: usize,
}

/// Finds what a policy would deny of the last traces of tests.
pub fn check(tests: Vec<Last>, bounds: &BTreeMap<TestId, Bounds>) -> Checked {
    let mut checked = Checked::default();
    for last in tests {
        let Some(bounds) = bounds.get(&last.test) else {
            continue;
        };
        let Last { test, found } = last;
        let Some(found) = found else {
            checked.unknown.push(Unknown { test, reason: None });
            continue;
        };
        match judged(&found, bounds.clone(), Look::Past) {
            Err(reason) => {
                let reason = Some(reason);
                checked.unknown.push(Unknown { test, reason });
            }
            Ok((violations, _)) if !violations.is_empty() => checked.tests.push(Violator {
                test,
                found,
                violations,
            }),
            Ok((_, gaps)) => match gaps.first() {
                Some(gap) => {
                    let reason = Some(gap.words());
                    checked.unknown.push(Unknown { test, reason });
                }
                None => checked.free += 1,
            },
        }
    }
    checked
}

fn judged(found: &Found, bounds: Bounds, look: Look) -> Result<(Vec<Violation>, Vec<Gap>), String> {
    let mut judge = Judge::new(bounds, look, usize::MAX);
    let mut each = |_, event: &_| judge.event(event);
    let uses =
        Uses::with_events(found, &|_| false, &mut each).map_err(|error| error.to_string())?;
    let violations = judge.violations().map(|it| it.found);
    Ok((violations.unwrap_or_default(), uses.gaps))
}

/// A policy that allows what traces show.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    /// The entries of each setting.
    pub entries: BTreeMap<String, BTreeSet<String>>,
    /// Entries that would allow nearly everything, and are left out: each with its setting and a test that
    /// needs it.
    pub left_out: BTreeMap<(String, String), TestId>,
    /// The tests of which not all is known.
    pub unknown: Vec<Unknown>,
    /// The number of tests that it is made from.
    pub tests: usize,
}

/// The most entries of one folder before the folder stands for them.
const MOST_OF_A_FOLDER: usize = 4;

/// Makes the policy that allows what the last traces show.
pub fn learn(tests: Vec<Last>, roots: &Roots) -> Learnt {
    let nothing = Policy {
        read: Entries::Only(Vec::new()),
        write: Entries::Only(Vec::new()),
        exec: Entries::Only(Vec::new()),
        ipc: Ipc::Only(Vec::new()),
        net: Net::Only(Vec::new()),
        ..Policy::default()
    };
    let bounds = Bounds::new(&nothing, roots.clone());
    let mut learnt = Learnt::default();
    for key in Right::ALL
        .map(Right::key)
        .into_iter()
        .chain([Ipc::KEY, Net::KEY])
    {
        learnt.entries.insert(key.to_owned(), BTreeSet::new());
    }
    for Last { test, found } in tests {
        let Some(found) = found else {
            learnt.unknown.push(Unknown { test, reason: None });
            continue;
        };
        let reason = match judged(&found, bounds.clone(), Look::Audit) {
            Err(reason) => Some(reason),
            Ok((violations, gaps)) => {
                learnt.tests += 1;
                for violation in violations {
                    learnt.add(&test, violation);
                }
                gaps.first().map(Gap::words)
            }
        };
        if let Some(reason) = reason {
            let reason = Some(reason);
            learnt.unknown.push(Unknown { test, reason });
        }
    }
    for (key, entries) in &mut learnt.entries {
        if key != Ipc::KEY && key != Net::KEY {
            *entries = merged(entries);
        }
    }
    learnt
}

impl Learnt {
    fn add(&mut self, test: &TestId, violation: Violation) {
        let Violation { rule, allow, .. } = violation;
        let allow = match allow.split_once('/') {
            // A test may read all of its own workspace.
            Some((root, _)) if root == Root::Workspace.word() && rule == Right::Read.key() => {
                root.to_owned()
            }
            _ => allow,
        };
        let everything = allow == Root::Home.word() || is_above_everything(&allow);
        if everything && rule != Ipc::KEY && rule != Net::KEY {
            self.left_out
                .entry((rule, allow))
                .or_insert_with(|| test.clone());
        } else {
            self.entries.entry(rule).or_default().insert(allow);
        }
    }
}

/// Returns whether an entry is `/`, or a folder in it.
fn is_above_everything(entry: &str) -> bool {
    entry.starts_with('/') && Path::new(entry).components().count() <= 2
}

/// Returns few entries for many: a folder instead of many files in it, and nothing that is in another entry.
fn merged(entries: &BTreeSet<String>) -> BTreeSet<String> {
    let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
    for (folder, _) in entries.iter().filter_map(|entry| entry.rsplit_once('/')) {
        *folders.entry(folder).or_default() += 1;
    }
    let is_narrow = |folder: &str| {
        folder.contains('/') && folder != Root::Home.word() && !is_above_everything(folder)
            || folder == Root::Workspace.word()
    };
    let many = folders
        .iter()
        .filter(|(folder, count)| **count > MOST_OF_A_FOLDER && is_narrow(folder));
    let mut all: BTreeSet<String> = entries.clone();
    all.extend(many.map(|(folder, _)| (*folder).to_owned()));
    let within = |entry: &String| {
        all.iter().any(|other| {
            let rest = entry.strip_prefix(other.as_str());
            rest.is_some_and(|rest| rest.starts_with('/'))
        })
    };
    all.iter().filter(|entry| !within(entry)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(entries: &[&str]) -> Vec<String> {
        let entries = entries.iter().map(|entry| (*entry).to_owned()).collect();
        merged(&entries).into_iter().collect()
    }

    #[test]
    fn a_folder_stands_for_many_of_its_files() {
        let few = ["/opt/data/a", "/opt/data/b", "home/.gitconfig", "target"];
        assert_eq!(merge(&few), few);
        let many = [
            "/opt/data/a",
            "/opt/data/b",
            "/opt/data/c",
            "/opt/data/d",
            "/opt/data/e",
        ];
        assert_eq!(merge(&many), ["/opt/data"]);
        let nested = ["home/.cache/x", "home/.cache", "home/.cachet"];
        assert_eq!(merge(&nested), ["home/.cache", "home/.cachet"]);
    }

    #[test]
    fn neither_the_home_folder_nor_the_root_stands_for_its_files() {
        let home = ["home/a", "home/b", "home/c", "home/d", "home/e"];
        assert_eq!(merge(&home), home);
        let root = ["/a", "/b", "/c", "/d", "/e"];
        assert_eq!(merge(&root), root);
    }
}
