//! An attempt of which there is no report.

use chrono::{DateTime, FixedOffset};
use harness_metadata::{Attempt, Metrics, Outcome, Usage, Verdict, outcome::StreamSize};
use std::time::Duration;

/// Returns all that is known of such an attempt.
pub(super) fn attempt(
    number: u32,
    (outcome, verdict): (Outcome, Verdict),
    started_at: DateTime<FixedOffset>,
    elapsed: Duration,
) -> Attempt {
    Attempt {
        number,
        verdict,
        outcome,
        leak: None,
        limits: Vec::new(),
        policy: None,
        budget: Vec::new(),
        slow: false,
        started_at,
        elapsed,
        usage: Usage::default(),
        stdout: StreamSize::default(),
        stderr: StreamSize::default(),
        pid: None,
        stuck: Vec::new(),
        slow_tasks: Vec::new(),
        metrics: Metrics::default(),
        trace: None,
        earlier: Vec::new(),
        remote: None,
    }
}
