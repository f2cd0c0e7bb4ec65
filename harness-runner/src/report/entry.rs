//! Everything that reports have an entry for, each in the words of tests: tests, setup scripts and services,
//! and tests that did not run.

use super::{account, result::Status, service};
use harness_metadata::{
    Attempt, EventKind, Location, RunStats, TestId,
    event::{OutputPolicy, ScriptFinished, ServiceFinished, TestFinished},
};
use nextest_metadata::MismatchReason;
use std::borrow::Cow;

/// An entry of a report.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    /// Something has ended.
    Finished {
        finished: Box<Cow<'a, TestFinished>>,
        /// The reason why a setup script or a service failed.
        problem: Option<String>,
    },
    /// A test did not run.
    Unrun {
        test: &'a TestId,
        location: Option<&'a Location>,
        status: Status,
        why: String,
    },
}

/// Returns the entries that an event adds.
pub(super) fn entries(kind: &EventKind) -> Vec<Entry<'_>> {
    let finished = |finished, problem| {
        let finished = Box::new(finished);
        vec![Entry::Finished { finished, problem }]
    };
    match kind {
        EventKind::TestFinished(test) => finished(Cow::Borrowed(test), None),
        EventKind::SetupFinished(script) | EventKind::TeardownFinished(script) => {
            finished(Cow::Owned(of_script(script)), script.problem.clone())
        }
        EventKind::ServiceFinished(service) => {
            let problem = service::problem(service);
            finished(Cow::Owned(of_service(service)), problem)
        }
        EventKind::TestSkipped {
            test,
            reason,
            reported,
            ignore_reason,
            location,
        } if *reported || *reason == MismatchReason::Ignored => vec![Entry::Unrun {
            test,
            location: location.as_ref(),
            status: Status::Skipped,
            why: account::skipped(ignore_reason.as_deref(), *reason),
        }],
        EventKind::TestCached(cached) => vec![Entry::Unrun {
            test: &cached.test,
            location: cached.location.as_ref(),
            status: Status::Skipped,
            why: account::cached(cached),
        }],
        EventKind::RunFinished(run) => {
            let why = account::not_run(run);
            let unrun = |test| Entry::Unrun {
                test,
                location: None,
                status: Status::NotRun,
                why: why.clone(),
            };
            run.not_run.iter().map(unrun).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns a setup script or its teardown as a test with one attempt.
pub(super) fn of_script(finished: &ScriptFinished) -> TestFinished {
    with_attempt(&finished.test, &finished.attempt, finished.output)
}

/// Returns a service as a test with one attempt.
pub(super) fn of_service(finished: &ServiceFinished) -> TestFinished {
    with_attempt(&finished.test, &finished.attempt, finished.output)
}

fn with_attempt(test: &TestId, attempt: &Attempt, output: OutputPolicy) -> TestFinished {
    TestFinished {
        location: None,
        test: test.clone(),
        verdict: attempt.verdict,
        attempts: vec![attempt.clone()],
        total_attempts: 1,
        quarantine: None,
        slot: 0,
        output,
        stats: RunStats::default(),
        running: 0,
        services: Vec::new(),
    }
}
