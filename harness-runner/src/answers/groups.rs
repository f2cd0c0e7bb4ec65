//! The test groups that keep pairs of tests apart, as lines of `harness.toml`.
//!
//! A test has one group. So the tests that are linked by pairs, whatever the number of links between them,
//! come into one group, of which one test runs at a time.

use super::{
    conflicts::{Conflict, Party},
    uses::Thing,
};
use harness_metadata::{TestId, noise::file_name};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::Duration,
};

/// Tests that must not run beside each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its tests, with their last durations.
    pub tests: BTreeMap<TestId, Duration>,
    /// The number of pairs that clash.
    pub pairs: usize,
}

impl Group {
    /// Returns the time that its tests take one after the other: the run takes at least that long.
    pub fn total(&self) -> Duration {
        self.tests.values().sum()
    }

    /// Returns the time of its longest test, which they take at least beside each other.
    pub fn longest(&self) -> Duration {
        self.tests.values().max().copied().unwrap_or_default()
    }

    /// Returns the number of pairs that it keeps apart although they do not clash.
    pub fn needless(&self) -> usize {
        let tests = self.tests.len();
        (tests * tests.saturating_sub(1) / 2).saturating_sub(self.pairs)
    }
}

/// Returns the groups that keep these pairs apart.
pub fn groups<'a>(pairs: impl IntoIterator<Item = &'a Conflict>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for pair in pairs {
        let is_in = |group: &Group| {
            [&pair.one, &pair.other]
                .into_iter()
                .any(|party| group.tests.contains_key(&party.test))
        };
        let (linked, mut rest): (Vec<Group>, Vec<Group>) =
            groups.into_iter().partition(|group| is_in(group));
        let mut group = Group {
            name: name_of(&pair.clashes[0].thing),
            tests: BTreeMap::new(),
            pairs: 1,
        };
        for party in [&pair.one, &pair.other] {
            let Party { test, elapsed, .. } = party;
            group.tests.insert(test.clone(), *elapsed);
        }
        for other in linked.into_iter().rev() {
            group.name = other.name;
            group.pairs += other.pairs;
            group.tests.extend(other.tests);
        }
        rest.push(group);
        groups = rest;
    }
    let mut taken = BTreeSet::new();
    for group in &mut groups {
        let base = group.name.clone();
        let mut number = 2;
        while !taken.insert(group.name.clone()) {
            group.name = format!("{base}-{number}");
            number += 1;
        }
    }
    groups
}

/// Returns a name of a group for a thing: it begins with a letter and has letters, digits, `_` and `-`.
fn name_of(thing: &Thing) -> String {
    let last = match thing {
        Thing::Path(path) => String::from_utf8_lossy(file_name(path.as_bytes())).into_owned(),
        Thing::Ip(_, port) => format!("port-{port}"),
        Thing::Abstract(name) | Thing::Host(name) => name.to_string(),
        Thing::Other(text) => text.clone(),
    };
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = last.chars().take(40).map(fits).collect();
    format!("shares-{}", name.trim_matches('-'))
}

/// Returns the lines of `harness.toml` that make the groups, for a profile.
pub fn lines(groups: &[Group], profile: &str) -> String {
    let mut text = String::new();
    for group in groups {
        let filters = group.tests.keys().map(filter_of);
        let filter = filters.collect::<Vec<_>>().join(" | ");
        let filter = toml::Value::String(filter);
        let Group { name, .. } = group;
        // A table of its own, so that it can stand below others.
        let _ = write!(
            text,
            "[test-groups.{name}]\nmax-threads = 1\n\n[[profile.{profile}.overrides]]\n\
             filter = {filter}\ntest-group = \"{name}\"\n\n"
        );
    }
    text
}

/// Returns the filterset that has exactly this test.
pub fn filter_of(test: &TestId) -> String {
    let name = escaped(test.name.as_str());
    format!("({} & test(={name}))", filter_of_binary(test))
}

/// Returns the filterset that has the tests of this one's binary.
pub fn filter_of_binary(test: &TestId) -> String {
    format!("binary_id(={})", escaped(test.binary.as_str()))
}

/// Returns a text as a filterset takes it.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if matches!(c, '\\' | ')' | ',') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answers::conflicts::{Clash, Sure},
        filter::check_syntax,
    };
    use fixture_kit::sample;
    use nextest_filtering::FiltersetKind;

    fn pair(one: &str, other: &str, thing: Thing) -> Conflict {
        let party = |name: &str| Party {
            test: sample::test("it::t", name),
            run: sample::started().run_id,
            attempt: 1,
            elapsed: Duration::from_secs(2),
            incomplete: false,
            started: 0,
        };
        Conflict {
            one: party(one),
            other: party(other),
            clashes: vec![Clash {
                thing,
                entry: None,
                one: Vec::new(),
                other: Vec::new(),
                sure: Sure::Met,
            }],
            more: 0,
        }
    }

    #[test]
    fn tests_that_are_linked_come_into_one_group_and_others_into_another() {
        let path = || Thing::Path("/srv/it/out dir".into());
        let port = Thing::Ip([127, 0, 0, 1].into(), 80);
        let pairs = [
            pair("a", "b", path()),
            pair("x", "y", port),
            pair("p", "q", path()),
            pair("b", "c", path()),
        ];
        let groups = groups(&pairs);
        let of = |name: &str| groups.iter().find(|group| group.name == name).unwrap();
        assert_eq!(groups.len(), 3);
        let three = of("shares-out-dir-2");
        assert_eq!(
            (three.tests.len(), three.pairs, three.needless()),
            (3, 2, 1)
        );
        assert_eq!(three.total(), Duration::from_secs(6));
        assert_eq!(three.longest(), Duration::from_secs(2));
        assert_eq!(of("shares-port-80").tests.len(), 2);
        let text = lines(&groups, "default");
        let file: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(file["test-groups"].as_table().unwrap().len(), 3);
    }

    #[test]
    fn a_name_with_signs_of_the_filterset_language_is_still_one_name() {
        let test = sample::test("it::t", "case(1, \\x) & all()");
        let filter = filter_of(&test);
        assert!(
            check_syntax(&filter, FiltersetKind::Test).is_ok(),
            "{filter}"
        );
    }
}
