//! The one error at the edge: its kind is the documented exit code.

use harness_metadata::exit_code;
use owo_colors::{OwoColorize, Style};
use std::{
    error::Error,
    io::{self, Write},
};

/// What kind of thing went wrong.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something unexpected.
    Internal,
    /// The configuration, a profile or an argument.
    Setup,
    /// A filterset of the command line.
    Filterset,
    /// No test was selected.
    NoTests,
    /// The build.
    Build,
    /// `cargo metadata`, or there is no workspace.
    Metadata,
    /// A binary could not be listed.
    List,
    /// Tests did not pass.
    TestRun,
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
    /// What went wrong; its sources follow.
    source: Box<dyn Error + Send + Sync>,
    /// Printed as it is below the message, such as a caret diagram.
    detail: Option<String>,
    /// What to do.
    hint: Option<String>,
}

impl CommandError {
    pub(crate) fn new(kind: Kind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: source.into(),
            detail: None,
            hint: None,
        }
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
            Kind::Setup => exit_code::SETUP,
            Kind::Filterset => exit_code::INVALID_FILTERSET,
            Kind::NoTests => exit_code::NO_TESTS,
            Kind::Build => exit_code::BUILD_FAILED,
            Kind::Metadata => exit_code::METADATA_FAILED,
            Kind::List => exit_code::LIST_FAILED,
            Kind::TestRun => exit_code::TEST_RUN_FAILED,
            Kind::OutOfTime => exit_code::GLOBAL_TIMEOUT,
            Kind::EndedBy(signal) => exit_code::ended_by(signal),
            Kind::Write => exit_code::WRITE_FAILED,
        }
    }

    /// Writes the message, its causes, and what to do.
    pub(crate) fn write(&self, to: &mut dyn Write, colors: bool) -> io::Result<()> {
        let style = |style: Style| if colors { style } else { Style::new() };
        let red = style(Style::new().red().bold());
        let cyan = style(Style::new().cyan().bold());
        writeln!(to, "{}: {}", "error".style(red), self.source)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            writeln!(to, "  caused by: {error}")?;
            cause = error.source();
        }
        if let Some(detail) = &self.detail {
            writeln!(to, "{}", detail.trim_end())?;
        }
        if let Some(hint) = &self.hint {
            writeln!(to, "{}: {hint}", "hint".style(cyan))?;
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
    }
}
