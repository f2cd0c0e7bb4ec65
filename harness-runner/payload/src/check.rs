//! Checks: what must hold of the metrics and the exit code of a program.

use crate::{Metric, Output, Status};
use std::fmt;

/// Something that must hold once a program has ended.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Check<'a> {
    rule: Rule<'a>,
}

#[derive(Copy, Clone, Debug, PartialEq)]
enum Rule<'a> {
    Min(&'a str, f64),
    Max(&'a str, f64),
    Range(&'a str, f64, f64),
    Exists(&'a str),
    ExitCode(i32),
}

impl<'a> Check<'a> {
    /// The metric is at least `lowest`.
    #[must_use]
    pub const fn min(metric: &'a str, lowest: f64) -> Self {
        Self {
            rule: Rule::Min(metric, lowest),
        }
    }

    /// The metric is at most `highest`.
    #[must_use]
    pub const fn max(metric: &'a str, highest: f64) -> Self {
        Self {
            rule: Rule::Max(metric, highest),
        }
    }

    /// The metric is from `lowest` to `highest`, both included. The run is refused if they are the wrong
    /// way round.
    #[must_use]
    pub const fn range(metric: &'a str, lowest: f64, highest: f64) -> Self {
        Self {
            rule: Rule::Range(metric, lowest, highest),
        }
    }

    /// The metric is there, whatever its value.
    #[must_use]
    pub const fn exists(metric: &'a str) -> Self {
        Self {
            rule: Rule::Exists(metric),
        }
    }

    /// The exit code is this one. Without such a check, it is 0.
    #[must_use]
    pub const fn exit_code(code: i32) -> Self {
        Self {
            rule: Rule::ExitCode(code),
        }
    }

    /// Returns why this check can never be right, if so.
    pub(crate) fn fault(&self) -> Option<String> {
        let (metric, bounds) = match &self.rule {
            Rule::Min(metric, bound) | Rule::Max(metric, bound) => (metric, vec![*bound]),
            Rule::Range(metric, lowest, highest) => (metric, vec![*lowest, *highest]),
            Rule::Exists(metric) => (metric, Vec::new()),
            Rule::ExitCode(code) => {
                let possible = (0..=255).contains(code);
                let fault = format!("no program has the exit code {code}: use one from 0 to 255");
                return (!possible).then_some(fault);
            }
        };
        if metric.is_empty() {
            return Some("the name of the metric is empty".to_owned());
        }
        if bounds.iter().any(|bound| bound.is_nan()) {
            return Some(format!("the bound of `{metric}` is not a number"));
        }
        match bounds.as_slice() {
            [lowest, highest] if lowest > highest => Some(format!(
                "the range of `{metric}` is from {lowest} to {highest}: write the lower bound first"
            )),
            _ => None,
        }
    }

    fn metric(&self) -> Option<&'a str> {
        match &self.rule {
            Rule::Min(metric, _)
            | Rule::Max(metric, _)
            | Rule::Range(metric, _, _)
            | Rule::Exists(metric) => Some(metric),
            Rule::ExitCode(_) => None,
        }
    }
}

impl fmt::Display for Check<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Min(metric, lowest) => write!(f, "`{metric}` is at least {lowest}"),
            Rule::Max(metric, highest) => write!(f, "`{metric}` is at most {highest}"),
            Rule::Range(metric, lowest, highest) => {
                write!(f, "`{metric}` is from {lowest} to {highest}")
            }
            Rule::Exists(metric) => write!(f, "`{metric}` is there"),
            Rule::ExitCode(code) => write!(f, "the exit code is {code}"),
        }
    }
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Failure {
    /// The check, in words.
    pub check: String,
    /// The metric that it is about; nothing for the exit code.
    pub metric: Option<String>,
    /// The value or state that was found instead.
    pub found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not so: {}: {}", self.check, self.found)
    }
}

/// The exit code that a program must have.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Zero, unless it was ended by the test or a time-out.
    Success,
    /// Any end is right.
    Any,
}

