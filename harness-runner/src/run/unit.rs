//! Decides the life of one attempt: when it is slow, when it is terminated, how long what it
//! left behind may live, and what the outcome is.
//!
//! It is given the active time and what happened, and answers what to do. It starts nothing and
//! waits for nothing.

use crate::config::settings::{LeakPolicy, LeakTimeout, SlowTimeout, TestSettings, TimeoutResult};
use harness_metadata::{
    Exit, Fault, Interruption, Leak, LimitHit, NoResultKind, Outcome, StartFailure, Survivor,
    Verdict, event::RunningState,
};
use std::time::Duration;

/// The time that the stub has to kill a tree before the attempt ends without it. Longer than the
/// stub's own limit, so that the stub is heard first.
const KILL_LIMIT: Duration = Duration::from_secs(15);

/// The time that a test may go on after it was refused processes. It fails in any case, but may
/// report its error; an endless forker would not end.
const LIMIT_GRACE: Duration = Duration::from_secs(1);

/// SIGTERM, as every Linux architecture numbers it.
const SIGTERM: i32 = 15;

/// The input to the attempt's state machine.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    /// The time of [`Unit::deadline`] has come.
    Deadline,
    /// The process was never there.
    StartFailed(StartFailure),
    /// The test's own process has ended.
    Exited { exit: Exit, descendants_alive: bool },
    /// The last descendant is gone.
    Gone { survivors: Vec<Survivor> },
    /// A process of the attempt has been stopped for a debugger, for an unknown time.
    Broke,
    /// The attempt has been refused processes by its limit.
    LimitHit,
    /// The attempt waits for what will not happen, because of the tracer.
    Stuck,
    /// Both output streams are at their end.
    OutputClosed,
    /// The run wants the attempt to end.
    Interrupt(Interruption, Force),
    /// The stub ended, or does not make sense.
    StubLost(String),
}

/// The force of an interruption.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Force {
    /// By this signal, with a grace period.
    Signal(i32),
    /// Outright.
    Kill,
}

/// The action to take.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Say that the attempt is slow, or that its time is up.
    Slow { terminating: bool },
    /// Find out what the test is waiting for, before anything else is done to it. The stub bounds
    /// how long that takes, and does what is asked of it in order.
    Inspect,
    /// Send a signal to the test's process group.
    Signal(i32),
    /// Kill all that is alive.
    Kill,
    /// The attempt is over. Output that is still open is not waited for. If the stub has not
    /// said so, it is not fit for another attempt.
    Finish(Ending),
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    pub(super) leak: Option<Leak>,
    pub(super) slow: bool,
    /// The stub has finished with the attempt and can take another.
    pub(super) stub_free: bool,
    /// The stub still has descendants, which are to live on.
    pub(super) lingers: bool,
}

/// The reason why an attempt is ended.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Because {
    TimedOut,
    Interrupted(Interruption),
    Limited,
    Stuck,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Running,
    /// It has been asked to end.
    Terminating {
        because: Because,
    },
    /// It is being killed.
    Killing {
        because: Because,
    },
    /// The root has exited; descendants are alive or output is open.
    Draining {
        outcome: Outcome,
        descendants: bool,
    },
    /// The leak window is over; descendants are being killed.
    Reaping {
        outcome: Outcome,
        output_open: bool,
    },
    Finished,
}

/// The state of one attempt.
#[derive(Debug)]
pub(super) struct Unit {
    slow_timeout: SlowTimeout,
    leak_timeout: LeakTimeout,
    phase: Phase,
    deadline: Duration,
    slow_periods: u32,
    output_open: bool,
    /// Whether its limits count.
    limited: bool,
    /// Whether descendants may live on.
    may_linger: bool,
}

impl Unit {
    /// An attempt that starts at `now`.
    pub(super) fn new(now: Duration, slow: SlowTimeout, leak: LeakTimeout) -> Self {
        Self {
            slow_timeout: slow,
            leak_timeout: leak,
            phase: Phase::Running,
            deadline: now.saturating_add(slow.period),
            slow_periods: 0,
            output_open: true,
            limited: true,
            may_linger: false,
        }
    }

