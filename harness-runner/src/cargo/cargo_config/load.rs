//! The files and arguments that make up the configuration, and the files that they include.

use super::{
    ConfigError, Variables,
    tree::{Entry, Origin},
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{fs, io};
use toml::Value;

/// Reads everything but the environment.
pub(super) fn load(
    cwd: &Utf8Path,
    arguments: &[String],
    variables: &Variables,
) -> Result<Entry, ConfigError> {
    let mut root = Entry::empty(Origin::File(Utf8PathBuf::new()));
    for path in files(cwd, variables) {
        let entry = read(Origin::File(path.clone()), &path, cwd, &mut Vec::new())?;
        root.merge(entry, false)?;
    }
    let mut given = Entry::empty(Origin::Argument(None));
    for argument in arguments {
        given.merge(self::argument(argument, cwd)?, true)?;
    }
    root.merge(given, true)?;
    Ok(root)
}

/// Returns the files that cargo finds, the nearest first.
fn files(cwd: &Utf8Path, variables: &Variables) -> Vec<Utf8PathBuf> {
    let upward: Vec<_> = cwd
        .ancestors()
        .map(|directory| directory.join(".cargo"))
        .collect();
    let home = cargo_home(cwd, variables);
    let canonical = |path: &Utf8Path| path.canonicalize_utf8().ok();
    let is_seen = |home: &Utf8PathBuf| {
        let place = canonical(home);
        let same = |path: &Utf8PathBuf| path == home || place.is_some() && canonical(path) == place;
        upward.iter().any(same)
    };
    let home = home.filter(|home| !is_seen(home));
    let places = upward.iter().chain(&home);
    // Where both exist, cargo reads the one without an extension.
    let file = |directory: &Utf8PathBuf| {
        let names = ["config", "config.toml"].map(|name| directory.join(name));
        names.into_iter().find(|path| path.exists())
    };
    places.filter_map(file).collect()
}

fn cargo_home(cwd: &Utf8Path, variables: &Variables) -> Option<Utf8PathBuf> {
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    match set("CARGO_HOME") {
        Some(home) => Some(cwd.join(home)),
        None => Some(Utf8PathBuf::from(set("HOME")?).join(".cargo")),
    }
}

fn argument(argument: &str, cwd: &Utf8Path) -> Result<Entry, ConfigError> {
    let path = cwd.join(argument);
    if !argument.is_empty() && path.exists() {
        return read(
            Origin::Argument(Some(path.clone())),
            &path,
            cwd,
            &mut Vec::new(),
        );
    }
    let table = argument.parse().map_err(|source| ConfigError::Parse {
        origin: argument.to_owned(),
        source,
    })?;
    let entry = Entry::new(Value::Table(table), &Origin::Argument(None));
    with_included(entry, cwd, &mut Vec::new())
}

fn read(
    origin: Origin,
    path: &Utf8Path,
    cwd: &Utf8Path,
    including: &mut Vec<Utf8PathBuf>,
) -> Result<Entry, ConfigError> {
    if including.iter().any(|seen| seen == path) {
        return Err(ConfigError::Cycle {
            path: path.to_owned(),
        });
    }
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let table = text.parse().map_err(|source| ConfigError::Parse {
        origin: path.to_string(),
        source,
    })?;
    including.push(path.to_owned());
    let entry = Entry::new(Value::Table(table), &origin);
    with_included(entry, cwd, including)
}

/// Merges a file over what it includes: later files win over earlier ones, and it over all.
fn with_included(
    mut entry: Entry,
    cwd: &Utf8Path,
    including: &mut Vec<Utf8PathBuf>,
) -> Result<Entry, ConfigError> {
    let Some(include) = entry.take("include") else {
        return Ok(entry);
    };
    let origin = entry.origin().clone();
    let wrong = || ConfigError::Include {
        origin: origin.clone(),
    };
    let mut root = Entry::empty(origin.clone());
    // A single string was allowed before `include` was stable.
    let items = match &include {
        Entry::List(items, _) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    for item in items {
        let path = item.text().or_else(|| item.get(&["path"])?.text());
        let path = path
            .filter(|path| path.ends_with(".toml"))
            .ok_or_else(wrong)?;
        let path = origin.own_folder(cwd).join(path);
        let optional = item.get(&["optional"]).and_then(Entry::scalar);
        if optional.and_then(Value::as_bool) == Some(true) && is_missing(&path) {
            continue;
        }
        let included = match &origin {
            Origin::Argument(_) => Origin::Argument(Some(path.clone())),
            Origin::File(_) | Origin::Environment(_) => Origin::File(path.clone()),
        };
        root.merge(read(included, &path, cwd, including)?, true)?;
    }
    root.merge(entry, true)?;
    Ok(root)
}

fn is_missing(path: &Utf8Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
