//! Tests of comparisons, from observations that were made by hand.

use super::*;
use crate::answers::difference::{Moment, Said};
use harness_metadata::trace::Access;
use std::time::Duration;

fn asked(name: &str) -> Asked {
    Asked {
        verb: "open to read",
        name: name.to_owned(),
        to: None,
    }
}

/// A run that passed and asked for these names in this order, with these answers.
fn run(answers: &[(&str, Said)]) -> Observation {
    let mut run = Observation {
        ending: "PASS".to_owned(),
        ..Observation::default()
    };
    for (name, said) in answers {
        let place = run.asked.len();
        let answered = run.asked.entry(asked(name)).or_insert_with(|| Answered {
            said: BTreeSet::new(),
            first: Moment {
                at: Duration::ZERO,
                pid: 1,
                call: None,
            },
            thing: None,
            times: 0,
            place,
        });
        answered.said.insert(*said);
        answered.times += 1;
    }
    run
}

const MISSING: Said = Said::Failed(libc::ENOENT);

#[test]
fn an_answer_that_differs_in_all_runs_is_a_departure() {
    let usual = [run(&[("a", Said::Worked)]), run(&[("a", Said::Worked)])];
    let here = [run(&[("a", MISSING)]), run(&[("a", MISSING)])];
    let found = compare(&usual, &here);
    assert!(found.varying.is_empty(), "{found:?}");
    let [Departure::Answers { asked: what, .. }] = &found.departures[..] else {
        panic!("{found:?}");
    };
    assert_eq!(*what, asked("a"));
    assert!(compare(&usual, &usual).same());
}

#[test]
fn what_varies_by_itself_is_blamed_on_no_condition() {
    let (one, other) = (run(&[("a", Said::Worked)]), run(&[("b", Said::Worked)]));
    let varying = [one.clone(), other.clone()];
    let steady = [one.clone(), one];
    for (usual, here) in [(&varying, &steady), (&steady, &varying)] {
        let found = compare(usual, here);
        assert!(found.same(), "{found:?}");
        assert_eq!(found.varying, ["open to read a", "open to read b"]);
    }
}

#[test]
fn numbers_of_times_and_the_order_count_too() {
    let worked = |names: &[&str]| {
        let all: Vec<_> = names.iter().map(|name| (*name, Said::Worked)).collect();
        let one = run(&all);
        [one.clone(), one]
    };
    let found = compare(&worked(&["a", "b"]), &worked(&["a", "b", "b"]));
    let times = Departure::Times {
        asked: asked("b"),
        usual: 1,
        here: 2,
    };
    assert_eq!(found.departures, [times]);
    let found = compare(&worked(&["a", "b", "c"]), &worked(&["a", "c", "b"]));
    let order = Departure::Order {
        usual: asked("b"),
        here: asked("c"),
    };
    assert_eq!(found.departures, [order]);
}

#[test]
fn an_ending_and_what_is_started_are_compared() {
    let usual = [run(&[]), run(&[])];
    let mut here = usual.clone();
    for run in &mut here {
        run.ending = "FAIL".to_owned();
        run.threads = 3;
    }
    let found = compare(&usual, &here);
    assert!(found.changes_ending());
    let started = Departure::Started {
        what: "threads",
        usual: 0,
        here: 3,
    };
    assert_eq!(found.departures[1], started);
}

#[test]
fn a_folder_has_the_same_name_wherever_it_is() {
    let roots = Roots {
        workspace: "/home/me/it".into(),
        target: "/home/me/it/target".into(),
        home: Some("/home/me".into()),
        temp: "/tmp".into(),
    };
    let scratch = Path::new("/home/me/it/target/harness/trials/1");
    let places = Places::new(&roots, &scratch.join("temp"), &scratch.join("home"));
    let named = |path: &str| {
        let mut observed = Observed::new(names(), &|_| true).with_places(&places.0);
        let event = crate::answers::tests::open(1, path, Access::default());
        observed.event(1, &event);
        observed.asked.into_keys().next().expect("it is there").name
    };
    assert_eq!(named("/home/me/it/src/lib.rs"), "{workspace}/src/lib.rs");
    assert_eq!(named("/home/me/.gitconfig"), "~/.gitconfig");
    let there = "/home/me/it/target/harness/trials/1";
    assert_eq!(named(&format!("{there}/home/.gitconfig")), "~/.gitconfig");
    assert_eq!(named(&format!("{there}/temp/a-12")), named("/tmp/a-34"));
}
