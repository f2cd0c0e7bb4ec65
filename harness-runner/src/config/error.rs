//! Errors of a configuration, with their places.

pub use super::place::Place;

use super::Requirement;
use crate::filter::FiltersetError;
use camino::Utf8PathBuf;
use std::io;
use thiserror::Error;

/// An error in a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file that `--config-file` names is not there.
    #[error("the config file `{file}` does not exist")]
    Missing {
        /// The file.
        file: Utf8PathBuf,
    },
    /// The file cannot be read.
    #[error("failed to read the config file `{file}`")]
    Read {
        /// The file.
        file: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{place}: not valid TOML: {message}\n{excerpt}")]
    Syntax {
        /// The place of the syntax error.
        place: Place,
        /// The parser's message.
        message: String,
        /// The line, with a caret below it.
        excerpt: String,
    },
    /// A value has the wrong type.
    #[error("{place}: `{key}` must be {expected}, but is {found}{}", hint_suffix(.hint))]
    WrongType {
        /// The place of the value.
        place: Place,
        /// The dotted key.
        key: String,
        /// The expected kind of value.
        expected: &'static str,
        /// The kind of value found.
        found: String,
        /// A suggestion, if there is a good guess.
        hint: Option<String>,
    },
    /// A value has the right type but makes no sense.
    #[error("{place}: `{key}` {problem}")]
    Invalid {
        /// The place of the value.
        place: Place,
        /// The dotted key.
        key: String,
        /// The mistake, as the end of a sentence that starts with the key.
        problem: String,
    },
    /// A filterset cannot be parsed, or selects what does not exist.
    #[error("{place}: `{key}` is not a valid filterset")]
    Filterset {
        /// The place of the filterset.
        place: Place,
        /// The dotted key.
        key: String,
        /// The mistakes; shown as diagrams.
        source: FiltersetError,
    },
    /// A platform cannot be parsed.
    #[error("{place}: `{key}` is neither a target triple nor a `cfg(...)` expression: {problem}")]
    Platform {
        /// Its place.
        place: Place,
        /// The dotted key.
        key: String,
        /// The reason.
        problem: String,
    },
    /// The workspace requires a newer version.
    #[error("{0}")]
    RequiredVersion(Requirement),
    /// Several mistakes, in the order of the files and of their places. None is this variant.
    #[error("{} mistakes in the configuration:\n{}", .0.len(), one_by_one(.0))]
    Several(Vec<Self>),
    /// The profile asked for does not exist.
    #[error("profile `{name}` does not exist{}; known profiles: {}", did_you_mean(.nearest), quoted(.known))]
    UnknownProfile {
        /// The request.
        name: String,
        /// The profiles that exist.
        known: Vec<String>,
        /// The one that was probably meant.
        nearest: Option<String>,
    },
}

