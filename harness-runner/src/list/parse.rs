//! Understands what a test binary prints for `--list --format terse`.

use super::{ListedTest, TestKind};
use nextest_metadata::TestCaseName;
use std::collections::BTreeMap;
use thiserror::Error;

/// An error in the output of a list.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// It is not UTF-8.
    #[error("line {line} is not UTF-8")]
    NotUtf8 {
        /// The line's number, from 1.
        line: usize,
    },
    /// A line is something else.
    #[error("line {line} does not end in `: test` or `: benchmark`: `{text}`")]
    Line {
        /// The line's number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// A name that no program can be given as an argument, or that stands for no test.
    #[error(
        "line {line} names a test that cannot be run by its name, because the name {why}: `{}`; rename the test",
        name.escape_debug()
    )]
    Name {
        /// The line's number, from 1.
        line: usize,
        /// The name.
        name: String,
        /// The mistake.
        why: &'static str,
    },
}

/// Returns the tests of both calls, ordered by name. What the second call names is ignored.
pub(super) fn parse(all: &[u8], ignored: &[u8]) -> Result<Vec<ListedTest>, ParseError> {
    let mut tests = BTreeMap::new();
    for (output, ignored) in [(all, false), (ignored, true)] {
        for (name, kind) in lines(output)? {
            tests.insert(name, (ignored, kind));
        }
    }
    let listed = |(name, (ignored, kind))| ListedTest {
        name: TestCaseName::new(name),
        ignored,
        kind,
        reason: None,
        location: None,
    };
    Ok(tests.into_iter().map(listed).collect())
}

/// Returns the names and kinds in the output of one call.
pub(super) fn lines(output: &[u8]) -> Result<Vec<(&str, TestKind)>, ParseError> {
    let text = std::str::from_utf8(output).map_err(|error| {
        let before = &output[..error.valid_up_to()];
        ParseError::NotUtf8 {
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        }
    })?;
    let parsed = text.lines().enumerate().map(|(index, line)| {
        let test = line
            .strip_suffix(": test")
            .map(|name| (name, TestKind::Test));
        let bench = || {
            line.strip_suffix(": benchmark")
                .map(|name| (name, TestKind::Bench))
        };
        let parsed = test.or_else(bench).ok_or_else(|| ParseError::Line {
            line: index + 1,
            text: line.to_owned(),
        })?;
        match unusable(parsed.0) {
            Some(why) => Err(ParseError::Name {
                line: index + 1,
                name: parsed.0.to_owned(),
                why,
            }),
            None => Ok(parsed),
        }
    });
    parsed.collect()
}

/// Returns why a test cannot be run by its name, if so. A name with a line break is two lines, of
/// which the first is no test.
pub(super) fn unusable(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.contains('\0') {
        Some("contains a NUL character")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(tests: &[ListedTest]) -> Vec<(&str, bool)> {
        tests
            .iter()
            .map(|test| (test.name.as_str(), test.ignored))
            .collect()
    }

    #[test]
    fn names_of_the_second_call_are_ignored_and_win() {
        let tests = parse(b"b: test\na: test\nc d: benchmark\n", b"a: test\nz: test\n").unwrap();
        assert_eq!(
            names(&tests),
            [("a", true), ("b", false), ("c d", false), ("z", true)]
        );
        assert_eq!(tests[2].kind, TestKind::Bench);
    }

    #[test]
    fn no_output_is_no_tests_and_duplicates_collapse() {
        assert_eq!(parse(b"", b""), Ok(Vec::new()));
        assert_eq!(parse(b"a: test\na: test\n", b"").unwrap().len(), 1);
    }

    #[test]
    fn a_blank_line_and_a_stray_print_are_named_with_their_line() {
        let line = |line, text: &str| ParseError::Line {
            line,
            text: text.into(),
        };
        assert_eq!(parse(b"a: test\n\n", b""), Err(line(2, "")));
        assert_eq!(parse(b"hello\n", b""), Err(line(1, "hello")));
        let name = |line, name: &str, why| ParseError::Name {
            line,
            name: name.into(),
            why,
        };
        assert_eq!(
            parse(b"a: test\n: test\n", b""),
            Err(name(2, "", "is empty"))
        );
        let nul = name(1, "a\0b", "contains a NUL character");
        assert!(nul.to_string().contains(r"`a\0b`"), "{nul}");
        assert_eq!(parse(b"a\0b: test\n", b""), Err(nul));
        assert_eq!(parse(b"two\nlines: test\n", b""), Err(line(1, "two")));
        assert_eq!(
            parse(b"a: test\n\xff: test\n", b""),
            Err(ParseError::NotUtf8 { line: 2 })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_an_error(bytes in any::<Vec<u8>>(), other in any::<Vec<u8>>()) {
            let _ = parse(&bytes, &other);
        }

        #[test]
        fn every_name_comes_back(names in proptest::collection::btree_set("[^\0\r\n]{1,20}", 0..9)) {
            let text: String = names.iter().map(|name| format!("{name}: test\n")).collect();
            let parsed = parse(text.as_bytes(), b"").unwrap();
            let back: Vec<_> = parsed.iter().map(|test| test.name.as_str()).collect();
            prop_assert_eq!(back, names.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
