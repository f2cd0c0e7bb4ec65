//! Runs a test again that the tracer was in the way of.
//!
//! A process has one tracer and one listener at most. A test that wants to be either of its own
//! processes fails because of us, which is not held against it: the same attempt is made once more
//! with a tracer of the other kind, and what came of the first is told and discarded.

use super::Tracing;
use harness_metadata::{
    Attempt, Outcome, Verdict,
    event::TraceLevel,
    trace::{Backend, Doubt},
};

/// How an attempt is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) tracing: Tracing,
    /// A sentence fragment.
    pub(super) because: String,
}

/// Returns how a test is to be run again after an attempt, if so.
pub(super) fn again(tracing: Tracing, attempt: &Attempt) -> Option<Again> {
    let otherwise = tracing.otherwise?;
    let ended = matches!(
        attempt.outcome,
        Outcome::Exited(_) | Outcome::TimedOut { .. } | Outcome::NoResult(_)
    );
    let trace = attempt.trace.as_ref()?;
    if !ended || attempt.verdict != Verdict::Fail || !trace.doubts.contains(&Doubt::Obstructed) {
        return None;
    }
    let taken = match trace.backend {
        Backend::Notify => "a seccomp listener, which the tracer was already",
        _ => "ptrace, and the tracer had its processes already",
    };
    let level = match otherwise {
        Backend::None => TraceLevel::Off,
        _ => tracing.level,
    };
    let how = match otherwise {
        Backend::None => "without a trace".to_owned(),
        backend => format!("traced by {}", backend.as_str()),
    };
    Some(Again {
        tracing: Tracing {
            level,
            backend: otherwise,
            otherwise: None,
            ..tracing
        },
        because: format!("run again {how}: the test uses {taken}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracer::record::Recorder;
    use harness_metadata::{Exit, Usage, outcome::StreamSize};
    use std::time::Duration;

    const TRACING: Tracing = Tracing {
        level: TraceLevel::Io,
        backend: Backend::Ptrace,
        no_new_privs: true,
        otherwise: Some(Backend::Notify),
    };

    fn failed(doubts: &[Doubt]) -> Attempt {
        let mut recorder = Recorder::new(1, TraceLevel::Io, Backend::Ptrace, None);
        for doubt in doubts {
            recorder.doubt(doubt.clone());
        }
        Attempt {
            number: 1,
            outcome: Outcome::Exited(Exit::Code(101)),
            leak: None,
            limits: Vec::new(),
            verdict: Verdict::Fail,
            slow: false,
            started_at: "2026-01-02T03:04:05+00:00".parse().unwrap(),
            elapsed: Duration::ZERO,
            usage: Usage::default(),
            stdout: StreamSize::default(),
            stderr: StreamSize::default(),
            pid: Some(1),
            stuck: Vec::new(),
            trace: Some(Box::new(recorder.summary())),
            rerun: None,
        }
    }

    #[test]
    fn only_a_failure_that_the_tracer_may_have_caused_is_run_again() {
        let obstructed = failed(&[Doubt::TracesOthers, Doubt::Obstructed]);
        let again = |tracing, attempt: &Attempt| super::again(tracing, attempt).map(|a| a.tracing);
        let notify = again(TRACING, &obstructed).unwrap();
        assert_eq!(
            (notify.level, notify.backend),
            (TraceLevel::Io, Backend::Notify)
        );
        // Once.
        assert_eq!(again(notify, &obstructed), None);
        assert_eq!(again(TRACING, &failed(&[Doubt::TracesOthers])), None);
        let passed = Attempt {
            verdict: Verdict::Pass,
            ..obstructed.clone()
        };
        assert_eq!(again(TRACING, &passed), None);
        let never = Tracing {
            otherwise: None,
            ..TRACING
        };
        assert_eq!(again(never, &obstructed), None);
        let untraced = Tracing {
            otherwise: Some(Backend::None),
            ..TRACING
        };
        assert_eq!(again(untraced, &obstructed).unwrap().level, TraceLevel::Off);
    }
}
