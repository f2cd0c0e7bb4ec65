//! Traces on the terminal: live lines, and the evidence for a failure.

use super::Terminal;
use crate::report::{evidence, failure::Reason, progress::clipped, trace_line};
use harness_metadata::{Attempt, TestId, TraceEvent, event::TestFinished};
use std::io::Write;

/// The most columns of a reason that are kept: there may be many.
const LONGEST_REASON: usize = 500;

/// A test that is shown again at the end of the run.
pub(super) struct Kept {
    /// Without the traces of its attempts: they live no longer than their event.
    pub(super) finished: TestFinished,
    /// The part of the last one's that is shown.
    pub(super) evidence: Vec<String>,
    /// The reason of its failure, in a line.
    pub(super) reason: Option<String>,
}

impl Kept {
    pub(super) fn new(finished: &TestFinished, reason: Option<&Reason>) -> Self {
        Self {
            finished: without_traces(finished),
            evidence: last_evidence(finished),
            reason: reason
                .and_then(Reason::line)
                .map(|line| clipped(&line, LONGEST_REASON)),
        }
    }
}

/// Returns what the trace of the last attempt has to say of its failure.
pub(super) fn last_evidence(finished: &TestFinished) -> Vec<String> {
    finished
        .attempts
        .last()
        .map_or_else(Vec::new, |last| evidence::lines(&finished.test, last))
}

/// Returns a copy that can be kept to the end of the run.
pub(super) fn without_traces(finished: &TestFinished) -> TestFinished {
    let attempts = finished.attempts.iter().map(Attempt::without_trace);
    TestFinished {
        attempts: attempts.collect(),
        test: finished.test.clone(),
        location: finished.location.clone(),
        quarantine: finished.quarantine.clone(),
        ..*finished
    }
}

impl<W: Write> Terminal<W> {
    /// Shows what a live trace saw, each line with its test.
    pub(super) fn traced(
        &mut self,
        test: &TestId,
        attempt: u32,
        events: &[TraceEvent],
        dropped: u64,
    ) {
        let mut name = self.styles.name(test);
        if attempt > 1 {
            name.push_str(&format!(" (try {attempt})"));
        }
        if dropped > 0 {
            self.say(&format!(
                "{name}: {dropped} events came too fast to be shown"
            ));
        }
        for event in events {
            self.say(&format!("{name}: {}", trace_line::line(event).trim_start()));
        }
    }
}
