//! Reads the entries of a profile's `overrides`.

use super::{
    declared::TestLayer,
    error::{ConfigError, ConfigWarning},
    filter_text::{FilterText, filter},
    layer::{OverrideOrigin, Scope},
    parse::{Sections, Value},
};
use nextest_filtering::FiltersetKind;
use std::sync::Arc;
use target_spec::TargetSpec;

/// One entry of a profile's `overrides`.
#[derive(Debug)]
pub(super) struct OverrideTable {
    pub(super) origin: Arc<OverrideOrigin>,
    pub(super) filter: Option<FilterText>,
    pub(super) default_filter: Option<FilterText>,
    pub(super) host: Option<TargetSpec>,
    pub(super) target: Option<TargetSpec>,
    pub(super) test: TestLayer,
}

/// Reads an entry. What it sets is read as in a profile.
pub(super) fn read(
    profile: &Arc<str>,
    index: usize,
    value: &Value<'_>,
) -> Result<OverrideTable, ConfigError> {
    let mut table = value.table()?;
    let filter_value = table.get("filter");
    let filter_text = filter_value
        .as_ref()
        .map(|value| filter(FiltersetKind::OverrideFilter, value))
        .transpose()?;
    let platform_value = table.get("platform");
    let platform = platform_value
        .as_ref()
        .map(platform)
        .transpose()?
        .unwrap_or_default();
    let default_filter_value = table.get("default-filter");
    let default_filter = default_filter_value
        .as_ref()
        .map(|value| filter(FiltersetKind::DefaultFilter, value))
        .transpose()?;

    let has_platform = platform.host.is_some() || platform.target.is_some();
    if filter_text.is_none() && !has_platform {
        return Err(value.invalid("needs `filter` or `platform`, to say which tests it is for"));
    }
    if let Some(default_filter) = default_filter_value {
        if filter_text.is_some() {
            return Err(default_filter.invalid("cannot be combined with `filter`"));
        }
        if !has_platform {
            return Err(default_filter.invalid("needs `platform`"));
        }
    }

    let mut sections = Sections::of(table);
    let test = TestLayer::read(&mut sections, Scope::Override)?;
    let mut table = sections.close();
    table.unsupported_below(&["bench"], 1);
    table.warn_of_unknown();

    let origin = OverrideOrigin {
        profile: Arc::clone(profile),
        index,
        filter: filter_text.as_ref().map(|filter| filter.text.clone()),
        platform: platform.text,
        place: value.place(),
    };
    Ok(OverrideTable {
        origin: Arc::new(origin),
        filter: filter_text,
        default_filter,
        host: platform.host,
        target: platform.target,
        test,
    })
}

/// The platforms that an override is for.
#[derive(Default)]
pub(super) struct PlatformTable {
    pub(super) host: Option<TargetSpec>,
    pub(super) target: Option<TargetSpec>,
    pub(super) text: Option<String>,
}

pub(super) fn platform(value: &Value<'_>) -> Result<PlatformTable, ConfigError> {
    if let Some(text) = value.as_str() {
        let target = target_spec(value)?;
        return Ok(PlatformTable {
            host: None,
            target: Some(target),
            text: Some(text.to_owned()),
        });
    }
    let Some(mut table) = value.as_table() else {
        return Err(value.wrong_type("a string or a table with `host` and `target`", None));
    };
    let host = table.get("host");
    let target = table.get("target");
    table.warn_of_unknown();
    let written: Vec<String> = [("host", &host), ("target", &target)]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} = {}", value.as_ref()?.as_str()?)))
        .collect();
    Ok(PlatformTable {
        host: host.as_ref().map(target_spec).transpose()?,
        target: target.as_ref().map(target_spec).transpose()?,
        text: (!written.is_empty()).then(|| written.join(", ")),
    })
}

pub(super) fn target_spec(value: &Value<'_>) -> Result<TargetSpec, ConfigError> {
    let text = value.string()?;
    let spec = TargetSpec::new(text.to_owned()).map_err(|error| ConfigError::Platform {
        place: value.place(),
        key: value.key().to_owned(),
        problem: match error {
            target_spec::Error::InvalidExpression(error) => error.kind.to_string(),
            target_spec::Error::InvalidTargetSpecString(error) => error.to_string(),
            error => error.to_string(),
        },
    })?;
    if !spec.is_known() {
        let triple = text.to_owned();
        value.warn(|place, key| ConfigWarning::UnknownTarget { place, key, triple });
    }
    Ok(spec)
}
