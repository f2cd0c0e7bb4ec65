//! Formats with a metric in each line.

use super::{Findings, Found};

/// `key=value`, `key = value`, or several `key=value`, separated by spaces, commas or semicolons.
pub(super) fn key_value<'a>(line: &'a str, findings: &mut Findings<'a>) {
    if let Some((key, value)) = line.split_once('=')
        && !value.contains('=')
        && is_key(key.trim())
    {
        return add(key.trim(), value.trim(), findings);
    }
    let separates = |c: char| c.is_whitespace() || c == ',' || c == ';';
    for (key, value) in line
        .split(separates)
        .filter_map(|word| word.split_once('='))
    {
        add(key, value, findings);
    }
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && !key.contains(char::is_whitespace)
}

/// Adds a value that is a number as a whole: `commit=12ab` is none.
fn add<'a>(key: &'a str, value: &str, findings: &mut Findings<'a>) {
    if !is_key(key) {
        return;
    }
    let value = value.trim_matches('"');
    if let Some(value) = findings.number(key, value) {
        findings.add(Found::new(key, value));
    }
}

/// `name value`, `name{label="value"} value`, both maybe with a time stamp. The text format of Prometheus.
pub(super) fn prometheus<'a>(line: &'a str, findings: &mut Findings<'a>) {
    let line = line.trim();
    if line.starts_with('#') {
        return;
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let Some(mut end) = line.find(|c| !is_name(c)).filter(|end| *end > 0) else {
        return;
    };
    if line.starts_with(|c: char| c.is_ascii_digit()) {
        return;
    }
    if line[end..].starts_with('{') {
        match end_of_labels(&line[end..]) {
            Some(labels) => end += labels,
            None => return findings.note(format_args!("the labels of `{line}` do not end")),
        }
    }
    let mut words = line[end..].split_whitespace();
    let (name, value) = (&line[..end], words.next().unwrap_or_default());
    let has_time = words.next().is_none_or(|time| time.parse::<i64>().is_ok());
    if has_time
        && words.next().is_none()
        && let Some(value) = findings.number(name, value)
    {
        findings.add(Found::new(name, value));
    }
}

/// Returns the length of labels in braces; a brace in quotes does not end them.
fn end_of_labels(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in labels.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}
