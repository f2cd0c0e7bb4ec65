//! Compares two maps once, for many tests.

use super::map::{Difference, Map};
use std::collections::BTreeMap;

/// The functions of a map that differ from those of another one.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// For each function of the map before: whether it differs, with lines and columns of panics and without, and
    /// whether it shows those.
    functions: Vec<Compared>,
    beginning: (bool, bool),
    /// The entries of tests that are the same; `None` if neither has a table.
    tests: Option<BTreeMap<String, ()>>,
    strict: bool,
}

#[derive(Clone, Debug)]
struct Compared {
    name: String,
    strict: bool,
    weak: bool,
    gone: bool,
    shows_places: bool,
}

impl Comparison {
    /// Compares a map with the one before.
    pub fn new(before: &Map, now: &Map) -> Self {
        let digests = |strict| (before.by_name(strict), now.by_name(strict));
        let (strict, weak) = (digests(true), digests(false));
        let functions = before.functions.iter().map(|function| {
            let name = function.name.as_str();
            Compared {
                name: name.to_owned(),
                strict: strict.0.get(name) != strict.1.get(name),
                weak: weak.0.get(name) != weak.1.get(name),
                gone: !weak.1.contains_key(name),
                shows_places: function.shows_places,
            }
        });
        let tests = match (&before.tests, &now.tests) {
            (None, None) => None,
            (None, _) | (_, None) => Some(BTreeMap::new()),
            (Some(before), Some(now)) => {
                let same = before
                    .iter()
                    .filter(|(name, digest)| digest.is_some() && now.get(*name) == Some(digest));
                Some(same.map(|(name, _)| (name.clone(), ())).collect())
            }
        };
        Self {
            functions: functions.collect(),
            beginning: (
                before.beginning.0 != now.beginning.0,
                before.beginning.1 != now.beginning.1,
            ),
            tests,
            strict: now.is_strict(before),
        }
    }

    /// Returns the first difference that matters to a test: among the functions that it entered, by their numbers in
    /// the map before, and in its own entry if this is its binary.
    pub fn first(&self, entered: &[u32], test: Option<&str>) -> Option<Difference> {
        let find = |number: &u32| self.functions.get(*number as usize);
        let functions: Option<Vec<&Compared>> = entered.iter().map(find).collect();
        // A number that is out of range says that the record is of something else.
        let Some(functions) = functions else {
            return Some(Difference::Beginning);
        };
        let strict = self.strict || functions.iter().any(|it| it.shows_places);
        let differs = |strict_and_weak: (bool, bool)| match strict {
            true => strict_and_weak.0,
            false => strict_and_weak.1,
        };
        if differs(self.beginning) {
            return Some(Difference::Beginning);
        }
        if let (Some(test), Some(tests)) = (test, &self.tests)
            && !tests.contains_key(test)
        {
            return Some(Difference::Test);
        }
        let first = functions
            .into_iter()
            .find(|it| differs((it.strict, it.weak)))?;
        Some(match first.gone {
            true => Difference::Gone(first.name.clone()),
            false => Difference::Function(first.name.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::map::Function;
    use super::*;

    fn map(functions: &[(&str, u128, u128)]) -> Map {
        let functions = functions.iter().map(|(name, strict, weak)| Function {
            name: (*name).to_owned(),
            address: 0,
            strict: *strict,
            weak: *weak,
            shows_places: *name == "panic",
        });
        Map {
            functions: functions.collect(),
            beginning: (0, 0),
            tests: Some([("t".to_owned(), Some(1))].into()),
            always_strict: false,
        }
    }

    #[test]
    fn only_what_was_entered_counts() {
        let before = map(&[("a", 1, 1), ("b", 2, 2), ("panic", 3, 3)]);
        let now = map(&[("a", 1, 1), ("b", 9, 9), ("panic", 3, 3)]);
        let comparison = Comparison::new(&before, &now);
        assert_eq!(comparison.first(&[0], Some("t")), None);
        let changed = Some(Difference::Function("b".to_owned()));
        assert_eq!(comparison.first(&[0, 1], Some("t")), changed);
    }

    #[test]
    fn lines_count_for_a_test_that_has_panicked() {
        let before = map(&[("a", 1, 1), ("panic", 3, 3)]);
        let now = map(&[("a", 2, 1), ("panic", 3, 3)]);
        let comparison = Comparison::new(&before, &now);
        assert_eq!(comparison.first(&[0], Some("t")), None);
        assert!(comparison.first(&[0, 1], Some("t")).is_some());
    }

    #[test]
    fn a_function_that_is_gone_and_a_test_that_is_not_listed_differ() {
        let before = map(&[("a", 1, 1), ("b", 1, 1)]);
        let comparison = Comparison::new(&before, &map(&[("a", 1, 1)]));
        let gone = Some(Difference::Gone("b".to_owned()));
        assert_eq!(comparison.first(&[1], Some("t")), gone);
        assert_eq!(comparison.first(&[0], Some("u")), Some(Difference::Test));
        assert_eq!(comparison.first(&[7], None), Some(Difference::Beginning));
    }
}
