//! The proof corpus of the tracer: a program for every line of its checklist that can be tested,
//! run in every way that there is to trace, and what the traces of them say.
//!
//! The programs are the tests of `fixtures/tracees`. Each checks by itself what has to be the same
//! traced and untraced; here is what has to be seen.

mod checklist;
mod expectations;
mod invariants;
mod page;
mod runs;
mod trace;

use checklist::{PARTS, program};
use expectations::{DOUBTS, EXPECTATIONS, UNTOLD};
use fixture_kit::{environment, scene};
use harness_metadata::{
    Attempt, Verdict,
    trace::{Backend, Doubt},
};
use nix::unistd::geteuid;
use runs::{Programs, User, folder};
use scene::skip;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, panic,
};
use trace::Trace;

/// A run of all programs.
struct Run {
    programs: Programs,
    attempts: BTreeMap<String, Attempt>,
    /// Its output.
    output: String,
}

/// Runs all programs; `None` if that user cannot.
fn run(test: &str, user: User, options: &[&str]) -> Option<Run> {
    let programs = match Programs::new(user) {
        Ok(programs) => programs,
        Err(reason) => {
            skip(test, &reason);
            return None;
        }
    };
    let (attempts, output) = programs.run(options);
    assert_eq!(
        attempts.keys().cloned().collect::<BTreeSet<_>>(),
        listed(),
        "{output}"
    );
    Some(Run {
        programs,
        attempts,
        output,
    })
}

/// Runs all programs, which have to pass.
fn all_pass(test: &str, user: User, options: &[&str]) {
    if let Some(run) = run(test, user, options) {
        run.assert_passed();
    }
}

impl Run {
    fn assert_passed(&self) {
        let mut verdicts = self.attempts.values().map(|attempt| attempt.verdict);
        let all = verdicts.all(|verdict| verdict == Verdict::Pass);
        assert!(all, "{}", self.output);
    }
}

/// By the usual backend, also what would be run again by another one.
const SEEN: [&str; 4] = ["--trace", "full", "--profile", "ptrace"];

/// Runs all programs, which have to pass, and checks their traces.
fn all_are_seen(test: &str, user: User, options: &[&str]) {
    if let Some(run) = run(test, user, options) {
        run.assert_seen(user);
    }
}

/// As [`all_are_seen`], by the other backend, which leaves ptrace(2) to them.
fn all_are_notified(test: &str, user: User) {
    let options = ["--trace", "full", "--profile", "notify"];
    let Some(run) = run(test, user, &options) else {
        return;
    };
    let traces = run.attempts.values();
    let mut traces = traces.filter_map(|attempt| attempt.trace.as_ref());
    if !traces.any(|summary| summary.backend == Backend::Notify) {
        run.assert_passed();
        return skip(test, "no listener works here");
    }
    run.assert_seen(user);
}

impl Run {
    fn assert_seen(self, user: User) {
        let traces = self.programs.traces();
        let mut wrong = String::new();
        for (program, attempt) in self.attempts {
            let summary = attempt.trace.as_deref();
            let root = summary.map(|summary| summary.processes[0].pid);
            let trace = root.and_then(|root| traces.get(&root));
            let mut problems = match trace {
                Some(trace) => problems(&program, trace, user),
                None => vec!["there is no trace".to_owned()],
            };
            if attempt.verdict != Verdict::Pass {
                problems.push(format!("it does not pass: {:?}", attempt.outcome));
            }
            describe(&mut wrong, &program, &problems, trace);
        }
        assert!(wrong.is_empty(), "{}\n{wrong}", self.output);
    }
}

fn describe(text: &mut String, program: &str, problems: &[String], trace: Option<&Trace>) {
    if !problems.is_empty() {
        let trace = trace.map(Trace::to_string).unwrap_or_default();
        let problems = problems.join("\n  - ");
        text.push_str(&format!("{program}:\n  - {problems}\n{trace}\n"));
    }
}

/// Returns what is wrong with a trace.
fn problems(program: &str, trace: &Trace, user: User) -> Vec<String> {
    let mut wrong = invariants::violations(trace);
    if trace.skipped() {
        return wrong;
    }
    let is_general = |doubt: &Doubt| matches!(doubt, Doubt::Backend(_));
    if trace.doubts.iter().any(is_general) != trace.notified() {
        wrong.push("it doubts its backend, or should".to_owned());
    }
    let mut doubts = trace.doubts.clone();
    doubts.retain(|doubt| !is_general(doubt));
    let expected = DOUBTS
        .iter()
        .filter(|(name, _, by)| *name == program && by.contains(&trace.backend));
    let untold = UNTOLD.iter().filter(|(name, _)| *name == program);
    let untold = untold.map(|(_, what)| Doubt::Untold((*what).to_owned()));
    let mut expected: Vec<_> = expected
        .map(|(_, doubt, _)| doubt.clone())
        .chain(untold)
        .collect();
    expected.sort();
    doubts.sort();
    if doubts != expected {
        wrong.push(format!("its doubts should be {expected:?}"));
    }
    let expectations = EXPECTATIONS.iter();
    for expected in expectations.filter(|expected| expected.program == program) {
        // One that stumbles over what is missing does not hold either.
        let holds = panic::catch_unwind(|| (expected.holds)(trace)).unwrap_or(false);
        if expected.is_due(trace) && !holds {
            wrong.push(format!("it should say: {}", expected.what));
        }
        // Some concern tracers with privileges only.
        if !expected.is_due(trace) && holds && user == User::Own && geteuid().is_root() {
            wrong.push(format!("it says by now: {}", expected.what));
        }
    }
    wrong
}

