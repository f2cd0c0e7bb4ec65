//! The one error at the edge: its kind is the documented exit code.

use harness_metadata::exit_code;
use harness_runner::report::{
    captured::{Captured, Shown},
    style::escaped_lines,
};
use owo_colors::{OwoColorize, Style};
use std::{
    error::Error,
    io::{self, Write},
};

/// The kind of an error.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something unexpected.
    Internal,
    /// The command line.
    Usage,
    /// The configuration, a profile or an argument.
    Setup,
    /// This program is older than the workspace requires.
    Version,
    /// A filterset of the command line.
    Filterset,
    /// No test was selected.
    NoTests,
    /// The build.
    Build,
    /// The archive could not be written.
    Archive,
    /// `cargo metadata`, or there is no workspace.
    Metadata,
    /// A binary could not be listed.
    List,
    /// Tests of a rerun's chain are outstanding.
    Outstanding,
    /// Tests did not pass.
    TestRun,
    /// A setup script failed.
    SetupScript,
    /// The run as a whole ran out of time.
    OutOfTime,
    /// This signal ended the run.
    EndedBy(i32),
    /// Output could not be written.
    Write,
}

/// An error as the user sees it.
#[derive(Debug)]
pub(crate) struct CommandError {
    kind: Kind,
    /// The error; its sources follow.
    source: Box<dyn Error + Send + Sync>,
    /// Printed as it is below the message, such as a caret diagram.
    detail: Option<String>,
    /// The hint.
    hint: Option<String>,
    /// Further errors, which are written after it.
    more: Vec<Self>,
}

/// Returns both values, or the errors of both. The code is that of the first error.
pub(crate) fn both<A, B>(
    first: Result<A, CommandError>,
    second: Result<B, CommandError>,
) -> Result<(A, B), CommandError> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(mut first), Err(second)) => {
            first.more.push(second);
            Err(first)
        }
    }
}