impl ConfigError {
    /// Returns the diagrams of an unusable filterset, for output in color.
    pub fn filterset(&self) -> Option<&FiltersetError> {
        match self {
            Self::Filterset { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Returns each mistake.
    pub fn into_each(self) -> Vec<Self> {
        match self {
            Self::Several(mistakes) => mistakes,
            mistake => vec![mistake],
        }
    }

    /// Returns the place of a single mistake.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Syntax { place, .. }
            | Self::WrongType { place, .. }
            | Self::Invalid { place, .. }
            | Self::Filterset { place, .. }
            | Self::Platform { place, .. } => Some(place),
            Self::RequiredVersion(requirement) => Some(&requirement.place),
            Self::Missing { .. }
            | Self::Read { .. }
            | Self::Several(_)
            | Self::UnknownProfile { .. } => None,
        }
    }

    /// Returns whether a single mistake is in the value of a key, or of a table that it is in.
    pub(super) fn is_about(&self, dotted: &str) -> bool {
        match self {
            Self::WrongType { key, .. } | Self::Invalid { key, .. } => {
                let rest = dotted.strip_prefix(key.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
            _ => false,
        }
    }

    /// Fails if there are mistakes, with all of them.
    pub(super) fn of(mut mistakes: Vec<Self>) -> Result<(), Self> {
        match mistakes.len() {
            0 => Ok(()),
            1 => Err(mistakes.remove(0)),
            _ => Err(Self::Several(mistakes)),
        }
    }
}

/// Returns mistakes, one below the other, with their diagrams.
fn one_by_one(mistakes: &[ConfigError]) -> String {
    let each = mistakes.iter().map(|mistake| match mistake.filterset() {
        Some(filterset) => format!("{mistake}\n{filterset}"),
        None => mistake.to_string(),
    });
    each.collect::<Vec<_>>().join("\n")
}

/// Something in a configuration that has no effect. The run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigWarning {
    /// A key that means nothing.
    #[error("{place}: unknown key `{key}`{}", did_you_mean(.nearest))]
    UnknownKey {
        /// Its place.
        place: Place,
        /// The dotted key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<String>,
    },
    /// Keys that mean something to cargo-nextest only: where each stands, and its dotted key.
    #[error("keys of cargo-nextest that have no effect here yet: {}", with_places(.0))]
    UnsupportedKeys(Vec<(Place, String)>),
    /// An old form of a key.
    #[error("{place}: `{key}` is the old form of `{new}`")]
    OldForm {
        /// Its place.
        place: Place,
        /// The dotted key.
        key: String,
        /// The key in its place.
        new: &'static str,
    },
    /// A script that no rule names.
    #[error("{place}: the {noun} `{name}` never runs, because no rule of a profile names it")]
    UnusedScript {
        /// Its place.
        place: Place,
        /// Its kind.
        noun: &'static str,
        /// Its name.
        name: String,
    },
    /// A rule that names no script.
    #[error("{place}: `{key}` has no effect, because it names no script")]
    EmptyRule {
        /// Its place.
        place: Place,
        /// The dotted key.
        key: String,
    },
    /// The workspace recommends a newer version.
    #[error("{0}")]
    RecommendedVersion(Requirement),
    /// The workspace requires a newer version, and the check was switched off.
    #[error("{0}; `--override-version-check` ignores that")]
    IgnoredVersion(Requirement),
    /// A profile whose name is reserved.
    #[error(
        "{place}: profile `{profile}` is ignored, because names that begin with `default-` are \
         reserved"
    )]
    ReservedProfile {
        /// Its place.
        place: Place,
        /// Its name.
        profile: String,
    },
    /// A target triple that is none of the known ones. It may still be a custom target.
    #[error("{place}: `{key}` names the unknown target `{triple}`")]
    UnknownTarget {
        /// Its place.
        place: Place,
        /// The dotted key.
        key: String,
        /// The triple.
        triple: String,
    },
}

impl ConfigWarning {
    /// Returns what the warning is about.
    pub fn place(&self) -> &Place {
        match self {
            Self::UnknownKey { place, .. }
            | Self::ReservedProfile { place, .. }
            | Self::OldForm { place, .. }
            | Self::UnusedScript { place, .. }
            | Self::EmptyRule { place, .. }
            | Self::UnknownTarget { place, .. } => place,
            Self::UnsupportedKeys(keys) => &keys[0].0,
            Self::RecommendedVersion(requirement) | Self::IgnoredVersion(requirement) => {
                &requirement.place
            }
        }
    }
}

/// Returns the known name that `name` was probably meant to be.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong, as rustc has it; `a_b` for `a-b` costs nothing.
    let normal = name.to_lowercase().replace('_', "-");
    let limit = (normal.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&normal, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Returns keys with their places, with commas between them.
fn with_places(keys: &[(Place, String)]) -> String {
    let named = keys.iter().map(|(place, key)| format!("`{key}` ({place})"));
    named.collect::<Vec<_>>().join(", ")
}

/// Returns names in backticks with commas between them.
pub(super) fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    names
        .iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}

fn hint_suffix(hint: &Option<String>) -> String {
    hint.as_ref()
        .map_or_else(String::new, |hint| format!("; {hint}"))
}
