//! Cuts what quick-junit renders into the lines that a report is put together from.

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
