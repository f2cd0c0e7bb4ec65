//! Judges the budgets of an attempt that is over.

mod evidence;

use crate::config::budget::{Budget, BudgetResult, Limit, Quantity};
use harness_metadata::{
    Attempt, BudgetFinding, Measured, Outcome, Verdict, metric::Number, outcome::NoResultKind,
};

/// The end of an attempt, as far as budgets are concerned.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Reach {
    /// It came to its end: all budgets count.
    Whole,
    /// It was cut short or failed: a number can be too high already, but one that is too low or
    /// missing says nothing.
    Part,
}

/// Returns the budgets that an attempt did not keep to, or of which that is not known.
pub(super) fn judge(budget: &Budget, attempt: &Attempt) -> Vec<BudgetFinding> {
    if budget.0.is_empty() {
        return Vec::new();
    }
    let Some(reach) = reach(attempt) else {
        return Vec::new();
    };
    let limits = budget.0.iter();
    limits
        .filter_map(|limit| finding(limit, attempt, reach))
        .collect()
}

/// Returns what findings make of a verdict.
pub(super) fn verdict(verdict: Verdict, findings: &[BudgetFinding]) -> Verdict {
    match verdict {
        Verdict::Pass if findings.iter().any(|finding| finding.fails) => Verdict::Fail,
        verdict => verdict,
    }
}

/// `None` if the test did not run.
fn reach(attempt: &Attempt) -> Option<Reach> {
    match &attempt.outcome {
        Outcome::Exited(exit) if exit.success() => Some(Reach::Whole),
        Outcome::Exited(_) | Outcome::TimedOut { .. } => Some(Reach::Part),
        Outcome::NoResult(no) if no.kind == NoResultKind::Unreported => Some(Reach::Part),
        Outcome::NoResult(_)
        | Outcome::StartFailed(_)
        | Outcome::Interrupted { .. }
        | Outcome::HarnessFault(_)
        | Outcome::BinaryChanged(_) => None,
    }
}

fn finding(limit: &Limit, attempt: &Attempt, reach: Reach) -> Option<BudgetFinding> {
    let (unit, known) = match &limit.of {
        Quantity::Measured(measure) => {
            let unit = measure.unit().symbol().map(str::to_owned);
            (unit, vec![measure.of(attempt)])
        }
        Quantity::Metric(name) => metric(name, attempt),
    };
    let outside: Vec<_> = known
        .iter()
        .filter_map(|known| outside(limit, known, reach))
        .collect();
    let (value, unmeasured) = worst(limit, &outside)?;
    let fails = limit.result == BudgetResult::Fail && (value.is_some() || limit.required);
    let evidence = match (&limit.of, value) {
        (Quantity::Measured(measure), Some(_)) => evidence::of(*measure, attempt),
        _ => Vec::new(),
    };
    Some(BudgetFinding {
        name: limit.name.clone(),
        value: value.map(Number),
        values: outside
            .iter()
            .filter(|known| value_of(known).is_some())
            .count() as u64,
        unit,
        max: limit.max.map(Number),
        min: limit.min.map(Number),
        fails,
        file: limit.place.file.to_string(),
        line: limit.place.line,
        unmeasured,
        evidence,
    })
}

/// Returns what is known of a number if that is outside of its limit, or may be.
fn outside(limit: &Limit, known: &Measured, reach: Reach) -> Option<Measured> {
    let above = |value: f64| limit.max.is_some_and(|max| value > max) || value.is_nan();
    let below = |value: f64| limit.min.is_some_and(|min| value < min);
    match known {
        Measured::Exactly(value) => {
            let out = above(*value) || reach == Reach::Whole && below(*value);
            out.then_some(Measured::Exactly(*value))
        }
        Measured::AtLeast(value, _) if above(*value) => Some(Measured::Exactly(*value)),
        Measured::AtLeast(value, why) => {
            let open = limit.max.is_some() || below(*value);
            (open && reach == Reach::Whole).then(|| Measured::Unknown(why.clone()))
        }
        Measured::Unknown(why) => (reach == Reach::Whole).then(|| Measured::Unknown(why.clone())),
    }
}

fn value_of(known: &Measured) -> Option<f64> {
    match known {
        Measured::Exactly(value) | Measured::AtLeast(value, _) => Some(*value),
        Measured::Unknown(_) => None,
    }
}

/// Returns the value that is farthest outside, or why there is none. A value says more than a doubt.
fn worst(limit: &Limit, outside: &[Measured]) -> Option<(Option<f64>, Option<String>)> {
    let distance = |value: f64| match (limit.max, limit.min) {
        _ if value.is_nan() => f64::INFINITY,
        (Some(max), _) if value > max => value - max,
        (_, Some(min)) if value < min => min - value,
        _ => 0.0,
    };
    let values = outside.iter().filter_map(value_of);
    let worst = values.max_by(|a, b| distance(*a).total_cmp(&distance(*b)));
    if worst.is_some() {
        return Some((worst, None));
    }
    outside.iter().find_map(|known| match known {
        Measured::Unknown(why) => Some((None, Some(why.clone()))),
        _ => None,
    })
}

/// Returns the unit and the values of a metric: by its name alone of all programs, or with the name of one.
fn metric(name: &str, attempt: &Attempt) -> (Option<String>, Vec<Measured>) {
    let found = attempt.metrics.found.iter();
    let found: Vec<_> = found.filter(|metric| metric.is_named(name)).collect();
    let unit = found.first().and_then(|metric| metric.unit.clone());
    if found.is_empty() {
        let mut why = format!("the test recorded no metric `{name}`");
        if attempt.metrics.unread > 0 {
            let unread = attempt.metrics.unread;
            why.push_str(&format!(
                ", and {unread} lines of its metrics could not be read"
            ));
        }
        return (None, vec![Measured::Unknown(why)]);
    }
    if found.iter().any(|metric| metric.unit != unit) {
        let why = format!("the test recorded `{name}` in more than one unit");
        return (None, vec![Measured::Unknown(why)]);
    }
    let values = found.iter().map(|metric| Measured::Exactly(metric.value.0));
    (unit, values.collect())
}

#[cfg(test)]
mod tests;