/// Returns the programs of the checklist.
fn listed() -> BTreeSet<String> {
    let lines = PARTS.iter().flat_map(|(_, lines)| *lines);
    lines
        .flat_map(|line| line.programs.iter().map(|name| program(line, name)))
        .collect()
}

#[test]
fn every_program_passes_untraced() {
    all_pass(
        "every_program_passes_untraced",
        User::Own,
        &["--trace", "off"],
    );
}

#[test]
fn every_program_passes_untraced_for_another_user() {
    let name = "every_program_passes_untraced_for_another_user";
    all_pass(name, User::Nobody, &["--trace", "off"]);
}

#[test]
fn every_program_passes_while_processes_are_followed_for_another_user() {
    let name = "every_program_passes_while_processes_are_followed_for_another_user";
    all_pass(name, User::Nobody, &["--trace", "process"]);
}

/// Their events at this level are in no file: the programs are traced one by one.
#[test]
fn every_life_is_seen_while_processes_are_followed() {
    let name = "every_life_is_seen_while_processes_are_followed";
    let Some(run) = run(name, User::Own, &["--trace", "process"]) else {
        return;
    };
    run.assert_passed();
    if run.attempts.values().any(|attempt| attempt.trace.is_none()) {
        return skip(name, "nothing may be traced here");
    }
    let mut wrong = String::new();
    for (program, trace) in run.programs.lives(&run.attempts) {
        let problems = problems(&program, &trace, User::Own);
        describe(&mut wrong, &program, &problems, Some(&trace));
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_program_is_seen_when_notified() {
    all_are_notified("every_program_is_seen_when_notified", User::Own);
}

#[test]
fn every_program_is_seen_when_notified_for_another_user() {
    let name = "every_program_is_seen_when_notified_for_another_user";
    all_are_notified(name, User::Nobody);
}

#[test]
fn every_program_is_seen() {
    all_are_seen("every_program_is_seen", User::Own, &SEEN);
}

#[test]
fn every_program_is_seen_for_another_user() {
    all_are_seen(
        "every_program_is_seen_for_another_user",
        User::Nobody,
        &SEEN,
    );
}

#[test]
fn every_program_is_seen_by_the_recorder() {
    let options = ["--trace", "full", "--profile", "recorder"];
    all_are_seen("every_program_is_seen_by_the_recorder", User::Own, &options);
}

/// A record that is not what the stops of the same call say is a doubt, and no program should have one.
#[test]
fn what_the_recorder_writes_down_is_what_stops_say() {
    let name = "what_the_recorder_writes_down_is_what_stops_say";
    let options = ["--trace", "full", "--profile", "recorder-verified"];
    all_are_seen(name, User::Own, &options);
}

#[test]
fn what_the_recorder_writes_down_is_what_stops_say_for_another_user() {
    let name = "what_the_recorder_writes_down_is_what_stops_say_for_another_user";
    let options = ["--trace", "full", "--profile", "recorder-verified"];
    all_are_seen(name, User::Nobody, &options);
}

#[test]
fn every_program_is_in_the_list_and_the_reverse() {
    let mut written = BTreeSet::new();
    for entry in fs::read_dir(folder().join("tests"))
        .expect("it is there")
        .flatten()
    {
        let source = fs::read_to_string(entry.path()).expect("it is a source");
        let names = source.lines().filter_map(|line| line.strip_prefix("fn p"));
        let names = names.filter(|name| name.starts_with(|first: char| first.is_ascii_digit()));
        written.extend(names.map(|name| format!("p{}", name.split('(').next().unwrap_or(name))));
    }
    assert_eq!(written, listed());
}

#[test]
fn every_program_has_an_expectation() {
    let expectations = EXPECTATIONS.iter().map(|expected| expected.program);
    let doubts = DOUBTS.iter().map(|(program, ..)| *program);
    let mut expected: BTreeSet<_> = expectations.chain(doubts).map(str::to_owned).collect();
    // That there is no doubt is all that there is to say of it.
    expected.insert("p63_passes_a_descriptor".to_owned());
    assert_eq!(expected, listed());
}

#[test]
fn every_line_is_tested_or_says_why_not() {
    let lines: Vec<_> = PARTS.iter().flat_map(|(_, lines)| *lines).collect();
    let numbers: Vec<_> = lines.iter().map(|line| line.number).collect();
    assert_eq!(numbers, (1..=104).collect::<Vec<_>>());
    for line in lines {
        assert!(
            !line.programs.is_empty() || !line.note.is_empty(),
            "P{}",
            line.number
        );
    }
}

#[test]
fn the_page_of_the_checklist_is_what_the_list_says() {
    page::check();
}