impl CommandError {
    pub(crate) fn new(kind: Kind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: source.into(),
            detail: None,
            hint: None,
            more: Vec::new(),
        }
    }

    /// Puts errors together. The code is that of the first.
    pub(crate) fn several(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        first.more.extend(errors);
        Some(first)
    }

    pub(crate) fn with_detail(mut self, detail: String) -> Self {
        self.detail = Some(detail);
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn exit_code(&self) -> i32 {
        match self.kind {
            Kind::Internal => exit_code::INTERNAL,
            Kind::Usage => exit_code::USAGE,
            Kind::Setup => exit_code::SETUP,
            Kind::Version => exit_code::REQUIRED_VERSION,
            Kind::Filterset => exit_code::INVALID_FILTERSET,
            Kind::NoTests => exit_code::NO_TESTS,
            Kind::Archive => exit_code::ARCHIVE_FAILED,
            Kind::Build => exit_code::BUILD_FAILED,
            Kind::Metadata => exit_code::METADATA_FAILED,
            Kind::List => exit_code::LIST_FAILED,
            Kind::Outstanding => exit_code::OUTSTANDING,
            Kind::TestRun => exit_code::TEST_RUN_FAILED,
            Kind::SetupScript => exit_code::SETUP_SCRIPT_FAILED,
            Kind::OutOfTime => exit_code::GLOBAL_TIMEOUT,
            Kind::EndedBy(signal) => exit_code::ended_by(signal),
            Kind::Write => exit_code::WRITE_FAILED,
        }
    }

    /// Returns the code with which cargo-nextest ends: it has none of its own for a run that did not
    /// come to its end.
    pub(crate) fn exit_code_of_peer(&self) -> i32 {
        match self.kind {
            Kind::OutOfTime | Kind::EndedBy(_) => exit_code::TEST_RUN_FAILED,
            _ => self.exit_code(),
        }
    }

    /// Writes the message, its causes, and what to do. Whatever names and excerpts they hold,
    /// no control character of theirs is written.
    pub(crate) fn write(&self, to: &mut dyn Write, colors: bool) -> io::Result<()> {
        let style = |style: Style| if colors { style } else { Style::new() };
        let red = style(Style::new().red().bold());
        let cyan = style(Style::new().cyan().bold());
        let message = self.source.to_string();
        writeln!(to, "{}: {}", "error".style(red), escaped_lines(&message))?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            let message = error.to_string();
            writeln!(to, "  caused by: {}", escaped_lines(&message))?;
            cause = error.source();
        }
        if let Some(detail) = &self.detail {
            // A diagram has colors of its own.
            let shown = Shown {
                colors,
                unicode: true,
            };
            let mut shown = Captured::new(shown);
            for line in detail.trim_end().lines() {
                writeln!(to, "{}", shown.line(line.as_bytes()))?;
            }
        }
        if let Some(hint) = &self.hint {
            writeln!(to, "{}: {}", "hint".style(cyan), escaped_lines(hint))?;
        }
        for error in &self.more {
            error.write(to, colors)?;
        }
        to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_written_with_its_causes_and_what_to_do() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to read `file`")]
        struct Outer(#[source] io::Error);
        let error = CommandError::new(Kind::Setup, Outer(io::Error::other("disk on fire")))
            .with_hint("put it out");
        let mut text = Vec::new();
        error.write(&mut text, false).unwrap();
        expect_test::expect![[r#"
            error: failed to read `file`
              caused by: disk on fire
            hint: put it out
        "#]]
        .assert_eq(&String::from_utf8(text).unwrap());
        assert_eq!(error.exit_code(), exit_code::SETUP);
        assert_eq!(error.exit_code_of_peer(), exit_code::SETUP);
    }

    #[test]
    fn several_errors_are_written_one_by_one_and_the_first_has_the_code() {
        let of = |kind, text: &'static str| CommandError::new(kind, text);
        let three = [
            of(Kind::Version, "too old").with_hint("update"),
            of(Kind::Setup, "second").with_detail("below it".to_owned()),
        ];
        let several = CommandError::several(three).expect("there are some");
        let both = both(
            Err::<(), _>(several),
            Err::<(), _>(of(Kind::Usage, "third")),
        );
        let error = both.expect_err("neither is right");
        let mut text = Vec::new();
        error.write(&mut text, false).unwrap();
        expect_test::expect![[r#"
            error: too old
            hint: update
            error: second
            below it
            error: third
        "#]]
        .assert_eq(&String::from_utf8(text).unwrap());
        assert_eq!(error.exit_code(), exit_code::REQUIRED_VERSION);
    }

    #[test]
    fn a_run_that_was_ended_has_a_code_of_its_own_unless_called_as_cargo_nextest() {
        let codes = |kind| {
            let error = CommandError::new(kind, "ended");
            (error.exit_code(), error.exit_code_of_peer())
        };
        assert_eq!(codes(Kind::EndedBy(2)), (130, 100));
        assert_eq!(codes(Kind::OutOfTime), (124, 100));
    }

    #[test]
    fn no_part_of_an_error_reaches_the_terminal_as_a_control_character() {
        #[derive(Debug, thiserror::Error)]
        #[error("\u{1b}[2Jouter\nsecond line\u{7}")]
        struct Outer(#[source] io::Error);
        let cause = io::Error::other("\u{1b}]0;t\u{7}cause\u{202e}");
        let error = CommandError::new(Kind::Setup, Outer(cause))
            .with_detail("\u{1b}[31mmark\u{1b}[0m \u{1b}[2J\u{9b}".to_owned())
            .with_hint("hint\u{1b}c");
        let written = |colors| {
            let mut text = Vec::new();
            error.write(&mut text, colors).unwrap();
            String::from_utf8(text).unwrap()
        };
        expect_test::expect![[r#"
            error: \u{1b}[2Jouter
            second line\u{7}
              caused by: \u{1b}]0;t\u{7}cause\u{202e}
            mark \u{9b}
            hint: hint\u{1b}c
        "#]]
        .assert_eq(&written(false));
        let colored = written(true);
        assert!(colored.contains("\u{1b}[31mmark\u{1b}[0m"), "{colored:?}");
        assert!(!colored.contains("\u{1b}[2J"), "{colored:?}");
    }
}
