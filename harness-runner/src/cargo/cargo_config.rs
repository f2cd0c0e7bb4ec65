//! Cargo's configuration, read as cargo reads it.
//!
//! `cargo config get` is unstable, and no kept library reads `include` or `--config`. So the files
//! are read here: into one tree of values that remember where they were set ([`tree`]), and with
//! the keys that a runner needs on top ([`CargoConfig`]). Everything else is cargo's own business.

mod load;
mod tree;

pub use tree::Origin;

use super::{program, rustc::Compiler};
use crate::protocol::Environment;
use camino::{Utf8Path, Utf8PathBuf};
use std::{collections::BTreeMap, io};
use thiserror::Error;
use toml::Value;
use tree::Entry;

/// An error in cargo's configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("failed to read cargo's configuration `{path}`")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file, or an argument of `--config`, is not TOML.
    #[error("failed to parse cargo's configuration `{origin}`")]
    Parse {
        /// The file or argument.
        origin: String,
        /// The reason.
        source: toml::de::Error,
    },
    /// A file includes itself.
    #[error("cargo's configuration `{path}` includes itself")]
    Cycle {
        /// The file.
        path: Utf8PathBuf,
    },
    /// An `include` is not a list of files.
    #[error("`include` in {origin} is not a list of `.toml` files")]
    Include {
        /// The place that sets it.
        origin: Origin,
    },
    /// Two places set a key to values that cannot be merged.
    #[error("`{key}` is {first} in {first_origin} and {second} in {second_origin}")]
    Kinds {
        /// The key.
        key: String,
        /// Its kind in one place.
        first: &'static str,
        /// The place.
        first_origin: Origin,
        /// Its kind in another place.
        second: &'static str,
        /// The other place.
        second_origin: Origin,
    },
    /// A value is of the wrong kind.
    #[error("`{key}` in {origin} is not {expected}")]
    Value {
        /// The key.
        key: String,
        /// The place that sets it.
        origin: Origin,
        /// The kind that cargo expects.
        expected: &'static str,
    },
}

/// Cargo's configuration.
#[derive(Clone, Debug)]
pub struct CargoConfig {
    root: Entry,
    cwd: Utf8PathBuf,
    variables: Variables,
    env: BTreeMap<String, EnvValue>,
}

/// The environment of the process that reads the configuration.
pub(super) type Variables = BTreeMap<String, String>;

/// A value with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

