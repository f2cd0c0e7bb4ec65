//! Reads a whole configuration file into profiles and test groups, and checks what can be checked
//! without a package graph.

use super::{
    DEFAULT_PROFILE, MIRI_PROFILE, Requirement,
    declared::{RunLayer, TestLayer},
    error::{ConfigError, ConfigWarning, Place, nearest, quoted},
    filter_text::{FilterText, filter},
    layer::Scope,
    names::is_identifier,
    overrides::{self, OverrideTable},
    parse::{Sections, Table, Value},
    quarantine::{self, QuarantineTable},
    rules::{self, RuleTable},
    scripts::{self, Scripts},
    settings::TestThreads,
    value,
};
use crate::filter::asks_for_dependencies;
use camino::Utf8PathBuf;
use nextest_filtering::FiltersetKind;
use std::{collections::BTreeMap, sync::Arc};

/// The settings of a profile's table, before inheritance.
#[derive(Debug)]
pub(super) struct ProfileTable {
    pub(super) name: Arc<str>,
    pub(super) inherits: Option<(String, Place)>,
    pub(super) default_filter: Option<FilterText>,
    pub(super) test: TestLayer,
    pub(super) run: RunLayer,
    pub(super) overrides: Vec<OverrideTable>,
    pub(super) rules: Vec<RuleTable>,
    pub(super) quarantine: Vec<QuarantineTable>,
}

impl ProfileTable {
    pub(super) fn empty(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            inherits: None,
            default_filter: None,
            test: TestLayer::default(),
            run: RunLayer::default(),
            overrides: Vec::new(),
            rules: Vec::new(),
            quarantine: Vec::new(),
        }
    }
}

/// The contents of a file.
#[derive(Debug, Default)]
pub(super) struct FileTables {
    pub(super) profiles: Vec<ProfileTable>,
    pub(super) test_groups: TestGroups,
    pub(super) scripts: Scripts,
    pub(super) store_dir: Option<Utf8PathBuf>,
    pub(super) requirements: Vec<Requirement>,
    pub(super) asks_for_dependencies: bool,
}

type Profiles = BTreeMap<Arc<str>, Vec<Arc<ProfileTable>>>;
type TestGroups = BTreeMap<String, TestThreads>;

/// Features of cargo-nextest that are switched on by name there. Nothing has to be switched on here.
const EXPERIMENTAL: &[&str] = &["setup-scripts", "wrapper-scripts", "benchmarks"];

/// Reads a document. `requirements` are those that were read from it before, `tool` is the name of
/// the tool whose file it is.
pub(super) fn read(
    mut root: Table<'_>,
    requirements: Vec<Requirement>,
    tool: Option<&str>,
) -> Result<FileTables, ConfigError> {
    let mut file = FileTables {
        requirements,
        ..FileTables::default()
    };
    file.asks_for_dependencies = asks_for_dependencies(root.text());
    for key in ["nextest-version", "harness-version"] {
        root.get(key);
    }
    root.read("experimental", |value| experimental(&value, tool))?;
    file.scripts = scripts::read(&mut root, tool)?;
    let groups = root.read("test-groups", |value| test_groups(&value.table()?, tool))?;
    file.test_groups = groups.unwrap_or_default();
    root.declare_test_groups(file.test_groups.keys().cloned());

    if let Some(tables) = root.read("profile", |value| value.table())? {
        for (place, name, value) in tables.named() {
            if name.starts_with("default-") && name != MIRI_PROFILE {
                let warning = ConfigWarning::ReservedProfile {
                    place,
                    profile: name.to_owned(),
                };
                value.warn(|_, _| warning);
                continue;
            }
            check_profile_name(name, &value)?;
            file.profiles.push(profile(name, value.table()?)?);
        }
    }
    let mut sections = Sections::of(root);
    file.store_dir = match sections.get("store.dir")? {
        Some(value) => value::path(value)?,
        None => None,
    };
    sections.close().warn_of_unknown();
    Ok(file)
}

