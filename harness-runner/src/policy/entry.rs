//! The entries of the settings `policy.fs.read`, `policy.fs.write` and `policy.fs.exec`.

use super::roots::{Root, Roots, real};
use harness_metadata::Word;
use std::{
    fmt,
    path::{Component, Path, PathBuf},
    str::FromStr,
};
use thiserror::Error;

/// The files for which a right is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Entries {
    /// All files.
    #[default]
    All,
    /// These files, and all that is in these folders.
    Only(Vec<Entry>),
}

impl Entries {
    /// Returns the paths; `None` for all.
    pub(super) fn resolved(&self, roots: &Roots) -> Option<Vec<PathBuf>> {
        match self {
            Self::All => None,
            Self::Only(entries) => Some(
                entries
                    .iter()
                    .flat_map(|entry| entry.resolved(roots))
                    .collect(),
            ),
        }
    }
}

/// A file, or a folder with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A root, or a path below it.
    Below(Root, String),
    /// An absolute path.
    Absolute(String),
}

/// The reason why an entry is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// It begins with no root.
    #[error("begins with `{0}`, which is no root: an entry is one of {roots}, a path below one such as \
             `home/.gitconfig`, or an absolute path", roots = known())]
    Root(String),
    /// It is a pattern.
    #[error(
        "has the wildcard `{0}`, and the kernel (Landlock) knows no patterns: name the folder, which stands for \
             all that is in it"
    )]
    Pattern(char),
    /// It denies.
    #[error(
        "begins with `!`, and the kernel (Landlock) cannot deny a part of an allowed folder: name the \
             other parts of that folder instead"
    )]
    Denial,
    /// It has `..`.
    #[error("has `..`: write the path that it leads to")]
    Parent,
    /// It is empty.
    #[error("must not be empty")]
    Empty,
    /// It is below a root of several folders.
    #[error("is below `{0}`, which stands for several folders: write the absolute path")]
    Several(Root),
}

fn known() -> String {
    let roots: Vec<_> = Root::words()
        .iter()
        .map(|word| format!("`{word}`"))
        .collect();
    roots.join(", ")
}

impl Entry {
    fn resolved(&self, roots: &Roots) -> Vec<PathBuf> {
        match self {
            Self::Absolute(path) => vec![real(Path::new(path))],
            Self::Below(root, below) if below.is_empty() => {
                roots.paths_of(*root).map(Path::to_owned).collect()
            }
            Self::Below(root, below) => {
                let paths = roots.paths_of(*root);
                paths.map(|path| real(&path.join(below))).collect()
            }
        }
    }
}

impl FromStr for Entry {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        if text.is_empty() {
            return Err(EntryError::Empty);
        }
        if text.starts_with('!') {
            return Err(EntryError::Denial);
        }
        if let Some(wildcard) = text.chars().find(|c| "*?[{".contains(*c)) {
            return Err(EntryError::Pattern(wildcard));
        }
        let mut components = Path::new(text).components();
        if components.any(|component| component == Component::ParentDir) {
            return Err(EntryError::Parent);
        }
        if text.starts_with('/') {
            return Ok(Self::Absolute(text.to_owned()));
        }
        let (name, below) = text.split_once('/').unwrap_or((text, ""));
        let root: Root = name
            .parse()
            .map_err(|_| EntryError::Root(name.to_owned()))?;
        let below = below.trim_matches('/');
        match root {
            Root::Toolchain | Root::System if !below.is_empty() => Err(EntryError::Several(root)),
            _ => Ok(Self::Below(root, below.to_owned())),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(path) => f.write_str(path),
            Self::Below(root, below) if below.is_empty() => write!(f, "{root}"),
            Self::Below(root, below) => write!(f, "{root}/{below}"),
        }
    }
}
