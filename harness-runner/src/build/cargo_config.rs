//! Cargo's configuration files, as far as a runner needs them: `[env]`, `build.target` and
//! `target.*.runner`.

use super::locate::normalized;
use crate::protocol::Environment;
use camino::{Utf8Path, Utf8PathBuf};
use std::{env, fs, io};
use thiserror::Error;
use toml::{Table, Value};

/// Why cargo's configuration could not be read.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("failed to read cargo's configuration `{path}`")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file, or an argument of `--config`, is not TOML.
    #[error("failed to parse cargo's configuration `{origin}`")]
    Parse {
        /// The file or argument.
        origin: String,
        /// Why.
        source: toml::de::Error,
    },
}

/// Cargo's configuration, what wins first.
#[derive(Clone, Debug, Default)]
pub struct CargoConfig {
    sources: Vec<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    table: Table,
    /// What relative paths in it are relative to.
    base: Utf8PathBuf,
}

impl CargoConfig {
    /// Reads `--config` arguments, the files from `cwd` upward, and that of `$CARGO_HOME`.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read or is not TOML.
    pub fn load(cwd: &Utf8Path, arguments: &[String]) -> Result<Self, ConfigError> {
        let mut sources = Vec::new();
        for argument in arguments.iter().rev() {
            let path = cwd.join(argument);
            if path.is_file() {
                sources.push(read(&normalized(&path))?);
            } else {
                let table = argument.parse().map_err(|source| ConfigError::Parse {
                    origin: argument.clone(),
                    source,
                })?;
                sources.push(Source {
                    table,
                    base: cwd.to_owned(),
                });
            }
        }
        let mut seen = Vec::new();
        let upward = cwd.ancestors().map(|directory| directory.join(".cargo"));
        for directory in upward.chain(cargo_home(cwd)) {
            // Where both exist, cargo reads the one without an extension.
            let file = ["config", "config.toml"].map(|name| directory.join(name));
            if let Some(path) = file.into_iter().find(|path| path.is_file())
                && !seen.contains(&path)
            {
                sources.push(read(&path)?);
                seen.push(path);
            }
        }
        Ok(Self { sources })
    }

    /// Applies `[env]` with cargo's rules: what is inherited wins unless `force` is set.
    pub(super) fn apply_env(&self, environment: &mut Environment) {
        let mut done = Vec::new();
        for source in &self.sources {
            let entries = source.table.get("env").and_then(Value::as_table);
            for (name, value) in entries.into_iter().flatten() {
                if done.contains(&name) {
                    continue;
                }
                done.push(name);
                let is = |key| value.get(key).and_then(Value::as_bool).unwrap_or(false);
                let text = value
                    .as_str()
                    .or_else(|| value.get("value").and_then(Value::as_str));
                let Some(text) = text else { continue };
                if !is("force") && environment.get(name).is_some() {
                    continue;
                }
                if is("relative") {
                    environment.set(name, source.base.join(text).into_os_string());
                } else {
                    environment.set(name, text);
                }
            }
        }
    }

    pub(super) fn build_target(&self) -> Option<String> {
        let (value, base) = self.get(&["build", "target"])?;
        let name = match value {
            Value::String(name) => name,
            Value::Array(names) => match &names[..] {
                [Value::String(name)] => name,
                _ => return None,
            },
            _ => return None,
        };
        // A specification's path is relative to the file that names it.
        let is_path = name.ends_with(".json");
        Some(if is_path {
            base.join(name).into_string()
        } else {
            name.clone()
        })
    }

    /// Returns the value that wins, with what its paths are relative to.
    pub(super) fn get(&self, path: &[&str]) -> Option<(&Value, &Utf8Path)> {
        self.sources.iter().find_map(|source| {
            let (first, rest) = path.split_first()?;
            let first = source.table.get(*first)?;
            let value = rest.iter().try_fold(first, |value, key| value.get(*key))?;
            Some((value, source.base.as_path()))
        })
    }

    /// Returns the keys of `[target]` in all files, what wins first.
    pub(super) fn target_keys(&self) -> impl Iterator<Item = &str> {
        let tables = self
            .sources
            .iter()
            .filter_map(|source| source.table.get("target"));
        tables
            .filter_map(Value::as_table)
            .flat_map(|table| table.keys())
            .map(String::as_str)
    }
}

fn cargo_home(cwd: &Utf8Path) -> Option<Utf8PathBuf> {
    let home = || Some(Utf8PathBuf::from(env::var("HOME").ok()?).join(".cargo"));
    let set = env::var("CARGO_HOME")
        .ok()
        .filter(|value| !value.is_empty());
    set.map(|value| cwd.join(value)).or_else(home)
}

fn read(path: &Utf8Path) -> Result<Source, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let table = text.parse().map_err(|source| ConfigError::Parse {
        origin: path.to_string(),
        source,
    })?;
    // Cargo resolves paths against the directory that holds `.cargo`.
    let base = path
        .ancestors()
        .nth(2)
        .unwrap_or(Utf8Path::new("/"))
        .to_owned();
    Ok(Source { table, base })
}
