//! A tree of configuration values that remember where they were set, and how trees are merged.

use super::ConfigError;
use camino::{Utf8Path, Utf8PathBuf};
use std::{collections::BTreeMap, fmt};
use toml::Value;

/// The place that set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file that cargo finds, or one that such a file includes.
    File(Utf8PathBuf),
    /// By an environment variable.
    Environment(String),
    /// By `--config KEY=VALUE`, or in the file of `--config FILE`.
    Argument(Option<Utf8PathBuf>),
}

impl Origin {
    /// Returns the origin's rank: the higher one wins, whatever the order of reading.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::File(_) => 0,
            Self::Environment(_) => 1,
            Self::Argument(_) => 2,
        }
    }

    /// Returns the folder that relative paths are relative to: the one above the file's own.
    pub(super) fn folder<'a>(&'a self, cwd: &'a Utf8Path) -> &'a Utf8Path {
        match self {
            Self::File(path) | Self::Argument(Some(path)) => {
                path.ancestors().nth(2).unwrap_or(Utf8Path::new("/"))
            }
            Self::Environment(_) | Self::Argument(None) => cwd,
        }
    }

    /// Returns the folder that included files are relative to: the file's own.
    pub(super) fn own_folder<'a>(&'a self, cwd: &'a Utf8Path) -> &'a Utf8Path {
        match self {
            Self::File(path) | Self::Argument(Some(path)) => path.parent().unwrap_or(path),
            Self::Environment(_) | Self::Argument(None) => cwd,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Argument(Some(path)) => write!(formatter, "`{path}`"),
            Self::Environment(name) => write!(formatter, "the variable `{name}`"),
            Self::Argument(None) => formatter.write_str("`--config`"),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Entry {
    Scalar(Value, Origin),
    List(Vec<Entry>, Origin),
    Table(BTreeMap<String, Entry>, Origin),
}

impl Entry {
    pub(super) fn new(value: Value, origin: &Origin) -> Self {
        match value {
            Value::Array(items) => {
                let items = items.into_iter().map(|item| Self::new(item, origin));
                Self::List(items.collect(), origin.clone())
            }
            Value::Table(table) => {
                let table = table
                    .into_iter()
                    .map(|(key, value)| (key, Self::new(value, origin)));
                Self::Table(table.collect(), origin.clone())
            }
            scalar => Self::Scalar(scalar, origin.clone()),
        }
    }

    pub(super) fn empty(origin: Origin) -> Self {
        Self::Table(BTreeMap::new(), origin)
    }

    pub(super) fn origin(&self) -> &Origin {
        let (Self::Scalar(_, origin) | Self::List(_, origin) | Self::Table(_, origin)) = self;
        origin
    }

    pub(super) fn get(&self, key: &[&str]) -> Option<&Self> {
        key.iter()
            .try_fold(self, |entry, part| entry.table()?.get(*part))
    }

    pub(super) fn table(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Table(table, _) => Some(table),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list, _) => Some(list),
            _ => None,
        }
    }

    pub(super) fn scalar(&self) -> Option<&Value> {
        match self {
            Self::Scalar(value, _) => Some(value),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<String> {
        self.scalar()?.as_str().map(str::to_owned)
    }

    /// Removes a key of a table.
    pub(super) fn take(&mut self, key: &str) -> Option<Self> {
        match self {
            Self::Table(table, _) => table.remove(key),
            _ => None,
        }
    }

    /// Merges what was read later into what was read before. A value of a higher rank wins; with
    /// `later_wins` one of the same rank does too, and items of its lists come last. Tables are
    /// merged key by key, and lists are joined, unless they are programs with arguments.
    pub(super) fn merge(&mut self, later: Self, later_wins: bool) -> Result<(), ConfigError> {
        self.merge_at(later, later_wins, &mut Vec::new())
    }

    fn merge_at(
        &mut self,
        later: Self,
        later_wins: bool,
        key: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let wins = later_wins || later.origin().rank() > self.origin().rank();
        match (self, later) {
            (Self::Table(before, _), Self::Table(later, _)) => {
                for (name, entry) in later {
                    match before.get_mut(&name) {
                        Some(present) => {
                            key.push(name);
                            present.merge_at(entry, later_wins, key)?;
                            key.pop();
                        }
                        None => drop(before.insert(name, entry)),
                    }
                }
            }
            (Self::List(before, origin), Self::List(mut later, later_origin)) => {
                if is_program(key) {
                    if wins {
                        (*before, *origin) = (later, later_origin);
                    }
                    return Ok(());
                }
                if later_wins {
                    before.append(&mut later);
                } else {
                    later.append(before);
                    *before = later;
                }
                before.sort_by_key(|item| item.origin().rank());
            }
            (before @ Self::Scalar(..), later @ Self::Scalar(..)) => {
                if wins {
                    *before = later;
                }
            }
            (before, later) => {
                return Err(ConfigError::Kinds {
                    key: key.join("."),
                    first: before.kind(),
                    first_origin: before.origin().clone(),
                    second: later.kind(),
                    second_origin: later.origin().clone(),
                });
            }
        }
        Ok(())
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Scalar(..) => "a single value",
            Self::List(..) => "a list",
            Self::Table(..) => "a table",
        }
    }
}

/// Returns whether a list is a program with its arguments, of which two cannot be joined.
fn is_program(key: &[String]) -> bool {
    let key: Vec<&str> = key.iter().map(String::as_str).collect();
    matches!(
        key[..],
        ["target", _, "runner"]
            | ["host", "runner"]
            | ["doc", "browser"]
            | ["credential-alias", _]
            | ["registry", "credential-provider"]
            | ["registries", _, "credential-provider"]
    )
}
