//! Holds the house in order: imports between the modules of `harness-runner` go one way, and
//! what is dangerous or slow to understand stays where it belongs.
//!
//! Sources are cut into words and punctuation, so that comments and strings do not count.

#[path = "layers/formatting.rs"]
mod formatting;
#[path = "layers/source.rs"]
mod source;

use source::{Modules, Names, Source, circles, sources, workspace};
use std::{collections::BTreeSet, fs, path::Path};

/// The modules in layers: a module may use modules of the layers before its own, and itself.
const LAYERS: &[&[&str]] = &[
    &["sys"],
    &["proc", "own_files", "policy"],
    &[
        "filter",
        "report",
        "protocol",
        "tracer",
        "keys",
        "functions",
    ],
    &["stub", "config", "cargo", "store", "cache", "changes"],
    // `answers` reads traces through `store` and starts nothing, so that `session` can use it for a selection.
    &["trace", "archive", "history", "answers", "reuse", "inputs"],
    &["list"],
    &["plan"],
    &["run"],
    &["session"],
];

/// The files that may read the wall clock: to date a run and its traces, and for the age of files. Nothing is
/// measured by it.
const WALL_CLOCK_FILES: &[&str] = &[
    // The age of facts.
    "cache.rs",
    // Times of files against that of a test.
    "reuse/times.rs",
    "session/running.rs",
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
fn modules_of_one_room_do_not_name_each_other_in_a_circle() {
    let mut found = Vec::new();
    // The types of `harness-metadata` are data that holds each other.
    for folder in [
        "harness-runner/src",
        "harness-runner/payload/src",
        "cargo-harness/src",
    ] {
        let edges = Modules::of(&sources(folder)).edges();
        found.extend(circles(&edges));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn layers_are_the_modules_of_the_crate_in_the_order_that_its_documentation_tells() {
    let file = workspace().join("harness-runner/src/lib.rs");
    let text = fs::read_to_string(file).unwrap();
    let source = Source {
        path: "lib.rs".to_owned(),
        module: Names::new(),
        text: text.clone(),
    };
    let tokens = source.tokens();
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
    for crate_folder in [
        "harness-metadata/src",
        "harness-runner/payload/src",
        "cargo-harness/src",
    ] {
        let found = files_with(crate_folder, "tokio", |_| true);
        assert!(found.is_empty(), "tokio in {crate_folder}: {found:?}");
    }
}

#[test]
fn the_crate_for_payloads_needs_three_others() {
    let manifest =
        fs::read_to_string(workspace().join("harness-runner/payload/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let names = manifest["dependencies"].as_table().unwrap().keys();
    let names: Vec<_> = names.map(String::as_str).collect();
    // It is a dependency of tests, which wait for its build.
    assert_eq!(names, ["libc", "regex", "serde_json"]);
}

#[test]
fn unsafe_code_is_in_sys_only() {
    let elsewhere = |source: &Source| {
        let in_sys = source.module.first().is_some_and(|module| module == "sys");
        !in_sys
    };
    let found = files_with("harness-runner/src", "unsafe", elsewhere);
    assert!(found.is_empty(), "unsafe code in {found:?}");
    let found = files_with("harness-runner/payload/src", "unsafe", elsewhere);
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
        let clock = |name: &str| ["SystemTime", "Utc", "Local"].contains(&name);
        let named = source.paths().named;
        named.iter().any(|named| match named.path.as_slice() {
            [.., of, now] => clock(of) && now == "now",
            _ => false,
        })
    };
    let found = |folder: &str| {
        let sources = sources(folder).into_iter();
        sources.filter(reads).map(|source| source.path)
    };
    let runner: Vec<String> = found("harness-runner/src").collect();
    assert_eq!(runner, WALL_CLOCK_FILES);
    for crate_folder in [
        "harness-metadata/src",
        "harness-runner/payload/src",
        "cargo-harness/src",
    ] {
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
        for named in source.paths().named {
            if let [of, module, ..] = named.path.as_slice()
                && of == "std"
                && IO.contains(&module.as_str())
            {
                let line = named.line;
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
        "harness-runner/payload/src",
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

/// A use of another module of the crate's root.
struct Import {
    module: String,
    line: usize,
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

fn files_with(folder: &str, word: &str, wanted: impl Fn(&Source) -> bool) -> Vec<String> {
    sources(folder)
        .into_iter()
        .filter(wanted)
        .filter(|source| source.tokens().iter().any(|token| token.text == word))
        .map(|source| source.path)
        .collect()
}

/// Returns the modules of the crate's root that a file names, through `crate` or through `super`.
fn imports(source: &Source) -> Vec<Import> {
    let named = source.paths().named.into_iter().filter_map(|named| {
        let path = named.absolute(&|_| false)?;
        let module = path.into_iter().next()?;
        let line = named.line;
        Some(Import { module, line })
    });
    named.collect()
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
            fn g() { any_macro!(x => crate::store::of(x), [super::super::keys::Key]); }
            mod tests { use super::super::error; use super::super::super::protocol::P; }
        "##
        .to_owned(),
    };
    let mut found: Vec<String> = imports(&source)
        .into_iter()
        .map(|import| import.module)
        .filter(|module| module != "config")
        .collect();
    found.dedup();
    assert_eq!(
        found,
        [
            "filter", "run", "plan", "list", "stub", "session", "store", "keys", "protocol"
        ]
    );
    assert!(layer("run") > layer("config"));
}

#[test]
fn circles_are_found_through_names_that_are_handed_on_and_tests_do_not_count() {
    let source = |path: &str, text: &str| Source {
        path: format!("{path}.rs"),
        module: path.split('/').map(str::to_owned).collect(),
        text: text.to_owned(),
    };
    let sources = [
        source(
            "room",
            "mod a; mod b; mod c; pub use b::Name; pub struct Own;",
        ),
        source("room/a", "use super::{Name, Own}; mod deep;"),
        source("room/a/deep", "use crate::room::c::Further;"),
        source(
            "room/b",
            "pub struct Name; #[cfg(test)] mod tests { use super::super::c::X; }",
        ),
        source("room/c", "fn f() { vec![super::b::Name]; }"),
    ];
    let edges = Modules::of(&sources).edges();
    let names = |edge: &(Names, Names)| format!("{} {}", edge.0.join("::"), edge.1.join("::"));
    let found: Vec<String> = edges.keys().map(names).collect();
    assert_eq!(
        found,
        ["room::a room::b", "room::a room::c", "room::c room::b"]
    );
    assert_eq!(circles(&edges), Vec::<String>::new());

    let sources = [
        source("room", "mod a; mod b; pub use b::Name;"),
        source("room/a", "use super::Name;"),
        source("room/b", "use crate::room::a;"),
    ];
    assert_eq!(circles(&Modules::of(&sources).edges()).len(), 2);
}

#[test]
fn what_a_group_takes_from_the_standard_library_is_found() {
    let source = Source {
        path: "lib.rs".to_owned(),
        module: Names::new(),
        text: "use std::{collections::BTreeMap, io::{self, Write}}; fn f() { std::fs::read(x); }"
            .to_owned(),
    };
    let named = source.paths().named;
    let mut found: Vec<&str> = named.iter().map(|named| named.path[1].as_str()).collect();
    found.dedup();
    assert_eq!(found, ["collections", "io", "fs"]);
}
