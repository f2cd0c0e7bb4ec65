//! Holds comments, messages and pages to plain English: a phrase that hides its subject is answered
//! with the words to use instead.

use super::workspace;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Phrases that hide a subject that has a name, and the words to use instead.
const PHRASES: &[(&str, &str)] = &[
    ("somebody", "name the process, program or user"),
    (
        "nobody",
        "write `no process`, `no reader`, `unknown`, or use the passive voice",
    ),
    ("whoever", "name the process, program or user"),
    ("is told", "write `receives`, `gets`, `is reported`"),
    ("are told", "write `receive`, `get`, `are reported`"),
    ("was told", "write `received`, `got`, `was reported`"),
    ("been told", "write `received`, `got`, `been reported`"),
    ("what there is", "name the things"),
    ("what comes of", "write `the result of`"),
    ("what came of", "write `the result of`"),
    ("what becomes of", "name the treatment or the result"),
    ("what became of", "write `the result of`"),
];

/// Words with which a doc comment must not begin. It begins with a verb in the third person or with a
/// noun.
const BEGINNINGS: &[(&str, &str)] = &[
    ("What", "begin with the noun: `The outcome.`"),
    ("Who", "begin with the noun: `The sender.`"),
    ("Whom", "begin with the noun: `The receiver.`"),
    ("Whose", "begin with the noun: `The owner.`"),
    ("That", "begin with the noun"),
    ("Why", "begin with `The reason`, `The cause`, `An error`"),
    (
        "How",
        "begin with the noun: `The number of`, `The time limit`, `The way`",
    ),
    (
        "Where",
        "begin with the noun: `The path`, `The position`, `The origin`",
    ),
    ("Which", "begin with the noun: `The tests that`"),
];

/// Folders of sources and of pages, and pages beside them.
const FOLDERS: &[&str] = &[
    ".github",
    "cargo-harness/benches",
    "cargo-harness/src",
    "cargo-harness/tests",
    "fixtures/kit/src",
    "harness-metadata",
    "harness-runner/benches",
    "harness-runner/examples",
    "harness-runner/payload/src",
    "harness-runner/payload/tests",
    "harness-runner/src",
    "harness-runner/tests",
    "site/docs",
];
const PAGES: &[&str] = &[
    "CHANGELOG.md",
    "README.md",
    "cargo-harness/README.md",
    "harness-runner/README.md",
    "harness-runner/payload/README.md",
];
/// This file has all that it forbids.
const THIS: &str = "harness-runner/tests/docs/words.rs";

#[test]
fn comments_messages_and_pages_are_in_plain_english() {
    let root = workspace();
    let mut files: Vec<PathBuf> = PAGES.iter().map(|page| root.join(page)).collect();
    for folder in FOLDERS {
        gather(&root.join(folder), &mut files);
    }
    files.retain(|file| file.strip_prefix(&root) != Ok(Path::new(THIS)));
    files.sort();
    assert!(files.len() > 200, "only {} files were found", files.len());
    let mut found = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("sources and pages are UTF-8");
        let is_source = file.extension().is_some_and(|extension| extension == "rs");
        let name = file.strip_prefix(&root).unwrap_or(file).display();
        for (number, complaint) in complaints(&text, is_source) {
            found.push(format!("{name}:{number}: {complaint}"));
        }
    }
    let (count, places) = (found.len(), found.join("\n"));
    assert!(found.is_empty(), "{count} places to reword:\n{places}");
}

#[test]
fn a_phrase_is_found_where_it_stands_for_a_subject_and_not_in_a_name() {
    let lines = |text: &str| -> Vec<usize> {
        let found = complaints(text, true).into_iter();
        found.map(|(number, _)| number).collect()
    };
    assert_eq!(
        lines("/// What happened.\n/// What is more, this goes on."),
        [1]
    );
    assert_eq!(
        lines("//! How it works.\n\n    /// Why.\n    a: u8,"),
        [1, 3]
    );
    assert!(lines("/// Whatever fails.\n/// Howls.").is_empty());
    assert!(lines("// What a comment in code says may begin so.").is_empty());
    assert_eq!(
        lines("a\n// Nobody waits.\nb(\"the test is told\")"),
        [2, 3]
    );
    let names = "fn waits_for_nobody() {}\nuser(\"nobody\")\n// the user `nobody`\nlet nobody = User::Nobody;";
    assert!(lines(names).is_empty());
    let page = complaints("What a page says may begin so.\nSomebody reads it.", false);
    assert_eq!(page.len(), 1);
    assert!(page[0].1.contains("name the process"), "{page:?}");
}

/// Returns the number of each line to reword, and the advice.
fn complaints(text: &str, is_source: bool) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut before = "";
    for (at, line) in text.lines().enumerate() {
        let prose = if is_source {
            prose(line)
        } else {
            line.to_owned()
        };
        let lower = prose.to_lowercase();
        for (phrase, instead) in PHRASES {
            if has_phrase(&lower, phrase) {
                found.push((at + 1, format!("`{phrase}`: {instead}: {}", line.trim())));
            }
        }
        let marker = doc_marker(line).filter(|_| is_source);
        if marker.is_some() && marker != doc_marker(before) {
            let says = line
                .trim_start()
                .trim_start_matches(['/', '!'])
                .trim_start();
            let first = says.split(|c: char| !c.is_alphanumeric()).next();
            let rule = BEGINNINGS.iter().find(|(word, _)| Some(*word) == first);
            if let Some((word, instead)) = rule {
                found.push((at + 1, format!("begins with `{word}`: {instead}: {says}")));
            }
        }
        before = line;
    }
    found
}

/// Returns the comment and the strings of a line of code. Of strings over several lines only those
/// lines count that open or close one.
fn prose(line: &str) -> String {
    let mut prose = String::new();
    let mut rest = line;
    let mut in_string = false;
    loop {
        let end = rest.find('"');
        let part = &rest[..end.unwrap_or(rest.len())];
        if in_string {
            prose.push_str(&format!(" \"{part}\""));
        } else if let Some(comment) = part.find("//") {
            prose.push(' ');
            prose.push_str(&rest[comment..]);
            return prose;
        }
        let Some(end) = end else { return prose };
        // An escaped quote does not end a string.
        if !(in_string && part.ends_with('\\')) {
            in_string = !in_string;
        }
        rest = &rest[end + 1..];
    }
}

/// Returns `///` or `//!` if the line is a doc comment.
fn doc_marker(line: &str) -> Option<&'static str> {
    let line = line.trim_start();
    ["///", "//!"]
        .into_iter()
        .find(|marker| line.starts_with(marker))
}

/// Returns true if the line has the phrase as words of its own: not in an identifier, and not between
/// quotes, backticks or parentheses, as the name of a user or a file is.
fn has_phrase(line: &str, phrase: &str) -> bool {
    line.match_indices(phrase).any(|(at, _)| {
        let before = line[..at].chars().next_back().unwrap_or(' ');
        let after = line[at + phrase.len()..].chars().next().unwrap_or(' ');
        let joins = |c: char| c.is_alphanumeric() || c == '_';
        let is_name = "\"'`(/".contains(before) && "\"'`)\\.".contains(after);
        !(joins(before) || joins(after) || is_name)
    })
}

/// Appends the sources and pages below a folder.
fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("sources can be read") {
        let path = entry.expect("sources can be read").path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension {
            _ if path.is_dir() => gather(&path, files),
            Some("rs" | "md") => files.push(path),
            _ => {}
        }
    }
}
