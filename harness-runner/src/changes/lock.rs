//! Compares two states of `Cargo.lock`.

use std::collections::BTreeSet;
use toml::{Table, Value};

/// Returns name and version of the packages whose entry is new or another than before; `None` if
/// one of the texts is not understood.
///
/// A package that is only gone is not among them: the entry of each package that depended on it
/// has changed.
pub(super) fn differing(before: &str, now: &str) -> Option<BTreeSet<(String, String)>> {
    let (before, now) = (entries(before)?, entries(now)?);
    let new = now.iter().filter(|entry| !before.contains(entry));
    let named = |entry: &Value| {
        let text = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
        Some((text("name")?, text("version")?))
    };
    new.map(named).collect()
}

fn entries(text: &str) -> Option<Vec<Value>> {
    let mut file: Table = text.parse().ok()?;
    match file.remove("package") {
        None => Some(Vec::new()),
        Some(Value::Array(entries)) => Some(entries),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_are_new_or_changed_are_found() {
        let before = r#"
            version = 4
            [[package]]
            name = "a"
            version = "1.0.0"
            dependencies = ["b"]
            [[package]]
            name = "b"
            version = "1.0.0"
            checksum = "x"
        "#;
        let none = differing(before, before).unwrap();
        assert_eq!(none, BTreeSet::new());
        let newer = before.replace(
            "name = \"b\"\n            version = \"1.0.0\"",
            "name = \"b\"\nversion = \"1.0.1\"",
        );
        let found = differing(before, &newer).unwrap();
        assert_eq!(found, [("b".to_owned(), "1.0.1".to_owned())].into());
        let found = differing(before, &before.replace("[\"b\"]", "[]")).unwrap();
        assert_eq!(found, [("a".to_owned(), "1.0.0".to_owned())].into());
        assert_eq!(differing("<<<<<<<", before), None);
    }
}
