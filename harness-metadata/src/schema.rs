//! Holds `events.schema.json` to the types.
//!
//! To write it after a change: `UPDATE_EXPECT=1 cargo test -p harness-metadata schema`.

use crate::{Event, TraceEvent};
use expect_test::expect_file;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::Value;

/// A line of the event stream: an event, and the output of an attempt that failed.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "An event of `cargo harness run --events`")]
struct Line {
    #[serde(flatten)]
    event: Event,
    /// The number of the line, from 0.
    seq: u64,
    /// The reason of the attempt that it ends, if that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    /// Standard output of the last attempt, if it failed; long output without its middle. Bytes that are
    /// not UTF-8 are U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    /// Standard error, in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
}

/// The reason of a failure.
#[derive(Serialize, JsonSchema)]
struct Failure {
    /// The first line of the message of the panic, or the words of the harness. Empty if there are none.
    message: String,
    /// The file of the panic, or else of the test's definition, relative to the root of the workspace. Absent
    /// if it is outside or unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The line there.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

/// Returns the schema of a line, as it is written.
fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut generator = settings.into_generator();
    // In the event stream only a live trace has these. `cargo harness trace --json` prints them.
    generator.subschema_for::<TraceEvent>();
    generator.into_root_schema_for::<Line>().into()
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let text = serde_json::to_string_pretty(&schema()).expect("it is plain data");
    expect_file!["../events.schema.json"].assert_eq(&(text + "\n"));
}
