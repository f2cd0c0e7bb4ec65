//! Reads a whole configuration file into profiles and test groups, and checks what can be checked
//! without a package graph.

use super::{
    DEFAULT_PROFILE, MIRI_PROFILE, Requirement,
    declared::{RunLayer, TestLayer},
    error::{ConfigError, ConfigWarning, Place, nearest, quoted},
    filter_text::{FilterText, filter},
    layer::Scope,
    names::is_identifier,
    overrides::{self, OverrideTable, Selector},
    parse::{Noted, Sections, Table, Value, all},
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
    pub(super) runs_dir: Option<Utf8PathBuf>,
    pub(super) requirements: Vec<Requirement>,
    pub(super) asks_for_dependencies: bool,
}

/// The key of the folder for recorded runs.
pub(super) const RUNS_DIR: &str = "store.runs-dir";

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
) -> FileTables {
    let mut file = FileTables {
        requirements,
        ..FileTables::default()
    };
    file.asks_for_dependencies = asks_for_dependencies(root.text());
    for key in ["nextest-version", "harness-version"] {
        root.get(key);
    }
    root.read("experimental", |value| experimental(&value, tool));
    file.scripts = scripts::read(&mut root, tool);
    let groups = root.read("test-groups", |value| value.table());
    for (_, name, value) in groups.iter().flat_map(Table::named) {
        check_group_name(name, &value, tool);
        // A group without its limit is known all the same: it has one mistake, not two.
        let limit = limit_of_group(&value).unwrap_or(TestThreads::NumCpus);
        file.test_groups.insert(name.to_owned(), limit);
    }
    root.declare_test_groups(file.test_groups.keys().cloned());

    let profiles = root.read("profile", |value| value.table());
    for (place, name, value) in profiles.iter().flat_map(Table::named) {
        if name.starts_with("default-") && name != MIRI_PROFILE {
            let warning = ConfigWarning::ReservedProfile {
                place,
                profile: name.to_owned(),
            };
            value.warn(|_, _| warning);
            continue;
        }
        check_profile_name(name, &value);
        let table = value.table().map(|table| profile(name, table));
        let table = table.unwrap_or_else(|_| ProfileTable::empty(name));
        file.profiles.push(table);
    }
    let mut sections = Sections::of(root);
    let store_dir = sections.get("store.dir").map(value::path);
    file.store_dir = store_dir.and_then(Result::ok).flatten();
    let runs_dir = sections.get(RUNS_DIR).map(value::path);
    file.runs_dir = runs_dir.and_then(Result::ok).flatten();
    sections.close().warn_of_unknown();
    file
}

/// Reads the names of unfinished features: an array of names, or a table of booleans.
fn experimental(value: &Value<'_>, tool: Option<&str>) -> Result<(), Noted> {
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
        let features = table.named().into_iter().map(|(_, name, value)| {
            known(name, &value)?;
            value.boolean()
        });
        return all(features).map(drop);
    }
    let Some(names) = value.as_array() else {
        return Err(value.wrong_type("an array of names or a table of booleans", None));
    };
    all(names.map(|name| known(name.string()?, &name))).map(drop)
}

/// A profile's name is also the name of a directory.
fn check_profile_name(name: &str, value: &Value<'_>) {
    let forbidden = |c: char| c == '/' || c == '\\' || c.is_control();
    if name.trim() != name || name.is_empty() || name.starts_with('.') || name.contains(forbidden) {
        value.invalid(
            "is not a name for a profile: it must not be empty, begin with `.`, contain `/`, `\\` \
             or control characters, or have spaces around it",
        );
    }
}

fn check_group_name(name: &str, value: &Value<'_>, tool: Option<&str>) {
    if let Some(tool) = tool {
        let prefix = format!("@tool:{tool}:");
        if !name.strip_prefix(&prefix).is_some_and(is_identifier) {
            value.invalid(format!(
                "is not a name for a test group of a tool: it must be `{prefix}` and a name"
            ));
        }
    } else if !is_identifier(name) {
        value.invalid(
            "is not a name for a test group: it must begin with a letter and go on with \
             letters, digits, `_` and `-`",
        );
    }
}

fn limit_of_group(value: &Value<'_>) -> Result<TestThreads, Noted> {
    let mut group = value.table()?;
    let max_threads = group.read("max-threads", value::threads);
    group.warn_of_unknown();
    max_threads.ok_or_else(|| group.lacks("max-threads", ""))
}