    /// Lets descendants live on when the leak window is over, which is reported all the same.
    pub(super) fn with_lingering(mut self, may_linger: bool) -> Self {
        self.may_linger = may_linger;
        self
    }

    /// Returns the active time at which [`Input::Deadline`] is due.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns what the attempt is doing, whether it is slow, and how long until what is left of it is
    /// killed.
    pub(super) fn state(&self, now: Duration) -> (RunningState, bool, Option<Duration>) {
        let state = match self.phase {
            Phase::Running => RunningState::Running,
            Phase::Terminating { .. } | Phase::Killing { .. } => RunningState::Terminating,
            Phase::Draining { .. } | Phase::Reaping { .. } | Phase::Finished => {
                RunningState::Draining
            }
        };
        let bounded = matches!(
            self.phase,
            Phase::Terminating { .. } | Phase::Draining { .. }
        ) && self.deadline < Duration::MAX;
        let left = bounded.then(|| self.deadline.saturating_sub(now));
        (state, self.slow_periods > 0, left)
    }

    /// Takes what happened, answers what to do, in order.
    pub(super) fn handle(&mut self, now: Duration, input: Input) -> Vec<Action> {
        let phase = std::mem::replace(&mut self.phase, Phase::Finished);
        if phase == Phase::Finished {
            return Vec::new();
        }
        match input {
            Input::Deadline => self.deadline_over(now, phase),
            Input::StartFailed(failure) => self.finish(Outcome::StartFailed(failure), None, true),
            Input::Exited {
                exit,
                descendants_alive,
            } => self.exited(now, phase, exit, descendants_alive),
            Input::Gone { survivors } => self.gone(phase, survivors),
            Input::Broke => self.broke(phase),
            Input::LimitHit => self.limit_hit(now, phase),
            Input::Stuck => self.stuck(now, phase),
            Input::OutputClosed => self.output_closed(phase),
            Input::Interrupt(by, force) => self.interrupt(now, phase, by, force),
            Input::StubLost(message) => {
                self.finish(Outcome::HarnessFault(Fault { message }), None, false)
            }
        }
    }

    /// Nothing changes.
    fn stay(&mut self, phase: Phase) -> Vec<Action> {
        self.phase = phase;
        Vec::new()
    }

    fn deadline_over(&mut self, now: Duration, phase: Phase) -> Vec<Action> {
        match phase {
            Phase::Running => self.slow_period_over(now),
            Phase::Terminating { because } => self.kill(now, because),
            Phase::Killing { because } => self.finish(because.outcome(None), None, false),
            Phase::Draining {
                outcome,
                descendants,
            } => self.leak_window_over(now, outcome, descendants),
            Phase::Reaping {
                outcome,
                output_open,
            } => {
                let leak = Leak {
                    output_open,
                    ..Leak::default()
                };
                self.finish(outcome, Some(leak), false)
            }
            Phase::Finished => Vec::new(),
        }
    }

    fn exited(
        &mut self,
        now: Duration,
        phase: Phase,
        exit: Exit,
        descendants_alive: bool,
    ) -> Vec<Action> {
        match phase {
            Phase::Running => self.drain(now, Outcome::Exited(exit), descendants_alive),
            Phase::Terminating { because } | Phase::Killing { because } => {
                self.drain(now, because.outcome(Some(exit)), descendants_alive)
            }
            // The stub says this once.
            Phase::Draining { .. } | Phase::Reaping { .. } | Phase::Finished => self.stay(phase),
        }
    }

    fn gone(&mut self, phase: Phase, survivors: Vec<Survivor>) -> Vec<Action> {
        match phase {
            // Gone by themselves: the window is open for the output.
            Phase::Draining { outcome, .. } if self.output_open && survivors.is_empty() => self
                .stay(Phase::Draining {
                    outcome,
                    descendants: false,
                }),
            // Killed with the rest while the window was open, or gone by themselves.
            Phase::Draining { outcome, .. } => {
                let leak = (!survivors.is_empty()).then(|| Leak {
                    survivors,
                    ..Leak::default()
                });
                self.finish(outcome, leak, true)
            }
            Phase::Reaping {
                outcome,
                output_open,
            } => {
                let leaked = output_open || !survivors.is_empty();
                let leak = leaked.then(|| Leak {
                    output_open,
                    survivors,
                    ..Leak::default()
                });
                self.finish(outcome, leak, true)
            }
            // The stub says this only after the root's exit.
            Phase::Running
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Finished => self.stay(phase),
        }
    }

