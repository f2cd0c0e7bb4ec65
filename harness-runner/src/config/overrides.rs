//! Reads the entries of a profile's `overrides`.

use super::{
    declared::TestLayer,
    error::{ConfigError, ConfigWarning},
    filter_text::{FilterText, filter},
    layer::{OverrideOrigin, Scope},
    parse::{Noted, Sections, Table, Value},
};
use nextest_filtering::FiltersetKind;
use std::sync::Arc;
use target_spec::TargetSpec;

/// One entry of a profile's `overrides`.
#[derive(Debug)]
pub(super) struct OverrideTable {
    pub(super) selector: Selector,
    pub(super) default_filter: Option<FilterText>,
    pub(super) test: TestLayer,
}

/// The tests that an entry of a profile's `overrides` or `scripts` is for.
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) origin: Arc<OverrideOrigin>,
    pub(super) filter: Option<FilterText>,
    pub(super) host: Option<TargetSpec>,
    pub(super) target: Option<TargetSpec>,
}

impl Selector {
    /// Reads `filter` and `platform` of the table that is the value of an entry.
    pub(super) fn read(
        (profile, index): (&Arc<str>, usize),
        value: &Value<'_>,
        table: &mut Table<'_>,
        kind: FiltersetKind,
    ) -> Self {
        let filter = table.read("filter", |value| filter(kind, &value));
        let (platform, has_platform) = platform_of(table);
        if !table.has("filter") && !has_platform {
            value.invalid("needs `filter` or `platform`, to say which tests it is for");
        }
        let origin = OverrideOrigin {
            profile: Arc::clone(profile),
            index,
            filter: filter.as_ref().map(|filter| filter.text.clone()),
            platform: platform.text,
            place: value.place(),
        };
        Self {
            origin: Arc::new(origin),
            filter,
            host: platform.host,
            target: platform.target,
        }
    }
}

/// Reads an entry. What it sets is read as in a profile.
pub(super) fn read(
    profile: &Arc<str>,
    index: usize,
    value: &Value<'_>,
) -> Result<OverrideTable, Noted> {
    let mut table = value.table()?;
    let kind = FiltersetKind::OverrideFilter;
    let selector = Selector::read((profile, index), value, &mut table, kind);
    let has_filter = table.has("filter");
    let default_filter = table.read("default-filter", |value| match has_filter {
        true => Err(value.invalid("cannot be combined with `filter`")),
        false => filter(FiltersetKind::DefaultFilter, &value),
    });
    let mut sections = Sections::of(table);
    let test = TestLayer::read(&mut sections, Scope::Override);
    sections.close().warn_of_unknown();
    Ok(OverrideTable {
        selector,
        default_filter,
        test,
    })
}

/// The platforms that an override is for.
#[derive(Default)]
struct PlatformTable {
    host: Option<TargetSpec>,
    target: Option<TargetSpec>,
    text: Option<String>,
}

/// Reads the platforms of a table, and returns whether there are any, right or wrong.
fn platform_of(table: &mut Table<'_>) -> (PlatformTable, bool) {
    match table.read("platform", |value| platform(&value)) {
        Some(platform) => {
            let any = platform.host.is_some() || platform.target.is_some();
            (platform, any)
        }
        None => (PlatformTable::default(), table.has("platform")),
    }
}

fn platform(value: &Value<'_>) -> Result<PlatformTable, Noted> {
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
    let written: Vec<String> = ["host", "target"]
        .into_iter()
        .filter_map(|name| Some(format!("{name} = {}", table.get(name)?.as_str()?)))
        .collect();
    let host = table.read("host", |value| target_spec(&value));
    let target = table.read("target", |value| target_spec(&value));
    table.warn_of_unknown();
    table.whole()?;
    Ok(PlatformTable {
        host,
        target,
        text: (!written.is_empty()).then(|| written.join(", ")),
    })
}

pub(super) fn target_spec(value: &Value<'_>) -> Result<TargetSpec, Noted> {
    let text = value.string()?;
    let spec = TargetSpec::new(text.to_owned()).map_err(|error| {
        value.note(ConfigError::Platform {
            place: value.place(),
            key: value.key().to_owned(),
            problem: match error {
                target_spec::Error::InvalidExpression(error) => error.kind.to_string(),
                target_spec::Error::InvalidTargetSpecString(error) => error.to_string(),
                error => error.to_string(),
            },
        })
    })?;
    if !spec.is_known() {
        let triple = text.to_owned();
        value.warn(|place, key| ConfigWarning::UnknownTarget { place, key, triple });
    }
    Ok(spec)
}
