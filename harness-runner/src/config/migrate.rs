//! Makes our configuration file from that of cargo-nextest, with its comments and in its order.
//!
//! Keys have the same names in both, so the text stays as it is, but for what has no effect here, which
//! becomes a comment, and for defaults that differ, which are written down. The result is read back and
//! compared: it sets what the original sets.

use super::{
    Config, ConfigError, ConfigWarning, DEFAULT_PATH, DEFAULT_PROFILE, Dialect, MIRI_PROFILE,
    PEER_PATH, PEER_STORE, error::Place, parse::Document, sources,
};
use camino::Utf8Path;
use std::{collections::BTreeSet, ops::Range, sync::Arc};
use toml::de::{DeTable, DeValue};
use toml_edit::{DocumentMut, Item, TableLike, value};

/// The comment above lines that are switched off.
const SWITCHED_OFF: &str = "# Of cargo-nextest; cargo harness does not support this yet:\n";

/// A file of cargo-nextest, rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The text of our file.
    pub text: String,
    /// Keys that could not be carried: where each stands in the original, and its dotted key.
    pub left_out: Vec<(Place, String)>,
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
    let left_out = warnings
        .into_iter()
        .filter_map(|warning| match warning {
            ConfigWarning::UnsupportedKeys(keys) => Some(keys),
            _ => None,
        })
        .flatten()
        .collect();
    // Lines are cut and joined by their feeds; returns come back at the end.
    let lines = text.replace("\r\n", "\n");
    let mut document: DocumentMut = lines.parse().expect("the text was parsed above");
    remove_inline(&mut document);
    let written_down = write_down_defaults(&mut document);
    let mut migrated = keep_profiles(switch_off(&document.to_string()), &original);
    if text.contains("\r\n") {
        migrated = migrated.replace('\n', "\r\n");
    }
    let text = migrated;
    let same = parse(DEFAULT_PATH, &text, Dialect::Harness)
        .is_ok_and(|(config, _)| config.says_the_same(&original));
    Ok(Migrated {
        text,
        left_out,
        written_down,
        same,
    })
}

fn parse(
    file: &str,
    text: &str,
    dialect: Dialect,
) -> Result<(Config, Vec<ConfigWarning>), ConfigError> {
    sources::parse_as(Utf8Path::new(file), text.to_owned(), dialect)
}

/// Returns whether a path of keys leads to what has no effect here.
fn is_unsupported(path: &[&str]) -> bool {
    matches!(
        path,
        ["profile", _, "bench"] | ["profile", _, "overrides", "bench"]
    )
}

/// Removes what has no effect from tables in one line, where no comment can stand.
fn remove_inline(document: &mut DocumentMut) {
    fn visit(table: &mut dyn TableLike, path: &mut Vec<String>, inline: bool) {
        let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
        for key in keys {
            path.push(key.clone());
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            if is_unsupported(&names) {
                if inline {
                    table.remove(&key);
                }
            } else if let Some(item) = table.get_mut(&key) {
                item_of(item, path, inline);
            }
            path.pop();
        }
    }
    fn item_of(item: &mut Item, path: &mut Vec<String>, inline: bool) {
        match item {
            Item::Table(table) => visit(table, path, inline),
            Item::ArrayOfTables(tables) => {
                for table in tables.iter_mut() {
                    visit(table, path, inline);
                }
            }
            Item::Value(toml_edit::Value::InlineTable(table)) => {
                // A dotted key is a table too, but stands in a line of its own.
                let inline = inline || !table.is_dotted();
                visit(table, path, inline);
            }
            Item::Value(toml_edit::Value::Array(array)) => {
                for element in array.iter_mut() {
                    if let toml_edit::Value::InlineTable(table) = element {
                        visit(table, path, true);
                    }
                }
            }
            Item::None | Item::Value(_) => {}
        }
    }
    visit(document.as_table_mut(), &mut Vec::new(), false);
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

/// Turns lines that have no effect into comments.
fn switch_off(text: &str) -> String {
    let off = lines_without_effect(text);
    let mut result = String::new();
    let mut within = false;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let is_blank = line.trim().is_empty() || line.trim_start().starts_with('#');
        if off.contains(&index) {
            if !within {
                result.push_str(SWITCHED_OFF);
            }
            result.push_str("# ");
            within = true;
        } else if !is_blank {
            within = false;
        }
        result.push_str(line);
    }
    result
}

