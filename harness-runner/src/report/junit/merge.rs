//! Makes one JUnit report of several.

use quick_junit::{DeserializeError, Report, TestCase, TestCaseStatus, TestSuite};
use std::{
    collections::HashMap,
    io::{self, Write},
};

/// The beginning of the class of setup scripts.
const SETUP_SCRIPT: &str = "@setup-script:";
/// The beginning of the class of services.
const SERVICE: &str = "@service:";

/// A report to merge.
#[derive(Debug)]
pub struct Piece {
    name: String,
    report: Report,
}

impl Piece {
    /// Reads a report. `name` is its file, for messages.
    ///
    /// # Errors
    ///
    /// When the text is no JUnit report.
    pub fn read(name: &str, text: &str) -> Result<Self, DeserializeError> {
        Ok(Self {
            name: name.to_owned(),
            report: Report::deserialize_from_str(text)?,
        })
    }
}

/// A report of several.
#[derive(Debug)]
pub struct Merged {
    report: Report,
    /// Tests that have several results, each a sentence.
    pub warnings: Vec<String>,
}

impl Merged {
    /// Writes the report.
    ///
    /// # Errors
    ///
    /// When the writer refuses it.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        self.report.serialize(out).map_err(io::Error::other)
    }
}

/// A suite, and for each of its cases the number of the report that it is from.
struct Joined {
    suite: TestSuite,
    cases: Vec<(usize, TestCase)>,
    places: HashMap<(String, String), usize>,
}

/// Merges reports: suites of the same name are one, with the sum of their times. Of several results of a
/// test the first failure counts. The report takes as long as the longest of all.
pub fn merge(pieces: Vec<Piece>) -> Merged {
    let mut names = Vec::new();
    let mut root: Option<Report> = None;
    let mut joined: Vec<Joined> = Vec::new();
    let mut warnings = Vec::new();
    for piece in pieces {
        let mut report = piece.report;
        let suites = std::mem::take(&mut report.test_suites);
        names.push(piece.name);
        for suite in suites {
            let place = joined.iter().position(|it| it.suite.name == suite.name);
            match place {
                Some(place) => joined[place].join(suite, &names, &mut warnings),
                None => {
                    let mut new = Joined::new(&suite);
                    new.join(suite, &names, &mut warnings);
                    joined.push(new);
                }
            }
        }
        root = Some(match root {
            None => report,
            Some(mut first) => {
                first.time = first.time.max(report.time);
                first.timestamp = earlier(first.timestamp, report.timestamp);
                // It would be the id of one of the runs.
                first.uuid = None;
                first
            }
        });
    }
    let mut report = root.unwrap_or_else(Report::unnamed);
    (report.tests, report.failures) = (0, 0);
    (report.errors, report.skipped) = (0, 0);
    report.add_test_suites(joined.into_iter().map(Joined::finish));
    Merged { report, warnings }
}

impl Joined {
    fn new(suite: &TestSuite) -> Self {
        let mut empty = TestSuite::new(suite.name.clone());
        empty.timestamp = suite.timestamp;
        empty.extra.clone_from(&suite.extra);
        Self {
            suite: empty,
            cases: Vec::new(),
            places: HashMap::new(),
        }
    }

    fn join(&mut self, suite: TestSuite, names: &[String], warnings: &mut Vec<String>) {
        let time = self.suite.time.unwrap_or_default() + suite.time.unwrap_or_default();
        self.suite.set_time(time);
        self.suite.timestamp = earlier(self.suite.timestamp, suite.timestamp);
        for property in suite.properties {
            if !self.suite.properties.contains(&property) {
                self.suite.properties.push(property);
            }
        }
        let newest = names.len() - 1;
        for case in suite.test_cases {
            let class = case.classname.as_ref();
            let class = class.map_or_else(String::new, |class| class.as_str().to_owned());
            let key = (class, case.name.as_str().to_owned());
            let Some(&place) = self.places.get(&key) else {
                self.places.insert(key, self.cases.len());
                self.cases.push((newest, case));
                continue;
            };
            let (before, there) = &mut self.cases[place];
            let first = *before;
            // Each part runs its setup scripts and its services.
            let is_script = key.0.starts_with(SETUP_SCRIPT) || key.0.starts_with(SERVICE);
            let both = !is_script && is_result(there) && is_result(&case);
            if rank(&case) > rank(there) {
                (*before, *there) = (newest, case);
            }
            if both {
                warnings.push(format!(
                    "`{} {}` has a result in `{}` and in `{}`; that of `{}` counts",
                    key.0, key.1, names[first], names[newest], names[*before]
                ));
            }
        }
    }

