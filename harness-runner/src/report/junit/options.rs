//! The contents of a JUnit report, its place, and the schema that it keeps to.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

/// The contents of the report, and its place.
#[derive(Clone, Debug)]
pub struct JunitOptions {
    /// The file.
    pub path: Utf8PathBuf,
    /// The name of the report.
    pub name: String,
    /// The most bytes of one stream of one attempt; head and tail are kept.
    pub stream_cap: usize,
    /// The most bytes of output in the whole report. After that only the ends are kept.
    pub total_cap: u64,
    /// Whether each test case has properties: attempts, slot, resources, survivors.
    pub properties: bool,
    /// The schema that the report keeps to.
    pub schema: Schema,
    /// The host's name.
    pub hostname: String,
    /// Whether output of which the report has only the ends, and traces of failed attempts, lie in files beside it.
    pub attachments: bool,
}

impl JunitOptions {
    /// Returns the defaults for a report at `path`.
    pub fn new(path: impl Into<Utf8PathBuf>) -> Self {
        Self {
            path: path.into(),
            name: "harness-run".to_owned(),
            stream_cap: 1024 * 1024,
            total_cap: 256 * 1024 * 1024,
            properties: false,
            schema: Schema::Free,
            hostname: "localhost".to_owned(),
            attachments: false,
        }
    }
}

/// A schema for JUnit reports.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schema {
    /// None: with all that is known.
    #[default]
    Free,
    /// `junit-10.xsd` of Jenkins: without properties, file, line, timestamps of cases and retries, the run's
    /// id, its time stamp and count of skipped tests.
    Junit10,
    /// `surefire-test-report.xsd` of Maven: also without a root around the only suite, its time stamp and
    /// host.
    Surefire,
}
