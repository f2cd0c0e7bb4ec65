//! Understands what the standard test harness prints for `--list --format json`: every test with
//! its place in the source and the reason of `#[ignore = "…"]`.
//!
//! The form is unstable, and not all of it is JSON: Rust 1.95 prints the reason as it is in the
//! source, with its quotes and line breaks. So records are taken apart by the texts between the
//! fields. The last record has the number of tests, which must be that of those that were found.
//! Anything that is not known exactly is no answer, and the binary is asked in the stable form.

use super::{ListedTest, TestKind, parse};
use harness_metadata::Location;
use memchr::memmem;
use nextest_metadata::TestCaseName;
use std::{collections::BTreeMap, sync::Arc};

/// The arguments that ask for it. The variable must be set, too.
pub(super) const ARGUMENTS: [&str; 5] = ["--list", "--format", "json", "-Z", "unstable-options"];

/// The variable that lets a stable harness take unstable options.
pub(super) const UNLOCK: &str = "RUSTC_BOOTSTRAP";

/// The beginning of each record.
const RECORD: &str = "{ \"type\": \"";

/// Returns the tests, ordered by name; `None` if anything is not as it should be.
pub(super) fn parse(output: &[u8]) -> Option<Vec<ListedTest>> {
    let text = std::str::from_utf8(output).ok()?;
    let (mut tests, mut counts) = (BTreeMap::<TestCaseName, ListedTest>::new(), [0, 0]);
    let mut total = None;
    for record in records(text)? {
        let (kind, rest) = record.split_once("\", \"event\": \"")?;
        let kind = match (kind, rest) {
            ("suite", "discovery\" }") => continue,
            ("suite", rest) => {
                total = Some(completed(rest)?);
                continue;
            }
            ("test", _) => TestKind::Test,
            ("bench", _) => TestKind::Bench,
            _ => return None,
        };
        counts[usize::from(kind == TestKind::Bench)] += 1;
        let test = discovered(rest, kind)?;
        match tests.get_mut(&test.name) {
            // Of two with the same name the ignored one stays.
            Some(known) if known.ignored => {}
            Some(known) => *known = test,
            None => drop(tests.insert(test.name.clone(), test)),
        }
    }
    (total? == counts).then(|| tests.into_values().collect())
}

/// Returns the records without what they all begin with. A reason may have line breaks, so that not
/// every line is a record.
fn records(text: &str) -> Option<impl Iterator<Item = &str>> {
    let text = text.trim_end().strip_prefix(RECORD)?;
    let separator = "\n{ \"type\": \"";
    let starts = memmem::find_iter(text.as_bytes(), separator).collect::<Vec<_>>();
    let ends = starts.clone().into_iter().chain([text.len()]);
    let starts = [0]
        .into_iter()
        .chain(starts.into_iter().map(|at| at + separator.len()));
    Some(
        starts
            .zip(ends)
            .map(|(start, end)| text[start..end].trim_end()),
    )
}

/// Takes the last record apart: the numbers of tests and of benchmarks.
fn completed(rest: &str) -> Option<[usize; 2]> {
    let rest = rest.strip_prefix("completed\", \"tests\": ")?;
    let (tests, rest) = rest.split_once(", \"benchmarks\": ")?;
    let (benchmarks, _) = rest.split_once(',')?;
    Some([tests.parse().ok()?, benchmarks.parse().ok()?])
}

/// Takes the record of a test apart.
fn discovered(rest: &str, kind: TestKind) -> Option<ListedTest> {
    let rest = rest.strip_prefix("discovered\", \"name\": \"")?;
    let (name, rest) = rest.split_once("\", \"ignore\": ")?;
    let (ignored, rest) = rest.split_once(", \"ignore_message\": \"")?;
    // From the end, since the reason may hold anything.
    let (reason, rest) = rest.rsplit_once("\", \"source_path\": \"")?;
    let (file, rest) = rest.split_once("\", \"start_line\": ")?;
    let (line, rest) = rest.split_once(", \"start_col\": ")?;
    let (column, _) = rest.split_once(',')?;
    let name: String = unescaped(name)?;
    if parse::unusable(&name).is_some() {
        return None;
    }
    let ignored = ignored.parse().ok()?;
    let location = Location {
        file: unescaped(file)?,
        line: line.parse().ok()?,
        column: column.parse().ok()?,
    };
    Some(ListedTest {
        name: TestCaseName::new(&name),
        ignored,
        kind,
        reason: (ignored && !reason.is_empty()).then(|| reason.to_owned()),
        // Tests that a program puts together itself may have none.
        location: (!location.file.is_empty() && location.line > 0).then(|| Arc::new(location)),
    })
}