    fn broke(&mut self, phase: Phase) -> Vec<Action> {
        self.limited = false;
        if matches!(phase, Phase::Running | Phase::Draining { .. }) {
            self.deadline = Duration::MAX;
        }
        self.stay(phase)
    }

    fn limit_hit(&mut self, now: Duration, phase: Phase) -> Vec<Action> {
        match phase {
            Phase::Running => {
                let because = Because::Limited;
                self.deadline = now.saturating_add(LIMIT_GRACE);
                self.stay(Phase::Terminating { because })
            }
            Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Draining { .. }
            | Phase::Reaping { .. }
            | Phase::Finished => self.stay(phase),
        }
    }

    fn stuck(&mut self, now: Duration, phase: Phase) -> Vec<Action> {
        match phase {
            Phase::Running => self.kill(now, Because::Stuck),
            Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Draining { .. }
            | Phase::Reaping { .. }
            | Phase::Finished => self.stay(phase),
        }
    }

    fn interrupt(
        &mut self,
        now: Duration,
        phase: Phase,
        by: Interruption,
        force: Force,
    ) -> Vec<Action> {
        match (phase, force) {
            (Phase::Running, force) => {
                self.limited = true;
                let because = Because::Interrupted(by);
                match force {
                    Force::Signal(signal) => self.terminate(now, because, signal),
                    Force::Kill => self.kill(now, because),
                }
            }
            // What ended it first is why it ended; only the force can grow.
            (Phase::Terminating { because }, Force::Kill) => self.kill(now, because),
            (
                Phase::Draining {
                    outcome,
                    descendants,
                },
                force,
            ) => self.hurry(now, outcome, descendants, force),
            (
                phase @ (Phase::Terminating { .. }
                | Phase::Killing { .. }
                | Phase::Reaping { .. }
                | Phase::Finished),
                _,
            ) => self.stay(phase),
        }
    }

    fn slow_period_over(&mut self, now: Duration) -> Vec<Action> {
        self.slow_periods += 1;
        let terminate = self.slow_timeout.terminate_after;
        if terminate.is_some_and(|periods| self.slow_periods >= periods.get()) {
            let mut actions = Vec::new();
            if !self.slow_timeout.grace_period.is_zero() {
                actions.push(Action::Slow { terminating: true });
            }
            actions.push(Action::Inspect);
            actions.extend(self.terminate(now, Because::TimedOut, SIGTERM));
            return actions;
        }
        self.phase = Phase::Running;
        self.deadline = self
            .deadline
            .saturating_add(self.slow_timeout.period)
            .max(now);
        vec![Action::Slow { terminating: false }]
    }

    fn terminate(&mut self, now: Duration, because: Because, signal: i32) -> Vec<Action> {
        let grace = self.slow_timeout.grace_period;
        if grace.is_zero() {
            return self.kill(now, because);
        }
        self.phase = Phase::Terminating { because };
        self.deadline = now.saturating_add(grace);
        vec![Action::Signal(signal)]
    }

    fn kill(&mut self, now: Duration, because: Because) -> Vec<Action> {
        self.phase = Phase::Killing { because };
        self.deadline = now + KILL_LIMIT;
        vec![Action::Kill]
    }

    fn drain(&mut self, now: Duration, outcome: Outcome, descendants: bool) -> Vec<Action> {
        if !descendants && !self.output_open {
            return self.finish(outcome, None, true);
        }
        self.phase = Phase::Draining {
            outcome,
            descendants,
        };
        self.deadline = if self.limited {
            now.saturating_add(self.leak_timeout.period)
        } else {
            Duration::MAX
        };
        Vec::new()
    }

    fn output_closed(&mut self, phase: Phase) -> Vec<Action> {
        self.output_open = false;
        match phase {
            Phase::Draining {
                outcome,
                descendants: false,
            } => self.finish(outcome, None, true),
            phase => self.stay(phase),
        }
    }

