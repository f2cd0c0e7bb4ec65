//! The output of one attempt, and how it ended.

use super::TerminalOptions;
use crate::report::{
    Excerpt, Outputs, Stream,
    captured::{self as printed, Captured, overwritten},
    difference::{Kind, Values},
    excerpt,
    extract::{self, Panic},
    failure,
    style::{Styles, escaped, paint},
    wording, wrapper,
};
use harness_metadata::{Attempt, AttemptId, Verdict, outcome::StreamSize};
use owo_colors::Style;
use std::{ops::Range, str};

/// The most panics before the last one that are named.
const MOST_PANICS: usize = 3;

/// The columns of a difference where no terminal says how many there are.
const PIPE_COLUMNS: usize = 120;

/// The most bytes of one stream that are shown; the rest is in the recording and the reports.
const SHOWN: usize = 16 * 1024 * 1024;

/// An attempt whose output is shown.
pub(super) struct Shown<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) id: &'a AttemptId,
    /// The part of its trace that explains its failure.
    pub(super) evidence: &'a [String],
}

/// Appends the output of an attempt: what says why it failed, the rest, what of its trace explains its
/// failure, and how it ended.
pub(super) fn write(
    out: &mut Vec<u8>,
    shown: &Shown<'_>,
    outputs: &dyn Outputs,
    styles: Styles,
    options: &TerminalOptions,
) {
    let parts = Parts::of(shown, outputs, options.verbosity == 0);
    let mut printer = Printer {
        out,
        captured: Captured::new(printed::Shown {
            colors: options.colors,
            unicode: options.unicode,
        }),
        styles,
        options,
    };
    let attempt = shown.attempt;
    printer.failure(&parts);
    printer.section(
        "stdout",
        parts.stdout.as_ref(),
        attempt.stdout,
        Stream::Stdout,
    );
    printer.section(
        "stderr",
        parts.stderr.as_ref(),
        attempt.stderr,
        Stream::Stderr,
    );
    if !shown.evidence.is_empty() {
        printer.heading("trace");
        for line in shown.evidence {
            printer.text(line);
        }
    }
    if let Some(text) = wording::closing(attempt) {
        let lines: Vec<_> = text.lines().map(escaped).collect();
        let text = lines.join(&format!("\n{}", indent(options)));
        let closing = format!("\n{}({text})\n", indent(options));
        printer.out.extend_from_slice(closing.as_bytes());
    }
    printer.out.push(b'\n');
}

/// The output of an attempt by what it says.
#[derive(Default)]
struct Parts {
    /// The words of the harness on the failure, and the panic with all that follows it.
    failure: Vec<Vec<u8>>,
    /// The panics before that one.
    before: Vec<Panic>,
    stdout: Option<Excerpt>,
    stderr: Option<Excerpt>,
}

impl Parts {
    /// Returns the output with what says why the test failed apart, and without the words of its harness
    /// if it is to be `tidy`.
    fn of(shown: &Shown<'_>, outputs: &dyn Outputs, tidy: bool) -> Self {
        let read = |stream| excerpt(outputs, shown.id, stream, SHOWN);
        let mut parts = Self {
            stdout: read(Stream::Stdout),
            stderr: read(Stream::Stderr),
            ..Self::default()
        };
        if !tidy {
            return parts;
        }
        let test = &shown.id.test;
        if let Some(stdout) = parts.stdout.take() {
            let unwrapped = wrapper::unwrapped(stdout, test.name.as_str());
            parts.stdout = Some(unwrapped.own);
            parts
                .failure
                .extend((!unwrapped.note.is_empty()).then_some(unwrapped.note));
        }
        if shown.attempt.verdict == Verdict::Pass {
            return parts;
        }
        if let Some(stderr) = &mut parts.stderr {
            parts.before = failure::before(test, stderr.end());
            if let Some(range) = extract::in_stderr(stderr.end(), test.name.as_str()) {
                let end = match stderr.left_out {
                    0 => &mut stderr.head,
                    _ => &mut stderr.tail,
                };
                let mut why = end.split_off(range.start);
                why.truncate(range.len());
                parts.failure.push(why);
                // The hook of a panic begins with an empty line.
                let rest = end.trim_ascii_end().len();
                end.truncate(rest);
            }
        }
        parts
    }
}

