//! Runs a test again that the tracer was in the way of, or may have been.
//!
//! A process has one tracer and one listener at most, and a test can see both. A test that wants to
//! be a tracer fails because of ours, and a test that checks for a tracer may skip its work. The
//! same attempt is made once more with a backend that does not disturb it. The first outcome is
//! reported too.

use super::{
    Tracing,
    ladder::{Disturbances, Step},
};
use harness_metadata::{Attempt, Outcome, Verdict, trace::EarlierTime};
use std::time::Duration;

/// A test that passed after more than this is not run again: the disturbance is reported, and the
/// next run begins with a backend that does not disturb it.
const LONG: Duration = Duration::from_secs(10);

/// Returns how a test is to be run again after an attempt, if so.
pub(super) fn again(tracing: Tracing, attempt: &Attempt) -> Option<Tracing> {
    let ladder = tracing.ladder?;
    let ended = matches!(
        attempt.outcome,
        Outcome::Exited(_) | Outcome::NoResult(_) | Outcome::TimedOut { .. }
    );
    let failed = match attempt.verdict {
        Verdict::Fail => true,
        Verdict::Pass => false,
        Verdict::Interrupted | Verdict::Quarantined => return None,
    };
    if !ended || !failed && attempt.elapsed > LONG {
        return None;
    }
    let met: Disturbances = attempt.disturbances().into_iter().collect();
    let step = Step {
        level: tracing.level,
        backend: tracing.backend,
    };
    let (ladder, Step { level, backend }) = ladder.after(step, met, failed)?;
    Some(Tracing {
        level,
        backend,
        ladder: Some(ladder),
        ..tracing
    })
}

/// Returns the record of an attempt that does not count.
pub(super) fn earlier(tracing: Tracing, attempt: Attempt) -> EarlierTime {
    EarlierTime {
        level: tracing.level,
        backend: tracing.backend,
        disturbances: attempt.disturbances(),
        outcome: attempt.outcome,
        verdict: attempt.verdict,
        elapsed: attempt.elapsed,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ladder::Ladder, *};
    use crate::tracer::record::Recorder;
    use fixture_kit::sample;
    use harness_metadata::{
        Exit,
        event::TraceLevel,
        trace::{Backend, Disturbance, Doubt},
    };

    const TRACING: Tracing = Tracing {
        level: TraceLevel::Io,
        backend: Backend::Ptrace,
        recording: crate::sys::Recording::Off,
        no_new_privs: true,
        ladder: Some(Ladder {
            level: TraceLevel::Io,
            ptrace: true,
            notify: true,
            lifecycle: true,
            met: Disturbances::NONE,
        }),
    };

    fn failed(doubts: &[Doubt]) -> Attempt {
        let mut recorder = Recorder::new(1, TraceLevel::Io, Backend::Ptrace, None);
        for doubt in doubts {
            recorder.doubt(doubt.clone());
        }
        Attempt {
            trace: Some(Box::new(recorder.summary())),
            elapsed: Duration::ZERO,
            ..sample::code(1, 101)
        }
    }

    #[test]
    fn only_what_met_the_tracer_is_run_again_and_what_came_first_is_told() {
        let refused = Doubt::Disturbed(Disturbance::PtraceRefused);
        let disturbed = failed(&[Doubt::TracesOthers, refused]);
        let notify = again(TRACING, &disturbed).unwrap();
        assert_eq!(
            (notify.level, notify.backend),
            (TraceLevel::Io, Backend::Notify)
        );
        assert_eq!(again(TRACING, &failed(&[Doubt::TracesOthers])), None);
        let passed = Attempt {
            verdict: Verdict::Pass,
            outcome: Outcome::Exited(Exit::Code(0)),
            ..disturbed.clone()
        };
        assert!(
            again(TRACING, &passed).is_some(),
            "it may have skipped what it tests"
        );
        let long = Attempt {
            elapsed: LONG * 2,
            ..passed.clone()
        };
        assert_eq!(again(TRACING, &long), None, "that would cost too much");
        let never = Tracing {
            ladder: None,
            ..TRACING
        };
        assert_eq!(again(never, &disturbed), None);
        let interrupted = Attempt {
            verdict: Verdict::Interrupted,
            ..disturbed.clone()
        };
        assert_eq!(again(TRACING, &interrupted), None);

        let told = earlier(TRACING, disturbed.clone());
        assert_eq!(told.outcome, disturbed.outcome);
        assert_eq!(
            (told.backend, told.verdict),
            (Backend::Ptrace, Verdict::Fail)
        );
        assert_eq!(told.disturbances, [Disturbance::PtraceRefused]);
    }
}
