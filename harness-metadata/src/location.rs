//! Places in source files.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The place of a test's definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Location {
    /// The file as the compiler was given it: relative to the root of the workspace where it is inside.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl Location {
    /// Returns true if the file is inside the workspace.
    pub fn is_inside(&self) -> bool {
        !self.file.starts_with('/') && !self.file.split('/').any(|part| part == "..")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_reached_from_outside_is_not_inside() {
        let inside = |file: &str| {
            let location = Location {
                file: file.into(),
                line: 3,
                column: 1,
            };
            location.is_inside()
        };
        assert!(inside("crate/src/lib.rs"));
        assert!(inside("crate/src/..lib.rs"));
        for file in ["/elsewhere/lib.rs", "../other/src/lib.rs", "a/../../b.rs"] {
            assert!(!inside(file), "{file}");
        }
    }
}