fn indent(options: &TerminalOptions) -> &'static str {
    if options.indent_output { "    " } else { "" }
}

struct Printer<'a> {
    out: &'a mut Vec<u8>,
    captured: Captured,
    styles: Styles,
    options: &'a TerminalOptions,
}

impl Printer<'_> {
    fn heading(&mut self, name: &str) {
        let rule = if self.options.unicode {
            "───"
        } else {
            "---"
        };
        let heading = format!(
            "  {}\n",
            paint(&format!("{name} {rule}"), self.styles.count)
        );
        self.out.extend_from_slice(heading.as_bytes());
    }

    /// Writes an indented line of ours.
    fn text(&mut self, line: &str) {
        let line = format!("{}{line}\n", indent(self.options));
        self.out.extend_from_slice(line.as_bytes());
    }

    /// Shows what says why the test failed.
    fn failure(&mut self, parts: &Parts) {
        if parts.failure.is_empty() {
            return;
        }
        self.heading("failure");
        for text in &parts.failure {
            let values = str::from_utf8(text).ok().and_then(Values::find);
            let end = values.as_ref().map_or(0, |values| values.end);
            self.lines(&text[..end], Some(0..end));
            if let Some(values) = values {
                self.difference(&values);
            }
            self.lines(&text[end..], Some(0..text.len()));
        }
        let earlier = parts.before.len().saturating_sub(MOST_PANICS);
        for panic in parts.before.iter().take(MOST_PANICS) {
            let Panic {
                thread,
                place,
                message,
            } = panic;
            let line = format!("before it, thread `{thread}` panicked at {place}: {message}");
            let line = escaped(&line).into_owned();
            self.text(&paint(&line, self.styles.panic).to_string());
        }
        if earlier > 0 {
            self.text(&format!(
                "before it, {}",
                wording::plural(earlier, "more panic", "more panics")
            ));
        }
    }

    /// Shows where the two values of an assertion differ.
    fn difference(&mut self, values: &Values<'_>) {
        let indent = indent(self.options).len();
        let width = self
            .options
            .columns()
            .unwrap_or(PIPE_COLUMNS)
            .saturating_sub(indent);
        let lines = values.difference(width);
        if lines.is_empty() {
            return;
        }
        self.text(&paint("difference (- left, + right):", self.styles.count).to_string());
        for line in lines {
            let style = match line.kind {
                Kind::Left => self.styles.panic,
                Kind::Right => self.styles.added,
                Kind::Marks => self.styles.warn,
                Kind::Same | Kind::Gap => Style::new(),
            };
            let text = escaped(&line.text).into_owned();
            self.text(paint(&text, style).to_string().trim_end());
        }
    }

    /// Shows a stream under its name, if there is something to be seen.
    fn section(&mut self, name: &str, excerpt: Option<&Excerpt>, size: StreamSize, stream: Stream) {
        let Some(excerpt) = excerpt else {
            return;
        };
        let blank = |bytes: &[u8]| bytes.trim_ascii().is_empty();
        let unseen = blank(&excerpt.head) && blank(&excerpt.tail) && excerpt.left_out == 0;
        if unseen && !size.no_room {
            return;
        }
        self.heading(name);
        self.captured = Captured::new(printed::Shown {
            colors: self.options.colors,
            unicode: self.options.unicode,
        });
        self.stream(excerpt, stream);
        if size.no_room {
            let lost = wording::size(size.dropped);
            self.note(&format!(
                "{lost} are lost: the temporary folder could not be written"
            ));
        }
    }

    fn stream(&mut self, excerpt: &Excerpt, stream: Stream) {
        // Without `-v` it has been shown apart.
        let found = match stream {
            _ if !self.options.colors => None,
            Stream::Stdout => extract::in_stdout(excerpt.end()),
            Stream::Stderr => extract::in_stderr(excerpt.end(), ""),
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
