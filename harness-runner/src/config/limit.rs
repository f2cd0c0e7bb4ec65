//! Reads and shows budgets.

use super::{
    budget::{Budget, BudgetResult, Limit, Quantity},
    parse::{Noted, Table, Value},
    place::Place,
    show::Show,
    size, value,
};
use harness_metadata::{Measure, MeasureUnit, Word};
use std::fmt::Write as _;

/// The keys of a limit that is a table.
const KEYS: [&str; 4] = ["max", "min", "required", "result"];
/// The word that lifts a budget of a profile, or of an earlier override.
const NONE: &str = "none";
/// The prefix of a metric whose name is also one of the runner's.
const METRIC: &str = "metric.";

/// Reads budgets.
pub(super) fn read(value: Value<'_>) -> Result<Budget, Noted> {
    let Some(table) = value.as_table() else {
        return Err(value.wrong_type(
            "a table such as `{ rss = \"200 MiB\", processes = 4 }`",
            None,
        ));
    };
    let mut limits = Vec::new();
    let mut wrong = None;
    read_into(&table, "", &mut limits, &mut wrong);
    match wrong {
        Some(noted) => Err(noted),
        None => Ok(Budget(limits)),
    }
}

/// Reads a table of names; a table without keys of a limit has further parts of names.
fn read_into(table: &Table<'_>, prefix: &str, into: &mut Vec<Limit>, wrong: &mut Option<Noted>) {
    for (place, part, value) in table.named() {
        let name = format!("{prefix}{part}");
        if let Some(table) = value.as_table()
            && !KEYS.iter().any(|key| table.has(key))
        {
            if table.named().is_empty() {
                *wrong = Some(value.invalid("has neither `max` nor `min`"));
            }
            read_into(&table, &format!("{name}."), into, wrong);
            continue;
        }
        let read = limit(&name, place, &value).and_then(|limit| {
            match into.iter().any(|known| known.of == limit.of) {
                true => Err(value.invalid("is there twice")),
                false => Ok(limit),
            }
        });
        match read {
            Ok(limit) => into.push(limit),
            Err(noted) => *wrong = Some(noted),
        }
    }
}

fn limit(name: &str, place: Place, value: &Value<'_>) -> Result<Limit, Noted> {
    check_name(name, value)?;
    let of = quantity(name);
    let unit = of.unit();
    let mut limit = Limit {
        name: name.to_owned(),
        of,
        max: None,
        min: None,
        result: BudgetResult::Fail,
        required: false,
        place,
    };
    let Some(mut table) = value.as_table() else {
        if value.as_str() != Some(NONE) {
            limit.max = Some(number(unit, value)?);
        }
        return Ok(limit);
    };
    limit.max = table.read("max", |value| number(unit, &value));
    limit.min = table.read("min", |value| number(unit, &value));
    let result = table.read("result", |value| value::word(&value));
    let required = table.read("required", |value| value.boolean());
    table.forbid_unknown()?;
    table.whole()?;
    limit.result = result.unwrap_or_default();
    limit.required = required.unwrap_or_default();
    match (limit.min, limit.max) {
        (None, None) => Err(value.invalid("has neither `max` nor `min`")),
        (Some(min), Some(max)) if min > max => {
            Err(value.invalid("has a `min` above its `max`, so no value is within it"))
        }
        _ => Ok(limit),
    }
}

fn quantity(name: &str) -> Quantity {
    match name.parse() {
        Ok(measure) => Quantity::Measured(measure),
        Err(_) => Quantity::Metric(name.strip_prefix(METRIC).unwrap_or(name).to_owned()),
    }
}

/// Refuses names below those of the runner that it does not measure: they are mistakes, and no metrics.
fn check_name(name: &str, value: &Value<'_>) -> Result<(), Noted> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(value.invalid("is no name of a metric"));
    }
    if name.parse::<Measure>().is_ok() {
        return Ok(());
    }
    let group = name.split_once('.').map(|(group, _)| group);
    let below = |known: &&&str| {
        known
            .split_once('.')
            .is_some_and(|(of, _)| Some(of) == group)
    };
    let words = Measure::words();
    let known: Vec<_> = words
        .iter()
        .filter(below)
        .map(|it| format!("`{it}`"))
        .collect();
    if known.is_empty() {
        return Ok(());
    }
    Err(value.invalid(format!(
        "is not measured: the runner knows {}. For a metric of this name write `\"{METRIC}{name}\"`",
        known.join(", ")
    )))
}

/// Reads a limit in seconds, in bytes, or as it is.
fn number(unit: Option<MeasureUnit>, value: &Value<'_>) -> Result<f64, Noted> {
    let text = value.as_str().is_some();
    let number = match (unit, text) {
        (Some(MeasureUnit::Time), _) => value::duration(value)?.as_secs_f64(),
        (Some(MeasureUnit::Size), _) => size::read(value.clone())? as f64,
        (_, true) => {
            let problem =
                "is a text; the limit of a count or a metric is a number, in the metric's own unit";
            return Err(value.invalid(problem));
        }
        (_, false) => value
            .as_number()
            .ok_or_else(|| value.wrong_type("a number", None))?,
    };
    match number.is_finite() {
        true => Ok(number),
        false => Err(value.invalid("must be finite")),
    }
}

impl Limit {
    fn shown(&self, number: f64) -> String {
        match self.of.unit() {
            Some(MeasureUnit::Time) => std::time::Duration::from_secs_f64(number).show(),
            Some(MeasureUnit::Size) => (number as u64).show(),
            Some(MeasureUnit::Count) | None => number.to_string(),
        }
    }
}

impl Show for Limit {
    fn show(&self) -> String {
        let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let mut shown = match self.name.chars().all(is_bare) {
            true => format!("{} = ", self.name),
            false => format!("{:?} = ", self.name),
        };
        // Writing to memory cannot fail.
        let _ = match (self.max, self.min, self.result, self.required) {
            (None, None, ..) => write!(shown, "{NONE:?}"),
            (Some(max), None, BudgetResult::Fail, false) => write!(shown, "{}", self.shown(max)),
            (max, min, result, required) => {
                let max = max.map(|max| format!("max = {}", self.shown(max)));
                let min = min.map(|min| format!("min = {}", self.shown(min)));
                let warns = result == BudgetResult::Warn;
                let result = warns.then(|| format!("result = {:?}", result.word()));
                let required = required.then(|| "required = true".to_owned());
                let parts: Vec<_> = [max, min, result, required].into_iter().flatten().collect();
                write!(shown, "{{ {} }}", parts.join(", "))
            }
        };
        shown
    }
}

impl Show for Budget {
    fn show(&self) -> String {
        let limits: Vec<_> = self.0.iter().map(Show::show).collect();
        match limits.is_empty() {
            true => "{}".to_owned(),
            false => format!("{{ {} }}", limits.join(", ")),
        }
    }
}
