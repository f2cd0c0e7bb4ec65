//! The output of tests while they run: each line with its test.

use super::Terminal;
use crate::report::{
    captured::{Captured, Shown, overwritten},
    style::{escaped, paint},
    wording,
};
use harness_metadata::{
    TestId,
    event::{AttemptPrinted, OutputStream},
};
use owo_colors::Style;
use std::{collections::HashMap, io::Write};

/// The streams of running tests, with the colors that they have left on.
#[derive(Debug, Default)]
pub(super) struct Live(HashMap<TestId, [Option<Captured>; 2]>);

impl Live {
    pub(super) fn finished(&mut self, test: &TestId) {
        self.0.remove(test);
    }

    fn stream(&mut self, printed: &AttemptPrinted, shown: Shown) -> &mut Captured {
        let both = self.0.entry(printed.test.clone()).or_default();
        let stream = match printed.stream {
            OutputStream::Stdout => &mut both[0],
            OutputStream::Stderr => &mut both[1],
        };
        stream.get_or_insert_with(|| Captured::new(shown))
    }
}

impl<W: Write> Terminal<W> {
    /// Shows lines that an attempt has printed.
    pub(super) fn printed(&mut self, printed: &AttemptPrinted) {
        let before = self.before(printed);
        if printed.dropped > 0 {
            let lines = wording::plural(
                usize::try_from(printed.dropped).unwrap_or(usize::MAX),
                "line",
                "lines",
            );
            let note = format!("{lines} came too fast to be shown");
            self.say(&format!("{before} {}", paint(&note, self.styles.warn)));
        }
        let shown = Shown {
            colors: self.options.colors,
            unicode: self.options.unicode,
        };
        for (at, line) in printed.lines.iter().enumerate() {
            let (visible, _) = overwritten(line.as_bytes());
            let captured = self.live.stream(printed, shown);
            let mut texts: Vec<_> = visible.iter().map(|line| captured.line(line)).collect();
            if printed.unfinished && at + 1 == printed.lines.len() {
                let mark = paint("(no end of line)", self.styles.warn);
                let last = texts.pop().unwrap_or_default();
                texts.push(format!("{last} {mark}"));
            }
            for text in texts {
                self.say(format!("{before} {text}").trim_end());
            }
        }
    }

    /// Returns the beginning of a line: the test, in a color that no other running test has as long as
    /// there are enough, and a mark for the stream.
    fn before(&self, printed: &AttemptPrinted) -> String {
        let again = match printed.attempt {
            1 => String::new(),
            attempt => format!(" (try {attempt})"),
        };
        let name = format!("{}{again}", escaped(&printed.test.to_string()));
        let mark = match printed.stream {
            OutputStream::Stdout => "|",
            OutputStream::Stderr => "!",
        };
        let style = match self.options.colors {
            true => color(printed.slot),
            false => Style::new(),
        };
        paint(&format!("{name} {mark}"), style).to_string()
    }
}

/// Returns the color of a slot: tests that run at the same time have different ones.
fn color(slot: usize) -> Style {
    let style = Style::new();
    match slot % 8 {
        0 => style.cyan(),
        1 => style.magenta(),
        2 => style.blue(),
        3 => style.yellow(),
        4 => style.bright_cyan(),
        5 => style.bright_magenta(),
        6 => style.bright_blue(),
        _ => style.bright_yellow(),
    }
}
