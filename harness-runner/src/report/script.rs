//! Setup scripts in the words of tests.

use harness_metadata::{
    RunStats,
    event::{ScriptFinished, TestFinished},
};

/// Returns a script as a test with one attempt.
pub(super) fn as_test(finished: &ScriptFinished) -> TestFinished {
    TestFinished {
        location: None,
        test: finished.test.clone(),
        verdict: finished.attempt.verdict,
        attempts: vec![finished.attempt.clone()],
        total_attempts: 1,
        quarantine: None,
        slot: 0,
        output: finished.output,
        stats: RunStats::default(),
        running: 0,
        services: Vec::new(),
    }
}
