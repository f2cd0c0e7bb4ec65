//! Names that a configuration gives.

use super::place::Place;

/// Returns whether a group, a script or a tool can have a name.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(char::is_alphabetic)
        && chars.all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

/// The kinds of scripts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum ScriptKind {
    Setup,
    Wrapper,
    Service,
}

impl ScriptKind {
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Setup => "setup script",
            Self::Wrapper => "wrapper script",
            Self::Service => "service",
        }
    }
}

/// A script as the rules of a configuration know it.
#[derive(Clone, Debug)]
pub(super) struct KnownScript {
    pub(super) name: String,
    pub(super) kind: ScriptKind,
    pub(super) place: Place,
    pub(super) used: bool,
}
