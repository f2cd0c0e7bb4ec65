//! GitHub Actions: annotations on the lines of failed and flaky tests, and the summary of the step.
//!
//! The commands of a workflow are lines such as `::error file=src/a.rs,line=3,title=…::message`. GitHub
//! shows the first ten errors and the first ten warnings of a step, so more are not printed. The summary is
//! Markdown in the file that `GITHUB_STEP_SUMMARY` names; GitHub takes no more than 1 MiB of a step.

use super::{Outputs, Sink, SinkError, failure::Reason, wording};
use camino::Utf8PathBuf;
use harness_metadata::{
    Event, EventKind, TestId, Verdict,
    event::{RunFinished, TestFinished},
};
use std::{
    fs,
    io::{self, Write},
};

/// The annotations of a kind that GitHub shows.
const MOST_ANNOTATIONS: usize = 10;

/// The tests of a kind that the summary lists.
const MOST_LISTED: usize = 200;

/// The most characters of a message.
const LONGEST_MESSAGE: usize = 300;

/// The sink for GitHub Actions.
pub struct Github<W: Write> {
    commands: W,
    summary: Option<Utf8PathBuf>,
    workspace_root: String,
    failed: Listed,
    quarantined: Listed,
    flaky: Listed,
    finished: Option<RunFinished>,
}

/// The tests of one kind.
#[derive(Debug, Default)]
struct Listed {
    count: usize,
    rows: Vec<(TestId, Reason)>,
}

impl Listed {
    fn add(&mut self, test: &TestId, reason: Reason) {
        self.count += 1;
        if self.rows.len() < MOST_LISTED {
            self.rows.push((test.clone(), reason));
        }
    }
}

impl<W: Write> Github<W> {
    /// Returns a sink that writes annotations to `commands`, and appends to the file `summary` when the
    /// run ends.
    pub fn new(commands: W, summary: Option<Utf8PathBuf>) -> Self {
        Self {
            commands,
            summary,
            workspace_root: String::new(),
            failed: Listed::default(),
            quarantined: Listed::default(),
            flaky: Listed::default(),
            finished: None,
        }
    }

    fn test_finished(&mut self, finished: &TestFinished, outputs: &dyn Outputs) -> io::Result<()> {
        let failed = Reason::of(finished, &self.workspace_root, outputs);
        let flaky = || finished.flaky().then(|| Reason::of_flaky(finished));
        let (listed, command, what) = match &failed {
            Some(_) if finished.verdict == Verdict::Quarantined => {
                (&mut self.quarantined, "warning", "failed in quarantine")
            }
            Some(_) => (&mut self.failed, "error", "failed"),
            None => (&mut self.flaky, "warning", "is flaky"),
        };
        let Some(reason) = failed.or_else(flaky) else {
            return Ok(());
        };
        if listed.count < MOST_ANNOTATIONS {
            let line = annotation(command, &finished.test, what, &reason);
            writeln!(self.commands, "{line}")?;
            self.commands.flush()?;
        }
        listed.add(&finished.test, reason);
        Ok(())
    }

    /// Appends the summary; without the end of the run it says so.
    fn write_summary(&mut self) -> Result<(), SinkError> {
        let Some(path) = self.summary.take() else {
            return Ok(());
        };
        let text = self.text();
        let file = fs::OpenOptions::new().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| SinkError {
            what: format!("the summary of the step to `{path}`"),
            source,
        })
    }

    fn text(&self) -> String {
        let mut text = match &self.finished {
            Some(run) => {
                let counts = wording::counts(&run.stats).into_iter();
                let counts: Vec<_> = counts
                    .map(|(count, what, _)| format!("{count} {what}"))
                    .collect();
                let word = match run.stats.success() && run.cancelled.is_none() {
                    true => "passed",
                    false => "failed",
                };
                format!(
                    "### Tests {word}\n\n{} run in {}: {}\n",
                    wording::plural(run.stats.finished, "test", "tests"),
                    wording::seconds(run.elapsed).trim(),
                    counts.join(", ")
                )
            }
            None => "### Tests did not end\n\nThe run did not reach its end.\n".to_owned(),
        };
        for (heading, listed) in [
            ("Failed", &self.failed),
            ("Failed in quarantine", &self.quarantined),
            ("Flaky", &self.flaky),
        ] {
            if listed.count == 0 {
                continue;
            }
            text.push_str(&format!(
                "\n#### {heading}\n\n| Test | Place | Reason |\n| --- | --- | --- |\n"
            ));
            for (test, reason) in &listed.rows {
                let place = match &reason.place {
                    Some((file, line)) => code(&format!("{file}:{line}")),
                    None => String::new(),
                };
                let (test, message) = (code(&test.to_string()), code(&cut(&reason.message)));
                text.push_str(&format!("| {test} | {place} | {message} |\n"));
            }
            let more = listed.count - listed.rows.len();
            if more > 0 {
                text.push_str(&format!("\n… and {more} more.\n"));
            }
        }
        text
    }
}

