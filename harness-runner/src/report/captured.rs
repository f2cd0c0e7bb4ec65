//! Makes captured output fit to be shown: colors stay, and nothing in it can act on a terminal.
//!
//! A test may print anything. Of what it printed, text, tabs and colors (SGR, ECMA-48) are shown.
//! Whole control sequences that do anything else are left out and counted. Everything that is
//! left, a control character or a sequence without an end, is shown as a Rust escape: a sequence
//! that never ends must not hide the text behind it.
//!
//! The output is made anew from numbers and characters, so it does not depend on a terminal's
//! reading of the original.

use super::style::is_hidden;
use std::{borrow::Cow, fmt::Write, str};

/// More than this many lines that overwrite each other are a progress bar: the last one is shown.
const OVERWRITTEN: usize = 4;

/// No more than about this many bytes of colors that add up are repeated in the next line.
const REPEATED: usize = 256;

/// The most parameters of one SGR sequence that are read.
const PARAMETERS: usize = 32;

/// The things to show.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whether colors stay.
    pub colors: bool,
    /// Whether characters beyond ASCII may be written.
    pub unicode: bool,
}

/// Shows the lines of one stream. Colors last from line to line, as they do on a terminal, but
/// none is on at the end of a line.
#[derive(Clone, Debug)]
pub struct Captured {
    shown: Shown,
    /// The colors in force.
    style: String,
    left_out: usize,
}

/// A sequence that begins with ESC and is whole.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Sequence<'a> {
    /// SGR with these parameters.
    Style(&'a [u8]),
    /// Anything else.
    Other,
}

impl Captured {
    /// Returns what shows a stream from its beginning.
    pub fn new(shown: Shown) -> Self {
        Self {
            shown,
            style: String::new(),
            left_out: 0,
        }
    }

    /// Returns how many control sequences were left out since this was last asked. Colors that
    /// are not wanted do not count.
    pub fn take_left_out(&mut self) -> usize {
        std::mem::take(&mut self.left_out)
    }

    /// Returns a line, which is given without its line feed, as it can be shown.
    pub fn line(&mut self, line: &[u8]) -> String {
        let mut text = self.style.clone();
        let plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
        let mut rest = line;
        while !rest.is_empty() {
            let run = rest.iter().take_while(|byte| plain(byte)).count();
            if run > 0 {
                let (run, after) = rest.split_at(run);
                text.push_str(str::from_utf8(run).unwrap_or_default());
                rest = after;
            } else if rest[0] == 0x1b {
                rest = self.escape(rest, &mut text);
            } else {
                let other = rest
                    .iter()
                    .take_while(|byte| !plain(byte) && **byte != 0x1b);
                let (other, after) = rest.split_at(other.count());
                self.characters(other, &mut text);
                rest = after;
            }
        }
        if !self.style.is_empty() {
            text.push_str("\x1b[0m");
        }
        text
    }

    /// Shows what begins with ESC. Returns what follows.
    fn escape<'a>(&mut self, bytes: &'a [u8], text: &mut String) -> &'a [u8] {
        match sequence(bytes) {
            Some((Sequence::Style(parameters), after)) => {
                if self.shown.colors {
                    match style(parameters) {
                        Some(style) => {
                            self.remember(&style);
                            let _ = write!(text, "\x1b[{style}m");
                        }
                        None => self.left_out += 1,
                    }
                }
                after
            }
            Some((Sequence::Other, after)) => {
                self.left_out += 1;
                after
            }
            None => {
                text.push_str(r"\u{1b}");
                &bytes[1..]
            }
        }
    }

    fn remember(&mut self, style: &str) {
        let mut rest = style;
        if style == "0" || style.starts_with("0;") {
            self.style.clear();
            rest = style.get(2..).unwrap_or_default();
        }
        if !rest.is_empty() && self.style.len() < REPEATED {
            let _ = write!(self.style, "\x1b[{rest}m");
        }
    }

    /// Shows bytes that are neither ASCII nor the beginning of a sequence.
    fn characters(&self, bytes: &[u8], text: &mut String) {
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                if is_hidden(c) || !(self.shown.unicode || c.is_ascii()) {
                    text.extend(c.escape_default());
                } else {
                    text.push(c);
                }
            }
            for byte in chunk.invalid() {
                let _ = write!(text, r"\x{byte:02x}");
            }
        }
    }
}

/// Returns the lines that carriage returns make of a line, as far as they are shown, and how many
/// are not since others overwrote them.
pub fn overwritten(line: &[u8]) -> (Vec<&[u8]>, usize) {
    if !line.contains(&b'\r') {
        return (vec![line], 0);
    }
    let blank = |line: &&[u8]| is_blank(line);
    let mut lines: Vec<_> = line.split(|byte| *byte == b'\r').collect();
    lines.retain(|line| !blank(line));
    let left_out = match lines.len() {
        0 => return (vec![b""], 0),
        count if count > OVERWRITTEN => count - 1,
        _ => 0,
    };
    (lines.split_off(left_out), left_out)
}

/// Returns whether nothing of a line would be seen.
fn is_blank(mut line: &[u8]) -> bool {
    while let Some(first) = line.first() {
        line = match first {
            b' ' | b'\t' => &line[1..],
            0x1b => match sequence(line) {
                Some((_, after)) => after,
                None => return false,
            },
            _ => return false,
        };
    }
    true
}

/// Returns bytes as text; those that are not UTF-8 as `\xFF`.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, r"\x{byte:02X}");
        }
    }
    Cow::Owned(text)
}

