//! `archive.include`: paths that go into an archive beside the products of the build.

use super::{
    parse::{Noted, Value, all},
    show::Show,
    value::{count, word},
};
use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use harness_metadata::{Word, words};

/// The depth of a folder that does not say one: that of cargo-nextest.
const DEPTH: usize = 16;

/// A path that goes into an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveInclude {
    /// The path, relative and without `..`.
    pub path: Utf8PathBuf,
    /// The folder that it is relative to.
    pub relative_to: RelativeTo,
    /// The number of levels of folders that are read.
    pub depth: Depth,
    /// The treatment of a missing path.
    pub on_missing: OnMissing,
}

/// The folder that a path is relative to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RelativeTo {
    /// The target directory.
    Target,
}

/// The number of levels of folders that are read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Depth {
    /// So many; what is deeper is left out. A file needs none, the files of a folder need one.
    Levels {
        /// The number.
        levels: usize,
        /// False for the default. Only then a folder that is too deep deserves a warning.
        given: bool,
    },
    /// All.
    Infinite,
}

impl Depth {
    /// Returns how many levels are read.
    pub fn levels(self) -> usize {
        match self {
            Self::Levels { levels, .. } => levels,
            Self::Infinite => usize::MAX,
        }
    }
}

/// The treatment of a missing path.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// Go on.
    Ignore,
    /// Go on, with a warning.
    Warn,
    /// Fail.
    Error,
}

words!(RelativeTo { Target = "target" });
words!(OnMissing {
    Ignore = "ignore",
    Warn = "warn",
    Error = "error",
});

/// Reads `archive.include`.
pub(super) fn read(value: Value<'_>) -> Result<Vec<ArchiveInclude>, Noted> {
    let Some(elements) = value.as_array() else {
        return Err(value.wrong_type("an array of tables", None));
    };
    all(elements.map(|element| include(&element)))
}

fn include(value: &Value<'_>) -> Result<ArchiveInclude, Noted> {
    let mut table = value.table()?;
    let path = table.read("path", |value| inside(&value));
    let relative_to = table.read("relative-to", |value| word(&value));
    let depth = table.read("depth", |value| depth(&value));
    let on_missing = table.read("on-missing", |value| word(&value));
    table.forbid_unknown()?;
    let path = path.ok_or_else(|| table.lacks("path", ""));
    let relative_to =
        relative_to.ok_or_else(|| table.lacks("relative-to", ", which is `\"target\"`"));
    let (path, relative_to) = (path?, relative_to?);
    Ok(ArchiveInclude {
        path,
        relative_to,
        depth: depth.unwrap_or(Depth::Levels {
            levels: DEPTH,
            given: false,
        }),
        on_missing: on_missing.unwrap_or(OnMissing::Warn),
    })
}

/// A path that cannot lead out of the folder that it is relative to.
fn inside(value: &Value<'_>) -> Result<Utf8PathBuf, Noted> {
    let path = Utf8Path::new(value.string()?);
    let mut clean = Utf8PathBuf::new();
    for component in path.components() {
        match component {
            Utf8Component::CurDir => {}
            Utf8Component::Normal(name) => clean.push(name),
            _ => {
                return Err(
                    value.invalid("must be a path below `relative-to`: not absolute, without `..`")
                );
            }
        }
    }
    Ok(clean)
}

fn depth(value: &Value<'_>) -> Result<Depth, Noted> {
    match value.as_str() {
        Some("infinite") => Ok(Depth::Infinite),
        Some(_) => Err(value.wrong_type("an integer from 0 or `\"infinite\"`", None)),
        None => Ok(Depth::Levels {
            levels: count(value, 0)? as usize,
            given: true,
        }),
    }
}

impl Show for Vec<ArchiveInclude> {
    fn show(&self) -> String {
        let each = self.iter().map(|include| {
            let depth = match include.depth {
                Depth::Levels { levels, .. } => levels.to_string(),
                Depth::Infinite => "\"infinite\"".to_owned(),
            };
            format!(
                "{{ path = {:?}, relative-to = {:?}, depth = {depth}, on-missing = {:?} }}",
                include.path,
                include.relative_to.word(),
                include.on_missing.word()
            )
        });
        format!("[{}]", each.collect::<Vec<_>>().join(", "))
    }
}