impl<W: Write> Sink for Github<W> {
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError> {
        match &event.kind {
            EventKind::RunStarted(run) => {
                self.workspace_root.clone_from(&run.workspace_root);
                Ok(())
            }
            EventKind::TestFinished(finished) => {
                self.test_finished(finished, outputs)
                    .map_err(|source| SinkError {
                        what: "annotations".to_owned(),
                        source,
                    })
            }
            EventKind::RunFinished(run) => {
                self.finished = Some((**run).clone());
                self.write_summary()
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.write_summary()
    }
}

/// Returns the line that annotates a test.
fn annotation(command: &str, test: &TestId, what: &str, reason: &Reason) -> String {
    let place = match &reason.place {
        Some((file, line)) => format!("file={},line={line},", property(file)),
        None => String::new(),
    };
    let title = property(&format!("{test} {what}"));
    let message = match reason.message.as_str() {
        "" => what.to_owned(),
        message => cut(message),
    };
    format!("::{command} {place}title={title}::{}", data(&message))
}

/// Escapes the text of a command.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Escapes a property of a command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Returns text as code in a cell of a table, whatever it holds.
fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut escaped = String::from("<code>");
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // What Markdown, tables and mentions are made of.
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '@' | '#' | '~' | '$' => {
                escaped.push_str(&format!("&#{};", u32::from(c)));
            }
            '\n' | '\r' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped + "</code>"
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_MESSAGE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            sample::{Memory, feed, test},
            tests::mixed,
        },
        *,
    };

    fn reason(message: &str) -> Reason {
        Reason {
            place: Some(("src/a,b:c.rs".into(), 3)),
            message: message.into(),
        }
    }

    #[test]
    fn nothing_in_a_name_or_a_message_ends_a_command() {
        let test = test("a,b::c%\n::error::x");
        let line = annotation("error", &test, "failed", &reason("100%\n::set-output x"));
        assert_eq!(line.lines().count(), 1);
        assert!(
            line.starts_with(
                "::error file=src/a%2Cb%3Ac.rs,line=3,title=sample a%2Cb%3A%3Ac%25%0A"
            ),
            "{line}"
        );
        assert!(line.ends_with("::100%25%0A::set-output x"), "{line}");
    }

    #[test]
    fn failed_and_flaky_tests_are_annotated_and_in_the_summary() {
        let folder = tempfile::tempdir().unwrap();
        let summary = Utf8PathBuf::from_path_buf(folder.path().join("summary")).unwrap();
        fs::write(&summary, "before\n").unwrap();
        let (events, outputs) = mixed();
        let mut sink = Github::new(Vec::new(), Some(summary.clone()));
        feed(&mut sink, &events, &outputs);
        sink.close().unwrap();
        let commands = String::from_utf8(sink.commands).unwrap();
        assert!(
            commands
                .contains("::error file=src/a.rs,line=3,title=sample a%3A%3Afails failed::boom\n"),
            "{commands}"
        );
        assert!(
            commands
                .contains("::warning file=src/lib.rs,line=7,title=sample a%3A%3Aflaky is flaky::"),
            "{commands}"
        );
        let text = fs::read_to_string(&summary).unwrap();
        assert!(text.starts_with("before\n### Tests failed\n"), "{text}");
        assert!(
            text.contains(
                "| <code>sample a::fails</code> | <code>src/a.rs:3</code> | <code>boom</code> |"
            ),
            "{text}"
        );
        assert_eq!(text.matches("### Tests").count(), 1);
    }

    #[test]
    fn a_failure_in_quarantine_is_a_warning() {
        let (events, outputs) = mixed();
        let mut sink = Github::new(Vec::new(), None);
        for event in &events {
            if let EventKind::TestFinished(finished) = &event.kind
                && finished.verdict == Verdict::Fail
            {
                let mut finished = finished.clone();
                finished.verdict = Verdict::Quarantined;
                sink.test_finished(&finished, &outputs).unwrap();
            }
        }
        assert!(sink.text().contains("#### Failed in quarantine"));
        assert_eq!(sink.failed.count, 0);
        let commands = String::from_utf8(sink.commands).unwrap();
        assert!(commands.lines().all(|line| line.starts_with("::warning ")));
        assert_eq!(commands.lines().count(), sink.quarantined.count);
    }

    #[test]
    fn a_run_without_an_end_has_a_summary_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let summary = Utf8PathBuf::from_path_buf(folder.path().join("summary")).unwrap();
        let (events, outputs) = mixed();
        let mut sink = Github::new(Vec::new(), Some(summary.clone()));
        sink.handle(&events[0], &outputs).unwrap();
        sink.close().unwrap();
        let text = fs::read_to_string(&summary).unwrap();
        assert!(text.contains("did not reach its end"), "{text}");
    }

    #[test]
    fn a_summary_that_cannot_be_written_is_an_error() {
        let (events, _) = mixed();
        let mut sink = Github::new(Vec::new(), Some("/dev/null/x".into()));
        sink.handle(&events[0], &Memory::default()).unwrap();
        let error = sink.close().unwrap_err().to_string();
        assert_eq!(
            error,
            "failed to write the summary of the step to `/dev/null/x`"
        );
    }

    #[test]
    fn ten_errors_are_printed_and_what_the_summary_leaves_out_is_counted() {
        let mut sink = Github::new(Vec::new(), None);
        let (events, outputs) = mixed();
        let failed = events.iter().find_map(|event| match &event.kind {
            EventKind::TestFinished(test) if test.verdict == harness_metadata::Verdict::Fail => {
                Some(test)
            }
            _ => None,
        });
        for _ in 0..300 {
            sink.test_finished(failed.unwrap(), &outputs).unwrap();
        }
        assert!(sink.text().ends_with("… and 100 more.\n"));
        let commands = String::from_utf8(sink.commands).unwrap();
        assert_eq!(commands.lines().count(), 10);
    }
}
