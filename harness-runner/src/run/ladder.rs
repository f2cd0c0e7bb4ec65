//! The ways to trace a test, from the one that sees most to none at all, and which of them leave alone
//! what the test has met.

use harness_metadata::{
    event::TraceLevel,
    trace::{Backend, Disturbance},
};
use serde::{Deserialize, Serialize};

/// A set of disturbances.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disturbances(u16);

impl Disturbances {
    /// No disturbance.
    pub const NONE: Self = Self(0);

    /// Returns whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns them in order.
    pub fn iter(self) -> impl Iterator<Item = Disturbance> {
        Disturbance::ALL
            .into_iter()
            .filter(move |it| self.0 & bit(*it) != 0)
    }

    fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<Disturbance> for Disturbances {
    fn from_iter<T: IntoIterator<Item = Disturbance>>(disturbances: T) -> Self {
        Self(disturbances.into_iter().fold(0, |set, it| set | bit(it)))
    }
}

fn bit(disturbance: Disturbance) -> u16 {
    1 << disturbance as u16
}

/// One way to trace.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The level.
    pub level: TraceLevel,
    /// By what.
    pub backend: Backend,
}

impl Step {
    /// Without a trace.
    pub const NONE: Self = Self {
        level: TraceLevel::Off,
        backend: Backend::None,
    };
}

/// The steps that can be taken for a test, and what it has met.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    /// The level that was asked for.
    pub level: TraceLevel,
    /// Whether [`Backend::Ptrace`] can be used for the test.
    pub ptrace: bool,
    /// Whether [`Backend::Notify`] can be.
    pub notify: bool,
    /// Whether [`Backend::Lifecycle`] can be.
    pub lifecycle: bool,
    /// The disturbances of the test so far, in this run or in an earlier one.
    pub met: Disturbances,
}

impl Ladder {
    /// Returns the step that sees most of those that leave alone what the test has met.
    pub fn step(&self) -> Step {
        let all = [
            (Backend::Ptrace, self.ptrace, self.level),
            (Backend::Notify, self.notify, self.level),
            (Backend::Lifecycle, self.lifecycle, TraceLevel::Process),
        ];
        let closely = self.level > TraceLevel::Process;
        all.into_iter()
            .filter(|(backend, works, _)| *works && (closely || *backend == Backend::Lifecycle))
            .find(|(backend, ..)| !self.met.iter().any(|it| it.is_caused_by(*backend)))
            .map_or(Step::NONE, |(backend, _, level)| Step { level, backend })
    }