/// The facts that are judged.
pub(crate) struct Judged<'a> {
    pub(crate) checks: &'a [Check<'a>],
    pub(crate) wanted: Wanted,
    pub(crate) status: Status,
    /// Whether the test ended the program.
    pub(crate) was_asked: bool,
    pub(crate) metrics: &'a [Metric],
    pub(crate) stderr: &'a Output,
    /// The reason why there may be no metrics.
    pub(crate) notes: &'a [String],
}

/// The length of the end of standard error in a message.
const MOST_STDERR: usize = 1024;

/// Returns all checks that failed. A wrong exit code ends the judging: its metrics mean nothing.
pub(crate) fn judge(judged: &Judged<'_>) -> Vec<Failure> {
    let wrong = exit_failures(judged);
    if !wrong.is_empty() {
        return wrong;
    }
    let failed = judged.checks.iter().filter_map(|check| {
        let metric = check.metric()?;
        let found = metric_fault(check, metric, judged)?;
        Some(Failure {
            check: check.to_string(),
            metric: Some(metric.to_owned()),
            found,
        })
    });
    failed.collect()
}

fn exit_failures(judged: &Judged<'_>) -> Vec<Failure> {
    let mut codes = judged.checks.iter().filter_map(|check| match check.rule {
        Rule::ExitCode(code) => Some(code),
        _ => None,
    });
    let mut wanted: Vec<i32> = codes.by_ref().collect();
    let was_ended = judged.was_asked || matches!(judged.status, Status::TimedOut { .. });
    if wanted.is_empty() && judged.wanted == Wanted::Success && !was_ended {
        wanted.push(0);
    }
    let wrong = wanted
        .into_iter()
        .filter(|code| judged.status != Status::Exited(*code));
    let failure = |code| {
        let stderr = judged.stderr.last(MOST_STDERR);
        let stderr = match stderr.trim_end() {
            "" => "stderr is empty".to_owned(),
            text => format!("the end of stderr:\n{text}"),
        };
        Failure {
            check: Check::exit_code(code).to_string(),
            metric: None,
            found: format!("{}; {stderr}", judged.status),
        }
    };
    wrong.map(failure).collect()
}

fn metric_fault(check: &Check<'_>, name: &str, judged: &Judged<'_>) -> Option<String> {
    let Some(metric) = judged.metrics.iter().find(|metric| metric.name == name) else {
        return Some(missing(judged));
    };
    let value = metric.value;
    let unit = metric.unit.as_ref().map(|unit| format!(" {unit}"));
    let unit = unit.unwrap_or_default();
    let holds = match &check.rule {
        Rule::Exists(_) | Rule::ExitCode(_) => return None,
        _ if value.is_nan() => return Some("it is NaN, which no bound holds for".to_owned()),
        _ if value.is_infinite() => {
            let sign = if value < 0.0 { "minus " } else { "" };
            return Some(format!(
                "it is {sign}infinite, or too large for a number of 64 bits"
            ));
        }
        Rule::Min(_, lowest) => value >= *lowest,
        Rule::Max(_, highest) => value <= *highest,
        Rule::Range(_, lowest, highest) => (*lowest..=*highest).contains(&value),
    };
    (!holds).then(|| format!("it is {value}{unit}"))
}

/// The names of other metrics that a message has.
const MOST_NAMES: usize = 10;

fn missing(judged: &Judged<'_>) -> String {
    let names: Vec<&str> = judged
        .metrics
        .iter()
        .map(|metric| metric.name.as_str())
        .collect();
    let more = names.len().saturating_sub(MOST_NAMES);
    let listed = names[..names.len() - more].join("`, `");
    let mut text = match names.len() {
        0 => "there are no metrics".to_owned(),
        _ if more > 0 => format!("there is no such metric among `{listed}` and {more} more"),
        _ => format!("there is no such metric; there are `{listed}`"),
    };
    if !judged.notes.is_empty() {
        text = format!("{text} ({})", judged.notes.join("; "));
    }
    text
}

#[cfg(test)]
mod tests;