fn profile(name: &str, mut table: Table<'_>) -> ProfileTable {
    let mut profile = ProfileTable::empty(name);
    profile.inherits = table.read("inherits", |value| inherits(name, &value));
    profile.default_filter = table.read("default-filter", |value| {
        filter(FiltersetKind::DefaultFilter, &value)
    });
    let mut sections = Sections::of(table);
    profile.test = TestLayer::read(&mut sections, Scope::Profile);
    profile.run = RunLayer::read(&mut sections, Scope::Profile);
    let mut table = sections.close();
    let overrides = table.get("overrides");
    for (index, element) in tables(overrides.as_ref(), name, "overrides") {
        let entry = overrides::read(&profile.name, index, &element);
        profile.overrides.extend(entry);
    }
    let rules = table.get("scripts");
    for (index, element) in tables(rules.as_ref(), name, "scripts") {
        let rule = rules::read(&profile.name, index, &element);
        profile.rules.extend(rule);
    }
    let quarantine = table.get("quarantine");
    for (_, element) in tables(quarantine.as_ref(), name, "quarantine") {
        profile.quarantine.extend(quarantine::read(&element));
    }
    table.warn_of_unknown();
    profile
}

/// Returns the elements of an array of a profile's tables.
fn tables<'a>(
    list: Option<&Value<'a>>,
    profile: &str,
    key: &str,
) -> impl Iterator<Item = (usize, Value<'a>)> {
    let elements = list.and_then(|list| {
        let elements = list.as_array();
        if elements.is_none() {
            let hint = format!("write `[[profile.{profile}.{key}]]`");
            list.wrong_type("an array of tables", Some(hint));
        }
        elements
    });
    elements.into_iter().flatten().enumerate()
}

fn inherits(profile: &str, value: &Value<'_>) -> Result<(String, Place), Noted> {
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
    let selector = |selector: &Selector| {
        let platform = selector.origin.platform.clone();
        (filter(&selector.filter), platform)
    };
    let overrides = |table: &ProfileTable| -> Vec<_> {
        let overrides = table.overrides.iter().map(|entry| {
            let default = filter(&entry.default_filter);
            (selector(&entry.selector), default, entry.test.unplaced())
        });
        overrides.collect()
    };
    let rules = |table: &ProfileTable| -> Vec<_> {
        let rules = table
            .rules
            .iter()
            .map(|rule| (selector(&rule.selector), rule.run.clone()));
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

/// Returns the mistakes of profiles that inherit from one that does not exist, or in the end from
/// themselves.
pub(super) fn check_inheritance(profiles: &Profiles) -> Vec<ConfigError> {
    let mut mistakes: Vec<ConfigError> = Vec::new();
    for start in profiles.keys() {
        let Err(mistake) = follow(profiles, start) else {
            continue;
        };
        // Profiles with the same parents have the same mistake.
        let mut known = mistakes.iter();
        if !known.any(|known| known.place() == mistake.place()) {
            mistakes.push(mistake);
        }
    }
    mistakes
}

/// Follows what a profile inherits from, to the end.
pub(super) fn follow(profiles: &Profiles, start: &Arc<str>) -> Result<(), ConfigError> {
    let mut chain = vec![start];
    let mut name = start;
    while let Some((parent, place)) = parent(&profiles[name]) {
        let Some((next, _)) = profiles.get_key_value(parent.as_str()) else {
            let names = profiles.keys().map(|name| &**name);
            let known: Vec<&str> = names.filter(|&known| known != &**name).collect();
            let hint = nearest(parent, known.iter().copied())
                .map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"));
            let problem = format!(
                "names the profile `{parent}`, which does not exist{hint}; known profiles: {}",
                quoted(&known)
            );
            return Err(wrong_parent(name, place, problem));
        };
        if let Some(position) = chain.iter().position(|name| *name == next) {
            return Err(circle(profiles, &chain[position..]));
        }
        chain.push(next);
        name = next;
    }
    Ok(())
}

/// Returns the mistake of profiles that inherit from each other, which is the same wherever their circle
/// is entered.
fn circle(profiles: &Profiles, members: &[&Arc<str>]) -> ConfigError {
    let mut members = members.to_vec();
    let first = members.iter().min().copied();
    let first = members.iter().position(|name| Some(*name) == first);
    members.rotate_left(first.unwrap_or_default());
    let last = members[members.len() - 1];
    let (_, place) = parent(&profiles[last]).expect("a member of a circle has a parent");
    members.push(members[0]);
    let names: Vec<String> = members.iter().map(|name| format!("`{name}`")).collect();
    wrong_parent(
        last,
        place,
        format!("goes in a circle: {}", names.join(" → ")),
    )
}

fn wrong_parent(profile: &str, place: &Place, problem: String) -> ConfigError {
    ConfigError::Invalid {
        place: place.clone(),
        key: format!("profile.{profile}.inherits"),
        problem,
    }
}
