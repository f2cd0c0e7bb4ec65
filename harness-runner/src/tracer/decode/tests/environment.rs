//! Environments.

use crate::tracer::decode::{Environment, environment_change};
use harness_metadata::trace::EnvironmentChange;
use proptest::prelude::*;
use std::{collections::BTreeMap, rc::Rc};

fn told(environment: &Environment) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let variables = environment.variables();
    variables
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn variables_are_told_in_order_of_their_names_and_the_first_of_a_name_counts() {
    let environment =
        Environment::from_block(b"B=2\0AB=x=y\0\0A=1\0B=3\0D\0=C:=4\0E=\0".as_slice());
    let expected = [
        ("=C:", "4"),
        ("A", "1"),
        ("AB", "x=y"),
        ("B", "2"),
        ("D", ""),
        ("E", ""),
    ];
    assert_eq!(told(&environment), pairs(&expected));
    assert!(!environment.is_whole() && !environment.is_truncated());
    let without_the_last_nul = Environment::from_block(b"A=1\0B=2".as_slice());
    assert_eq!(
        told(&without_the_last_nul),
        pairs(&[("A", "1"), ("B", "2")])
    );
    assert!(without_the_last_nul.is_whole());
    assert_eq!(told(&Environment::default()), []);
}

#[test]
fn as_much_as_there_is_room_for_is_kept() {
    let fits = format!("A={}", "x".repeat(64 * 1024 - 2));
    let whole = Environment::new([fits.as_bytes()]);
    assert!(whole.is_whole());
    let more = Environment::new([fits.as_bytes(), b"B"]);
    assert!(more.is_truncated() && !more.is_whole());
    assert_eq!(more.variables().count(), 1);

    let names: Vec<String> = (0..=4096).map(|number| format!("{number:04}=")).collect();
    let of = |count: usize| Environment::new(names[..count].iter().map(String::as_bytes));
    assert!(of(4096).is_whole());
    assert!(of(4097).is_truncated());
    assert_eq!(of(4097).variables().count(), 4096);
}

#[test]
fn an_environment_like_the_creator_s_is_the_creator_s() {
    let block = b"B=2\0A=1\0".as_slice();
    let creator = Rc::new(Environment::from_block(block));
    let same = Environment::from_block(block).shared(Some(&creator));
    assert!(Rc::ptr_eq(&same, &creator));
    assert_eq!(
        environment_change(Some(&creator), &same),
        EnvironmentChange::default()
    );
    // Says the same, but is another one.
    let other = Environment::from_block(b"A=1\0B=2\0".as_slice()).shared(Some(&creator));
    assert!(!Rc::ptr_eq(&other, &creator));
    assert_eq!(*other, *creator);
    let cut = Environment::from_block(block).cut_if(true);
    assert_ne!(*cut.clone().shared(Some(&creator)), *creator);
    assert!(cut.is_truncated() && !cut.is_whole());
}

#[test]
fn of_one_that_was_cut_off_nothing_is_known_to_be_gone() {
    let old = Environment::from_block(b"A=1\0B=2\0".as_slice());
    let new = Environment::from_block(b"A=2\0".as_slice()).cut_if(true);
    let change = environment_change(Some(&old), &new);
    assert_eq!(change.set, [("A".into(), "2".into())]);
    assert_eq!(change.unset, []);
}

proptest! {
    /// The definition, word for word.
    #[test]
    fn environments_are_what_a_map_would_be(
        old in proptest::collection::vec("[AB=]{0,3}", 0..12),
        new in proptest::collection::vec("[AB=]{0,3}", 0..12),
    ) {
        let map = |strings: &[String]| {
            let mut map = BTreeMap::new();
            for string in strings.iter().filter(|string| !string.is_empty()) {
                let equals = string[1..].find('=').map(|at| at + 1);
                let (name, value) = equals.map_or((&string[..], ""), |at| (&string[..at], &string[at + 1..]));
                map.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
            map
        };
        let environment = |strings: &[String]| Environment::new(strings.iter().map(String::as_bytes));
        let (old_map, new_map) = (map(&old), map(&new));
        let (old, new) = (environment(&old), environment(&new));
        prop_assert_eq!(told(&new), new_map.clone().into_iter().collect::<Vec<_>>());
        let change = environment_change(Some(&old), &new);
        let set = new_map.iter().filter(|(name, value)| old_map.get(*name) != Some(*value));
        let set = set.map(|(name, value)| (name.as_str().into(), value.as_str().into()));
        prop_assert_eq!(change.set, set.collect::<Vec<_>>());
        let unset = old_map.keys().filter(|name| !new_map.contains_key(*name));
        prop_assert_eq!(change.unset, unset.map(|name| name.as_str().into()).collect::<Vec<_>>());
    }
}
