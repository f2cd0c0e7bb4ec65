//! Prints lists of tests and of binaries, for people and for programs.

use super::{ListedTest, Status, TestList};
use crate::{
    cargo::{Built, TestBinary},
    report::style::escaped,
};
use camino::Utf8Path;
use guppy::PackageId;
use harness_metadata::Location;
use nextest_filtering::{BinaryQuery, TestQuery};
use nextest_metadata::{
    BuildPlatform, FilterMatch, RustBinaryId, RustBuildMetaSummary, RustTestBinarySummary,
    RustTestCaseSummary, RustTestSuiteStatusSummary, TestCaseName,
};
use owo_colors::{OwoColorize, Style};
use serde::Serialize;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
};

/// The form of the list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Binaries as headings over their tests.
    Human {
        /// Everything that is known, and the tests that do not match.
        verbose: bool,
    },
    /// A test a line.
    Oneline {
        /// Everything that is known, and the tests that do not match.
        verbose: bool,
        /// Whether a terminal shows it, so that control characters are escaped. Programs get names
        /// as they are.
        terminal: bool,
    },
    /// JSON in one line.
    Json,
    /// Pretty-printed JSON.
    JsonPretty,
}

/// Colors; the default is none.
#[derive(Copy, Clone, Debug, Default)]
pub struct Styles {
    binary: Style,
    test: Style,
    module: Style,
    field: Style,
    skipped: Style,
}

impl Styles {
    /// Returns the colors for a terminal.
    pub fn colored() -> Self {
        Self {
            binary: Style::new().magenta().bold(),
            test: Style::new().blue().bold(),
            module: Style::new().cyan(),
            field: Style::new().yellow().bold(),
            skipped: Style::new().bright_black(),
        }
    }
}

/// A test, with what a filter needs to know of it.
#[derive(Copy, Clone, Debug)]
pub struct ListingTest<'a> {
    /// The properties that filtersets use.
    pub query: TestQuery<'a>,
    /// The statement of its binary.
    pub listed: &'a ListedTest,
}

/// The contents of the list.
pub struct Listing<'a> {
    /// The tests.
    pub tests: &'a TestList,
    /// The build.
    pub meta: &'a RustBuildMetaSummary,
    /// Tells whether a test would run.
    pub filter: &'a dyn Fn(&ListingTest<'_>) -> FilterMatch,
}

/// The list as other programs read it: [`nextest_metadata::TestListSummary`], and what only this
/// program knows of a test.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary<'a> {
    rust_build_meta: &'a RustBuildMetaSummary,
    test_count: usize,
    rust_suites: BTreeMap<&'a RustBinaryId, Suite<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Suite<'a> {
    package_name: &'a str,
    #[serde(flatten)]
    binary: RustTestBinarySummary,
    cwd: &'a Utf8Path,
    status: RustTestSuiteStatusSummary,
    #[serde(rename = "testcases")]
    test_cases: BTreeMap<&'a TestCaseName, Case<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Case<'a> {
    #[serde(flatten)]
    summary: RustTestCaseSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    ignore_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'a Location>,
}

impl Listing<'_> {
    /// Returns the summary that other programs read.
    pub fn summary(&self) -> Summary<'_> {
        let mut summary = Summary {
            rust_build_meta: self.meta,
            test_count: 0,
            rust_suites: BTreeMap::new(),
        };
        for listed in &self.tests.binaries {
            let status = match listed.status {
                Status::Listed(_) => RustTestSuiteStatusSummary::LISTED,
                Status::Skipped => RustTestSuiteStatusSummary::SKIPPED,
                Status::SkippedDefaultFilter => RustTestSuiteStatusSummary::SKIPPED_DEFAULT_FILTER,
            };
            let cases = self.matched(&listed.binary, &listed.status).into_iter();
            let suite = Suite {
                package_name: &listed.binary.package_name,
                binary: listed.binary.summary(),
                cwd: &listed.binary.cwd,
                status,
                test_cases: cases.map(case).collect(),
            };
            summary.test_count += suite.test_cases.len();
            summary.rust_suites.insert(&listed.binary.id, suite);
        }
        summary
    }

    fn matched<'a>(
        &self,
        binary: &TestBinary,
        status: &'a Status,
    ) -> Vec<(&'a ListedTest, FilterMatch)> {
        let Status::Listed(tests) = status else {
            return Vec::new();
        };
        let package_id = PackageId::new(binary.package_id.as_str());
        let binary_query = BinaryQuery {
            package_id: &package_id,
            binary_id: &binary.id,
            binary_name: &binary.name,
            kind: &binary.kind,
            platform: match binary.platform {
                BuildPlatform::Host => guppy::graph::cargo::BuildPlatform::Host,
                BuildPlatform::Target => guppy::graph::cargo::BuildPlatform::Target,
            },
        };
        let judged = |listed: &'a ListedTest| {
            let query = TestQuery {
                binary_query,
                test_name: &listed.name,
            };
            (listed, (self.filter)(&ListingTest { query, listed }))
        };
        tests.iter().map(judged).collect()
    }
}

