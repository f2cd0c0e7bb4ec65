//! The answers of an audit, for people and for programs.

use super::{super::explain, Audited};
use harness_runner::{
    answers::audit::{Comparison, Departure},
    report::{
        plural,
        style::{Styles, escaped},
    },
};
use serde_json::{Value, json};

/// The limits of every audit.
pub(super) const INVISIBLE: &str = "a trace does not show the values of environment variables that a test reads, the \
                                    clock, random numbers, memory, and data in pipes and sockets: what depends on \
                                    these only is not seen unless it changes what a test does";

/// Differences of a condition that are shown, unless all are asked for.
const SHOWN: usize = 6;

/// Returns the lines about a test.
pub(super) fn text(audited: &Audited, times: u64, all: bool, styles: &Styles) -> String {
    let most = if all { usize::MAX } else { SHOWN };
    let endings = audited.endings.join(" or ");
    let usual = &audited.usual.varying;
    let how = match usual.is_empty() {
        true => format!("the same in {times} runs"),
        false => "from run to run differs:".to_owned(),
    };
    let mut text = format!("{}\n", styles.name(&audited.test));
    text += &format!("  as usual: {endings}, {how}\n");
    text += &indented(usual, most);
    for (condition, found) in &audited.conditions {
        if found.same() {
            continue;
        }
        let ending = ending(found);
        let ending = ending.unwrap_or_else(|| "ends in the same way, and differs:".to_owned());
        text += &format!("  {}: {ending}\n", condition.words());
        let departures = found.departures.iter();
        let departures = departures.filter(|it| !matches!(it, Departure::Ending { .. }));
        let words: Vec<String> = departures.map(departure).collect();
        text += &indented(&words, most);
    }
    text + &summary(audited)
}

fn indented(lines: &[String], most: usize) -> String {
    let shown = lines.iter().take(most);
    let mut text: String = shown
        .map(|line| format!("      {}\n", escaped(line)))
        .collect();
    let more = lines.len().saturating_sub(most);
    if more > 0 {
        text += &format!("      {more} more: `--all` shows them\n");
    }
    text
}

fn ending(found: &Comparison) -> Option<String> {
    let mut departures = found.departures.iter();
    departures.find_map(|it| match it {
        Departure::Ending { usual, here } => Some(format!("{here}, as usual {usual}")),
        _ => None,
    })
}

/// Returns what it depends on, in one line for each condition.
fn summary(audited: &Audited) -> String {
    let all = &audited.conditions;
    let depends = all.iter().filter(|(_, found)| !found.same());
    let depends: Vec<String> = depends
        .map(|(condition, found)| {
            let why = found.departures.iter().find(|it| is_reason(it));
            let why = why.or_else(|| found.departures.first());
            let why = why.map(departure).unwrap_or_default();
            format!("  depends on {}: {}\n", condition.subject(), escaped(&why))
        })
        .collect();
    let same = all.iter().filter(|(_, found)| found.same());
    let same: Vec<&str> = same.map(|(condition, _)| condition.words()).collect();
    let varies = audited.endings.len() > 1 || !audited.usual.varying.is_empty();
    let same = match (varies, same.len() == all.len(), same.is_empty()) {
        (true, true, _) => "  no condition changes it, but it differs from run to run\n".to_owned(),
        (false, true, _) => format!("  deterministic under all {} conditions\n", all.len()),
        (true, false, false) => format!("  not changed {}\n", same.join(", ")),
        (false, false, false) => format!("  deterministic {}\n", same.join(", ")),
        (_, false, true) => String::new(),
    };
    let mut text = same;
    if audited.endings.len() > 1 {
        text += "  passes and fails as usual: `cargo harness shake` runs it many times\n";
    }
    text += &depends.concat();
    if let Some(gap) = audited.gaps.first() {
        text += &format!("  its traces may lack something: {}\n", escaped(gap));
    }
    text
}

/// Returns whether something says why a test behaves otherwise.
fn is_reason(departure: &Departure) -> bool {
    matches!(departure, Departure::Answers { .. })
}

/// Returns a difference in words.
fn departure(departure: &Departure) -> String {
    match departure {
        Departure::Ending { usual, here } => format!("{here}, as usual {usual}"),
        Departure::Answers { asked, usual, here } => {
            let answers = |it: &Option<Box<_>>| it.as_deref().map(explain::answers);
            match (answers(usual), answers(here)) {
                (Some(usual), Some(here)) => format!("{asked}: {here}; as usual: {usual}"),
                (Some(usual), None) => format!("only as usual: {asked}: {usual}"),
                (None, Some(here)) => format!("only here: {asked}: {here}"),
                (None, None) => asked.to_string(),
            }
        }
        Departure::Times { asked, usual, here } => {
            let here = plural(number(*here), "time", "times");
            format!("{asked}: {here}, as usual {usual}")
        }
        Departure::Started { what, usual, here } => {
            format!("starts {here} {what}, as usual {usual}")
        }
        Departure::Order { usual, here } => {
            format!("another order: {here} comes where usually this comes: {usual}")
        }
    }
}

fn number(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Returns the rows of a test: one as usual, and one for each condition.
pub(super) fn json(audited: &Audited) -> String {
    let usual = json!({
        "test": audited.test,
        "condition": "as usual",
        "endings": audited.endings,
        "same": audited.endings.len() == 1 && audited.usual.varying.is_empty(),
        "varying": audited.usual.varying,
        "gaps": audited.gaps,
    });
    let rows = audited.conditions.iter().map(|(condition, found)| {
        json!({
            "test": audited.test,
            "condition": condition.words(),
            "depends_on": (!found.same()).then(|| condition.subject()),
            "same": found.same(),
            "differences": found.departures.iter().map(row).collect::<Vec<_>>(),
            "varying": found.varying,
        })
    });
    let rows = std::iter::once(usual).chain(rows);
    rows.map(|row| row.to_string() + "\n").collect()
}

fn row(it: &Departure) -> Value {
    let kind = match it {
        Departure::Ending { .. } => "ending",
        Departure::Answers { .. } => "answers",
        Departure::Times { .. } => "times",
        Departure::Started { .. } => "started",
        Departure::Order { .. } => "order",
    };
    let asked = match it {
        Departure::Answers { asked, .. } | Departure::Times { asked, .. } => Some(asked),
        _ => None,
    };
    json!({
        "kind": kind,
        "verb": asked.map(|asked| asked.verb),
        "name": asked.map(|asked| &asked.name),
        "to": asked.and_then(|asked| asked.to.as_ref()),
        "text": departure(it),
    })
}
