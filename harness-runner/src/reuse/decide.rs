//! Compares a stored pass with the present.

use super::{
    digests::Digest,
    key::{Key, Value},
    ledger::{Known, Pass, Stored},
    programs::{Otherwise, Programs},
    settle::Fact,
    state::{Look, State, World},
};
use crate::functions::Difference;
use camino::Utf8PathBuf;
use harness_metadata::TestId;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// The bounds of what is used again.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// The present, since 1970.
    pub now: Duration,
    /// The time for which a pass counts.
    pub lifetime: Duration,
}

/// The decision about a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It cannot have changed since this pass.
    Reuse(Known),
    /// It runs.
    Run(Box<Why>),
}

impl Decision {
    /// Returns its word: `run`, `cached`, or `sample` for one that runs though it need not.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Reuse(_) => "cached",
            Self::Run(why) if matches!(**why, Why::Sampled(_)) => "sample",
            Self::Run(_) => "run",
        }
    }

    pub(crate) fn run(why: Why) -> Self {
        Self::Run(Box::new(why))
    }
}

/// The reason why a test runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing is stored of it.
    Unknown,
    /// Its last result is not one that is used again, for this reason.
    NotStored(String),
    /// Reuse is off for it, for this reason, until its binary is another.
    Distrusted(String),
    /// Something about it rules that out.
    Circumstance(String),
    /// It is a pass of so long ago.
    Expired(Duration),
    /// A circumstance differs from its last pass.
    Differs(Changed),
    /// It shares a path with another test, which changes it.
    Entangled {
        /// The path.
        path: Vec<u8>,
        /// The other test.
        with: TestId,
    },
    /// It is in the sample that is run all the same.
    Sampled(Known),
    /// A file has changed since the revision that any test may depend on.
    OfAll {
        /// The file.
        path: Vec<u8>,
        /// The reason.
        why: &'static str,
    },
    /// A file has changed since the revision, and the test asked for it.
    Touched {
        /// The file.
        path: Vec<u8>,
        /// The path that the test asked for: the file, or a folder around it.
        asked: Vec<u8>,
    },
}

/// A circumstance that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The version of the harness.
    Harness {
        /// The version then.
        before: String,
    },
    /// The content of the test's binary.
    Binary {
        /// Then.
        before: Digest,
        /// Now.
        now: Digest,
    },
    /// A function that it entered, or that one of them depends on.
    Function {
        /// The executable.
        program: Utf8PathBuf,
        /// The difference.
        difference: Difference,
    },
    /// Its command, or the settings that reach its process.
    Command,
    /// A variable, a limit, the machine.
    Surroundings {
        /// Its name.
        name: String,
        /// Then; `None` if it was not there.
        before: Option<Value>,
        /// Now.
        now: Option<Value>,
    },
    /// A file or folder that it asked for.
    Input {
        /// The path.
        path: Vec<u8>,
        /// Then.
        before: State,
        /// Now.
        now: State,
    },
    /// A file or folder that it made and left.
    Output {
        /// The path.
        path: Vec<u8>,
        /// As it was left.
        before: State,
        /// Now.
        now: State,
    },
}

/// Decides about a test. The first difference is the reason to run it.
pub fn decide(
    stored: &Stored,
    (key, test): (&Key, &TestId),
    limits: Limits,
    world: &mut dyn World,
    programs: &mut Programs,
) -> Decision {
    if let Some(distrust) = &stored.distrust
        && distrust.binary == key.binary
    {
        return Decision::run(Why::Distrusted(distrust.reason.clone()));
    }
    if let Some(reason) = &stored.refused {
        return Decision::run(Why::NotStored(reason.clone()));
    }
    let mut first = None;
    // The latest comes first. Another branch may have an older one.
    for pass in &stored.passes {
        let found = match binary(pass, key, test, stored, programs) {
            Some(changed) => Some(Why::Differs(changed)),
            None => difference(pass, key, limits, world, programs),
        };
        match found {
            None => return Decision::Reuse(pass.known()),
            Some(why) => drop(first.get_or_insert(why)),
        }
    }
    Decision::run(first.unwrap_or(Why::Unknown))
}

/// Returns how the executables differ from those of a pass, as far as the test rests on them.
pub(super) fn binary(
    pass: &Pass,
    key: &Key,
    test: &TestId,
    stored: &Stored,
    programs: &mut Programs,
) -> Option<Changed> {
    // Something was wrong with a binary. Another one is trusted when the test has passed with it.
    let trusted = stored.distrust.is_none();
    let own = pass.entered.first().filter(|_| trusted);
    if pass.key.binary != key.binary && own.is_none_or(|own| own.digest != pass.key.binary) {
        let (before, now) = (pass.key.binary, key.binary);
        return Some(Changed::Binary { before, now });
    }
    for (number, entered) in pass.entered.iter().enumerate().filter(|_| trusted) {
        let test = (number == 0).then_some(test.name.as_str());
        match programs.difference(entered, test) {
            None => {}
            Some(Otherwise::Differs(difference)) => {
                let program = entered.path.clone();
                return Some(Changed::Function {
                    program,
                    difference,
                });
            }
            Some(Otherwise::Unknown) if number == 0 => {
                let (before, now) = (pass.key.binary, key.binary);
                return (before != now).then_some(Changed::Binary { before, now });
            }
            // Its content is compared, as that of any file.
            Some(Otherwise::Unknown) => {}
        }
    }
    None
}

