//! The code quality report of GitLab: a list of places with a description, which it shows in the changes of a merge
//! request.

use super::{
    super::failure::Reason,
    commands::{Level, sentence},
};
use harness_metadata::TestId;
use serde::Serialize;

/// The tests that are listed.
const MOST: usize = 10_000;

/// The entries of a report.
#[derive(Debug, Default)]
pub(super) struct Quality {
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    description: String,
    check_name: &'static str,
    /// The same in each run, so that GitLab knows what is new.
    fingerprint: String,
    severity: &'static str,
    location: Location,
}

#[derive(Debug, Serialize)]
struct Location {
    path: String,
    lines: Lines,
}

#[derive(Debug, Serialize)]
struct Lines {
    begin: u32,
}

impl Quality {
    /// Adds a test. Without a place it is that of the crate's `source`; an entry must have one.
    pub(super) fn add(
        &mut self,
        level: Level,
        test: &TestId,
        what: &str,
        reason: &Reason,
        source: Option<&str>,
    ) {
        if self.entries.len() >= MOST {
            return;
        }
        let (path, begin) = match (&reason.place, source) {
            (Some((file, line)), _) => (file.clone(), *line),
            (None, Some(source)) if !source.starts_with('/') => (source.to_owned(), 1),
            (None, _) => ("Cargo.toml".to_owned(), 1),
        };
        let hash = xxhash_rust::xxh64::xxh64(test.to_string().as_bytes(), 0);
        self.entries.push(Entry {
            description: sentence(test, what, reason),
            check_name: "cargo-harness",
            fingerprint: format!("{hash:016x}"),
            severity: match level {
                Level::Error => "major",
                Level::Warning => "minor",
            },
            location: Location {
                path,
                lines: Lines { begin },
            },
        });
    }

    pub(super) fn text(&self) -> String {
        let text = serde_json::to_string_pretty(&self.entries).unwrap_or_else(|_| "[]".to_owned());
        text + "\n"
    }
}
