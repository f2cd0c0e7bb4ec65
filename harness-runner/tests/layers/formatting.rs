//! Holds every function to rustfmt's format.
//!
//! rustfmt leaves a statement or a whole function as it is, and says nothing, if it has a comment
//! in a pattern or in a chain of conditions, or a string that is too long. So each line that begins with
//! code is moved by a space here: where it does not come back, rustfmt was off. The same shows for a file
//! that `cargo fmt` does not reach.

use super::source::{Source, Token, workspace};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const FOLDERS: [&str; 4] = [
    "cargo-harness",
    "fixtures",
    "harness-metadata",
    "harness-runner",
];

/// The folders whose files are crates, not modules.
const CRATES: [&str; 6] = ["benches", "bin", "examples", "programs", "tests", "wrong"];

#[test]
fn rustfmt_is_on_in_every_function() {
    let rustfmt = Path::new(env!("CARGO")).with_file_name("rustfmt");
    let root = workspace();
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    fs::copy(
        root.join(".rustfmt.toml"),
        scratch.path().join(".rustfmt.toml"),
    )
    .expect("it is copied");
    let files: Vec<(PathBuf, String)> = sources(&root);
    for (path, text) in &files {
        let copy = scratch.path().join(path);
        fs::create_dir_all(copy.parent().expect("it is in a folder")).expect("it is made");
        fs::write(copy, moved(text)).expect("it is written");
    }
    let crates = files.iter().filter(|(path, _)| is_crate(path));
    let formatted = Command::new(&rustfmt)
        .args(["--edition", "2024"])
        .args(crates.map(|(path, _)| path))
        .current_dir(scratch.path())
        .output();
    let Ok(formatted) = formatted else {
        eprintln!("skipped: rustfmt_is_on_in_every_function: there is no rustfmt");
        return;
    };
    let errors = String::from_utf8_lossy(&formatted.stderr);
    assert!(formatted.status.success(), "{errors}");
    let off: Vec<String> = files
        .iter()
        .filter_map(|(path, text)| {
            let now = fs::read_to_string(scratch.path().join(path)).expect("it was written");
            let line = first_difference(text, &now)?;
            Some(format!(
                "{}:{line}: rustfmt is off here, or was not run",
                path.display()
            ))
        })
        .collect();
    assert!(off.is_empty(), "{}", off.join("\n"));
}

#[test]
fn code_is_moved_but_for_comments_and_what_need_not_be_rust() {
    let text = "fn f(a: Option<u8>) {\n    if let Some(b) = a\n        // why\n        && b > 1\n    {\n        g();\n    }\n}\n";
    let odd = moved(text);
    assert!(odd.contains("\n     if let") && odd.contains("\n        // why"));
    let kept = "fn e() {}\n#[rustfmt::skip]\nconst A: [u8; 2] = [\n  1,\n  2 ];\nfn f() {\n    g!(\n  a => b,\n    );\n}\n";
    let expected = "fn e() {}\n#[rustfmt::skip]\nconst A: [u8; 2] = [\n  1,\n  2 ];\n fn f() {\n     g!(\n  a => b,\n    );\n }\n";
    assert_eq!(moved(kept), expected);
}

/// Returns the number of the first line that differs.
fn first_difference(one: &str, other: &str) -> Option<usize> {
    let (mut ours, mut theirs) = (one.lines(), other.lines());
    let mut line = 0;
    loop {
        line += 1;
        match (ours.next(), theirs.next()) {
            (None, None) => return None,
            (one, other) if one != other => return Some(line),
            _ => {}
        }
    }
}

/// Returns whether rustfmt begins with a file: it finds the modules of a crate itself.
fn is_crate(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let folder = path.parent().and_then(Path::file_name);
    let folder = folder.and_then(|name| name.to_str()).unwrap_or_default();
    matches!(name, Some("lib.rs" | "main.rs" | "build.rs")) || CRATES.contains(&folder)
}

/// Returns all sources of the repository, by their paths from its root.
fn sources(root: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = FOLDERS.map(PathBuf::from).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).expect("sources can be read") {
            let entry = entry.expect("sources can be read");
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                if entry.file_name() != "target" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(entry.path()).expect("sources are UTF-8");
                found.push((path, text));
            }
        }
    }
    found
}

/// Moves each line that begins with code by a space, but for those in the arguments of macros and
/// attributes, which need not be Rust, and where a source says `rustfmt::skip`.
fn moved(text: &str) -> String {
    let source = Source {
        path: String::new(),
        module: Vec::new(),
        text: text.to_owned(),
    };
    let tokens = source.tokens();
    let left_alone = left_alone(&tokens);
    let mut first = tokens.iter().zip(left_alone).peekable();
    let mut moved = String::new();
    for (nth, line) in text.lines().enumerate() {
        let mut is_code = false;
        if let Some((token, left_alone)) = first.peek() {
            // It may begin with the end of a string, or with a comment.
            let begins = line.trim_start().starts_with(&token.text);
            is_code = token.line == nth + 1 && begins && !left_alone;
        }
        while first.next_if(|(token, _)| token.line == nth + 1).is_some() {}
        // A space before all else would be a line of its own.
        if is_code && nth > 0 {
            moved.push(' ');
        }
        moved.push_str(line);
        moved.push('\n');
    }
    moved
}

/// Returns for each token whether its place is rustfmt's business.
fn left_alone(tokens: &[Token]) -> Vec<bool> {
    const SKIP: [&str; 6] = ["#", "[", "rustfmt", "::", "skip", "]"];
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    // The open brackets: whether they are a macro's or an attribute's.
    let mut open: Vec<bool> = Vec::new();
    // The depth of an item that is to be skipped.
    let mut skipped: Option<usize> = None;
    let mut alone = Vec::new();
    for at in 0..tokens.len() {
        alone.push(open.contains(&true) || skipped.is_some());
        if at >= SKIP.len() && (0..SKIP.len()).all(|nth| text(at - SKIP.len() + nth) == SKIP[nth]) {
            skipped = Some(open.len());
            // The attribute stays where it is, too.
            alone[at - SKIP.len()..].fill(true);
        }
        match text(at) {
            "(" | "[" | "{" => {
                open.push(is_foreign(&tokens[..at]));
            }
            ")" | "]" | "}" => {
                open.pop();
            }
            _ => {}
        }
        if matches!(text(at), ";" | "}") && skipped == Some(open.len()) {
            skipped = None;
        }
    }
    alone
}

/// Returns whether a bracket after these tokens opens the arguments of a macro or of an attribute.
fn is_foreign(before: &[Token]) -> bool {
    const KEYWORDS: [&str; 6] = ["else", "if", "in", "match", "return", "while"];
    let texts: Vec<&str> = before
        .iter()
        .rev()
        .map(|token| token.text.as_str())
        .take(3)
        .collect();
    match texts[..] {
        ["#", ..] | ["!", "#", ..] | [_, "!", "macro_rules"] => true,
        // And not the negation of what is in the brackets.
        ["!", name, ..] => {
            name.starts_with(|c: char| c.is_alphanumeric() || c == '_') && !KEYWORDS.contains(&name)
        }
        _ => false,
    }
}