/// Opens the profiles again of which nothing is left: they can still be chosen.
fn keep_profiles(mut text: String, original: &Config) -> String {
    let document = text.parse::<DocumentMut>();
    let document = document.expect("lines that are switched off are whole");
    let profiles = document.get("profile").and_then(Item::as_table_like);
    for name in original.profile_names() {
        let built_in = [DEFAULT_PROFILE, MIRI_PROFILE].contains(&name);
        if !built_in && profiles.is_none_or(|profiles| !profiles.contains_key(name)) {
            let name = toml_edit::Key::new(name);
            text.push_str(&format!("\n[profile.{name}]\n"));
        }
    }
    text
}

/// Returns the lines, from 0, of headers and keys that have no effect.
fn lines_without_effect(text: &str) -> BTreeSet<usize> {
    let document = Document {
        file: Arc::from(Utf8Path::new(PEER_PATH)),
        text: text.to_owned(),
    };
    let root = document
        .parse()
        .expect("the text is what was written above");
    let mut spans = Spans {
        text,
        off: Vec::new(),
        values: Vec::new(),
    };
    spans.visit(root.get_ref(), &mut Vec::new(), false);
    let mut lines = BTreeSet::new();
    for span in &spans.off {
        lines.extend(line(text, span.start)..=line(text, span.end.saturating_sub(1)));
    }
    // What stands in a text of several lines is no header.
    let mut inside = BTreeSet::new();
    for span in &spans.values {
        inside.extend(line(text, span.start) + 1..=line(text, span.end.saturating_sub(1)));
    }
    for (index, line) in text.lines().enumerate() {
        let is_header = line.trim_start().starts_with('[') && !inside.contains(&index);
        if is_header && header(line).is_some_and(|path| leads_to_unsupported(&path)) {
            lines.insert(index);
        }
    }
    lines
}

fn line(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count()
}

fn leads_to_unsupported(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    (1..=path.len()).any(|length| is_unsupported(&path[..length]))
}

/// Returns the keys of a header.
fn header(line: &str) -> Option<Vec<String>> {
    let table = DeTable::parse(line).ok()?;
    let mut path = Vec::new();
    let mut current = table.get_ref();
    loop {
        let Some((key, value)) = current.iter().next() else {
            return Some(path);
        };
        let key: &str = key.get_ref();
        path.push(key.to_owned());
        let value = value.get_ref();
        let first = value.as_array().and_then(|array| array.iter().next());
        current = match first.map_or(value, |element| element.get_ref()) {
            DeValue::Table(table) => table,
            _ => return Some(path),
        };
    }
}

/// The positions of a document's values.
struct Spans<'a> {
    text: &'a str,
    /// Those of keys with values that have no effect.
    off: Vec<Range<usize>>,
    /// Those of all values that are no tables.
    values: Vec<Range<usize>>,
}

impl Spans<'_> {
    fn visit(&mut self, table: &DeTable<'_>, path: &mut Vec<String>, off: bool) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            path.push(name.to_owned());
            let off = off || leads_to_unsupported(path);
            let whole = key.span().start..value.span().end;
            // A dotted key has no brackets of its own, those of a header stand in a line of theirs.
            let start = &self.text[..key.span().start];
            let line = start.rsplit('\n').next().unwrap_or_default();
            let in_header = line.trim_start().starts_with('[');
            let bracket = self.text[value.span().start..].starts_with(['{', '[']);
            if off && bracket && !in_header {
                self.off.push(whole.clone());
                self.values.push(whole);
            } else {
                self.value(value.get_ref(), whole, path, off);
            }
            path.pop();
        }
    }

    fn value(
        &mut self,
        value: &DeValue<'_>,
        span: Range<usize>,
        path: &mut Vec<String>,
        off: bool,
    ) {
        let of_tables = |array: &toml::de::DeArray<'_>| {
            let mut elements = array.iter();
            elements.all(|element| element.get_ref().is_table()) && !array.is_empty()
        };
        match value {
            DeValue::Table(table) => self.visit(table, path, off),
            DeValue::Array(array) if of_tables(array) => {
                for element in array.iter() {
                    if let DeValue::Table(table) = element.get_ref() {
                        self.visit(table, path, off);
                    }
                }
            }
            _ => {
                if off {
                    self.off.push(span.clone());
                }
                self.values.push(span);
            }
        }
    }
}