/// Returns text without control sequences, for reports: tabs become blanks, and what overwrites
/// its line begins another.
pub fn plain(bytes: &[u8]) -> String {
    let text = text(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut column = 0;
    let mut rest = &*text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\x1b' => match sequence(rest.as_bytes()) {
                // A sequence is ASCII, or ends with it.
                Some((_, left)) => &rest[rest.len() - left.len()..],
                None => after,
            },
            '\n' => {
                plain.push('\n');
                column = 0;
                after
            }
            '\r' => {
                if !after.is_empty() && !after.starts_with(['\n', '\r']) {
                    plain.push('\n');
                    column = 0;
                }
                after
            }
            '\t' => {
                let blanks = 8 - column % 8;
                plain.extend(std::iter::repeat_n(' ', blanks));
                column += blanks;
                after
            }
            c => {
                plain.push(c);
                column += 1;
                after
            }
        };
    }
    plain
}

/// Reads a sequence at the beginning of bytes that start with ESC (ECMA-48, ECMA-35). Returns it and
/// what follows; `None` if it is not whole, or none.
fn sequence(bytes: &[u8]) -> Option<(Sequence<'_>, &[u8])> {
    let (&kind, rest) = bytes.get(1..)?.split_first()?;
    match kind {
        b'[' => {
            let parameters = count(rest, |byte| matches!(byte, b'0'..=b'?'));
            let (parameters, rest) = rest.split_at(parameters);
            let between = count(rest, |byte| matches!(byte, b' '..=b'/'));
            let (&last, after) = rest.get(between..)?.split_first()?;
            let ours = between == 0 && !parameters.iter().any(|byte| matches!(byte, b'<'..=b'?'));
            match last {
                b'm' if ours => Some((Sequence::Style(parameters), after)),
                b'@'..=b'~' => Some((Sequence::Other, after)),
                _ => None,
            }
        }
        // Strings: OSC, DCS, APC, PM, SOS, and the title of screen(1).
        b']' | b'P' | b'_' | b'^' | b'X' | b'k' => {
            let length = count(rest, |byte| !matches!(byte, 0x07 | 0x1b | b'\n'));
            match (rest.get(length)?, rest.get(length + 1)) {
                (0x07, _) => Some((Sequence::Other, &rest[length + 1..])),
                (0x1b, Some(b'\\')) => Some((Sequence::Other, &rest[length + 2..])),
                _ => None,
            }
        }
        b' '..=b'/' => {
            let between = count(rest, |byte| matches!(byte, b' '..=b'/'));
            let (&last, after) = rest.get(between..)?.split_first()?;
            matches!(last, b'0'..=b'~').then_some((Sequence::Other, after))
        }
        b'0'..=b'~' => Some((Sequence::Other, rest)),
        _ => None,
    }
}

fn count(bytes: &[u8], chosen: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| chosen(**byte)).count()
}

/// Returns the parameters of SGR that are let through: colors, weight, slant, underlines and reverse
/// video. Blinking and concealed text, other fonts and what is unknown are not. A reset comes
/// first. `None` if nothing is left.
fn style(parameters: &[u8]) -> Option<String> {
    let text = str::from_utf8(parameters).ok()?;
    let mut kept: Vec<String> = Vec::new();
    let mut rest = text.split(';').take(PARAMETERS);
    while let Some(parameter) = rest.next() {
        if let Some((of, parts)) = parameter.split_once(':') {
            kept.extend(colon_style(of, parts));
            continue;
        }
        match number(parameter)? {
            0 => kept = vec!["0".to_owned()],
            of @ (38 | 48 | 58) => {
                let mut next = || number(rest.next()?);
                match next()? {
                    5 => {
                        let color = next().filter(|color| *color < 256)?;
                        kept.push(format!("{of};5;{color}"));
                    }
                    2 => {
                        let mut part = || next().filter(|part| *part < 256);
                        let (red, green, blue) = (part()?, part()?, part()?);
                        kept.push(format!("{of};2;{red};{green};{blue}"));
                    }
                    _ => return None,
                }
            }
            on @ (1..=4
            | 7
            | 9
            | 21..=24
            | 27
            | 29..=37
            | 39..=47
            | 49
            | 53
            | 55
            | 59
            | 90..=97
            | 100..=107) => kept.push(on.to_string()),
            _ => {}
        }
    }
    (!kept.is_empty()).then(|| kept.join(";"))
}

/// Reads the form with colons: `4:3` for a kind of underline, `38:2::R:G:B` and `38:5:N` for colors
/// (ITU-T T.416). Returns the older form.
fn colon_style(of: &str, parts: &str) -> Option<String> {
    let parts: Vec<&str> = parts.split(':').collect();
    let in_range = |part: &&str| number(part).filter(|part| *part < 256);
    match (of, parts.as_slice()) {
        ("4", ["0"]) => Some("24".to_owned()),
        ("4", [_]) => Some("4".to_owned()),
        ("38" | "48" | "58", ["5", color]) => Some(format!("{of};5;{}", in_range(color)?)),
        ("38" | "48" | "58", ["2", red, green, blue] | ["2", _, red, green, blue]) => {
            let (red, green, blue) = (in_range(red)?, in_range(green)?, in_range(blue)?);
            Some(format!("{of};2;{red};{green};{blue}"))
        }
        _ => None,
    }
}

fn number(text: &str) -> Option<u16> {
    match text {
        "" => Some(0),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests;
