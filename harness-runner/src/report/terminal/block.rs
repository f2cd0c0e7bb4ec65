//! The output of one attempt, and how it ended.

use super::TerminalOptions;
use crate::report::{
    Excerpt, Outputs, Stream,
    captured::{Captured, Shown, overwritten},
    excerpt, extract,
    style::{Styles, escaped, paint},
    wording,
};
use harness_metadata::{Attempt, AttemptId};
use std::ops::Range;

/// The most bytes of one stream that are shown; the rest is in the recording and the reports.
const SHOWN: usize = 16 * 1024 * 1024;

/// Appends the captured output of an attempt, what of its trace explains its failure, and its
/// closing line.
pub(super) fn write(
    out: &mut Vec<u8>,
    attempt: &Attempt,
    evidence: &[String],
    id: &AttemptId,
    outputs: &dyn Outputs,
    styles: Styles,
    options: &TerminalOptions,
) {
    for (stream, name) in [(Stream::Stdout, "stdout"), (Stream::Stderr, "stderr")] {
        let Some(excerpt) = excerpt(outputs, id, stream, SHOWN) else {
            continue;
        };
        if excerpt.is_empty() {
            continue;
        }
        out.extend_from_slice(heading(name, styles, options).as_bytes());
        let mut printer = Printer {
            out,
            captured: Captured::new(Shown {
                colors: options.colors,
                unicode: options.unicode,
            }),
            styles,
            options,
        };
        printer.stream(&excerpt, stream);
        let size = match stream {
            Stream::Stdout => attempt.stdout,
            Stream::Stderr => attempt.stderr,
        };
        if size.no_room {
            let lost = wording::size(size.dropped);
            printer.note(&format!(
                "{lost} are lost: the temporary folder could not be written"
            ));
        }
    }
    if !evidence.is_empty() {
        out.extend_from_slice(heading("trace", styles, options).as_bytes());
        let indent = indent(options);
        for line in evidence {
            out.extend_from_slice(format!("{indent}{line}\n").as_bytes());
        }
    }
    if let Some(text) = wording::closing(attempt) {
        let indent = indent(options);
        out.extend_from_slice(format!("\n{indent}({})\n", shown(&text, options)).as_bytes());
    }
    out.push(b'\n');
}

fn heading(name: &str, styles: Styles, options: &TerminalOptions) -> String {
    let rule = if options.unicode { "───" } else { "---" };
    format!("  {}\n", paint(&format!("{name} {rule}"), styles.count))
}

fn indent(options: &TerminalOptions) -> &'static str {
    if options.indent_output { "    " } else { "" }
}

fn shown(text: &str, options: &TerminalOptions) -> String {
    let lines: Vec<_> = text.lines().map(escaped).collect();
    lines.join(&format!("\n{}", indent(options)))
}

struct Printer<'a> {
    out: &'a mut Vec<u8>,
    captured: Captured,
    styles: Styles,
    options: &'a TerminalOptions,
}

impl Printer<'_> {
    fn stream(&mut self, excerpt: &Excerpt, stream: Stream) {
        let find = match stream {
            Stream::Stdout => extract::in_stdout,
            Stream::Stderr => extract::in_stderr,
        };
        let found = if self.options.colors {
            find(excerpt.end())
        } else {
            None
        };
        if excerpt.left_out == 0 {
            self.lines(&excerpt.head, found);
        } else {
            self.lines(&excerpt.head, None);
            self.note(&format!("{} left out", wording::size(excerpt.left_out)));
            self.lines(&excerpt.tail, found);
        }
        let left_out = self.captured.take_left_out();
        if left_out > 0 {
            let sequences = wording::plural(left_out, "control sequence", "control sequences");
            self.note(&format!("{sequences} left out"));
        }
    }

    /// Says something between what was printed.
    fn note(&mut self, text: &str) {
        let dots = if self.options.unicode { "…" } else { "..." };
        let line = format!(
            "{}{}\n",
            indent(self.options),
            paint(&format!("{dots} {text} {dots}"), self.styles.warn)
        );
        self.out.extend_from_slice(line.as_bytes());
    }

    fn lines(&mut self, bytes: &[u8], red: Option<Range<usize>>) {
        let mut at = 0;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let inside = red
                .as_ref()
                .is_some_and(|red| red.start <= at && at < red.end);
            at += line.len();
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let (lines, left_out) = overwritten(line);
            if left_out > 0 {
                let lines = wording::plural(left_out, "overwritten line", "overwritten lines");
                self.note(&format!("{lines} left out"));
            }
            for line in lines {
                self.line(line, inside);
            }
        }
    }

    fn line(&mut self, line: &[u8], red: bool) {
        let mut text = self.captured.line(line);
        if !text.is_empty() {
            self.out.extend_from_slice(indent(self.options).as_bytes());
        }
        if red && !text.contains('\x1b') {
            let painted = paint(&text, self.styles.panic).to_string();
            text = painted;
        }
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'\n');
    }
}
