//! Reads the entries of a profile's `scripts`: which scripts run for which tests.

use super::{
    error::ConfigWarning,
    names::ScriptKind,
    overrides::Selector,
    parse::{Noted, Value},
    scripts,
};
use crate::filter::check_syntax;
use nextest_filtering::FiltersetKind;
use std::sync::Arc;

/// One entry of a profile's `scripts`.
#[derive(Debug)]
pub(super) struct RuleTable {
    pub(super) selector: Selector,
    pub(super) run: RuleScripts,
}

/// The scripts that a rule names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleScripts {
    pub(super) setup: Vec<String>,
    pub(super) list_wrapper: Option<String>,
    pub(super) run_wrapper: Option<String>,
    pub(super) service: Vec<String>,
}

/// Reads an entry.
pub(super) fn read(
    profile: &Arc<str>,
    index: usize,
    value: &Value<'_>,
) -> Result<RuleTable, Noted> {
    let mut table = value.table()?;
    // Neither `default()` nor `group()`, as in a default filter.
    let filter_value = table.get("filter");
    let kind = FiltersetKind::DefaultFilter;
    let selector = Selector::read((profile, index), value, &mut table, kind);
    let setup = table.read("setup", |value| scripts::names(&value, ScriptKind::Setup));
    let service = table.read("service", |value| {
        scripts::names(&value, ScriptKind::Service)
    });
    let wrapper = |value: Value<'_>| scripts::name(&value, ScriptKind::Wrapper);
    let list_wrapper = table.read("list-wrapper", wrapper);
    let lists = table.has("list-wrapper");
    if let (true, Some(filter), Some(filter_value)) = (lists, &selector.filter, filter_value) {
        // A binary is listed before its tests are known.
        check_syntax(&filter.text, FiltersetKind::TestArchive).map_err(|_| {
            filter_value.invalid(
                "must not ask for tests, because `list-wrapper` lists whole binaries: `test()` \
                 cannot be used",
            )
        })?;
    }
    let run = RuleScripts {
        setup: setup.unwrap_or_default(),
        list_wrapper,
        run_wrapper: table.read("run-wrapper", wrapper),
        service: service.unwrap_or_default(),
    };
    table.warn_of_unknown();
    table.whole()?;
    if run == RuleScripts::default() {
        value.warn(|place, key| ConfigWarning::EmptyRule { place, key });
    }
    Ok(RuleTable { selector, run })
}
