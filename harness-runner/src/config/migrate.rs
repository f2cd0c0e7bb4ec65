//! Makes our configuration file from that of cargo-nextest, with its comments and in its order.
//!
//! Keys have the same names in both, so the text stays as it is, but for defaults that differ, which are
//! written down. The result is read back and compared: it sets what the original sets.

use super::{
    Config, ConfigError, ConfigWarning, DEFAULT_PATH, DEFAULT_PROFILE, Dialect, PEER_PATH,
    PEER_STORE, parse::Document, sources,
};
use camino::Utf8Path;
use std::sync::Arc;
use toml_edit::{DocumentMut, Item, TableLike, value};

/// The name of the JSON Schema beside the new file, whose first line names it to editors.
pub const SCHEMA_FILE: &str = "harness.schema.json";

/// The beginning of the line by which a file names its schema.
const NAMES_SCHEMA: &str = "#:schema ";

/// A file of cargo-nextest, rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The text of our file.
    pub text: String,
    /// Warnings about the original, such as of unknown keys. These stay as they are.
    pub warnings: Vec<ConfigWarning>,
    /// Defaults of cargo-nextest that were written down, as `key = value`.
    pub written_down: Vec<String>,
    /// Whether the new file says the same. `false` is a mistake of this program.
    pub same: bool,
}

/// Rewrites the text of cargo-nextest's file.
///
/// # Errors
///
/// When the text is not a configuration.
pub fn migrate(text: &str) -> Result<Migrated, ConfigError> {
    let (original, warnings) = parse(PEER_PATH, text, Dialect::Peer)?;
    // Lines are cut and joined by their feeds; returns come back at the end.
    let lines = text.replace("\r\n", "\n");
    let mut document = editable(&lines)?;
    let written_down = write_down_defaults(&mut document);
    let mut migrated = name_schema(&document.to_string());
    if text.contains("\r\n") {
        migrated = migrated.replace('\n', "\r\n");
    }
    let text = migrated;
    let same = parse(DEFAULT_PATH, &text, Dialect::Harness)
        .is_ok_and(|(config, _)| config.says_the_same(&original));
    Ok(Migrated {
        text,
        warnings,
        written_down,
        same,
    })
}

/// Reads a text so that it can be rewritten. A number that is too large in a key that is not known is
/// refused here only: elsewhere it is never looked at.
fn editable(text: &str) -> Result<DocumentMut, ConfigError> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        let document = Document {
            file: Arc::from(Utf8Path::new(PEER_PATH)),
            text: text.to_owned(),
        };
        document.broken(error.span().map(|span| span.start), error.message())
    })
}

/// Names our schema in the first line, in the place of that of cargo-nextest.
fn name_schema(text: &str) -> String {
    let ours = format!("{NAMES_SCHEMA}./{SCHEMA_FILE}\n");
    match text.strip_prefix(NAMES_SCHEMA) {
        Some(theirs) => ours + theirs.split_once('\n').map_or("", |(_, rest)| rest),
        None => ours + text,
    }
}

fn parse(
    file: &str,
    text: &str,
    dialect: Dialect,
) -> Result<(Config, Vec<ConfigWarning>), ConfigError> {
    sources::parse_as(Utf8Path::new(file), text.to_owned(), dialect)
}

/// Writes down where reports go and what they are called, if a profile asks for one.
fn write_down_defaults(document: &mut DocumentMut) -> Vec<String> {
    let mut written = Vec::new();
    let profiles = document.get("profile").and_then(Item::as_table_like);
    let reports = profiles.is_some_and(|profiles| {
        profiles.iter().any(|(_, profile)| {
            let junit = profile.get("junit");
            junit.is_some_and(|junit| junit.get("path").is_some())
        })
    });
    if !reports {
        return written;
    }
    let root = document.as_table_mut();
    if set(root, &["store", "dir"], PEER_STORE) {
        written.push(format!("store.dir = {PEER_STORE:?}"));
    }
    let key = ["profile", DEFAULT_PROFILE, "junit", "report-name"];
    if set(root, &key, "nextest-run") {
        written.push(format!("{} = \"nextest-run\"", key.join(".")));
    }
    written
}

/// Sets a key unless it is set. Tables that are missing get headers of their own.
fn set(mut table: &mut dyn TableLike, path: &[&str], text: &str) -> bool {
    let Some((key, tables)) = path.split_last() else {
        return false;
    };
    for (index, name) in tables.iter().enumerate() {
        let last = index + 1 == tables.len();
        let item = table.entry(name).or_insert_with(|| {
            let mut table = toml_edit::Table::new();
            table.set_implicit(!last);
            Item::Table(table)
        });
        let Some(next) = item.as_table_like_mut() else {
            return false;
        };
        table = next;
    }
    if table.contains_key(key) {
        return false;
    }
    table.insert(key, value(text));
    true
}