/// Reads the names of unfinished features: an array of names, or a table of booleans.
fn experimental(value: &Value<'_>, tool: Option<&str>) -> Result<(), ConfigError> {
    if tool.is_some() {
        return Err(value.invalid("must not stand in a file of `--tool-config-file`"));
    }
    let known = |name: &str, value: &Value<'_>| match EXPERIMENTAL.contains(&name) {
        true => Ok(()),
        false => {
            let hint = nearest(name, EXPERIMENTAL.iter().copied())
                .map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"));
            Err(value.invalid(format!(
                "names the feature `{name}`, which does not exist{hint}; known features: {}",
                quoted(EXPERIMENTAL)
            )))
        }
    };
    if let Some(table) = value.as_table() {
        for (_, name, value) in table.named() {
            known(name, &value)?;
            value.boolean()?;
        }
        return Ok(());
    }
    let Some(names) = value.as_array() else {
        return Err(value.wrong_type("an array of names or a table of booleans", None));
    };
    for name in names {
        known(name.string()?, &name)?;
    }
    Ok(())
}

/// A profile's name is also the name of a directory.
fn check_profile_name(name: &str, value: &Value<'_>) -> Result<(), ConfigError> {
    let forbidden = |c: char| c == '/' || c == '\\' || c.is_control();
    if name.trim() != name || name.is_empty() || name.starts_with('.') || name.contains(forbidden) {
        return Err(value.invalid(
            "is not a name for a profile: it must not be empty, begin with `.`, contain `/`, `\\` \
             or control characters, or have spaces around it",
        ));
    }
    Ok(())
}

fn test_groups(table: &Table<'_>, tool: Option<&str>) -> Result<TestGroups, ConfigError> {
    let mut groups = TestGroups::new();
    for (_, name, value) in table.named() {
        if let Some(tool) = tool {
            let prefix = format!("@tool:{tool}:");
            if !name.strip_prefix(&prefix).is_some_and(is_identifier) {
                return Err(value.invalid(format!(
                    "is not a name for a test group of a tool: it must be `{prefix}` and a name"
                )));
            }
        } else if !is_identifier(name) {
            return Err(value.invalid(
                "is not a name for a test group: it must begin with a letter and go on with \
                 letters, digits, `_` and `-`",
            ));
        }
        let mut group = value.table()?;
        let Some(max_threads) = group.read("max-threads", value::threads)? else {
            return Err(group.invalid("lacks `max-threads`"));
        };
        group.warn_of_unknown();
        groups.insert(name.to_owned(), max_threads);
    }
    Ok(groups)
}

fn profile(name: &str, mut table: Table<'_>) -> Result<ProfileTable, ConfigError> {
    let mut profile = ProfileTable::empty(name);
    profile.inherits = table.read("inherits", |value| inherits(name, &value))?;
    profile.default_filter = table.read("default-filter", |value| {
        filter(FiltersetKind::DefaultFilter, &value)
    })?;
    let mut sections = Sections::of(table);
    profile.test = TestLayer::read(&mut sections, Scope::Profile)?;
    profile.run = RunLayer::read(&mut sections, Scope::Profile)?;
    let mut table = sections.close();
    if let Some(list) = table.get("overrides") {
        let Some(elements) = list.as_array() else {
            let hint = format!("write `[[profile.{name}.overrides]]`");
            return Err(list.wrong_type("an array of tables", Some(hint)));
        };
        for (index, element) in elements.enumerate() {
            profile
                .overrides
                .push(overrides::read(&profile.name, index, &element)?);
        }
    }
    if let Some(list) = table.get("scripts") {
        let Some(elements) = list.as_array() else {
            let hint = format!("write `[[profile.{name}.scripts]]`");
            return Err(list.wrong_type("an array of tables", Some(hint)));
        };
        for (index, element) in elements.enumerate() {
            let rule = rules::read(&profile.name, index, &element)?;
            profile.rules.push(rule);
        }
    }
    if let Some(list) = table.get("quarantine") {
        let Some(elements) = list.as_array() else {
            let hint = format!("write `[[profile.{name}.quarantine]]`");
            return Err(list.wrong_type("an array of tables", Some(hint)));
        };
        for element in elements {
            profile.quarantine.push(quarantine::read(&element)?);
        }
    }
    table.unsupported_below(&["bench"], 1);
    table.warn_of_unknown();
    Ok(profile)
}

