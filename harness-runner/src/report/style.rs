//! Colors, all in one place, and the names of tests made fit for display.

use super::fit::without_middle;
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
    /// A line that only the right value of an assertion has.
    pub added: Style,
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
            added: Style::new().green(),
        }
    }

    /// Returns a test's ids for display, the last component of its name standing out.
    pub fn name(&self, test: &TestId) -> String {
        self.names(&escaped(test.binary.as_str()), &escaped(test.name.as_str()))
    }

    /// Returns as [`Styles::name`] does a test's ids in at most so many columns.
    pub fn name_within(&self, test: &TestId, width: usize) -> String {
        let (binary, name) = (escaped(test.binary.as_str()), escaped(test.name.as_str()));
        let whole = format!("{binary} {name}");
        let shown = without_middle(&whole, width);
        match shown.split_once(' ') {
            // A binary's id has no blanks.
            Some((binary, name)) => self.names(binary, name),
            None => paint(&shown, self.test).to_string(),
        }
    }

    fn names(&self, binary: &str, name: &str) -> String {
        let (module, last) = match name.rfind("::") {
            Some(at) => name.split_at(at + 2),
            None => ("", name),
        };
        format!(
            "{} {}{}",
            paint(binary, self.binary),
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

/// Returns whether a character must not reach a terminal as it is: it acts on the terminal, or on
/// how other characters are shown, or is a trace of text that cannot be seen.
pub(super) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Line and paragraph separators; marks, embeddings, overrides and isolates that
            // reorder what follows; annotations; tags.
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Returns the text with control characters shown as Rust escapes, so that a name can neither
/// move the cursor nor break the line.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_hidden(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Returns the text with its lines as they are and all other control characters escaped.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c != '\n' && is_hidden(c);
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let lines: Vec<_> = text.split('\n').map(escaped).collect();
    Cow::Owned(lines.join("\n"))
}
