//! Colors, all in one place, and the names of tests made fit for display.

use harness_metadata::TestId;
use owo_colors::{OwoColorize, Style};
use std::{borrow::Cow, fmt::Display};

/// The styles of the terminal's output. All plain when colors are off.
#[derive(Copy, Clone, Debug, Default)]
pub struct Styles {
    /// Numbers that matter.
    pub count: Style,
    /// Success.
    pub pass: Style,
    /// Failure.
    pub fail: Style,
    /// Something that deserves a look: slow, leaky, skipped, interrupted.
    pub warn: Style,
    /// Retries and flaky tests.
    pub retry: Style,
    /// A binary's id.
    pub binary: Style,
    /// The path to a test's name.
    pub module: Style,
    /// The last component of a test's name.
    pub test: Style,
    /// The text that tells why a test failed.
    pub panic: Style,
}

impl Styles {
    /// Returns the styles with or without colors.
    pub fn new(colors: bool) -> Self {
        if !colors {
            return Self::default();
        }
        Self {
            count: Style::new().bold(),
            pass: Style::new().green().bold(),
            fail: Style::new().red().bold(),
            warn: Style::new().yellow().bold(),
            retry: Style::new().magenta().bold(),
            binary: Style::new().magenta(),
            module: Style::new().cyan(),
            test: Style::new().blue().bold(),
            panic: Style::new().red(),
        }
    }

    /// Returns a test's ids for display, the last component of its name standing out.
    pub fn name(&self, test: &TestId) -> String {
        let binary = escaped(test.binary.as_str());
        let name = escaped(test.name.as_str());
        let (module, last) = match name.rfind("::") {
            Some(at) => name.split_at(at + 2),
            None => ("", &*name),
        };
        format!(
            "{} {}{}",
            paint(&binary, self.binary),
            paint(module, self.module),
            paint(last, self.test),
        )
    }
}

/// Returns the text in that style; without any escape sequence if the text or the style is empty.
pub fn paint(text: &str, style: Style) -> impl Display {
    let style = if text.is_empty() { Style::new() } else { style };
    text.style(style).to_string()
}

/// Returns the text with control characters shown as Rust escapes, so that a name can neither
/// move the cursor nor break the line.
pub fn escaped(text: &str) -> Cow<'_, str> {
    let hidden =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if hidden(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}