impl CargoConfig {
    /// Reads the `--config` arguments, the files from `cwd` upward, that of `$CARGO_HOME`, and
    /// what they include. Environment variables join in when a key is looked up.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read or does not make sense.
    pub fn load(cwd: &Utf8Path, arguments: &[String]) -> Result<Self, ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::load_with(cwd, arguments, variables)
    }

    pub(super) fn load_with(
        cwd: &Utf8Path,
        arguments: &[String],
        variables: Variables,
    ) -> Result<Self, ConfigError> {
        let root = load::load(cwd, arguments, &variables)?;
        let mut config = Self {
            root,
            cwd: cwd.to_owned(),
            variables,
            env: BTreeMap::new(),
        };
        config.env = config.env()?;
        Ok(config)
    }

    /// Returns a variable of the environment, if it is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// Applies `[env]`: what is inherited wins unless `force` is set, and what cargo itself sets
    /// (`is_cargos`) wins always.
    pub(crate) fn apply_env(
        &self,
        environment: &mut Environment,
        inherited: &Environment,
        is_cargos: impl Fn(&str) -> bool,
    ) {
        for (name, set) in &self.env {
            // Cargo looks at its own environment here, not at what build scripts add to it.
            if !is_cargos(name) && (set.force || inherited.get(name).is_none()) {
                environment.set(name, &set.value);
            }
        }
    }

    fn env(&self) -> Result<BTreeMap<String, EnvValue>, ConfigError> {
        let table = self.root.get(&["env"]).and_then(Entry::table);
        let entries = table.into_iter().flatten();
        entries
            .map(|(name, entry)| Ok((name.clone(), self.env_value(name, entry)?)))
            .collect()
    }

    fn env_value(&self, name: &str, entry: &Entry) -> Result<EnvValue, ConfigError> {
        let by_variable = self.variable_over(&format!("env.{name}"), entry.origin());
        if let Some(set) = by_variable {
            return Ok(EnvValue::plain(set.value));
        }
        let wrong = || ConfigError::Value {
            key: format!("env.{name}"),
            origin: entry.origin().clone(),
            expected: "a string, or a table with a string `value`",
        };
        let Some(table) = entry.table() else {
            let value = entry.text().ok_or_else(wrong)?;
            return Ok(EnvValue::plain(value));
        };
        let value = table.get("value").and_then(Entry::text).ok_or_else(wrong)?;
        let is = |key| {
            let value = table.get(key).and_then(Entry::scalar);
            value.and_then(Value::as_bool).unwrap_or(false)
        };
        let value = if is("relative") {
            entry.origin().folder(&self.cwd).join(value).into_string()
        } else {
            value
        };
        let force = is("force");
        Ok(EnvValue { value, force })
    }

    /// Returns the value of a key that is true or false, such as `term.hyperlinks`; `None` if it is not set, or
    /// something else.
    pub fn switch(&self, key: &[&str]) -> Option<bool> {
        let entry = self.root.get(key);
        let weakest = Origin::File(Utf8PathBuf::new());
        let origin = entry.map_or(&weakest, Entry::origin);
        match self.variable_over(&key.join("."), origin) {
            Some(set) => set.value.parse().ok(),
            None => entry?.scalar()?.as_bool(),
        }
    }

    /// Returns what is built for: `build.target`. Paths of specifications are absolute.
    pub(super) fn build_targets(&self) -> Result<Vec<String>, ConfigError> {
        let found = self.words(&["build", "target"], |text| vec![text.to_owned()])?;
        let Some(Set { value, origin }) = found else {
            return Ok(Vec::new());
        };
        let folder = origin.folder(&self.cwd);
        let resolved = value.into_iter().map(|name| match name.ends_with(".json") {
            true => folder.join(name).into_string(),
            false => name,
        });
        Ok(resolved.collect())
    }

    /// Returns the target directory that the environment or the configuration names.
    pub(crate) fn target_directory(&self) -> Option<Utf8PathBuf> {
        if let Some(directory) = self.variable("CARGO_TARGET_DIR") {
            return Some(self.cwd.join(directory));
        }
        self.path(&["build", "target-dir"])
    }

    /// Returns the program that cargo takes for rustc.
    pub(super) fn rustc(&self) -> Compiler {
        if let Some(program) = self.variable("RUSTC") {
            return Compiler::new(program.into());
        }
        match self.text(&["build", "rustc"]) {
            Some(set) => Compiler::new(self.program(&set.value, &set.origin)),
            None => match program::rustc_behind_proxy(|name| self.variable(name)) {
                Some(known) => Compiler {
                    program: known.rustc,
                    host: known.host,
                },
                None => Compiler::new("rustc".into()),
            },
        }
    }

    /// Returns the program that cargo takes for rustdoc, if it is not that of the toolchain.
    pub(super) fn rustdoc(&self) -> Option<Utf8PathBuf> {
        let own = self.variable("RUSTDOC").map(Utf8PathBuf::from);
        own.or_else(|| {
            let set = self.text(&["build", "rustdoc"])?;
            Some(self.program(&set.value, &set.origin))
        })
    }

    /// Returns a program as cargo resolves it: a bare name is left to `PATH`, and a path is
    /// relative to the folder above `.cargo`, or to the working directory.
    pub(super) fn program(&self, text: &str, origin: &Origin) -> Utf8PathBuf {
        match text.contains('/') {
            true => origin.folder(&self.cwd).join(text),
            false => text.into(),
        }
    }

    /// Returns `target.KEY.runner`, split into words.
    pub(super) fn runner(&self, key: &str) -> Result<Option<Set<Vec<String>>>, ConfigError> {
        let split = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        self.words(&["target", key, "runner"], split)
    }

    /// Returns whether `target.KEY.runner` is a list in files or arguments.
    pub(super) fn runner_is_list(&self, key: &str) -> bool {
        let entry = self.root.get(&["target", key, "runner"]);
        entry.is_some_and(|entry| entry.list().is_some())
    }

    /// Returns the keys of `[target]` that are `cfg` expressions, sorted.
    pub(super) fn target_expressions(&self) -> impl Iterator<Item = &str> {
        let table = self.root.get(&["target"]).and_then(Entry::table);
        let keys = table.into_iter().flat_map(BTreeMap::keys);
        keys.map(String::as_str)
            .filter(|key| key.starts_with("cfg("))
    }

    /// Returns the flags that rustc gets for a triple, where `expressions` are the keys of
    /// `[target]` that match. The sources exclude each other, as in cargo.
    pub(super) fn rustflags(&self, triple: &str, expressions: &[&str]) -> Vec<String> {
        if let Some(flags) = self.variables.get("CARGO_ENCODED_RUSTFLAGS") {
            let flags = flags.split('\x1f').filter(|flag| !flag.is_empty());
            return flags.map(str::to_owned).collect();
        }
        if let Some(flags) = self.variables.get("RUSTFLAGS") {
            let flags = flags
                .split(' ')
                .map(str::trim)
                .filter(|flag| !flag.is_empty());
            return flags.map(str::to_owned).collect();
        }
        let of_target = std::iter::once(&triple).chain(expressions);
        let flags: Vec<_> = of_target
            .flat_map(|key| self.joined(&["target", key, "rustflags"]))
            .collect();
        match flags.is_empty() {
            true => self.joined(&["build", "rustflags"]),
            false => flags,
        }
    }

    fn path(&self, key: &[&str]) -> Option<Utf8PathBuf> {
        let set = self.text(key)?;
        Some(set.origin.folder(&self.cwd).join(set.value))
    }

    fn text(&self, key: &[&str]) -> Option<Set<String>> {
        let entry = self.root.get(key);
        let weakest = Origin::File(Utf8PathBuf::new());
        let by_variable = self.variable_over(&key.join("."), entry.map_or(&weakest, Entry::origin));
        by_variable.or_else(|| {
            let (value, origin) = (entry?.text()?, entry?.origin().clone());
            Some(Set { value, origin })
        })
    }

    /// Returns a value that is a string or a list, of which the environment's replaces the whole.
    fn words(
        &self,
        key: &[&str],
        split: impl Fn(&str) -> Vec<String>,
    ) -> Result<Option<Set<Vec<String>>>, ConfigError> {
        let entry = self.root.get(key);
        let weakest = Origin::File(Utf8PathBuf::new());
        let origin = entry.map_or(&weakest, Entry::origin);
        if let Some(set) = self.variable_over(&key.join("."), origin) {
            let (value, origin) = (split(&set.value), set.origin);
            return Ok(Some(Set { value, origin }));
        }
        let Some(entry) = entry else { return Ok(None) };
        let words = match entry.list() {
            Some(list) => list.iter().map(Entry::text).collect(),
            None => entry.text().map(|text| split(&text)),
        };
        let value = words.ok_or_else(|| ConfigError::Value {
            key: key.join("."),
            origin: entry.origin().clone(),
            expected: "a string or a list of strings",
        })?;
        let origin = entry.origin().clone();
        Ok(Some(Set { value, origin }))
    }

    /// Returns a list to which the environment adds.
    fn joined(&self, key: &[&str]) -> Vec<String> {
        let split = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let entry = self.root.get(key);
        let mut words: Vec<(&Origin, Vec<String>)> = match entry.map(|entry| (entry, entry.list()))
        {
            Some((_, Some(list))) => list
                .iter()
                .filter_map(|item| Some((item.origin(), vec![item.text()?])))
                .collect(),
            Some((entry, None)) => {
                let text = entry.text();
                text.iter()
                    .map(|text| (entry.origin(), split(text)))
                    .collect()
            }
            None => Vec::new(),
        };
        let name = variable_name(&key.join("."));
        let origin = Origin::Environment(name.clone());
        if let Some(text) = self.variables.get(&name) {
            words.push((&origin, split(text)));
        }
        words.sort_by_key(|(origin, _)| origin.rank());
        words.into_iter().flat_map(|(_, words)| words).collect()
    }

    /// Returns what the environment says of a key, unless `--config` set it.
    fn variable_over(&self, key: &str, set_by: &Origin) -> Option<Set<String>> {
        let name = variable_name(key);
        let value = self.variables.get(&name)?.clone();
        let origin = Origin::Environment(name);
        (origin.rank() > set_by.rank()).then_some(Set { value, origin })
    }
}

/// A value of `[env]`.
#[derive(Clone, Debug)]
struct EnvValue {
    value: String,
    force: bool,
}

impl EnvValue {
    fn plain(value: String) -> Self {
        Self {
            value,
            force: false,
        }
    }
}

/// Returns the variable that sets a key. Only hyphens change, besides the case and the dots
/// between the parts.
fn variable_name(key: &str) -> String {
    format!("CARGO_{}", key.replace(['.', '-'], "_").to_uppercase())
}

#[cfg(test)]
mod tests;
