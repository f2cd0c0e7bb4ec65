//! Decides whether the runner has been stopped by something that will not let it go on.
//!
//! A test can stop its runner (SIGSTOP), which cannot prevent it and does nothing from then on. So
//! stubs look at it now and then, and continue it. Ctrl-Z is another matter: the runner announces
//! that it is about to stop. A job of an interactive shell is left to the user as well, who sees in
//! the shell that it is stopped, and has `fg`.
//!
//! A stub may be stopped too, like all the others. It is continued by a timer of its own.

use super::{
    status::{self, Stat},
    sys::{self, Pid},
};
use std::time::Duration;

/// The interval for checking the runner.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// The time that it may be stopped before it is continued.
const PATIENCE: Duration = Duration::from_secs(3);

/// The result of a look at the runner.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// It runs, or a debugger holds it.
    Runs,
    Stopped(Whose),
}

/// The process that can continue a stopped runner.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Whose {
    /// A shell that has it as a job.
    Shell,
    /// No known process.
    Nobody,
}

/// A stop that was not announced.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    /// By CLOCK_MONOTONIC.
    pub(super) since: Duration,
    pub(super) until: Duration,
    /// True if it has to be continued. Else another process has continued it.
    pub(super) to_be_continued: bool,
}

/// The facts about the runner.
#[derive(Debug)]
pub(super) struct Guard {
    runner: Pid,
    /// When to look next, by CLOCK_MONOTONIC; never before there was an attempt.
    due: Option<Duration>,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the runner has said that it is about to stop, and nothing since.
    announced: bool,
    stopped_since: Option<Duration>,
    continued: bool,
}

impl Guard {
    pub(super) fn new(runner: Pid) -> Self {
        Self {
            runner,
            due: None,
            state: State::default(),
        }
    }

    /// The runner has asked for something.
    pub(super) fn heard(&mut self, is_about_to_stop: bool) {
        self.state.announced = is_about_to_stop;
        self.due.get_or_insert(Duration::ZERO);
    }

    /// Returns whether there is anything to look for.
    pub(super) fn is_on(&self) -> bool {
        self.due.is_some()
    }

    /// Looks at the runner if it is time to. Returns a stop that is to be told.
    pub(super) fn look(&mut self) -> Option<Stopped> {
        let now = sys::monotonic();
        if self.due? > now {
            return None;
        }
        self.due = Some(now + LOOK);
        let seen = match status::stat(self.runner) {
            Some(stat) if stat.state == 'T' => Seen::Stopped(whose(&stat)),
            _ => Seen::Runs,
        };
        self.state.handle(now, seen)
    }

    /// Lets the runner go on.
    pub(super) fn continue_runner(&self) {
        // It is our parent, so its id is its own: had it ended, we would have another one.
        if nix::unistd::getppid().as_raw() == self.runner {
            let _ = sys::kill(self.runner, libc::SIGCONT);
        }
    }
}

/// Only the shell that a terminal belongs to continues jobs: it is the parent, of another group in
/// the same session.
fn whose(runner: &Stat) -> Whose {
    let parent = status::stat(runner.parent);
    let shell = parent.is_some_and(|parent| {
        parent.session == runner.session && parent.group != runner.group && runner.terminal != 0
    });
    match shell {
        true => Whose::Shell,
        false => Whose::Nobody,
    }
}

impl State {
    fn handle(&mut self, now: Duration, seen: Seen) -> Option<Stopped> {
        if self.announced {
            self.stopped_since = None;
            return None;
        }
        match seen {
            Seen::Runs => {
                let since = self.stopped_since.take()?;
                // Else it was reported already.
                (!std::mem::take(&mut self.continued)).then_some(Stopped {
                    since,
                    until: now,
                    to_be_continued: false,
                })
            }
            Seen::Stopped(whose) => {
                let since = *self.stopped_since.get_or_insert(now);
                if whose == Whose::Shell || now < since + PATIENCE {
                    return None;
                }
                self.continued = true;
                self.stopped_since = Some(now);
                Some(Stopped {
                    since,
                    until: now,
                    to_be_continued: true,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn stopped(since: u64, until: u64, to_be_continued: bool) -> Option<Stopped> {
        Some(Stopped {
            since: at(since),
            until: at(until),
            to_be_continued,
        })
    }

    #[test]
    fn a_stopped_runner_that_nobody_has_as_a_job_is_continued_after_a_while() {
        let mut state = State::default();
        let seen = Seen::Stopped(Whose::Nobody);
        assert_eq!(state.handle(at(10), Seen::Runs), None);
        assert_eq!(state.handle(at(11), seen), None);
        assert_eq!(state.handle(at(12), seen), None);
        assert_eq!(state.handle(at(14), seen), stopped(11, 14, true));
        assert_eq!(state.handle(at(15), Seen::Runs), None, "it was reported");
        assert_eq!(state.handle(at(16), seen), None, "stopped again");
        assert_eq!(state.handle(at(19), seen), stopped(16, 19, true));
    }

    #[test]
    fn a_stop_that_was_announced_is_the_users() {
        let mut state = State {
            announced: true,
            ..State::default()
        };
        for second in 1..1000 {
            assert_eq!(state.handle(at(second), Seen::Stopped(Whose::Nobody)), None);
        }
        state.announced = false;
        assert_eq!(state.handle(at(1000), Seen::Runs), None);
    }

    #[test]
    fn the_job_of_a_shell_is_left_to_its_user_and_told_of_afterwards() {
        let mut state = State::default();
        for second in 1..1000 {
            assert_eq!(state.handle(at(second), Seen::Stopped(Whose::Shell)), None);
        }
        assert_eq!(state.handle(at(1000), Seen::Runs), stopped(1, 1000, false));
        assert_eq!(state.handle(at(1001), Seen::Runs), None);
    }
}