fn difference(
    pass: &Pass,
    key: &Key,
    limits: Limits,
    world: &mut dyn World,
    programs: &mut Programs,
) -> Option<Why> {
    let of_key = difference_of_keys(&pass.key, key);
    if let Some(changed) = of_key {
        return Some(Why::Differs(changed));
    }
    // A pass of the future is one of a clock that was set.
    let age = limits.now.checked_sub(pass.at);
    if age.is_none_or(|age| age > limits.lifetime) {
        return Some(Why::Expired(age.unwrap_or_default()));
    }
    let mut by_function = |path: &[u8]| {
        let mut entered = pass.entered.iter();
        let entered = entered.find(|it| it.path.as_str().as_bytes() == path);
        entered.is_some_and(|it| programs.knows(it))
    };
    let differs = |fact: &Fact, world: &mut dyn World| {
        let now = fact.look(world);
        let before = fact.state.clone();
        (now != before).then(|| (fact.path.clone(), before, now))
    };
    for fact in &pass.settled.inputs {
        if by_function(&fact.path) {
            continue;
        }
        if let Some((path, before, now)) = differs(fact, world) {
            return Some(Why::Differs(Changed::Input { path, before, now }));
        }
    }
    for fact in &pass.settled.outputs {
        if let Some((path, before, now)) = differs(fact, world) {
            return Some(Why::Differs(Changed::Output { path, before, now }));
        }
    }
    None
}

fn difference_of_keys(before: &Key, now: &Key) -> Option<Changed> {
    if before.harness != now.harness {
        let before = before.harness.clone();
        return Some(Changed::Harness { before });
    }
    if before.command != now.command {
        return Some(Changed::Command);
    }
    let (name, before, now) = now.surroundings.first_difference(&before.surroundings)?;
    Some(Changed::Surroundings {
        name: name.to_owned(),
        before: before.cloned(),
        now: now.cloned(),
    })
}

/// The paths that tests change, to find those that two tests share.
#[derive(Debug, Default)]
pub(super) struct Shared<'a> {
    by_path: BTreeMap<&'a [u8], Vec<&'a TestId>>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(tests: impl Iterator<Item = (&'a TestId, &'a Stored)>) -> Self {
        let mut by_path: BTreeMap<&[u8], Vec<&TestId>> = BTreeMap::new();
        for (test, stored) in tests {
            for path in &stored.changes {
                by_path.entry(path).or_default().push(test);
            }
        }
        Self { by_path }
    }

    /// Returns a path that a test asks for, lists or changes, and another test that changes it or something in it.
    pub(super) fn first(&self, test: &TestId, stored: &Stored) -> Option<(Vec<u8>, TestId)> {
        let pass = stored.passes.first();
        let inputs = pass.iter().flat_map(|pass| &pass.settled.inputs);
        for fact in inputs {
            let found = match &fact.state {
                State::Names(_) => self.in_folder(test, &fact.path),
                _ => self.at(test, &fact.path),
            };
            if found.is_some() {
                return found;
            }
        }
        let mut changes = stored.changes.iter();
        changes.find_map(|path| self.at(test, path).or_else(|| self.in_folder(test, path)))
    }

    fn at(&self, test: &TestId, path: &[u8]) -> Option<(Vec<u8>, TestId)> {
        let others = self.by_path.get(path)?;
        let other = others.iter().find(|other| **other != test)?;
        Some((path.to_vec(), (*other).clone()))
    }

    fn in_folder(&self, test: &TestId, folder: &[u8]) -> Option<(Vec<u8>, TestId)> {
        let prefix = [folder, b"/"].concat();
        let below = self.by_path.range(prefix.as_slice()..);
        let mut below = below.take_while(|(path, _)| path.starts_with(&prefix));
        below.find_map(|(path, _)| self.at(test, path))
    }
}

/// Remembers each look, so that a path that many tests have asked for is looked at once.
pub(super) struct Once<'a, W> {
    world: &'a mut W,
    looks: HashMap<Vec<u8>, Look>,
    lists: HashMap<Vec<u8>, Look>,
}

impl<'a, W: World> Once<'a, W> {
    pub(super) fn new(world: &'a mut W) -> Self {
        Self {
            world,
            looks: HashMap::new(),
            lists: HashMap::new(),
        }
    }
}

impl<W: World> World for Once<'_, W> {
    fn look(&mut self, path: &[u8]) -> Look {
        if let Some(known) = self.looks.get(path) {
            return known.clone();
        }
        let look = self.world.look(path);
        self.looks.insert(path.to_vec(), look.clone());
        look
    }

    fn list(&mut self, path: &[u8]) -> Look {
        if let Some(known) = self.lists.get(path) {
            return known.clone();
        }
        let look = self.world.list(path);
        self.lists.insert(path.to_vec(), look.clone());
        look
    }
}
