//! The proof corpus of the tracer: a program for every line of its checklist that can be tested,
//! run in every way that there is to trace, and what the traces of them say.
//!
//! The programs are the tests of `fixtures/tracees`. Each checks by itself what has to be the same
//! traced and untraced; here is what has to be seen.

#[path = "../end_to_end/environment.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod environment;
#[path = "../end_to_end/scene.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod scene;

mod checklist;
mod expectations;
mod invariants;
mod page;
mod runs;
mod trace;

use checklist::{PARTS, program};
use expectations::{DOUBTS, EXPECTATIONS, GAPS};
use harness_metadata::{Attempt, Verdict, trace::Backend};
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
    /// What it said.
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

/// Runs all programs with the other backend, which leaves ptrace(2) to them.
fn all_pass_when_notified(test: &str, user: User) {
    let options = ["--trace", "full", "--profile", "notify"];
    let Some(run) = run(test, user, &options) else {
        return;
    };
    run.assert_passed();
    let summaries = run
        .attempts
        .values()
        .filter_map(|attempt| attempt.trace.as_ref());
    let notified = summaries
        .filter(|summary| summary.backend == Backend::Notify)
        .count();
    if notified == 0 {
        return skip(test, "no listener works here");
    }
    assert_eq!(notified, run.attempts.len());
}

/// Runs all programs, which have to pass, and checks their traces.
fn all_are_seen(test: &str, user: User, options: &[&str]) {
    let Some(run) = run(test, user, options) else {
        return;
    };
    let traces = run.programs.traces();
    let mut wrong = String::new();
    for (program, attempt) in run.attempts {
        let summary = attempt.trace.as_deref();
        let root = summary.map(|summary| summary.processes[0].pid);
        let mut missing = match root.and_then(|root| traces.get(&root)) {
            Some(trace) => missing(&program, trace),
            None => vec!["there is no trace".to_owned()],
        };
        if attempt.verdict != Verdict::Pass {
            missing.push(format!("it does not pass: {:?}", attempt.outcome));
        }
        let known = GAPS.iter().any(|(name, _)| *name == program);
        // Some concern tracers with privileges only.
        if known && missing.is_empty() && user == User::Own && geteuid().is_root() {
            wrong.push_str(&format!("{program}: it is right by now, and no gap\n"));
        }
        if !missing.is_empty() && !known {
            let trace = root.and_then(|root| traces.get(&root));
            let trace = trace.map(Trace::to_string).unwrap_or_default();
            let missing = missing.join("\n  - ");
            wrong.push_str(&format!("{program}:\n  - {missing}\n{trace}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{wrong}", run.output);
}

/// Returns what is wrong with a trace.
fn missing(program: &str, trace: &Trace) -> Vec<String> {
    let mut wrong = invariants::violations(trace);
    if trace.skipped() {
        return wrong;
    }
    let doubts = DOUBTS.iter().filter(|(name, _)| *name == program);
    let doubts: Vec<_> = doubts.map(|(_, doubt)| doubt.clone()).collect();
    if doubts != trace.doubts {
        wrong.push(format!("its doubts should be {doubts:?}"));
    }
    let expectations = EXPECTATIONS.iter();
    for expected in expectations.filter(|expected| expected.program == program) {
        // One that stumbles over what is missing does not hold either.
        if !panic::catch_unwind(|| (expected.holds)(trace)).unwrap_or(false) {
            wrong.push(format!("it should say: {}", expected.what));
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
fn every_program_passes_while_processes_are_followed() {
    let name = "every_program_passes_while_processes_are_followed";
    all_pass(name, User::Own, &["--trace", "process"]);
}

#[test]
fn every_program_passes_while_processes_are_followed_for_another_user() {
    let name = "every_program_passes_while_processes_are_followed_for_another_user";
    all_pass(name, User::Nobody, &["--trace", "process"]);
}

#[test]
fn every_program_passes_when_notified() {
    all_pass_when_notified("every_program_passes_when_notified", User::Own);
}

#[test]
fn every_program_passes_when_notified_for_another_user() {
    let name = "every_program_passes_when_notified_for_another_user";
    all_pass_when_notified(name, User::Nobody);
}

#[test]
fn every_program_is_seen() {
    let options = ["--trace", "full"];
    all_are_seen("every_program_is_seen", User::Own, &options);
}

#[test]
fn every_program_is_seen_for_another_user() {
    let options = ["--trace", "full"];
    all_are_seen(
        "every_program_is_seen_for_another_user",
        User::Nobody,
        &options,
    );
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
    let doubts = DOUBTS.iter().map(|(program, _)| *program);
    let mut expected: BTreeSet<_> = expectations.chain(doubts).map(str::to_owned).collect();
    // That there is no doubt is all that there is to say of it.
    expected.insert("p63_passes_a_descriptor".to_owned());
    assert_eq!(expected, listed());
}

#[test]
fn every_line_is_tested_or_says_why_not() {
    let lines: Vec<_> = PARTS.iter().flat_map(|(_, lines)| *lines).collect();
    let numbers: Vec<_> = lines.iter().map(|line| line.number).collect();
    assert_eq!(numbers, (1..=97).collect::<Vec<_>>());
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
