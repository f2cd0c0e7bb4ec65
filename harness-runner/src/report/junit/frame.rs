//! Cuts what quick-junit renders into the lines that a report is put together from.

use super::Schema;
use quick_junit::{Report, TestSuite};
use std::io;

/// The name of a test case that stands for those that a suite will have.
pub(super) const MARK: &str = "@cases";
/// The end of a suite.
pub(super) const CLOSE_SUITE: &str = "    </testsuite>\n";

/// The frame of a report around its suites.
pub(super) struct Frame {
    pub(super) header: String,
    pub(super) end: String,
}

impl Frame {
    /// Takes a report without suites apart.
    pub(super) fn of(report: &str) -> Self {
        let end = report.rfind("</testsuites>").unwrap_or(report.len());
        Self {
            header: report[..end].to_owned(),
            end: report[end..].to_owned(),
        }
    }

    /// Takes a report apart that is to have nothing around its only suite.
    pub(super) fn without_root(report: &str) -> Self {
        let root = report.find("<testsuites").unwrap_or(0);
        Self {
            header: report[..root].to_owned(),
            end: String::new(),
        }
    }
}

/// The statement of a report that its run has not come to its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark {
    /// The test case at the end of each suite, if that says so.
    pub(super) in_suite: String,
    /// The end of the report after the last suite.
    pub(super) end: String,
}

impl Mark {
    /// Returns the mark of a report that keeps to a schema.
    pub(super) fn of(mark: TestSuite, schema: Schema) -> io::Result<Self> {
        let mut report = Report::unnamed();
        report.add_test_suite(mark);
        let text = rendered(&report)?;
        Ok(match schema {
            Schema::Free | Schema::Junit10 => Self {
                in_suite: String::new(),
                end: from_first_suite(&text).to_owned(),
            },
            Schema::Surefire => Self {
                in_suite: inside_suite(&text).to_owned(),
                end: String::new(),
            },
        })
    }

    /// Returns the end of a report that is complete.
    pub(super) fn none(frame: &Frame) -> Self {
        Self {
            in_suite: String::new(),
            end: frame.end.clone(),
        }
    }
}

/// Returns a report as it is written.
pub(super) fn rendered(report: &Report) -> io::Result<String> {
    let text = report.to_string().map_err(io::Error::other)?;
    Ok(minimal(&text))
}

/// Returns a report without the escapes that XML does not ask for: some readers show them as they are. An
/// apostrophe needs none, as attributes are in quotes, and a quote only needs one in attributes.
pub(super) fn minimal(report: &str) -> String {
    let mut minimal = String::with_capacity(report.len());
    let mut rest = report;
    let (mut in_tag, mut quoted) = (false, false);
    while let Some(at) = rest.find(['<', '>', '"', '&']) {
        let (before, found) = rest.split_at(at);
        minimal.push_str(before);
        let (short, length) = match found.as_bytes()[0] {
            b'<' => {
                in_tag = true;
                ("<", 1)
            }
            b'>' => {
                in_tag = in_tag && quoted;
                (">", 1)
            }
            b'"' => {
                quoted = in_tag && !quoted;
                ("\"", 1)
            }
            _ if found.starts_with("&apos;") => ("'", "&apos;".len()),
            _ if found.starts_with("&quot;") && !in_tag => ("\"", "&quot;".len()),
            _ => ("&", 1),
        };
        minimal.push_str(short);
        rest = &found[length..];
    }
    minimal.push_str(rest);
    minimal
}

/// Returns what a report of one suite has inside that suite.
pub(super) fn inside_suite(report: &str) -> &str {
    let from = report.find("        <testcase").unwrap_or(report.len());
    let to = report.rfind(CLOSE_SUITE).unwrap_or(report.len());
    report.get(from..to).unwrap_or_default()
}

/// Returns the beginning of the first suite. `<` is escaped everywhere else.
pub(super) fn suite_header(report: &str) -> &str {
    let suite = from_first_suite(report);
    let to = suite.find("        <testcase").unwrap_or(suite.len());
    &suite[..to]
}

/// Returns the suites of a report, and its end.
pub(super) fn from_first_suite(report: &str) -> &str {
    let from = report.find("    <testsuite ").unwrap_or(report.len());
    &report[from..]
}

/// Gives the numbers of a header as many digits as they can come to need, so that it can be
/// replaced in its place.
pub(super) fn wide(header: &str) -> String {
    let mut wide = header.to_owned();
    let counts = ["tests", "skipped", "failures", "errors"].map(|name| (name, 9));
    for (name, width) in counts.into_iter().chain([("time", 13)]) {
        let key = format!(" {name}=\"");
        if let Some(from) = wide.find(&key).map(|at| at + key.len())
            && let Some(length) = wide[from..].find('"')
        {
            let value = format!("{:0>width$}", &wide[from..from + length]);
            wide.replace_range(from..from + length, &value);
        }
    }
    wide
}

/// Leaves out the attribute that strict schemas do not know at the root.
pub(super) fn without_skipped_total(report: &str) -> String {
    let Some(root) = report.find("<testsuites") else {
        return report.to_owned();
    };
    let Some(from) = report[root..].find(" skipped=\"").map(|at| root + at) else {
        return report.to_owned();
    };
    let Some(length) = report[from + 10..].find('"') else {
        return report.to_owned();
    };
    format!("{}{}", &report[..from], &report[from + 10 + length + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_necessary_escapes_are_left() {
        let report = "<a b=\"it&apos;s > &quot;x&quot; &amp;apos; &lt;\">it&apos;s &quot;x&quot; &amp;quot; &gt; \"y\"</a>";
        let minimal = minimal(report);
        assert_eq!(
            minimal,
            "<a b=\"it's > &quot;x&quot; &amp;apos; &lt;\">it's \"x\" &amp;quot; &gt; \"y\"</a>"
        );
    }
}
