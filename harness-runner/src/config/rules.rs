//! Reads the entries of a profile's `scripts`: which scripts run for which tests.

use super::{
    error::{ConfigError, ConfigWarning},
    filter_text::{FilterText, filter},
    layer::OverrideOrigin,
    names::ScriptKind,
    overrides::platform,
    parse::Value,
    scripts,
};
use crate::filter::check_syntax;
use nextest_filtering::FiltersetKind;
use std::sync::Arc;
use target_spec::TargetSpec;

/// One entry of a profile's `scripts`.
#[derive(Debug)]
pub(super) struct RuleTable {
    pub(super) origin: Arc<OverrideOrigin>,
    pub(super) filter: Option<FilterText>,
    pub(super) host: Option<TargetSpec>,
    pub(super) target: Option<TargetSpec>,
    pub(super) run: RuleScripts,
}

/// The scripts that a rule names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleScripts {
    pub(super) setup: Vec<String>,
    pub(super) list_wrapper: Option<String>,
    pub(super) run_wrapper: Option<String>,
}

/// Reads an entry.
pub(super) fn read(
    profile: &Arc<str>,
    index: usize,
    value: &Value<'_>,
) -> Result<RuleTable, ConfigError> {
    let mut table = value.table()?;
    // Neither `default()` nor `group()`, as in a default filter.
    let filter_value = table.get("filter");
    let filter_text = filter_value
        .as_ref()
        .map(|value| filter(FiltersetKind::DefaultFilter, value))
        .transpose()?;
    let platform_value = table.get("platform");
    let platform = platform_value.as_ref().map(platform).transpose()?;
    let platform = platform.unwrap_or_default();
    if filter_text.is_none() && platform.host.is_none() && platform.target.is_none() {
        return Err(value.invalid("needs `filter` or `platform`, to say which tests it is for"));
    }
    let setup = table.read("setup", |value| scripts::names(&value, ScriptKind::Setup))?;
    let wrapper = |value: Value<'_>| scripts::name(&value, ScriptKind::Wrapper);
    let list_wrapper = table.get("list-wrapper");
    if let (Some(_), Some(filter_value)) = (&list_wrapper, &filter_value) {
        // A binary is listed before its tests are known.
        check_syntax(filter_value.string()?, FiltersetKind::TestArchive).map_err(|_| {
            filter_value.invalid(
                "must not ask for tests, because `list-wrapper` lists whole binaries: `test()` \
                 cannot be used",
            )
        })?;
    }
    let run = RuleScripts {
        setup: setup.unwrap_or_default(),
        list_wrapper: list_wrapper.map(wrapper).transpose()?,
        run_wrapper: table.read("run-wrapper", wrapper)?,
    };
    table.warn_of_unknown();
    if run == RuleScripts::default() {
        value.warn(|place, key| ConfigWarning::EmptyRule { place, key });
    }
    let origin = OverrideOrigin {
        profile: Arc::clone(profile),
        index,
        filter: filter_text.as_ref().map(|filter| filter.text.clone()),
        platform: platform.text,
        place: value.place(),
    };
    Ok(RuleTable {
        origin: Arc::new(origin),
        filter: filter_text,
        host: platform.host,
        target: platform.target,
        run,
    })
}