    /// The run wants the attempt to end, of which only descendants or open output are left. They
    /// are asked to end; the window stays open for as long as tests have to end, so that
    /// short-lived leftovers do not become a leak because of the interruption.
    fn hurry(
        &mut self,
        now: Duration,
        outcome: Outcome,
        descendants: bool,
        force: Force,
    ) -> Vec<Action> {
        let grace = self.slow_timeout.grace_period;
        match force {
            // The debugger has had its time.
            Force::Signal(signal) if self.limited && !grace.is_zero() => {
                self.phase = Phase::Draining {
                    outcome,
                    descendants,
                };
                self.deadline = self.deadline.min(now.saturating_add(grace));
                match descendants {
                    true => vec![Action::Signal(signal)],
                    false => Vec::new(),
                }
            }
            Force::Signal(_) | Force::Kill => self.leak_window_over(now, outcome, descendants),
        }
    }

    fn leak_window_over(
        &mut self,
        now: Duration,
        outcome: Outcome,
        descendants: bool,
    ) -> Vec<Action> {
        let output_open = self.output_open;
        if descendants && self.may_linger {
            let leak = Leak {
                output_open,
                ..Leak::default()
            };
            let mut actions = self.finish(outcome, Some(leak), true);
            if let [Action::Finish(ending)] = &mut actions[..] {
                ending.lingers = true;
            }
            return actions;
        }
        if descendants {
            self.phase = Phase::Reaping {
                outcome,
                output_open,
            };
            self.deadline = now + KILL_LIMIT;
            return vec![Action::Kill];
        }
        let leak = output_open.then(|| Leak {
            output_open,
            ..Leak::default()
        });
        self.finish(outcome, leak, true)
    }

    fn finish(&mut self, outcome: Outcome, leak: Option<Leak>, stub_free: bool) -> Vec<Action> {
        self.phase = Phase::Finished;
        vec![Action::Finish(Ending {
            outcome,
            leak,
            slow: self.slow_periods > 0,
            stub_free,
            lingers: false,
        })]
    }
}

impl Because {
    fn outcome(self, exit: Option<Exit>) -> Outcome {
        match self {
            Self::TimedOut => Outcome::TimedOut { exit },
            Self::Interrupted(by) => Outcome::Interrupted { by, exit },
            Self::Limited => match exit {
                Some(exit) => Outcome::Exited(exit),
                None => Outcome::HarnessFault(Fault {
                    message: "what had too many processes could not be killed".to_owned(),
                }),
            },
            Self::Stuck => match exit {
                Some(exit) => Outcome::Exited(exit),
                None => Outcome::HarnessFault(Fault {
                    message: "what waited for another tracer could not be killed".to_owned(),
                }),
            },
        }
    }
}

/// Returns what the test's settings make of an ending, of the limits that it hit, and of a policy that it
/// `escaped`.
pub(super) fn verdict(
    ending: &Ending,
    limits: &[LimitHit],
    escaped: bool,
    settings: &TestSettings,
) -> Verdict {
    match &ending.outcome {
        Outcome::Exited(_) | Outcome::TimedOut { .. } | Outcome::NoResult(_)
            if !limits.is_empty() || escaped =>
        {
            Verdict::Fail
        }
        Outcome::Exited(exit) if exit.success() => {
            if ending.leak.is_some() && settings.leak == LeakPolicy::Fail {
                Verdict::Fail
            } else {
                Verdict::Pass
            }
        }
        Outcome::NoResult(no) if no.kind == NoResultKind::Ignored => {
            if ending.leak.is_some() && settings.leak == LeakPolicy::Fail {
                Verdict::Fail
            } else {
                Verdict::Pass
            }
        }
        Outcome::TimedOut { .. } if settings.slow_timeout.on_timeout == TimeoutResult::Pass => {
            Verdict::Pass
        }
        Outcome::Exited(_)
        | Outcome::TimedOut { .. }
        | Outcome::StartFailed(_)
        | Outcome::HarnessFault(_)
        | Outcome::NoResult(_)
        | Outcome::BinaryChanged(_) => Verdict::Fail,
        Outcome::Interrupted { .. } => Verdict::Interrupted,
    }
}

#[cfg(test)]
mod tests;
