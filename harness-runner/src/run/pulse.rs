//! Decides whether a stub still answers while an attempt runs.
//!
//! It is asked now and then, but never in the first second: most attempts are over by then and
//! pay nothing. One that does not answer may have been stopped, which the test can do to its
//! parent; it is continued. One that has not answered for long is lost.
//!
//! The number of unanswered questions counts, not the time: after a suspend of the machine or the
//! run, there is one question.

use std::time::Duration;

/// When it is asked first.
const FIRST: Duration = Duration::from_secs(1);

/// The time for an answer, after which it is continued.
const EVERY: Duration = Duration::from_secs(2);

/// The greatest number of continuations without an answer.
const MOST: u32 = 15;

/// The time without an answer after which it is lost.
pub(super) const LIMIT: Duration = EVERY.saturating_mul(MOST);

/// The action to take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Ask the stub whether it is there.
    Ask,
    /// It was asked and has not answered: continue it.
    Wake,
    /// It does not answer.
    Lost,
}

/// The liveness of a stub.
#[derive(Debug)]
pub(super) struct Pulse {
    due: Duration,
    /// The number of unanswered questions since the last answer.
    in_vain: u32,
}

impl Pulse {
    /// An attempt begins.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            due: now.saturating_add(FIRST),
            in_vain: 0,
        }
    }

    /// Returns the active time at which [`Pulse::beat`] is to be called.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// The stub has said something, whatever it is.
    pub(super) fn heard(&mut self) {
        self.in_vain = 0;
    }

    /// The time has come.
    pub(super) fn beat(&mut self, now: Duration) -> Beat {
        self.due = now.saturating_add(EVERY);
        self.in_vain += 1;
        match self.in_vain {
            1 => Beat::Ask,
            in_vain if in_vain > MOST => Beat::Lost,
            _ => Beat::Wake,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_that_answers_is_asked_now_and_then_and_never_continued() {
        let mut pulse = Pulse::new(Duration::ZERO);
        assert_eq!(pulse.due(), FIRST);
        for _ in 0..1000 {
            assert_eq!(pulse.beat(pulse.due()), Beat::Ask);
            pulse.heard();
        }
        assert_eq!(pulse.due(), FIRST + EVERY * 1000);
    }

    #[test]
    fn a_stub_that_does_not_answer_is_continued_and_lost_in_the_end() {
        let mut pulse = Pulse::new(Duration::ZERO);
        assert_eq!(pulse.beat(pulse.due()), Beat::Ask);
        for _ in 1..MOST {
            assert_eq!(pulse.beat(pulse.due()), Beat::Wake);
        }
        assert_eq!(pulse.due(), FIRST + LIMIT);
        assert_eq!(pulse.beat(pulse.due()), Beat::Lost);
    }

    #[test]
    fn a_stub_that_answers_late_is_not_lost() {
        let mut pulse = Pulse::new(Duration::ZERO);
        for _ in 0..10 {
            for _ in 0..MOST {
                assert_ne!(pulse.beat(pulse.due()), Beat::Lost);
            }
            pulse.heard();
        }
    }

    #[test]
    fn a_machine_that_slept_for_an_hour_asks_once() {
        let mut pulse = Pulse::new(Duration::ZERO);
        let later = Duration::from_secs(3600);
        assert_eq!(pulse.beat(later), Beat::Ask);
        assert_eq!(pulse.due(), later + EVERY);
    }
}
