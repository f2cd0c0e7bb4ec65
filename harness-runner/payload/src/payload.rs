//! The description of a program.

use crate::{Check, Expected, Format};

/// The kind of a program, which says how a test may start it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// It ends by itself: `run` and `spawn` start it.
    #[default]
    Program,
    /// It runs until it is stopped: `spawn` starts it, and `run` only with a time limit.
    Server,
    /// The test runner starts it for many tests, as `[scripts.service.NAME]` of its configuration says.
    /// A test never starts it.
    Service,
}

/// A program that tests run: a constant, from which each test makes an
/// [`Invocation`](crate::Invocation).
///
/// ```
/// use harness_payload::{Check, Expected, Format, Payload, Polarity};
///
/// const COUNTER: Payload = Payload::new("counter", "sh")
///     .args(&["-c", "echo lines=3"])
///     .format(Format::KeyValue)
///     .metrics(&[Expected::new("lines", "", Polarity::HigherIsBetter)])
///     .checks(&[Check::min("lines", 1.0)]);
/// ```
#[derive(Copy, Clone, Debug)]
#[must_use]
pub struct Payload<'a> {
    pub(crate) name: &'a str,
    pub(crate) program: &'a str,
    pub(crate) kind: Kind,
    pub(crate) args: &'a [&'a str],
    pub(crate) checks: &'a [Check<'a>],
    pub(crate) metrics: &'a [Expected<'a>],
    pub(crate) format: Format<'a>,
}

impl<'a> Payload<'a> {
    /// A program, by a name for messages and by its path. A path without a slash is looked for in `PATH`;
    /// a relative one is relative to the working directory of the test.
    pub const fn new(name: &'a str, program: &'a str) -> Self {
        Self {
            name,
            program,
            kind: Kind::Program,
            args: &[],
            checks: &[],
            metrics: &[],
            format: Format::ExitCode,
        }
    }

    /// The same of another kind.
    pub const fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same with these default arguments.
    pub const fn args(mut self, args: &'a [&'a str]) -> Self {
        self.args = args;
        self
    }

    /// The same with these default checks.
    pub const fn checks(mut self, checks: &'a [Check<'a>]) -> Self {
        self.checks = checks;
        self
    }

    /// The same with these metrics, each of which must be there. This gives them a unit and a polarity.
    pub const fn metrics(mut self, metrics: &'a [Expected<'a>]) -> Self {
        self.metrics = metrics;
        self
    }

    /// The same with metrics in this format.
    pub const fn format(mut self, format: Format<'a>) -> Self {
        self.format = format;
        self
    }
}
