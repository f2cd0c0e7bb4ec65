//! The share of captured output that a report holds: the two ends of each stream, less of each once the report
//! is large.

use super::{Excerpt, Outputs, Stream, captured::plain, excerpt, style::escaped_lines, wording};
use harness_metadata::{AttemptId, TestId};

/// The most bytes of one stream of one attempt.
const STREAM_CAP: usize = 64 * 1024;

/// The same once the report has as much output as it may have.
const LATE_STREAM_CAP: usize = 4 * 1024;

/// The most bytes of output in a report, before the cap of a stream falls.
const OUTPUT_CAP: usize = 64 * 1024 * 1024;

/// The amount of output that a report has so far.
#[derive(Debug, Default)]
pub(super) struct Share {
    taken: usize,
}

impl Share {
    /// Reads standard output and standard error of an attempt.
    pub(super) fn read(
        &self,
        test: &TestId,
        attempt: u32,
        outputs: &dyn Outputs,
    ) -> [Option<Excerpt>; 2] {
        let test = test.clone();
        let id = AttemptId { test, attempt };
        let cap = match self.taken < OUTPUT_CAP {
            true => STREAM_CAP,
            false => LATE_STREAM_CAP,
        };
        [Stream::Stdout, Stream::Stderr].map(|stream| excerpt(outputs, &id, stream, cap))
    }

    /// Notes what of it is in the report.
    pub(super) fn take(&mut self, text: &str) {
        self.taken += text.len();
    }

    /// Returns output as text for programs, which is in the report from now on.
    pub(super) fn text(&mut self, excerpt: &Excerpt) -> String {
        let text = text(excerpt);
        self.take(&text);
        text
    }
}

/// Returns the two ends of a stream, without control sequences. Other control characters are shown as escapes.
fn text(excerpt: &Excerpt) -> String {
    let shown = |bytes: &[u8]| escaped_lines(&plain(bytes)).into_owned();
    let mut text = shown(&excerpt.head);
    if excerpt.left_out > 0 {
        let left_out = wording::size(excerpt.left_out);
        text.push_str(&format!("\n… {left_out} left out …\n"));
        text.push_str(&shown(&excerpt.tail));
    }
    text
}
