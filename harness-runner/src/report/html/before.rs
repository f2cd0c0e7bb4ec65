//! The last result of each test before this run.

use super::{
    details::Details,
    facts::{Facts, NAMES},
    index::{Index, Words, ms},
};
use crate::report::{
    Outputs,
    earlier::{EarlierRun, Wanted},
    failure::Reason,
    wording,
};
use harness_metadata::{TestId, Verdict, event::TestFinished};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// The most facts of a list that are named, of those that are new and of those that are gone.
const NAMED: usize = 20;

/// The most bytes of a reason.
const REASON_CAP: usize = 500;

/// A search for the last results.
pub(super) struct Before<'a> {
    index: &'a Index,
    details: &'a mut Details,
    rows: HashMap<(&'a str, &'a str), usize>,
    /// The rows that have theirs, and how many have none.
    taken: HashSet<usize>,
    left: usize,
    runs: Vec<Value>,
    /// The results, as JSON, with their rows.
    found: Vec<(usize, String)>,
    statuses: Words,
}

impl<'a> Before<'a> {
    pub(super) fn new(index: &'a Index, details: &'a mut Details) -> Self {
        let rows = index.by_test();
        Self {
            left: rows.len(),
            rows,
            taken: HashSet::new(),
            index,
            details,
            runs: Vec::new(),
            found: Vec::new(),
            statuses: Words::default(),
        }
    }

    /// Returns the results as JSON: of no test, if there is no run before this one.
    pub(super) fn json(&self) -> String {
        let results = self.found.iter();
        let results: Vec<String> = results
            .map(|(row, result)| format!("\"{row}\":{result}"))
            .collect();
        format!(
            "{{\"runs\":{},\"statuses\":{},\"results\":{{{}}}}}",
            json!(self.runs),
            json!(self.statuses.list()),
            results.join(",")
        )
    }

    /// Returns the row of a test that has no result yet.
    fn row(&self, test: &TestId) -> Option<usize> {
        let test = (test.binary.as_str(), test.name.as_str());
        let row = self.rows.get(&test).copied();
        row.filter(|row| !self.taken.contains(row))
    }

    fn run(&mut self, run: &EarlierRun) -> usize {
        let id = json!(run.id);
        let known = self.runs.iter().position(|known| known["id"] == id);
        known.unwrap_or_else(|| {
            let started = run.started_at.format("%Y-%m-%d %H:%M:%S").to_string();
            self.runs.push(json!({"id": id, "started": started}));
            self.runs.len() - 1
        })
    }
}

impl Wanted for Before<'_> {
    fn wants(&self, test: &TestId) -> bool {
        self.row(test).is_some()
    }

    fn take(&mut self, run: &EarlierRun, finished: &TestFinished, outputs: &dyn Outputs) {
        let found = self.row(&finished.test).zip(finished.attempts.last());
        let Some((row, last)) = found else {
            return;
        };
        // A test that was ended with its run has no result.
        if finished.verdict == Verdict::Interrupted {
            return;
        }
        self.taken.insert(row);
        self.left -= 1;
        let reason = match finished.flaky() {
            true => Some(Reason::of_flaky(finished)),
            false => Reason::of(finished, self.index.workspace_root(), outputs),
        };
        let reason = reason.and_then(|reason| reason.line());
        let reason = reason.map(|reason| {
            let end = reason.floor_char_boundary(REASON_CAP);
            reason[..end].to_owned()
        });
        let status = self.statuses.number(&wording::final_status(finished));
        let earlier = last.trace.as_ref().map(|trace| self.details.facts(trace));
        let traces = match (self.details.facts_of(row), &earlier) {
            (Some(now), Some(earlier)) => changes(now, earlier),
            _ => Value::Null,
        };
        let run = self.run(run);
        let passed = finished.verdict == Verdict::Pass;
        let result = json!([
            run,
            status,
            passed,
            ms(last.elapsed),
            finished.attempts.len(),
            reason,
            traces
        ]);
        self.found.push((row, result.to_string()));
    }

    fn is_complete(&self) -> bool {
        self.left == 0
    }
}

/// Compares two traces: the facts that are new and that are gone, each with the name of its list, and
/// what cannot be said. A list that may lack something says nothing about the other trace.
fn changes(now: &Facts, earlier: &Facts) -> Value {
    if now.level != earlier.level {
        return json!({"level": earlier.level.as_str()});
    }
    let (mut new, mut gone) = (Vec::new(), Vec::new());
    let mut more = 0;
    for (list, name) in NAMES.iter().enumerate() {
        let (is, was) = (&now.lists[list], &earlier.lists[list]);
        let mut add = |to: &mut Vec<Value>, from: &[(u32, u32)], known: &[(u32, u32)]| {
            let known: HashSet<u32> = known.iter().map(|(key, _)| *key).collect();
            let others = from.iter().filter(|(key, _)| !known.contains(key));
            for (number, (_, text)) in others.enumerate() {
                match number < NAMED {
                    true => to.push(json!([name, text])),
                    false => more += 1,
                }
            }
        };
        if earlier.whole[list] {
            add(&mut new, is, was);
        }
        if now.whole[list] {
            add(&mut gone, was, is);
        }
    }
    let whole = |facts: &Facts| facts.whole.iter().all(|whole| *whole);
    json!({
        "new": new, "gone": gone, "more": more,
        "whole": [whole(now), whole(earlier)],
    })
}