fn inherits(profile: &str, value: &Value<'_>) -> Result<(String, Place), ConfigError> {
    let parent = value.string()?;
    if profile == DEFAULT_PROFILE || profile == MIRI_PROFILE {
        return Err(value.invalid(format!(
            "cannot be set: the built-in profile `{profile}` inherits from no other"
        )));
    }
    if parent == profile {
        return Err(value.invalid("names the profile itself"));
    }
    Ok((parent.to_owned(), value.place()))
}

/// Returns the profile that a profile inherits from: the first of its tables that says so counts.
pub(super) fn parent(tables: &[Arc<ProfileTable>]) -> Option<&(String, Place)> {
    tables.iter().find_map(|table| table.inherits.as_ref())
}

/// Returns whether the tables of a profile set the same for its tests, wherever they are written.
pub(super) fn same(tables: &[Arc<ProfileTable>], others: &[Arc<ProfileTable>]) -> bool {
    let filter = |filter: &Option<FilterText>| filter.as_ref().map(|filter| filter.text.clone());
    let overrides = |table: &ProfileTable| -> Vec<_> {
        let overrides = table.overrides.iter().map(|entry| {
            let (filter_text, default) = (filter(&entry.filter), filter(&entry.default_filter));
            let platform = entry.origin.platform.clone();
            (filter_text, default, platform, entry.test.unplaced())
        });
        overrides.collect()
    };
    let rules = |table: &ProfileTable| -> Vec<_> {
        let rules = table.rules.iter().map(|rule| {
            let platform = rule.origin.platform.clone();
            (filter(&rule.filter), platform, rule.run.clone())
        });
        rules.collect()
    };
    let same = |table: &ProfileTable, other: &ProfileTable| {
        let inherits = |table: &ProfileTable| table.inherits.clone().map(|(parent, _)| parent);
        table.name == other.name
            && inherits(table) == inherits(other)
            && filter(&table.default_filter) == filter(&other.default_filter)
            && table.test.unplaced() == other.test.unplaced()
            && overrides(table) == overrides(other)
            && rules(table) == rules(other)
    };
    let pairs = tables.iter().zip(others);
    tables.len() == others.len() && pairs.into_iter().all(|(table, other)| same(table, other))
}

/// Fails if a profile inherits from one that does not exist, or in the end from itself.
pub(super) fn check_inheritance(profiles: &Profiles) -> Result<(), ConfigError> {
    for (start, tables) in profiles {
        let mut chain = vec![&**start];
        let (mut name, mut current) = (start, tables);
        while let Some((parent, place)) = parent(current) {
            let invalid = |problem| ConfigError::Invalid {
                place: place.clone(),
                key: format!("profile.{name}.inherits"),
                problem,
            };
            let Some((next, tables)) = profiles.get_key_value(parent.as_str()) else {
                let names = profiles.keys().map(|name| &**name);
                let known: Vec<&str> = names.filter(|&known| known != &**name).collect();
                let hint = nearest(parent, known.iter().copied())
                    .map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"));
                return Err(invalid(format!(
                    "names the profile `{parent}`, which does not exist{hint}; known profiles: {}",
                    quoted(&known)
                )));
            };
            if let Some(position) = chain.iter().position(|&name| name == &**next) {
                let mut cycle: Vec<&str> = chain[position..].to_vec();
                cycle.push(next);
                let cycle: Vec<String> = cycle.iter().map(|name| format!("`{name}`")).collect();
                return Err(invalid(format!("goes in a circle: {}", cycle.join(" → "))));
            }
            chain.push(next);
            (name, current) = (next, tables);
        }
    }
    Ok(())
}