fn case((test, filter_match): (&ListedTest, FilterMatch)) -> (&TestCaseName, Case<'_>) {
    let summary = RustTestCaseSummary {
        kind: Some(test.kind.into()),
        ignored: test.ignored,
        filter_match,
    };
    let case = Case {
        summary,
        ignore_reason: test.reason.as_deref(),
        location: test.location.as_deref(),
    };
    (&test.name, case)
}

/// Prints tests.
///
/// # Errors
///
/// When the writer fails.
pub fn write_tests(
    listing: &Listing<'_>,
    format: Format,
    styles: &Styles,
    writer: &mut dyn Write,
) -> io::Result<()> {
    let verbose = match format {
        Format::Json | Format::JsonPretty => return write_json(&listing.summary(), format, writer),
        Format::Human { verbose } | Format::Oneline { verbose, .. } => verbose,
    };
    let text = text_of(format);
    for listed in &listing.tests.binaries {
        let binary = &listed.binary;
        let tests = listing.matched(binary, &listed.status);
        let mut shown: Vec<_> = tests
            .iter()
            .filter(|(_, filter)| verbose || filter.is_match())
            .collect();
        shown.sort_by_key(|(test, _)| &test.name);
        if let Format::Oneline { .. } = format {
            for (test, filter) in shown {
                write!(writer, "{} ", text(binary.id.as_str()).style(styles.binary))?;
                write_name(&text(test.name.as_str()), styles, writer)?;
                if verbose {
                    write_details(binary, Details::Line { cwd: true }, text, styles, writer)?;
                    write_skipped(*filter, styles, writer)?;
                }
                writeln!(writer)?;
            }
            continue;
        }
        if shown.is_empty() && !verbose {
            continue;
        }
        writeln!(writer, "{}:", text(binary.id.as_str()).style(styles.binary))?;
        if verbose {
            write_details(binary, Details::Block { cwd: true }, text, styles, writer)?;
        }
        let remark = match listed.status {
            Status::Listed(_) if listed.is_silent() => Some(
                "(no tests: it has `harness = false` and lists none, so nothing of it runs; \
                 `cargo test` runs it as one test)",
            ),
            Status::Listed(_) if shown.is_empty() => Some("(no tests)"),
            Status::Listed(_) => None,
            Status::Skipped => Some("(test binary didn't match filtersets, skipped)"),
            Status::SkippedDefaultFilter => {
                Some("(test binary didn't match the default filter, skipped)")
            }
        };
        if let Some(remark) = remark {
            writeln!(writer, "    {}", remark.style(styles.skipped))?;
        }
        for (test, filter) in shown {
            write!(writer, "    ")?;
            write_name(&text(test.name.as_str()), styles, writer)?;
            write_skipped(*filter, styles, writer)?;
            writeln!(writer)?;
        }
    }
    Ok(())
}

