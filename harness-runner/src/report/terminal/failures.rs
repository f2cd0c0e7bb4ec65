//! The list at the end of a run: what failed, where and why, and how to run that again.
//!
//! On a terminal each failure has one line, the middle of its name goes first where there is no room, and
//! as many are listed as fit. Elsewhere nothing is shortened, and the reason has a line of its own, so that the
//! line before it ends with the name of the test.

use super::{Terminal, traces::Kept};
use crate::report::{
    Outputs, findings,
    fit::{clipped, without_beginning, without_middle},
    style::{escaped, paint},
    wording::{self, Class},
};
use harness_metadata::event::TestFinished;
use std::{cmp::Reverse, io::Write, mem};
use unicode_width::UnicodeWidthStr;

/// The rows at the end that the list leaves to the summary, the command and the error.
const OTHER_ROWS: usize = 6;

/// The rows of the line about credentials, on a terminal of 80 columns.
const CREDENTIALS_ROWS: usize = 3;

/// On narrower terminals the list begins in the first column.
const NARROW: usize = 60;

/// Terminals with fewer rows are low.
const LOW: usize = 16;

/// The columns that a message, a name and a place keep at least, if they need them.
const MESSAGE: usize = 24;
const NAME: usize = 20;
const PLACE: usize = 12;

impl<W: Write> Terminal<W> {
    /// Lists tests from good to bad, so that the worst stand last, where the eye is.
    pub(super) fn final_list(&mut self, outputs: &dyn Outputs) {
        for test in mem::take(&mut self.skipped) {
            self.status("SKIP", self.styles.warn, "", None, &test);
        }
        let mut kept = mem::take(&mut self.kept);
        kept.sort_by_key(|kept| Reverse(Class::of(&kept.finished)));
        // A low terminal has its rows for failures.
        let low = self.room.is_some_and(|(_, rows)| rows < LOW);
        self.explains = !low && kept.iter().any(|kept| kept.explains);
        let fitted = self.room.is_some() && self.options.verbosity == 0;
        let mut failures = Vec::new();
        for kept in kept {
            let at_end = self.output_when(&kept.finished).at_end();
            if at_end || !fitted || kept.reason.is_none() {
                self.whole(&kept, outputs);
            }
            if fitted && kept.reason.is_some() {
                failures.push(kept);
            }
        }
        self.fitted_list(&failures);
    }

    /// Shows a test, with its output if that is wanted at the end.
    fn whole(&mut self, kept: &Kept, outputs: &dyn Outputs) {
        let test = &kept.finished;
        let at_end = self.output_when(test).at_end();
        self.whole_names = at_end;
        self.finished_line(test, &wording::final_status(test));
        self.whole_names = false;
        self.quarantined(test);
        self.left_behind(test);
        if let Some(line) = kept.reason.as_ref().and_then(|reason| reason.line()) {
            self.say(&format!("             {line}"));
        }
        if let Some(disturbed) = self.disturbed_by(test) {
            self.say(&format!("             {disturbed}"));
        }
        if at_end {
            self.block_of(test, &kept.evidence, outputs);
        }
    }

    /// Lists what failed, as much of it as fits, the worst last.
    fn fitted_list(&mut self, failures: &[Kept]) {
        let Some((columns, rows)) = self.room else {
            return;
        };
        let lines: Vec<_> = failures
            .iter()
            .map(|kept| self.fitted(kept, columns))
            .collect();
        let readers = !self.findings.credentials.is_empty();
        let found = self.findings.causes.len() + CREDENTIALS_ROWS * usize::from(readers);
        let others = OTHER_ROWS + usize::from(self.explains) + found;
        let mut left = rows.saturating_sub(others).max(2);
        let mut shown = 0;
        for lines in lines.iter().rev() {
            left = left.saturating_sub(lines.len());
            if left == 0 && shown > 0 {
                break;
            }
            shown += 1;
        }
        let first = lines.len() - shown;
        if first > 0 {
            let text = format!("… and {first} more that are not listed here");
            let text = clipped(&text, columns.saturating_sub(13));
            self.say(&format!("             {text}"));
        }
        for line in lines.iter().skip(first).flatten() {
            self.say(line);
        }
    }

    /// Returns the line of a failed test, and one of what its trace says.
    fn fitted(&self, kept: &Kept, columns: usize) -> Vec<String> {
        let test = &kept.finished;
        let status = wording::final_status(test);
        let status = match columns < NARROW {
            true => status,
            false => format!("{status:>12}"),
        };
        let style = match Class::of(test) {
            Class::Failed => self.styles.fail,
            _ => self.styles.warn,
        };
        let place = kept
            .reason
            .as_ref()
            .and_then(|reason| reason.place.as_ref());
        let place = place.map(|(file, line)| format!("{}:{line}", escaped(file)));
        let place = place.unwrap_or_default();
        let message = kept.reason.as_ref().map_or("", |reason| &reason.message);
        let name = format!(
            "{} {}",
            escaped(test.test.binary.as_str()),
            escaped(test.test.name.as_str())
        );
        let room = columns.saturating_sub(status.width() + 1);
        let widths = Widths::of(name.width(), place.width(), message.width(), room);
        let mut line = format!(
            "{} {}",
            paint(&status, style),
            self.styles.name_within(&test.test, widths.name)
        );
        if widths.place > 0 {
            let shown = without_beginning(&place, widths.place);
            line.push_str(&format!("  {}", self.linked(&shown, kept)));
        }
        if widths.message > 0 {
            line.push_str(&format!("  {}", clipped(message, widths.message)));
        }
        let mut lines = vec![line];
        let indent = if columns < NARROW { 2 } else { 13 };
        // The last line of the evidence says where there is more.
        let evidence = kept.evidence.split_last();
        let evidence = evidence.and_then(|(_, others)| others.first().cloned());
        if let Some(line) = self.disturbed_by(test).or(evidence) {
            let line = without_middle(&line, columns.saturating_sub(indent));
            lines.push(format!("{}{line}", " ".repeat(indent)));
        }
        lines
    }

