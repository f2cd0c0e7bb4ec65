//! Compares ways to select tests by what the tests did: how many each selects, and which it would have missed.

use super::regression::median;
use harness_metadata::{TestId, Verdict};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A way to select tests.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// All that a pass rests on, with the functions that the test entered.
    Functions,
    /// The same, with whole executables.
    Executables,
    /// The packages that changed, and those that depend on them.
    Packages,
    /// The source files of the functions that the test entered.
    Files,
}

impl Method {
    /// All, in the order of tables.
    pub const ALL: [Self; 4] = [
        Self::Functions,
        Self::Executables,
        Self::Packages,
        Self::Files,
    ];

    /// Returns its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Functions => "functions",
            Self::Executables => "executables",
            Self::Packages => "packages",
            Self::Files => "files",
        }
    }

    /// Returns whether it is one of this runner's that claim to miss nothing.
    pub fn is_own(self) -> bool {
        matches!(self, Self::Functions | Self::Executables)
    }
}

/// The tests of a state of the sources, with their verdicts.
pub type Verdicts = BTreeMap<TestId, Verdict>;

/// A state of the sources, compared with the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The number of tests.
    pub tests: usize,
    /// The tests whose verdict is another.
    pub changed: BTreeSet<TestId>,
    /// The number of tests that each way selects. A new test is selected by all.
    pub selected: BTreeMap<Method, usize>,
    /// The tests that each way would have skipped and whose verdict is another.
    pub missed: BTreeMap<Method, BTreeSet<TestId>>,
    /// Those of them whose verdict is not the same each time.
    pub by_chance: BTreeSet<TestId>,
}

impl Compared {
    /// Compares verdicts and selections.
    pub fn new(
        before: &Verdicts,
        now: &Verdicts,
        selected: &BTreeMap<Method, BTreeSet<TestId>>,
    ) -> Self {
        let differs = |test: &&TestId| before.get(*test).is_some_and(|it| *it != now[*test]);
        let changed: BTreeSet<TestId> = now.keys().filter(differs).cloned().collect();
        let runs = |tests: &BTreeSet<TestId>, test: &TestId| {
            tests.contains(test) || !before.contains_key(test)
        };
        let of = |tests| now.keys().filter(|test| runs(tests, test)).count();
        let missed = |tests: &BTreeSet<TestId>| -> BTreeSet<TestId> {
            let skipped = changed.iter().filter(|test| !runs(tests, test));
            skipped.cloned().collect()
        };
        Self {
            tests: now.len(),
            selected: selected
                .iter()
                .map(|(it, tests)| (*it, of(tests)))
                .collect(),
            missed: selected
                .iter()
                .map(|(it, tests)| (*it, missed(tests)))
                .collect(),
            changed,
            by_chance: BTreeSet::new(),
        }
    }

    /// Returns the tests that any way missed.
    pub fn suspects(&self) -> BTreeSet<TestId> {
        self.missed.values().flatten().cloned().collect()
    }

    /// Takes note of tests whose verdict is not the same each time.
    pub fn clear(&mut self, by_chance: BTreeSet<TestId>) {
        for missed in self.missed.values_mut() {
            missed.retain(|test| !by_chance.contains(test));
        }
        self.by_chance = by_chance;
    }

    /// Returns the tests that a way of this runner missed.
    pub fn wrong(&self) -> BTreeSet<&TestId> {
        let own = self.missed.iter().filter(|(method, _)| method.is_own());
        own.flat_map(|(_, missed)| missed).collect()
    }

    /// Returns the part of the tests that a way selects, in percent.
    pub fn percent(&self, method: Method) -> f64 {
        let selected = self.selected.get(&method).copied().unwrap_or(0);
        100.0 * selected as f64 / self.tests.max(1) as f64
    }
}

/// The figures of a way over several states.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// The mean of the parts that it selects, in percent.
    pub mean: f64,
    /// The median of them.
    pub median: f64,
    /// The number of missed tests.
    pub missed: usize,
}

/// Returns the figures of a way.
pub fn figures<'a>(all: impl Iterator<Item = &'a Compared>, method: Method) -> Figures {
    let (mut parts, mut missed) = (Vec::new(), 0);
    for compared in all {
        parts.push(compared.percent(method));
        missed += compared.missed.get(&method).map_or(0, BTreeSet::len);
    }
    if parts.is_empty() {
        return Figures::default();
    }
    Figures {
        mean: parts.iter().sum::<f64>() / parts.len() as f64,
        median: median(&parts),
        missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture_kit::sample;

    fn test_id(name: &str) -> TestId {
        sample::test("a", name)
    }

    fn verdicts(tests: &[(&str, Verdict)]) -> Verdicts {
        let tests = tests.iter().map(|(name, it)| (test_id(name), *it));
        tests.collect()
    }

    fn set(names: &[&str]) -> BTreeSet<TestId> {
        names.iter().map(|name| test_id(name)).collect()
    }

    fn compared() -> Compared {
        let before = verdicts(&[
            ("a", Verdict::Pass),
            ("b", Verdict::Pass),
            ("gone", Verdict::Pass),
        ]);
        let now = verdicts(&[
            ("a", Verdict::Pass),
            ("b", Verdict::Fail),
            ("new", Verdict::Fail),
        ]);
        let selected = [
            (Method::Functions, set(&["b"])),
            (Method::Files, set(&["a"])),
        ];
        Compared::new(&before, &now, &selected.into())
    }

    #[test]
    fn a_skipped_test_with_another_verdict_is_missed_and_a_new_one_is_selected() {
        let compared = compared();
        assert_eq!(compared.tests, 3);
        assert_eq!(compared.changed, set(&["b"]));
        let both = [(Method::Functions, 2), (Method::Files, 2)];
        assert_eq!(compared.selected, both.into());
        assert_eq!(compared.missed[&Method::Functions], set(&[]));
        assert_eq!(compared.missed[&Method::Files], set(&["b"]));
        // The rivals' ways may miss.
        assert!(compared.wrong().is_empty());
    }

    #[test]
    fn a_verdict_of_chance_is_not_missed() {
        let mut compared = compared();
        assert_eq!(figures([&compared].into_iter(), Method::Files).missed, 1);
        compared.clear(set(&["b"]));
        assert_eq!(figures([&compared].into_iter(), Method::Files).missed, 0);
        assert_eq!(compared.by_chance, set(&["b"]));
    }
}