/// Prints binaries, which need not have been listed.
///
/// # Errors
///
/// When the writer fails.
pub fn write_binaries(
    built: &Built,
    format: Format,
    styles: &Styles,
    writer: &mut dyn Write,
) -> io::Result<()> {
    let (verbose, details) = match format {
        Format::Json | Format::JsonPretty => {
            return write_json(&built.summary(), format, writer);
        }
        Format::Human { verbose } => (verbose, Details::Block { cwd: false }),
        Format::Oneline { verbose, .. } => (verbose, Details::Line { cwd: false }),
    };
    let text = text_of(format);
    for binary in &built.binaries {
        write!(writer, "{}", text(binary.id.as_str()).style(styles.binary))?;
        match (verbose, details) {
            (false, _) => writeln!(writer)?,
            (true, Details::Line { .. }) => {
                write_details(binary, details, text, styles, writer)?;
                writeln!(writer)?;
            }
            (true, Details::Block { .. }) => {
                writeln!(writer, ":")?;
                write_details(binary, details, text, styles, writer)?;
            }
        }
    }
    Ok(())
}

/// Makes text fit for where it goes.
type Text = fn(&str) -> Cow<'_, str>;

fn text_of(format: Format) -> Text {
    match format {
        Format::Oneline {
            terminal: false, ..
        } => |text| Cow::Borrowed(text),
        _ => escaped,
    }
}

#[derive(Copy, Clone)]
enum Details {
    Block { cwd: bool },
    Line { cwd: bool },
}

fn write_details(
    binary: &TestBinary,
    details: Details,
    text: Text,
    styles: &Styles,
    writer: &mut dyn Write,
) -> io::Result<()> {
    let (Details::Block { cwd } | Details::Line { cwd }) = details;
    let platform = binary.platform.to_string();
    let fields = [
        Some(("bin", binary.path.as_str())),
        cwd.then_some(("cwd", binary.cwd.as_str())),
        Some(("build platform", platform.as_str())),
    ];
    for (name, value) in fields.into_iter().flatten() {
        let (name, value) = (name.style(styles.field), text(value));
        match details {
            Details::Block { .. } => writeln!(writer, "  {name}: {value}")?,
            Details::Line { .. } => write!(writer, " [{name}: {value}]")?,
        }
    }
    Ok(())
}

fn write_skipped(filter: FilterMatch, styles: &Styles, writer: &mut dyn Write) -> io::Result<()> {
    if filter.is_match() {
        return Ok(());
    }
    write!(writer, " {}", "(skipped)".style(styles.skipped))
}

fn write_name(name: &str, styles: &Styles, writer: &mut dyn Write) -> io::Result<()> {
    let (modules, last) = match name.rsplit_once("::") {
        Some((modules, last)) => (Some(modules), last),
        None => (None, name),
    };
    for module in modules.into_iter().flat_map(|modules| modules.split("::")) {
        let separator = "::".style(styles.module);
        write!(writer, "{}{separator}", module.style(styles.module))?;
    }
    write!(writer, "{}", last.style(styles.test))
}

fn write_json(value: &impl Serialize, format: Format, writer: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::JsonPretty => serde_json::to_writer_pretty(&mut *writer, value)?,
        _ => serde_json::to_writer(&mut *writer, value)?,
    }
    writeln!(writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_get_control_characters_as_they_are() {
        let oneline = |terminal| Format::Oneline {
            verbose: false,
            terminal,
        };
        let human = Format::Human { verbose: false };
        for (format, expected) in [
            (oneline(false), "\u{1b}[2Jx\u{202e}"),
            (oneline(true), r"\u{1b}[2Jx\u{202e}"),
            (human, r"\u{1b}[2Jx\u{202e}"),
        ] {
            assert_eq!(text_of(format)("\u{1b}[2Jx\u{202e}"), expected);
        }
    }
}
