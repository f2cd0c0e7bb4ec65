//! Decides when a service is ready, and when it will not be.

use std::time::Duration;

/// The conditions under which a service is ready: all that are given.
#[derive(Clone, Debug, Default)]
pub(in crate::run) struct Conditions {
    /// The pattern of a line of its output.
    pub(in crate::run) line: Option<String>,
    /// Whether a port or a path is looked at.
    pub(in crate::run) looks: bool,
    /// The index of the command behind the tests, by which it is started.
    pub(in crate::run) command: Option<usize>,
    pub(in crate::run) timeout: Duration,
    pub(in crate::run) interval: Duration,
}

/// The next thing to do to learn whether a service is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until something happens or [`Readiness::deadline`] comes.
    Wait,
    /// Look at its port and its path.
    Look,
    /// Run its command.
    Run { unit: usize },
    /// It is ready.
    Ready,
    /// It has had its time. This was waited for.
    GiveUp(String),
}

/// A service that is not ready yet.
#[derive(Debug)]
pub(super) struct Readiness {
    conditions: Conditions,
    until: Duration,
    /// Whether its process has started.
    begun: bool,
    line_seen: bool,
    looked: bool,
    command_passed: bool,
    /// Whether an answer is awaited.
    asked: bool,
    /// When to ask next.
    next: Duration,
    /// The last answer that was none.
    missing: Option<String>,
}

impl Readiness {
    /// A service that starts now.
    pub(super) fn new(now: Duration, conditions: Conditions) -> Self {
        Self {
            until: now.saturating_add(conditions.timeout),
            begun: false,
            line_seen: conditions.line.is_none(),
            looked: !conditions.looks,
            command_passed: conditions.command.is_none(),
            asked: false,
            next: now,
            missing: None,
            conditions,
        }
    }

    /// Returns when [`Self::step`] has to be called although nothing has happened.
    pub(super) fn deadline(&self) -> Duration {
        match self.begun && self.line_seen && !self.asked {
            true => self.next.min(self.until),
            false => self.until,
        }
    }

    /// Returns whether its command runs.
    pub(super) fn runs_command(&self) -> bool {
        self.asked && self.looked
    }

    /// Its process has started.
    pub(super) fn begun(&mut self) {
        self.begun = true;
    }

    /// A line of its output matches.
    pub(super) fn line_seen(&mut self) {
        self.line_seen = true;
    }

    /// This came of the last step.
    pub(super) fn answered(&mut self, now: Duration, answer: Result<(), String>) {
        self.asked = false;
        match answer {
            Ok(()) if self.looked => self.command_passed = true,
            Ok(()) => self.looked = true,
            Err(missing) => {
                self.missing = Some(missing);
                self.next = now.saturating_add(self.conditions.interval);
            }
        }
    }

    /// Returns the next thing to do.
    pub(super) fn step(&mut self, now: Duration) -> Step {
        if self.begun && self.line_seen && self.looked && self.command_passed {
            return Step::Ready;
        }
        if self.until <= now {
            return Step::GiveUp(self.waited_for());
        }
        if !self.begun || !self.line_seen || self.asked || now < self.next {
            return Step::Wait;
        }
        self.asked = true;
        match self.conditions.command.filter(|_| self.looked) {
            Some(unit) => Step::Run { unit },
            None => Step::Look,
        }
    }

    fn waited_for(&self) -> String {
        let missing = match (&self.conditions.line, &self.missing) {
            (Some(line), _) if !self.line_seen => {
                format!("no line of its output matched `{line}`")
            }
            (_, Some(missing)) => missing.clone(),
            _ => "the first answer was still awaited".to_owned(),
        };
        let timeout = humantime::format_duration(self.conditions.timeout);
        format!("was not ready after {timeout}: {missing}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn all() -> Readiness {
        let conditions = Conditions {
            line: Some("listening".to_owned()),
            looks: true,
            command: Some(7),
            timeout: secs(10),
            interval: secs(1),
        };
        Readiness::new(secs(0), conditions)
    }

    #[test]
    fn a_line_then_a_look_then_a_command_make_it_ready() {
        let mut service = all();
        service.begun();
        assert_eq!(service.step(secs(1)), Step::Wait);
        assert_eq!(service.deadline(), secs(10));
        service.line_seen();
        assert_eq!(service.step(secs(2)), Step::Look);
        assert_eq!(service.step(secs(2)), Step::Wait);
        service.answered(secs(3), Err("no".to_owned()));
        assert_eq!(service.step(secs(3)), Step::Wait);
        assert_eq!(service.deadline(), secs(4));
        assert_eq!(service.step(secs(4)), Step::Look);
        service.answered(secs(4), Ok(()));
        assert_eq!(service.step(secs(4)), Step::Run { unit: 7 });
        assert!(service.runs_command());
        service.answered(secs(5), Ok(()));
        assert_eq!(service.step(secs(5)), Step::Ready);
    }

    #[test]
    fn without_conditions_it_is_ready_once_it_has_started() {
        let conditions = Conditions {
            timeout: secs(1),
            ..Conditions::default()
        };
        let mut service = Readiness::new(secs(0), conditions);
        assert_eq!(service.step(secs(0)), Step::Wait);
        service.begun();
        assert_eq!(service.step(secs(0)), Step::Ready);
    }

    #[test]
    fn it_is_given_up_with_what_was_waited_for() {
        let mut service = all();
        let gave_up = Step::GiveUp(
            "was not ready after 10s: no line of its output matched `listening`".to_owned(),
        );
        assert_eq!(service.step(secs(10)), gave_up);
        let mut service = all();
        service.begun();
        service.line_seen();
        service.step(secs(1));
        service.answered(secs(2), Err("port 1 refuses".to_owned()));
        let gave_up = Step::GiveUp("was not ready after 10s: port 1 refuses".to_owned());
        assert_eq!(service.step(secs(10)), gave_up);
    }
}
