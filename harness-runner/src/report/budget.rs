//! The wording of budgets that an attempt did not keep to.

use super::{bytes::size, stuck::Pids, style::escaped};
use harness_metadata::{
    Attempt, BudgetFinding, Exit, NoResultKind, Outcome, event::TestFinished, metric::Number,
};
use std::collections::BTreeMap;

/// Returns the findings of an attempt's budgets, line by line, with what the trace knows.
pub(super) fn lines(attempt: &Attempt, pids: Pids) -> Vec<String> {
    let findings = attempt.budget.iter();
    findings
        .flat_map(|finding| of_finding(finding, pids))
        .collect()
}

/// Returns the lines without those on numbers that were not measured and do not fail the attempt: the end of a
/// run counts them.
pub(super) fn measured_lines(attempt: &Attempt, pids: Pids) -> Vec<String> {
    let findings = attempt.budget.iter();
    let findings = findings.filter(|finding| finding.fails || finding.unmeasured.is_none());
    findings
        .flat_map(|finding| of_finding(finding, pids))
        .collect()
}

fn of_finding(finding: &BudgetFinding, pids: Pids) -> Vec<String> {
    let warning = match finding.fails || finding.unmeasured.is_some() {
        true => "",
        false => ", which is a warning",
    };
    let mut lines = vec![format!("budget: {}{warning}", said(finding))];
    // A line about processes consists of their ids.
    if let Pids::Shown = pids {
        let evidence = finding.evidence.iter();
        lines.extend(evidence.map(|fact| format!("budget: {}", escaped(fact))));
    }
    lines
}

/// Returns a finding in one sentence fragment, with its limit and where that is written.
fn said(finding: &BudgetFinding) -> String {
    let name = escaped(&finding.name);
    let unit = finding.unit.as_deref();
    let (file, line) = (escaped(&finding.file), finding.line);
    let limits = limits(finding);
    let Some(value) = finding.value else {
        let why = finding
            .unmeasured
            .as_deref()
            .unwrap_or("it was not measured");
        return format!(
            "`{name}` is not judged ({limits}, {file}:{line}): {}",
            escaped(why)
        );
    };
    let several = match finding.values {
        0 | 1 => String::new(),
        values => format!(" at worst of {values} values"),
    };
    format!(
        "`{name}` is {}{several}, but {limits} ({file}:{line})",
        number(value, unit)
    )
}

fn limits(finding: &BudgetFinding) -> String {
    let unit = finding.unit.as_deref();
    match (finding.min, finding.max) {
        (Some(min), Some(max)) => format!(
            "has to be from {} to {}",
            number(min, unit),
            number(max, unit)
        ),
        (Some(min), None) => format!("has to be at least {}", number(min, unit)),
        (None, Some(max)) => format!("may be {} at most", number(max, unit)),
        (None, None) => "has no limit".to_owned(),
    }
}

/// Returns a number with its unit.
fn number(number: Number, unit: Option<&str>) -> String {
    match unit {
        Some("B") if number.0 >= 0.0 => {
            let shown = size(number.0 as u64);
            // Two numbers that differ should not look the same.
            match number.0 < 1024.0 {
                true => shown,
                false => format!("{shown} ({} bytes)", number.0),
            }
        }
        Some(unit) => format!("{number} {}", escaped(unit)),
        None => number.to_string(),
    }
}

/// Returns whether an attempt would have passed within its budgets.
pub(super) fn decides(attempt: &Attempt) -> bool {
    let passed = match &attempt.outcome {
        Outcome::Exited(exit) => *exit == Exit::Code(0),
        Outcome::NoResult(no) => no.kind == NoResultKind::Ignored,
        _ => false,
    };
    passed
        && attempt.limits.is_empty()
        && !attempt
            .policy
            .as_ref()
            .is_some_and(|policy| policy.escaped())
        && attempt.budget.iter().any(|finding| finding.fails)
}

/// Returns the budgets that fail an attempt which would have passed, as the end of a sentence that starts with "test".
pub(super) fn hits(attempt: &Attempt) -> Vec<String> {
    if !decides(attempt) {
        return Vec::new();
    }
    let failing = attempt.budget.iter().filter(|finding| finding.fails);
    failing
        .map(|finding| format!("is outside of its budget: {}", said(finding)))
        .collect()
}

/// Budgets that could not be judged, and in how many tests.
#[derive(Debug, Default)]
pub(super) struct Unjudged(BTreeMap<String, usize>);

impl Unjudged {
    /// Counts a test.
    pub(super) fn count(&mut self, finished: &TestFinished) {
        let Some(last) = finished.attempts.last() else {
            return;
        };
        for finding in &last.budget {
            if finding.unmeasured.is_some() && !finding.fails {
                *self.0.entry(said(finding)).or_default() += 1;
            }
        }
    }

    /// Returns a line for each budget.
    pub(super) fn lines(&self, items: impl Fn(usize) -> String) -> Vec<String> {
        let counted = self.0.iter();
        counted
            .map(|(said, tests)| format!("in {}, {said}", items(*tests)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture_kit::sample;
    use harness_metadata::Verdict;

    fn finding(value: Option<f64>) -> BudgetFinding {
        BudgetFinding {
            name: "rss".to_owned(),
            value: value.map(Number),
            values: u64::from(value.is_some()),
            unit: Some("B".to_owned()),
            max: Some(Number(209_715_200.0)),
            min: None,
            fails: value.is_some(),
            file: ".config/harness.toml".to_owned(),
            line: 3,
            unmeasured: value
                .is_none()
                .then(|| "the test was not traced".to_owned()),
            evidence: vec!["the processes were pid 7: a, pid 8: b".to_owned()],
        }
    }

    #[test]
    fn a_line_has_value_limit_and_place_and_the_next_what_the_trace_knows() {
        let mut attempt = sample::code(1, 0);
        attempt.verdict = Verdict::Fail;
        attempt.budget = vec![finding(Some(330_000_000.0))];
        assert!(decides(&attempt));
        assert_eq!(
            lines(&attempt, Pids::Shown),
            [
                "budget: `rss` is 314.7 MiB (330000000 bytes), but may be 200.0 MiB (209715200 bytes) at most \
                 (.config/harness.toml:3)",
                "budget: the processes were pid 7: a, pid 8: b",
            ]
        );
        assert_eq!(lines(&attempt, Pids::Hidden).len(), 1);
        assert_eq!(hits(&attempt).len(), 1);
        // A test that fails by itself has its own reason.
        attempt.outcome = sample::code(1, 101).outcome;
        assert!(hits(&attempt).is_empty());
    }

    #[test]
    fn a_budget_that_was_not_measured_is_counted_and_not_passed_over() {
        let mut attempt = sample::code(1, 0);
        attempt.budget = vec![finding(None)];
        assert!(!decides(&attempt));
        assert!(measured_lines(&attempt, Pids::Shown).is_empty());
        let line = &lines(&attempt, Pids::Shown)[0];
        assert!(
            line.contains("is not judged") && line.ends_with("the test was not traced"),
            "{line}"
        );
        let mut unjudged = Unjudged::default();
        for name in ["a", "b"] {
            unjudged.count(&sample::finished(
                sample::test("greet", name),
                vec![attempt.clone()],
            ));
        }
        let counted = unjudged.lines(|tests| format!("{tests} tests"));
        assert_eq!(counted.len(), 1);
        assert!(
            counted[0].starts_with("in 2 tests, `rss` is not judged"),
            "{counted:?}"
        );
    }
}