fn unescaped(text: &str) -> Option<String> {
    match text.contains('\\') {
        false => Some(text.to_owned()),
        true => serde_json::from_str(&format!("\"{text}\"")).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(name: &str, ignored: bool, reason: &str, line: u32) -> String {
        let name = serde_json::to_string(name).unwrap();
        format!(
            "{{ \"type\": \"test\", \"event\": \"discovered\", \"name\": {name}, \"ignore\": {ignored}, \
             \"ignore_message\": \"{reason}\", \"source_path\": \"src/lib.rs\", \"start_line\": {line}, \
             \"start_col\": 4, \"end_line\": {line}, \"end_col\": 9 }}\n"
        )
    }

    fn whole(records: &[String]) -> String {
        let tests = records.len();
        format!(
            "{{ \"type\": \"suite\", \"event\": \"discovery\" }}\n{}{{ \"type\": \"suite\", \"event\": \
             \"completed\", \"tests\": {tests}, \"benchmarks\": 0, \"total\": {tests}, \"ignored\": 0 }}\n",
            records.concat()
        )
    }

    #[test]
    fn a_test_has_its_place_and_the_reason_why_it_is_ignored() {
        let reason = "needs \"a\" disk\n{ \"type\": and \\ more";
        let output = whole(&[record("b", true, reason, 7), record("a::c", false, "", 3)]);
        let tests = parse(output.as_bytes()).unwrap();
        assert_eq!(tests[0].name.as_str(), "a::c");
        assert_eq!(tests[0].reason, None);
        assert_eq!(tests[1].reason.as_deref(), Some(reason));
        let location = tests[1].location.as_ref().unwrap();
        assert_eq!(
            (location.file.as_str(), location.line, location.column),
            ("src/lib.rs", 7, 4)
        );
    }

    #[test]
    fn no_tests_are_an_answer_and_no_output_is_none() {
        assert_eq!(parse(whole(&[]).as_bytes()), Some(Vec::new()));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"a: test\n"), None);
    }

    #[test]
    fn an_answer_with_too_few_or_too_many_records_is_none() {
        let two = whole(&[record("a", false, "", 1), record("b", false, "", 2)]);
        assert_eq!(parse(two.as_bytes()).unwrap().len(), 2);
        for (from, to) in [
            ("\"tests\": 2", "\"tests\": 3"),
            ("\"tests\": 2", "\"tests\": 1"),
        ] {
            assert_eq!(parse(two.replace(from, to).as_bytes()), None);
        }
        let cut = &two[..two.find("completed").unwrap()];
        assert_eq!(parse(cut.as_bytes()), None);
        let printed = format!("hello\n{two}");
        assert_eq!(parse(printed.as_bytes()), None);
    }

    #[test]
    fn of_two_tests_with_one_name_the_ignored_one_stays() {
        for order in [[true, false], [false, true]] {
            let records = order.map(|ignored| record("a", ignored, "", 1));
            let tests = parse(whole(&records).as_bytes()).unwrap();
            assert_eq!((tests.len(), tests[0].ignored), (1, true));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(bytes in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
            let _ = parse(&bytes);
            let whole = whole(&[record("a", true, &String::from_utf8_lossy(&bytes), 1)]);
            let _ = parse(whole.get(..cut.index(whole.len())).unwrap_or_default().as_bytes());
        }

        #[test]
        fn every_name_comes_back(names in proptest::collection::btree_set("[^\0]{1,20}", 0..9)) {
            let records: Vec<_> = names.iter().map(|name| record(name, false, "", 1)).collect();
            let tests = parse(whole(&records).as_bytes()).unwrap();
            let back: Vec<_> = tests.iter().map(|test| test.name.as_str()).collect();
            prop_assert_eq!(back, names.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
