//! Metrics by a regular expression with named groups.

use super::{Findings, Found};
use regex::bytes::Regex;

/// Returns the fault of a pattern, if it has one.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    let regex = Regex::new(pattern).map_err(|error| error.to_string())?;
    match regex.capture_names().flatten().next() {
        Some(_) => Ok(()),
        None => Err("it has no named group: write `(?<name>…)` around the number".to_owned()),
    }
}

pub(super) fn read<'a>(pattern: &str, part: &'a [u8], findings: &mut Findings<'a>) {
    // It was checked before the program started.
    let Ok(regex) = Regex::new(pattern) else {
        return;
    };
    let names: Vec<&str> = regex.capture_names().flatten().collect();
    let has_pair = names.contains(&"name") && names.contains(&"value");
    for captures in regex.captures_iter(part) {
        let text = |group: &str| {
            let matched = captures.name(group)?;
            std::str::from_utf8(matched.as_bytes()).ok()
        };
        if has_pair {
            if let (Some(name), Some(value)) = (text("name"), text("value")) {
                add(name.to_owned(), value, findings);
            }
            continue;
        }
        for name in &names {
            if let Some(value) = text(name) {
                add((*name).to_owned(), value, findings);
            }
        }
    }
}

fn add(name: String, value: &str, findings: &mut Findings<'_>) {
    match findings.number(&name, value) {
        Some(value) => findings.add(Found::new(name, value)),
        None => findings.note(format_args!("`{name}`: `{value}` is not a number")),
    }
}
