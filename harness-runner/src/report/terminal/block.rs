//! The output of one attempt, and how it ended.

use super::TerminalOptions;
use crate::report::{
    Excerpt, Outputs, Stream, excerpt, extract,
    style::{Styles, paint},
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
            styles,
            options,
        };
        printer.stream(&excerpt, stream);
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
    let lines: Vec<_> = text.lines().map(crate::report::style::escaped).collect();
    lines.join(&format!("\n{}", indent(options)))
}

struct Printer<'a> {
    out: &'a mut Vec<u8>,
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
            return;
        }
        self.lines(&excerpt.head, None);
        let gap = format!("… {} left out …", wording::size(excerpt.left_out));
        let gap = if self.options.unicode {
            gap
        } else {
            gap.replace('…', "...")
        };
        let line = format!(
            "{}{}\n",
            indent(self.options),
            paint(&gap, self.styles.warn)
        );
        self.out.extend_from_slice(line.as_bytes());
        self.lines(&excerpt.tail, found);
    }

    fn lines(&mut self, bytes: &[u8], red: Option<Range<usize>>) {
        let mut at = 0;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let inside = red
                .as_ref()
                .is_some_and(|red| red.start <= at && at < red.end);
            at += line.len();
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if !line.is_empty() {
                self.out.extend_from_slice(indent(self.options).as_bytes());
            }
            if !self.options.colors {
                self.out.extend_from_slice(&stripped(line));
            } else if inside && !line.contains(&0x1b) {
                let text = String::from_utf8_lossy(line);
                let text = paint(&text, self.styles.panic).to_string();
                self.out.extend_from_slice(text.as_bytes());
            } else {
                self.out.extend_from_slice(line);
            }
            self.out.push(b'\n');
        }
        if self.options.colors && bytes.contains(&0x1b) {
            // Whatever style the test left on ends here.
            self.out.extend_from_slice(b"\x1b[0m");
        }
    }
}

fn stripped(line: &[u8]) -> Vec<u8> {
    if line.contains(&0x1b) {
        strip_ansi_escapes::strip(line)
    } else {
        line.to_vec()
    }
}
