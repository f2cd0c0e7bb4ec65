//! The quarantine of a profile: tests whose failures are reported and do not fail the run, each until a
//! date.

use super::{
    error::Place,
    filter_text::{FilterText, filter},
    parse::{Noted, Table, Value},
};
use chrono::NaiveDate;
use harness_metadata::Quarantine;
use nextest_filtering::{CompiledExpr, EvalContext, FiltersetKind, TestQuery};

/// One entry of a profile's `quarantine`, as it is written.
#[derive(Debug)]
pub(super) struct QuarantineTable {
    pub(super) filter: FilterText,
    reason: String,
    owner: String,
    expires: NaiveDate,
    place: Place,
}

/// Reads an entry. Each of its keys has to be there: an entry without an owner or an end stays for ever.
pub(super) fn read(value: &Value<'_>) -> Result<QuarantineTable, Noted> {
    let mut table = value.table()?;
    let tests = table.read("filter", |value| {
        filter(FiltersetKind::OverrideFilter, &value)
    });
    let reason = table.read("reason", |value| text(&value));
    let owner = table.read("owner", |value| text(&value));
    let expires = table.read("expires", |value| date(&value));
    table.forbid_unknown()?;
    let tests = required(&table, "filter", tests);
    let reason = required(&table, "reason", reason);
    let owner = required(&table, "owner", owner);
    let expires = required(&table, "expires", expires);
    Ok(QuarantineTable {
        filter: tests?,
        reason: reason?,
        owner: owner?,
        expires: expires?,
        place: value.place(),
    })
}

fn required<T>(table: &Table<'_>, key: &str, value: Option<T>) -> Result<T, Noted> {
    value.ok_or_else(|| table.lacks(key, ""))
}

fn text(value: &Value<'_>) -> Result<String, Noted> {
    match value.string()?.trim() {
        "" => Err(value.invalid("must not be empty")),
        text => Ok(text.to_owned()),
    }
}

fn date(value: &Value<'_>) -> Result<NaiveDate, Noted> {
    let written = value.as_date();
    let Some(text) = value.as_str().map(str::to_owned).or(written) else {
        return Err(value.wrong_type("a date such as `2026-12-31`", None));
    };
    NaiveDate::parse_from_str(&text, "%Y-%m-%d")
        .map_err(|_| value.invalid(format!("must be a date such as `2026-12-31`, not `{text}`")))
}

impl QuarantineTable {
    pub(super) fn compiled(&self, filter: CompiledExpr) -> QuarantineEntry {
        QuarantineEntry {
            filter,
            text: self.filter.text.clone(),
            reason: self.reason.clone(),
            owner: self.owner.clone(),
            expires: self.expires,
            place: self.place.clone(),
        }
    }
}

/// One entry of a profile's quarantine.
#[derive(Debug)]
pub struct QuarantineEntry {
    filter: CompiledExpr,
    /// The filterset as it is written.
    text: String,
    reason: String,
    owner: String,
    /// The last day on which it holds.
    expires: NaiveDate,
    place: Place,
}

impl QuarantineEntry {
    pub(super) fn has(&self, test: &TestQuery<'_>, cx: &EvalContext<'_>) -> bool {
        self.filter.matches_test(test, cx)
    }

    /// Returns what the entry says on a day.
    pub fn on(&self, day: NaiveDate) -> Quarantine {
        Quarantine {
            reason: self.reason.clone(),
            owner: self.owner.clone(),
            expires: self.expires,
            expired: day > self.expires,
        }
    }

    /// Says that it has no test.
    pub fn has_no_test(&self) -> String {
        format!(
            "{}: the quarantine of `{}` has no test: remove it",
            self.place, self.text
        )
    }

    /// Says that its day has passed.
    pub fn has_expired(&self) -> String {
        format!(
            "{}: the quarantine of `{}` has expired after {}, so failures count again; its owner is {}",
            self.place, self.text, self.expires, self.owner
        )
    }
}
