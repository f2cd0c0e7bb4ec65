//! Holds the house in order: imports between the modules of `harness-runner` go one way, and
//! what is dangerous or slow to understand stays where it belongs.
//!
//! Sources are read as text and cut into tokens, so that comments and strings do not count.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The modules in layers: a module may use modules of the layers before its own, and itself.
const LAYERS: &[&[&str]] = &[
    &["sys"],
    &["proc", "own_files"],
    &["filter", "report", "protocol", "tracer", "keys"],
    &["stub", "config", "build", "store"],
    &["trace"],
    &["list"],
    &["plan"],
    &["run"],
    &["session"],
];

/// Where the wall clock may be read: to date a run and its traces, and for the age of files. Nothing is
/// measured by it.
const WALL_CLOCK_FILES: &[&str] = &[
    "session/running.rs",
    // When something was learned of a test.
    "session/backends.rs",
    "store/retention.rs",
    "tracer/loads/facts.rs",
    "tracer/record.rs",
];

/// Names of files that say nothing of what they own.
const FORBIDDEN_FILES: &[&str] = &["mod.rs", "utils.rs", "errors.rs", "imp.rs"];

/// Tests may be longer: they are read one at a time.
const LONGEST_FILE: usize = 600;

#[test]
fn imports_go_downward_only() {
    let mut wrong = Vec::new();
    for source in sources("harness-runner/src") {
        let Some(module) = source.module.first().map(String::as_str) else {
            continue;
        };
        let from = layer(module).unwrap_or_else(|| panic!("`{module}` is in no layer"));
        for Import { module: to, line } in imports(&source) {
            let place = format!("{}:{line}", source.path);
            match layer(&to) {
                Some(to_layer) if to == module || to_layer < from => {}
                Some(_) => wrong.push(format!("{place}: `{module}` must not use `{to}`")),
                None => wrong.push(format!("{place}: there is no module `{to}`")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn layers_are_the_modules_of_the_crate_in_the_order_that_its_documentation_tells() {
    let file = workspace().join("harness-runner/src/lib.rs");
    let text = fs::read_to_string(file).unwrap();
    let tokens = tokens(&text);
    let declared: BTreeSet<&str> = tokens
        .windows(2)
        .filter(|pair| pair[0].text == "mod")
        .map(|pair| pair[1].text.as_str())
        .collect();
    let layered: BTreeSet<&str> = LAYERS.concat().into_iter().collect();
    assert_eq!(declared, layered);

    let documentation: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .collect();
    let documentation = documentation.join("\n");
    let in_backticks = documentation.split('`').skip(1).step_by(2);
    let told: Vec<&str> = in_backticks.filter(|name| layered.contains(name)).collect();
    assert_eq!(told, LAYERS.concat());
}

#[test]
fn tokio_is_used_by_run_only() {
    let outside = |source: &Source| source.module.first().is_none_or(|module| module != "run");
    let found = files_with("harness-runner/src", "tokio", outside);
    assert!(found.is_empty(), "tokio outside of `run`: {found:?}");
    for crate_folder in ["harness-metadata/src", "cargo-harness/src"] {
        let found = files_with(crate_folder, "tokio", |_| true);
        assert!(found.is_empty(), "tokio in {crate_folder}: {found:?}");
    }
}

#[test]
fn unsafe_code_is_in_sys_only() {
    let elsewhere = |source: &Source| {
        let in_sys = source.module.first().is_some_and(|module| module == "sys");
        !in_sys
    };
    let found = files_with("harness-runner/src", "unsafe", elsewhere);
    assert!(found.is_empty(), "unsafe code in {found:?}");
    for crate_folder in ["harness-metadata/src", "cargo-harness/src"] {
        let found = files_with(crate_folder, "unsafe", |_| true);
        assert!(found.is_empty(), "unsafe code in {crate_folder}: {found:?}");
    }
}

#[test]
fn the_folders_of_processes_are_named_in_one_place() {
    // Those in strings do not count elsewhere in this file, so this looks at the text.
    let names = |source: &Source| {
        let tests = source.path.contains("/tests") || source.path.ends_with("tests.rs");
        let code = source.text.split("mod tests {").next().unwrap_or_default();
        // What a test itself asks for is decoded there, and is not asked for.
        let decodes = source.path == "tracer/decode/paths.rs";
        !tests && !decodes && code.contains("\"/proc/{")
    };
    let found: Vec<String> = sources("harness-runner/src")
        .into_iter()
        .filter(names)
        .map(|source| source.path)
        .collect();
    assert_eq!(
        found,
        ["proc.rs"],
        "a /proc of another PID namespace must not be read"
    );
}

#[test]
fn the_wall_clock_dates_things_and_measures_nothing() {
    let reads = |source: &Source| {
        if source.path.ends_with("tests.rs") {
            return false;
        }
        let tokens = tokens(&source.text);
        let clock = |name: &str| ["SystemTime", "Utc", "Local"].contains(&name);
        tokens
            .windows(3)
            .any(|three| clock(&three[0].text) && three[1].text == "::" && three[2].text == "now")
    };
    let found = |folder: &str| {
        let sources = sources(folder).into_iter();
        sources.filter(reads).map(|source| source.path)
    };
    let runner: Vec<String> = found("harness-runner/src").collect();
    assert_eq!(runner, WALL_CLOCK_FILES);
    for crate_folder in ["harness-metadata/src", "cargo-harness/src"] {
        let elsewhere: Vec<String> = found(crate_folder).collect();
        assert!(
            elsewhere.is_empty(),
            "the wall clock in {crate_folder}: {elsewhere:?}"
        );
    }
}

#[test]
fn metadata_does_no_io() {
    const IO: &[&str] = &["env", "fs", "io", "net", "process", "thread"];
    let mut wrong = Vec::new();
    for source in sources("harness-metadata/src") {
        for (module, line) in used_of(&tokens(&source.text), "std") {
            if IO.contains(&module.as_str()) {
                wrong.push(format!("{}:{line}: `std::{module}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_named_after_what_they_own() {
    for folder in [
        "harness-metadata/src",
        "harness-runner/src",
        "cargo-harness/src",
    ] {
        for source in sources(folder) {
            let path = Path::new(&source.path);
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            assert!(!FORBIDDEN_FILES.contains(&name), "{folder}/{}", source.path);
            let in_tests = path
                .parent()
                .is_some_and(|parent| parent.ends_with("tests"));
            let lines = source.text.lines().count();
            assert!(
                name == "tests.rs" || in_tests || lines <= LONGEST_FILE,
                "{folder}/{} has {lines} lines, more than {LONGEST_FILE}",
                source.path
            );
        }
    }
}

#[test]
fn imports_are_found_however_they_are_written() {
    let source = Source {
        path: "config/file.rs".to_owned(),
        module: vec!["config".to_owned(), "file".to_owned()],
        text: r##"
            //! use crate::in_a_comment;
            /* use crate::also; /* nested */ use crate::still; */
            use crate::filter::{a, b::c};
            pub(crate) use crate::{self, run::{x, y}, plan as other, list::*};
            use super::{error, parse::Value};
            const TEXT: &str = "crate::string \" crate::more";
            const RAW: &str = r#"crate::raw " crate::raw"#;
            const QUOTE: char = '"';
            fn f<'a>(x: &'a str) { crate::stub::serve(x); super::super::session::start(); }
            mod tests { use super::super::error; use super::super::super::protocol::P; }
        "##
        .to_owned(),
    };
    let found: Vec<String> = imports(&source)
        .into_iter()
        .map(|import| import.module)
        .collect();
    assert_eq!(
        found,
        [
            "filter", "run", "plan", "list", "stub", "session", "protocol"
        ]
    );
    assert!(layer("run") > layer("config"));
}

#[test]
fn what_a_group_takes_from_the_standard_library_is_found() {
    let tokens = tokens("use std::{collections::BTreeMap, io::{self, Write}}; std::fs::read(x);");
    let found: Vec<String> = used_of(&tokens, "std")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(found, ["collections", "io", "fs"]);
}

/// A source file.
struct Source {
    /// Relative to the crate's `src`.
    path: String,
    /// The path of its module; empty for the crate's root.
    module: Vec<String>,
    text: String,
}

/// A use of another module.
struct Import {
    module: String,
    line: usize,
}

struct Token {
    text: String,
    line: usize,
}

fn workspace() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder
        .parent()
        .expect("the crate is in a workspace")
        .to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

fn sources(folder: &str) -> Vec<Source> {
    let root = workspace().join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("sources can be read") {
            let path = entry.expect("sources can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let relative = path
                .strip_prefix(&root)
                .expect("it was found below the root");
            let module: Vec<String> = relative
                .with_extension("")
                .iter()
                .map(|part| part.to_string_lossy().into_owned())
                .collect();
            let is_root = matches!(module.as_slice(), [only] if only == "lib" || only == "main");
            found.push(Source {
                path: relative.to_string_lossy().into_owned(),
                module: if is_root { Vec::new() } else { module },
                text: fs::read_to_string(&path).expect("sources are UTF-8"),
            });
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn files_with(folder: &str, word: &str, wanted: impl Fn(&Source) -> bool) -> Vec<String> {
    sources(folder)
        .into_iter()
        .filter(wanted)
        .filter(|source| tokens(&source.text).iter().any(|token| token.text == word))
        .map(|source| source.path)
        .collect()
}

/// Returns the top-level modules that a file names, through `crate` or through `super`.
fn imports(source: &Source) -> Vec<Import> {
    let tokens = tokens(&source.text);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    // The brace depths at which inline modules began.
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "mod" if text(at + 2) == "{" => inline.push(depth),
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inline.pop_if(|began| *began == depth);
            }
            "crate" if text(at + 1) == "::" => found.extend(first_names(&tokens, at + 2)),
            "super" => {
                let mut up = 1;
                while text(at + 1) == "::" && text(at + 2) == "super" {
                    up += 1;
                    at += 2;
                }
                if text(at + 1) == "::" && up == source.module.len() + inline.len() {
                    found.extend(first_names(&tokens, at + 2));
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
        .into_iter()
        // A glob of the crate's root (`use super::*`) names no module.
        .filter(|(module, _)| module != "*")
        .map(|(module, line)| Import { module, line })
        .collect()
}

/// Returns what is used of a crate: the first name of each path after `name::`.
fn used_of(tokens: &[Token], name: &str) -> Vec<(String, usize)> {
    (0..tokens.len().saturating_sub(1))
        .filter(|&at| tokens[at].text == name && tokens[at + 1].text == "::")
        .flat_map(|at| first_names(tokens, at + 2))
        .collect()
}

/// Returns the name at a token, or the first name of each path if a group begins there.
fn first_names(tokens: &[Token], at: usize) -> Vec<(String, usize)> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut expected = true;
    for token in tokens.iter().skip(at) {
        match token.text.as_str() {
            "{" => {
                expected = depth == 0;
                depth += 1;
            }
            "}" => depth -= 1,
            "," => expected = depth == 1,
            name => {
                if expected && name != "self" {
                    names.push((name.to_owned(), token.line));
                }
                expected = false;
            }
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Cuts a source into names and punctuation. Comments and literals are left out.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let char_at = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let (mut at, mut line, mut counted) = (0, 1, 0);
    while at < chars.len() {
        line += chars[counted..at].iter().filter(|c| **c == '\n').count();
        counted = at;
        let start = at;
        match chars[at] {
            '/' if char_at(at + 1) == '/' => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            '/' if char_at(at + 1) == '*' => at = after_block_comment(&chars, at),
            '"' => at = after_string(&chars, at),
            '\'' if char_at(at + 1) == '\\' => {
                at += 3;
                while at < chars.len() && chars[at - 1] != '\'' {
                    at += 1;
                }
            }
            // A lifetime has no second quote after its first character.
            '\'' if char_at(at + 2) == '\'' => at += 3,
            c if is_name(c) => {
                while is_name(char_at(at)) {
                    at += 1;
                }
                let text: String = chars[start..at].iter().collect();
                let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
                let raw = matches!(text.as_str(), "r" | "br" | "cr");
                if raw && char_at(at + hashes) == '"' {
                    at = after_raw_string(&chars, at + hashes + 1, hashes);
                } else {
                    tokens.push(Token { text, line });
                }
            }
            ':' if char_at(at + 1) == ':' => {
                at += 2;
                let text = "::".to_owned();
                tokens.push(Token { text, line });
            }
            c => {
                at += 1;
                if !c.is_whitespace() {
                    let text = c.to_string();
                    tokens.push(Token { text, line });
                }
            }
        }
    }
    tokens
}

fn after_block_comment(chars: &[char], opening: usize) -> usize {
    let mut at = opening + 2;
    let mut depth = 1;
    while at < chars.len() && depth > 0 {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at.min(chars.len())
}

fn after_string(chars: &[char], opening: usize) -> usize {
    let mut at = opening + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn after_raw_string(chars: &[char], first: usize, hashes: usize) -> usize {
    let mut at = first;
    while at < chars.len() {
        let hashed = chars[at + 1..].iter().take(hashes);
        if chars[at] == '"' && hashed.filter(|c| **c == '#').count() == hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}
