//! Reads a whole configuration file into profiles and test groups, and checks what can be checked
//! without a package graph.

use super::{
    DEFAULT_PROFILE, MIRI_PROFILE,
    declared::{RunLayer, TestLayer},
    error::{ConfigError, ConfigWarning, Place, nearest, quoted},
    layer::Scope,
    overrides::{self, OverrideTable},
    parse::{Sections, Table, Value},
    settings::TestThreads,
    value,
};
use crate::filter::check_syntax;
use nextest_filtering::FiltersetKind;
use std::{collections::BTreeMap, sync::Arc};

/// What a profile's table says, before inheritance.
#[derive(Debug)]
pub(super) struct ProfileTable {
    pub(super) name: Arc<str>,
    pub(super) inherits: Option<(String, Place)>,
    pub(super) default_filter: Option<FilterText>,
    pub(super) test: TestLayer,
    pub(super) run: RunLayer,
    pub(super) overrides: Vec<OverrideTable>,
}

impl ProfileTable {
    fn empty(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            inherits: None,
            default_filter: None,
            test: TestLayer::default(),
            run: RunLayer::default(),
            overrides: Vec::new(),
        }
    }
}

/// A filterset as it is written; known to parse.
#[derive(Clone, Debug)]
pub(super) struct FilterText {
    pub(super) kind: FiltersetKind,
    pub(super) text: String,
    pub(super) key: String,
    pub(super) place: Place,
}

type Profiles = BTreeMap<Arc<str>, Arc<ProfileTable>>;
type TestGroups = BTreeMap<String, TestThreads>;

/// Reads a document.
pub(super) fn read(mut root: Table<'_>) -> Result<(Profiles, TestGroups), ConfigError> {
    root.unsupported(&[
        "nextest-version",
        "experimental",
        "store",
        "scripts",
        "script",
    ]);
    let groups = root.read("test-groups", |value| test_groups(&value.table()?))?;
    let groups = groups.unwrap_or_default();
    root.declare_test_groups(groups.keys().cloned());

    let mut profiles = Profiles::new();
    for name in [DEFAULT_PROFILE, MIRI_PROFILE] {
        profiles.insert(Arc::from(name), Arc::new(ProfileTable::empty(name)));
    }
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
            let profile = profile(name, value.table()?)?;
            profiles.insert(Arc::clone(&profile.name), Arc::new(profile));
        }
    }
    root.warn_of_unknown();
    check_inheritance(&profiles)?;
    Ok((profiles, groups))
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

fn test_groups(table: &Table<'_>) -> Result<TestGroups, ConfigError> {
    let mut groups = TestGroups::new();
    for (_, name, value) in table.named() {
        if !is_identifier(name) {
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

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(char::is_alphabetic)
        && chars.all(|c| c.is_alphanumeric() || c == '_' || c == '-')
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
    table.unsupported(&["archive", "bench", "scripts"]);
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

/// Fails if a profile inherits from one that does not exist, or in the end from itself.
fn check_inheritance(profiles: &Profiles) -> Result<(), ConfigError> {
    for start in profiles.values() {
        let mut chain = vec![&*start.name];
        let mut current = start;
        while let Some((parent, place)) = &current.inherits {
            let invalid = |problem| ConfigError::Invalid {
                place: place.clone(),
                key: format!("profile.{}.inherits", current.name),
                problem,
            };
            let Some(next) = profiles.get(parent.as_str()) else {
                let names = profiles.keys().map(|name| &**name);
                let known: Vec<&str> = names.filter(|&name| name != &*current.name).collect();
                let hint = nearest(parent, known.iter().copied())
                    .map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"));
                return Err(invalid(format!(
                    "names the profile `{parent}`, which does not exist{hint}; known profiles: {}",
                    quoted(&known)
                )));
            };
            if let Some(position) = chain.iter().position(|&name| name == &*next.name) {
                let mut cycle: Vec<&str> = chain[position..].to_vec();
                cycle.push(&next.name);
                let cycle: Vec<String> = cycle.iter().map(|name| format!("`{name}`")).collect();
                return Err(invalid(format!("goes in a circle: {}", cycle.join(" → "))));
            }
            chain.push(&next.name);
            current = next;
        }
    }
    Ok(())
}

/// Reads a filterset, and checks its syntax. What it names is checked when it is compiled.
pub(super) fn filter(kind: FiltersetKind, value: &Value<'_>) -> Result<FilterText, ConfigError> {
    let text = value.string()?;
    check_syntax(text, kind).map_err(|source| ConfigError::Filterset {
        place: value.place(),
        key: value.key().to_owned(),
        source,
    })?;
    Ok(FilterText {
        kind,
        text: text.to_owned(),
        key: value.key().to_owned(),
        place: value.place(),
    })
}