    /// Returns which other test disturbed the last attempt of this one, if one did.
    fn disturbed_by(&self, test: &TestFinished) -> Option<String> {
        let last = test.attempts.last()?;
        let found = findings::of_attempt(&self.findings, &test.test, last.number)?;
        Some(findings::interference(found))
    }

    /// Returns the shown place of a failure as a link to it, if the terminal has links.
    fn linked(&self, shown: &str, kept: &Kept) -> String {
        let place = kept
            .reason
            .as_ref()
            .and_then(|reason| reason.place.as_ref());
        match (&self.options.links, place) {
            (Some(links), Some((file, line))) => {
                links.link(shown, &self.workspace_root, file, *line)
            }
            _ => shown.to_owned(),
        }
    }

    /// Says how a failure is compared with a pass, and how the failed tests are run again.
    pub(super) fn say_again(&mut self) {
        if mem::take(&mut self.explains) {
            let command = paint("cargo harness explain", self.styles.count).to_string();
            self.note("Explain", self.styles.warn, &command);
        }
        let failed = self.stats.failed + self.stats.timed_out + self.stats.no_result;
        if failed == 0 {
            return;
        }
        if let Some(again) = self.again.take() {
            let again = paint(&again, self.styles.count).to_string();
            self.note("Run again", self.styles.warn, &again);
        }
    }
}

/// The columns of the parts of a line.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Widths {
    name: usize,
    place: usize,
    message: usize,
}

impl Widths {
    /// Deals out the room: first the message gives way, then the name, then the place, then nothing is left of
    /// the message.
    fn of(name: usize, place: usize, message: usize, room: usize) -> Self {
        let between = |columns: usize| if columns > 0 { columns + 2 } else { 0 };
        let mut widths = Self {
            name,
            place,
            message,
        };
        let excess = |widths: Self| {
            (widths.name + between(widths.place) + between(widths.message)).saturating_sub(room)
        };
        let cut = |columns: usize, least: usize, by: usize| {
            columns.saturating_sub(by).max(least.min(columns))
        };
        widths.message = cut(message, MESSAGE, excess(widths));
        widths.name = cut(name, NAME, excess(widths));
        widths.place = cut(place, PLACE, excess(widths));
        if excess(widths) > 0 {
            let left = widths.message.saturating_sub(excess(widths));
            widths.message = if left < 8 { 0 } else { left };
        }
        if excess(widths) > 0 {
            widths.place = 0;
        }
        widths.name = cut(widths.name, 1, excess(widths));
        widths
    }
}

/// Returns the command that runs what failed in a run with this command line; `None` if that cannot be told.
pub(super) fn again(command_line: &[String]) -> Option<String> {
    let arguments = command_line.get(1..)?;
    let arguments = match arguments.first().map(String::as_str) {
        Some("harness") => &arguments[1..],
        _ => arguments,
    };
    let run = arguments.iter().position(|argument| argument == "run")?;
    let (before, after) = (&arguments[..run], &arguments[run + 1..]);
    let narrowed = |argument: &String| {
        let flag = argument.split('=').next().unwrap_or_default();
        matches!(flag, "--last-failed" | "--lf" | "--rerun" | "-R")
    };
    let narrowed = after
        .iter()
        .take_while(|argument| *argument != "--")
        .any(narrowed);
    let mut words = vec!["cargo".to_owned(), "harness".to_owned()];
    let quoted = |argument: &String| escaped(&shell_words::quote(argument)).into_owned();
    words.extend(before.iter().map(quoted));
    words.push("run".to_owned());
    if !narrowed {
        words.push("--last-failed".to_owned());
    }
    words.extend(after.iter().map(quoted));
    Some(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_dealt_out_to_the_last_column() {
        let of = |name, place, message, room| {
            let widths = Widths::of(name, place, message, room);
            (widths.name, widths.place, widths.message)
        };
        assert_eq!(of(20, 10, 30, 200), (20, 10, 30));
        assert_eq!(of(20, 10, 60, 67), (20, 10, 33));
        assert_eq!(of(50, 14, 60, 67), (25, 14, 24));
        assert_eq!(of(50, 30, 60, 40), (20, 12, 0));
        assert_eq!(of(50, 0, 0, 15), (15, 0, 0));
        assert_eq!(of(0, 0, 90, 10), (0, 0, 8));
        for room in 0..120 {
            let (name, place, message) = of(40, 20, 80, room);
            let between = |columns| if columns > 0 { columns + 2 } else { 0 };
            assert!(
                name + between(place) + between(message) <= room.max(1),
                "{room}"
            );
        }
    }

    #[test]
    fn the_command_has_the_words_of_the_run() {
        let of = |line: &str| again(&shell_words::split(line).unwrap());
        for (line, expected) in [
            (
                "/b/cargo-harness harness run",
                "cargo harness run --last-failed",
            ),
            (
                "cargo-harness run --release a\\ b",
                "cargo harness run --last-failed --release 'a b'",
            ),
            (
                "x harness --color never run -p a -- --exact b",
                "cargo harness --color never run --last-failed -p a -- --exact b",
            ),
            ("x harness run --lf", "cargo harness run --lf"),
            ("x harness run --rerun=1a", "cargo harness run '--rerun=1a'"),
        ] {
            assert_eq!(of(line).as_deref(), Some(expected));
        }
        assert_eq!(of("program"), None);
    }
}
