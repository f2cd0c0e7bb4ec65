//! Holds the types to the policy of versions: a public type that is written or read is
//! `#[non_exhaustive]`, unless the README says that it is complete.

use std::{collections::BTreeSet, fs, path::Path};

/// The types that never grow within a major version.
const COMPLETE: &[&str] = &[
    "AttemptId",
    "Cpus",
    "Exit",
    "Limit",
    "RunId",
    "TestId",
    "Verdict",
];
/// The mark of a type. The crates of the repository build all of every type.
const MARK: &str = "#[cfg_attr(not(feature = \"exhaustive\"), non_exhaustive)]";

#[test]
fn every_type_that_may_grow_is_non_exhaustive_and_no_other() {
    let mut sources = String::new();
    gather(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut sources,
    );
    let (mut marked, mut unmarked) = (BTreeSet::new(), BTreeSet::new());
    let mut attributes = String::new();
    let mut open: Option<(&str, bool)> = None;
    for line in sources.lines() {
        let item = ["pub struct ", "pub enum "]
            .into_iter()
            .find_map(|start| line.strip_prefix(start));
        if let Some(item) = item {
            let name = item.split(|c: char| !c.is_alphanumeric()).next();
            let name = name.unwrap_or_default();
            let is_marked = attributes.contains(MARK);
            if attributes.contains("Serialize") {
                let set = if is_marked {
                    &mut marked
                } else {
                    &mut unmarked
                };
                set.insert(name);
            }
            open = (line.starts_with("pub enum ") && is_marked).then_some((name, is_marked));
        }
        // The fields of a variant may grow as those of a struct.
        let is_variant =
            line.starts_with("    ") && line.ends_with(" {") && !line.starts_with("     ");
        if let Some((name, _)) = open.filter(|_| is_variant) {
            assert!(
                attributes.contains(MARK),
                "`{name}` has a variant without it: {line}"
            );
        }
        if line == "}" {
            open = None;
        }
        let trimmed = line.trim_start();
        if trimmed.starts_with("#[") || trimmed.starts_with("Copy, ") || trimmed == ")]" {
            attributes.push_str(line);
        } else if !trimmed.starts_with("//") {
            attributes.clear();
        }
    }
    assert!(marked.len() > 50, "too few types were found: {marked:?}");
    assert_eq!(unmarked, COMPLETE.iter().copied().collect());
}

/// Appends all sources below a folder.
fn gather(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).expect("sources can be read") {
        let path = entry.expect("sources can be read").path();
        if path.is_dir() {
            gather(&path, sources);
        } else {
            sources.push_str(&fs::read_to_string(&path).expect("sources are UTF-8"));
        }
    }
}
