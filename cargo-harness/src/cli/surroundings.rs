//! Properties of the terminal from the environment: colors, and a movable cursor.

use harness_runner::report::progress::Surface;
use owo_colors::{OwoColorize, Stream};
use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
};

/// The request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Wishes {
    /// `TERM` names a terminal with control sequences.
    sequences: bool,
    /// `NO_COLOR`, or `CLICOLOR=0`.
    no_color: bool,
    /// `FORCE_COLOR`, or `CLICOLOR_FORCE`.
    force_color: bool,
    /// `CI`.
    ci: bool,
}

impl Wishes {
    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let on = |name| set(name).is_some_and(|value| value != "0" && value != "false");
        Self {
            sequences: set("TERM").is_some_and(|term| term != "dumb"),
            no_color: on("NO_COLOR") || variable("CLICOLOR").is_some_and(|value| value == "0"),
            force_color: on("FORCE_COLOR") || on("CLICOLOR_FORCE"),
            ci: variable("CI").is_some(),
        }
    }

    /// Returns whether there are colors if `supported` says that the stream can have them.
    fn colors(self, supported: bool) -> bool {
        self.force_color || (supported && self.sequences && !self.no_color)
    }

    /// Returns whether a bar is not wanted where it could be had. Who wants no escape sequences
    /// for colors gets none for a bar either.
    fn unobtrusive(self) -> bool {
        self.ci || self.no_color
    }

    fn surface(self, terminal: bool) -> Surface {
        match (terminal, self.sequences) {
            (false, _) => Surface::None,
            (true, false) => Surface::Plain,
            (true, true) => Surface::Full,
        }
    }
}

fn wishes() -> Wishes {
    Wishes::of(|name| env::var_os(name))
}

/// Returns the columns and rows of the terminal at standard output, if there is one.
pub(super) fn stdout_size() -> Option<(u16, u16)> {
    harness_runner::report::progress::size_of(io::stdout())
}

/// Returns whether a stream has colors if nothing on the command line says so.
pub(super) fn colors(stream: Stream) -> bool {
    let painted = "-".if_supports_color(stream, |text| text.red()).to_string();
    wishes().colors(painted.len() > 1)
}

/// Returns what standard error is, for a progress bar.
pub(super) fn surface() -> Surface {
    wishes().surface(io::stderr().is_terminal())
}

/// Returns whether a progress bar is not wanted where it could be had.
pub(super) fn unobtrusive() -> bool {
    wishes().unobtrusive()
}

/// Returns whether the terminal at standard error is known to open links.
pub(super) fn links() -> bool {
    supports_hyperlinks::on(supports_hyperlinks::Stream::Stderr)
}

/// Returns whether the terminal at standard error shows progress in its task bar.
pub(super) fn taskbar() -> bool {
    !wishes().ci && anstyle_progress::supports_term_progress(io::stderr().is_terminal())
}

/// Whether the locale's characters are those of UTF-8 (locale(7)).
pub(super) fn unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
    locale.is_none_or(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8") || locale == "c" || locale == "posix"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_runner::report::progress::ProgressMode;

    /// Colors and progress on a terminal with these variables.
    fn on_a_terminal(variables: &[(&str, &str)]) -> (bool, ProgressMode) {
        let wishes = Wishes::of(|name| {
            let mut variables = variables.iter();
            let (_, value) = variables.find(|(other, _)| *other == name)?;
            Some(value.into())
        });
        let progress = ProgressMode::Auto.resolve(wishes.surface(true), wishes.unobtrusive());
        (wishes.colors(true), progress)
    }

    #[test]
    fn a_terminal_without_control_sequences_gets_none() {
        use ProgressMode::{Bar, Counter};
        const TERM: (&str, &str) = ("TERM", "xterm-256color");
        for (variables, expected) in [
            (&[TERM][..], (true, Bar)),
            (&[("TERM", "dumb")], (false, Counter)),
            (&[("TERM", "")], (false, Counter)),
            (&[("COLORTERM", "truecolor")], (false, Counter)),
            (&[TERM, ("NO_COLOR", "1")], (false, Counter)),
            (&[TERM, ("NO_COLOR", "")], (true, Bar)),
            (&[TERM, ("CLICOLOR", "0")], (false, Counter)),
            (&[TERM, ("CLICOLOR", "1")], (true, Bar)),
            (&[TERM, ("CI", "true")], (true, Counter)),
            (&[("TERM", "dumb"), ("FORCE_COLOR", "1")], (true, Counter)),
        ] {
            assert_eq!(on_a_terminal(variables), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_bar_that_was_asked_for_still_needs_a_cursor() {
        for mode in [ProgressMode::Bar, ProgressMode::Only] {
            assert_eq!(mode.resolve(Surface::Full, true), mode);
            assert_eq!(mode.resolve(Surface::Plain, false), ProgressMode::Counter);
            assert_eq!(mode.resolve(Surface::None, false), ProgressMode::None);
        }
    }
}
