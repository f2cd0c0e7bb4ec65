//! Traces on the terminal: live lines, and the evidence for a failure.

use super::Terminal;
use crate::report::{evidence, failure::Reason, fit::clipped, trace_line};
use harness_metadata::{
    Attempt, TestId, TraceEvent, Verdict,
    event::{TestFinished, TraceLevel},
};
use std::io::Write;

/// The most columns of a reason that are kept: there may be many.
const LONGEST_REASON: usize = 500;

/// A test that is shown again at the end of the run.
pub(super) struct Kept {
    /// Without the traces of its attempts: they live no longer than their event.
    pub(super) finished: TestFinished,
    /// The part of the last one's that is shown.
    pub(super) evidence: Vec<String>,
    /// The reason of its failure.
    pub(super) reason: Option<Reason>,
    /// Whether a failure of it can be compared with a pass.
    pub(super) explains: bool,
}

/// Returns whether an attempt failed whose calls on files were traced.
fn can_be_explained(finished: &TestFinished) -> bool {
    let failed = |attempt: &Attempt| {
        let trace = attempt.trace.as_deref();
        let level = trace.map_or(TraceLevel::Off, |trace| trace.level);
        attempt.verdict == Verdict::Fail && level >= TraceLevel::Io
    };
    finished.attempts.iter().any(failed)
}

impl Kept {
    pub(super) fn new(finished: &TestFinished, reason: Option<Reason>) -> Self {
        Self {
            finished: without_traces(finished),
            evidence: last_evidence(finished),
            explains: can_be_explained(finished),
            reason: reason.map(|reason| Reason {
                message: clipped(&reason.message, LONGEST_REASON),
                ..reason
            }),
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
        services: finished.services.clone(),
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