    /// Returns the next step after a time at `step` in which the test met something, and the ladder from
    /// there on; `None` if that time counts.
    ///
    /// A failure for which there is no such reason counts, unless the test is not traced as usual for the
    /// sake of a time before: whether it is the backend's, only no trace at all can tell.
    pub fn after(mut self, step: Step, met: Disturbances, failed: bool) -> Option<(Self, Step)> {
        if step.backend == Backend::None {
            return None;
        }
        let strange = met.without(self.met);
        let before = self.met;
        self.met = before.with(met);
        let next = match (strange.is_empty(), met.is_empty()) {
            (false, _) => self.step(),
            // What it had met already is met again: the step was chosen to prevent that.
            (true, false) => Step::NONE,
            (true, true) if failed && !before.is_empty() => Step::NONE,
            (true, true) => return None,
        };
        // Without a reason to be elsewhere it would be the same again.
        let next = if next == step { Step::NONE } else { next };
        Some((self, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Backend::{Lifecycle, None as Nothing, Notify, Ptrace};
    use Disturbance::*;

    fn ladder(level: TraceLevel, met: &[Disturbance]) -> Ladder {
        Ladder {
            level,
            ptrace: true,
            notify: true,
            lifecycle: true,
            met: met.iter().copied().collect(),
        }
    }

    #[test]
    fn the_step_that_sees_most_of_those_that_leave_a_test_alone_is_taken() {
        use TraceLevel::{Full, Io, Process};
        for (level, met, expected) in [
            (Io, &[][..], Ptrace),
            (Full, &[PtraceRefused], Notify),
            (Io, &[ListenerRefused], Ptrace),
            (Io, &[PtraceRefused, ListenerRefused], Nothing),
            (Io, &[SeccompAsked], Lifecycle),
            (Io, &[StrictModeRefused, NoNewPrivsAsked], Lifecycle),
            (Io, &[NoNewPrivsUsed, PtraceRefused], Nothing),
            (Io, &[FilterForTracer], Lifecycle),
            (Io, &[StoppedRead], Notify),
            (Io, &[StatusRead], Nothing),
            (Full, &[PrivilegesWithheld], Nothing),
            (Process, &[], Lifecycle),
            (Process, &[PtraceRefused], Nothing),
            (Process, &[SeccompAsked], Lifecycle),
        ] {
            let step = ladder(level, met).step();
            assert_eq!(step.backend, expected, "{level:?} {met:?}");
            let level = match expected {
                Nothing => TraceLevel::Off,
                Lifecycle => Process,
                _ => level,
            };
            assert_eq!(step.level, level);
        }
        let alone = Ladder {
            notify: false,
            lifecycle: false,
            ..ladder(Io, &[PtraceRefused])
        };
        assert_eq!(alone.step(), Step::NONE);
    }

    /// Climbs down from the first step: what is met at each, and whether the test fails there.
    fn climbed(
        level: TraceLevel,
        known: &[Disturbance],
        times: &[(&[Disturbance], bool)],
    ) -> Vec<Backend> {
        let mut ladder = ladder(level, known);
        let mut step = ladder.step();
        let mut steps = vec![step.backend];
        for (met, failed) in times {
            let met = met.iter().copied().collect();
            let Some((further, next)) = ladder.after(step, met, *failed) else {
                break;
            };
            (ladder, step) = (further, next);
            steps.push(step.backend);
        }
        steps
    }

    #[test]
    fn steps_are_taken_until_nothing_is_met_or_nothing_traces() {
        use TraceLevel::{Io, Process};
        let fails = true;
        let passes = false;
        for (level, known, times, expected) in [
            // Nothing was met: a failure is the test's own.
            (Io, &[][..], &[(&[][..], fails)][..], &[Ptrace][..]),
            (Io, &[], &[(&[], passes)], &[Ptrace]),
            (
                Io,
                &[],
                &[(&[PtraceRefused], fails), (&[], passes)],
                &[Ptrace, Notify],
            ),
            // A pass that may have come from skipping.
            (
                Io,
                &[],
                &[(&[StatusRead], passes), (&[], passes)],
                &[Ptrace, Nothing],
            ),
            // The next one is in the way as well.
            (
                Io,
                &[],
                &[
                    (&[PtraceRefused], fails),
                    (&[ListenerRefused], fails),
                    (&[], fails),
                ],
                &[Ptrace, Notify, Nothing],
            ),
            // It fails there, and does not say why.
            (
                Io,
                &[],
                &[(&[PtraceRefused], fails), (&[], fails), (&[], fails)],
                &[Ptrace, Notify, Nothing],
            ),
            (
                Io,
                &[],
                &[
                    (&[SeccompAsked], passes),
                    (&[PtraceRefused], fails),
                    (&[], passes),
                ],
                &[Ptrace, Lifecycle, Nothing],
            ),
            (
                Process,
                &[],
                &[(&[PtraceRefused], fails), (&[], fails)],
                &[Lifecycle, Nothing],
            ),
            // What was remembered is corrected.
            (
                Io,
                &[PtraceRefused],
                &[(&[], fails), (&[], fails)],
                &[Notify, Nothing],
            ),
            (Io, &[PtraceRefused], &[(&[], passes)], &[Notify]),
            (
                Io,
                &[ListenerRefused],
                &[(&[PtraceRefused], fails), (&[], passes)],
                &[Ptrace, Nothing],
            ),
            (Io, &[StatusRead], &[(&[], fails)], &[Nothing]),
        ] {
            assert_eq!(
                climbed(level, known, times),
                expected,
                "{level:?} {known:?} {times:?}"
            );
        }
    }
}
