//! The documentation tests of a package, as rustdoc finds them: `--output-format=doctest`.

use super::{
    calls::{Call, Programs},
    kept,
    refusal::DoctestError,
};
use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    process::Output,
};

/// The answer of rustdoc.
#[derive(Deserialize)]
struct Answer {
    doctests: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    file: String,
    line: u32,
    name: String,
    #[serde(default)]
    original_code: String,
    doctest_attributes: Attributes,
}

#[derive(Deserialize)]
struct Attributes {
    should_panic: bool,
    no_run: bool,
    ignore: Ignore,
    compile_fail: bool,
    error_codes: Vec<String>,
}

#[derive(Deserialize)]
enum Ignore {
    All,
    None,
    /// On targets whose name has one of these in it.
    Some(Vec<String>),
}

/// A documentation test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Its name: that of rustdoc, and for the second of that name the same with ` #2`.
    pub name: String,
    /// The file, as rustdoc was given it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// Whether it is marked as ignored.
    pub ignored: bool,
    /// Its name for rustdoc.
    pub(super) own_name: String,
    /// Its number among those of the same name.
    pub(super) same_name: usize,
    /// Its number among those of the same line.
    pub(super) same_line: usize,
    pub(super) should_panic: bool,
    pub(super) no_run: bool,
    pub(super) compile_fail: bool,
}

impl Example {
    /// Returns the folder in which rustdoc leaves its program, if it is not merged.
    pub(super) fn folder(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let file: String = self.file.chars().map(plain).collect();
        format!("{file}_{}_{}", self.line, self.same_line)
    }
}

/// The documentation tests of a package.
#[derive(Debug)]
pub(super) struct Extracted {
    pub(super) examples: Vec<Example>,
    /// The digest of all that rustdoc says of them, which has their code.
    pub(super) digest: (u64, u64),
    /// Whether all that they link is named by an argument.
    pub(super) links_only_named: bool,
}

/// Asks rustdoc for the tests of a package.
pub(super) fn extract(call: &Call, programs: &Programs) -> Result<Extracted, DoctestError> {
    let args = ["--output-format=doctest", "--output", "-"].map(OsStr::new);
    let output = call.unlocked(programs, &args, "", None)?;
    let Output { status, .. } = output;
    if !status.success() {
        return Err(DoctestError::refused(&output));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)?;
    let target = call.value("--target").and_then(OsStr::to_str);
    let target = target.map_or(programs.host(), |target| {
        Utf8Path::new(target).file_stem().unwrap_or(target)
    });
    let has_codes = |found: &Found| !found.doctest_attributes.error_codes.is_empty();
    let known = match answer.doctests.iter().any(has_codes) {
        // A stable rustdoc takes an error code for a word of another language.
        true => Some(names(call, programs)?),
        false => None,
    };
    let known = |found: &Found| {
        known
            .as_ref()
            .is_none_or(|known| known.contains(&found.name))
    };
    let mut codes = answer.doctests.iter().map(|found| &found.original_code);
    let links_only_named = codes.all(|code| kept::searched(code).all(|name| is_named(call, name)));
    let mut numbers = Numbers::default();
    let numbered = answer.doctests.into_iter().filter(known);
    Ok(Extracted {
        examples: numbered
            .map(|found| numbers.example(found, target))
            .collect(),
        digest: kept::digest(&output.stdout),
        links_only_named,
    })
}

/// Returns true if a library is part of the toolchain, or an argument says where it is.
fn is_named(call: &Call, library: &str) -> bool {
    ["alloc", "core", "std", "proc_macro", "test", "self"].contains(&library)
        || call
            .externs()
            .any(|(name, _)| name.rsplit(':').next() == Some(library))
}

/// Returns the names of the tests that rustdoc has without its unstable options.
fn names(call: &Call, programs: &Programs) -> Result<BTreeSet<String>, DoctestError> {
    let output = call.plain(programs, &["--test-args", "--list"])?;
    if !output.status.success() {
        return Err(DoctestError::refused(&output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

#[derive(Default)]
struct Numbers {
    names: BTreeMap<String, usize>,
    lines: BTreeMap<(String, u32), usize>,
}

impl Numbers {
    fn example(&mut self, found: Found, target: &str) -> Example {
        let count = |seen: &mut usize| {
            *seen += 1;
            *seen - 1
        };
        let same_name = count(self.names.entry(found.name.clone()).or_default());
        let place = (found.file.clone(), found.line);
        let same_line = count(self.lines.entry(place).or_default());
        let attributes = found.doctest_attributes;
        Example {
            name: match same_name {
                0 => found.name.clone(),
                before => format!("{} #{}", found.name, before + 1),
            },
            file: found.file,
            line: found.line,
            ignored: match attributes.ignore {
                Ignore::All => true,
                Ignore::None => false,
                Ignore::Some(targets) => targets.iter().any(|part| target.contains(part.as_str())),
            },
            own_name: found.name,
            same_name,
            same_line,
            should_panic: attributes.should_panic,
            no_run: attributes.no_run,
            compile_fail: attributes.compile_fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(json: &str) -> Vec<Example> {
        let answer: Answer = serde_json::from_str(json).unwrap();
        let mut numbers = Numbers::default();
        let all = answer.doctests.into_iter();
        all.map(|found| numbers.example(found, "x86_64-unknown-linux-gnu"))
            .collect()
    }

    fn found(name: &str, line: u32, ignore: &str) -> String {
        format!(
            r#"{{"file": "src/a-b.rs", "line": {line}, "name": "{name}", "original_code": "",
                "doctest_attributes": {{"should_panic": false, "no_run": false, "ignore": {ignore},
                "compile_fail": false, "error_codes": [], "edition": null}}}}"#
        )
    }

    #[test]
    fn tests_of_one_name_are_told_apart_and_so_are_those_of_one_line() {
        let none = "\"None\"";
        let json = [
            found("x", 3, none),
            found("x", 3, none),
            found("y", 3, none),
        ]
        .join(",");
        let examples = examples(&format!(r#"{{"format_version": 2, "doctests": [{json}]}}"#));
        let of = |example: &Example| (example.name.clone(), example.folder());
        let all: Vec<_> = examples.iter().map(of).collect();
        let expected = [
            ("x", "src_a_b_rs_3_0"),
            ("x #2", "src_a_b_rs_3_1"),
            ("y", "src_a_b_rs_3_2"),
        ];
        assert_eq!(
            all,
            expected.map(|(name, folder)| (name.into(), folder.into()))
        );
    }

    #[test]
    fn a_test_is_ignored_everywhere_or_on_some_targets() {
        let some = [
            r#""All""#,
            r#"{"Some": ["linux"]}"#,
            r#"{"Some": ["wasm"]}"#,
        ];
        let json: Vec<String> = some.iter().map(|ignore| found("x", 1, ignore)).collect();
        let examples = examples(&format!(r#"{{"doctests": [{}]}}"#, json.join(",")));
        let ignored: Vec<bool> = examples.iter().map(|example| example.ignored).collect();
        assert_eq!(ignored, [true, true, false]);
    }
}