    fn finish(self) -> TestSuite {
        let mut suite = self.suite;
        suite.add_test_cases(self.cases.into_iter().map(|(_, case)| case));
        suite
    }
}

fn is_result(case: &TestCase) -> bool {
    rank(case) > 0
}

fn rank(case: &TestCase) -> u8 {
    match case.status {
        TestCaseStatus::Skipped { .. } => 0,
        TestCaseStatus::Success { .. } => 1,
        TestCaseStatus::NonSuccess { .. } => 2,
    }
}

fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, cases: &str) -> Piece {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuites name=\"r\" tests=\"9\" failures=\"9\" errors=\"9\" time=\"2.000\">\
             <testsuite name=\"s\" tests=\"9\" disabled=\"0\" errors=\"0\" failures=\"0\" \
             hostname=\"h\" time=\"1.500\">{cases}</testsuite></testsuites>"
        );
        Piece::read(name, &text).expect("it is a report")
    }

    fn written(merged: &Merged) -> String {
        let mut bytes = Vec::new();
        merged.write(&mut bytes).expect("memory takes everything");
        String::from_utf8(bytes).expect("it is UTF-8")
    }

    #[test]
    fn suites_of_the_same_name_are_one_with_all_cases() {
        let one = read(
            "one",
            "<testcase name=\"a\" classname=\"s\" time=\"1.0\" file=\"src/lib.rs\" line=\"3\">\
             <properties><property name=\"slot\" value=\"1\"/></properties>\
             <failure message=\"m\" type=\"t\">body</failure>\
             <system-out>out</system-out></testcase>",
        );
        let two = read("two", "<testcase name=\"b\" classname=\"s\"/>");
        let merged = merge(vec![one, two]);
        assert_eq!(merged.warnings, [""; 0]);
        let text = written(&merged);
        assert_eq!(text.matches("<testsuite ").count(), 1, "{text}");
        for part in [
            "<testsuites name=\"r\" tests=\"2\" skipped=\"0\" failures=\"1\" errors=\"0\"",
            "hostname=\"h\"",
            "time=\"3.000\"",
            "file=\"src/lib.rs\"",
            "line=\"3\"",
            "name=\"slot\"",
            "<failure message=\"m\" type=\"t\">body</failure>",
            "<system-out>out</system-out>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_failure_counts_before_a_success_and_that_before_a_skip() {
        let skipped = "<testcase name=\"a\" classname=\"s\"><skipped/></testcase>";
        let passed = "<testcase name=\"a\" classname=\"s\"/>";
        let failed = "<testcase name=\"a\" classname=\"s\"><failure message=\"m\"/></testcase>";
        let merged = merge(vec![read("one", skipped), read("two", passed)]);
        assert_eq!(merged.warnings, [""; 0]);
        let script = passed.replace("classname=\"s\"", "classname=\"@setup-script:db\"");
        let scripts = merge(vec![read("one", &script), read("two", &script)]);
        assert_eq!(scripts.warnings, [""; 0]);
        assert!(!written(&merged).contains("<skipped"));
        let merged = merge(vec![read("one", passed), read("two", failed)]);
        assert_eq!(
            merged.warnings,
            ["`s a` has a result in `one` and in `two`; that of `two` counts"]
        );
        assert!(written(&merged).contains("<failure message=\"m\""));
    }
}
