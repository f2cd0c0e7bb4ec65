//! Annotations: failed and flaky tests at the lines of a change, and a summary, for the service that runs this.
//!
//! Each service has a form of its own: commands in the log, or a file that it reads when the job ends. Most
//! show only so many annotations of a step, so more are not printed.

mod commands;
mod quality;

use super::{Outputs, Sink, SinkError, failure::Reason, wording};
use camino::Utf8PathBuf;
use commands::{Level, azure, cut, github, teamcity_finished, teamcity_ignored};
use harness_metadata::{
    Event, EventKind, TestId, Verdict,
    event::{RunFinished, RunStarted, TestFinished},
};
use quality::Quality;
use std::{
    fs,
    io::{self, Write},
};

/// The annotations of a kind that are printed: what GitHub shows.
const MOST_ANNOTATIONS: usize = 10;

/// The tests of a kind that the summary lists.
const MOST_LISTED: usize = 200;

/// The form of annotations.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Commands of a workflow, such as `::error file=src/a.rs,line=3::message`: GitHub, Forgejo, Gitea.
    Workflow,
    /// A code quality report of GitLab.
    Quality,
    /// Logging commands of Azure Pipelines.
    Azure,
    /// Service messages of TeamCity: each test with its result.
    Teamcity,
    /// Nothing in the log: there is only a summary.
    Summary,
}

/// Takes the text of a summary, and whether the run failed.
pub type Hand = dyn FnMut(&str, bool) -> io::Result<()>;

/// The place of the summary, which is Markdown, or of the report.
pub enum Summary {
    /// None.
    None,
    /// It is added to this file.
    Append(Utf8PathBuf),
    /// It becomes this file.
    Create(Utf8PathBuf),
    /// It is handed over: its text, and whether the run failed.
    Hand(Box<Hand>),
}

/// The sink for the service that runs the tests.
pub struct Annotations<W: Write> {
    form: Form,
    commands: W,
    summary: Option<Summary>,
    run: Option<RunStarted>,
    failed: Listed,
    quarantined: Listed,
    flaky: Listed,
    quality: Quality,
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

impl<W: Write> Annotations<W> {
    /// Returns a sink that writes annotations to `commands`, and the summary when the run ends.
    pub fn new(form: Form, commands: W, summary: Summary) -> Self {
        Self {
            form,
            commands,
            summary: Some(summary),
            run: None,
            failed: Listed::default(),
            quarantined: Listed::default(),
            flaky: Listed::default(),
            quality: Quality::default(),
            finished: None,
        }
    }

    fn test_finished(&mut self, finished: &TestFinished, outputs: &dyn Outputs) -> io::Result<()> {
        let root = self.run.as_ref().map_or("", |run| &run.workspace_root);
        let failed = Reason::of(finished, root, outputs);
        if self.form == Form::Teamcity {
            let text = teamcity_finished(finished, failed.as_ref());
            self.commands.write_all(text.as_bytes())?;
            self.commands.flush()?;
        }
        let flaky = || finished.flaky().then(|| Reason::of_flaky(finished));
        let (listed, level, what) = match &failed {
            Some(_) if finished.verdict == Verdict::Quarantined => (
                &mut self.quarantined,
                Level::Warning,
                "failed in quarantine",
            ),
            Some(_) => (&mut self.failed, Level::Error, "failed"),
            None => (&mut self.flaky, Level::Warning, "is flaky"),
        };
        let Some(reason) = failed.or_else(flaky) else {
            return Ok(());
        };
        if listed.count < MOST_ANNOTATIONS {
            let line = match self.form {
                Form::Workflow => Some(github(level, &finished.test, what, &reason)),
                Form::Azure => Some(azure(level, &finished.test, what, &reason)),
                Form::Quality | Form::Teamcity | Form::Summary => None,
            };
            if let Some(line) = line {
                writeln!(self.commands, "{line}")?;
                self.commands.flush()?;
            }
        }
        if self.form == Form::Quality {
            let source = self
                .run
                .as_ref()
                .and_then(|run| run.sources.get(&finished.test.binary));
            let source = source.map(|source| source.file.as_str());
            self.quality
                .add(level, &finished.test, what, &reason, source);
        }
        listed.add(&finished.test, reason);
        Ok(())
    }

    /// Writes the summary; without the end of the run it says so.
    fn write_summary(&mut self) -> Result<(), SinkError> {
        let failed = self
            .finished
            .as_ref()
            .is_none_or(|run| !run.stats.success());
        let error = |path: &Utf8PathBuf, source| SinkError {
            what: format!("the summary of the step to `{path}`"),
            source,
        };
        match self.summary.take() {
            None | Some(Summary::None) => Ok(()),
            Some(Summary::Append(path)) => {
                let text = self.text();
                let file = fs::OpenOptions::new().append(true).create(true).open(&path);
                let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
                written.map_err(|source| error(&path, source))
            }
            Some(Summary::Create(path)) => {
                let text = match self.form {
                    Form::Quality => self.quality.text(),
                    _ => self.text(),
                };
                let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
                let written = folder.and_then(|()| fs::write(&path, text));
                written.map_err(|source| error(&path, source))?;
                self.announce(&path).map_err(|source| SinkError {
                    what: "annotations".to_owned(),
                    source,
                })
            }
            Some(Summary::Hand(mut hand)) => {
                hand(&self.text(), failed).map_err(|source| SinkError {
                    what: "the summary of the step".to_owned(),
                    source,
                })
            }
        }
    }

    /// Says where the summary is.
    fn announce(&mut self, path: &Utf8PathBuf) -> io::Result<()> {
        if self.form != Form::Azure {
            return Ok(());
        }
        writeln!(self.commands, "##vso[task.uploadsummary]{path}")?;
        self.commands.flush()
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

impl<W: Write> Sink for Annotations<W> {
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError> {
        let written = match &event.kind {
            EventKind::RunStarted(run) => {
                self.run = Some((**run).clone());
                Ok(())
            }
            EventKind::TestSkipped {
                test,
                ignore_reason,
                reported: true,
                ..
            } if self.form == Form::Teamcity => {
                let text = teamcity_ignored(test, ignore_reason.as_deref());
                self.commands.write_all(text.as_bytes())
            }
            EventKind::TestFinished(finished) => self.test_finished(finished, outputs),
            EventKind::RunFinished(run) => {
                self.finished = Some((**run).clone());
                return self.write_summary();
            }
            _ => Ok(()),
        };
        written.map_err(|source| SinkError {
            what: "annotations".to_owned(),
            source,
        })
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.write_summary()
    }
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
            // The characters of Markdown, tables and mentions.
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '@' | '#' | '~' | '$' => {
                escaped.push_str(&format!("&#{};", u32::from(c)));
            }
            '\n' | '\r' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped + "</code>"
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            sample::{Memory, feed},
            tests::mixed,
        },
        *,
    };

    #[test]
    fn failed_and_flaky_tests_are_annotated_and_in_the_summary() {
        let folder = tempfile::tempdir().unwrap();
        let summary = Utf8PathBuf::from_path_buf(folder.path().join("summary")).unwrap();
        fs::write(&summary, "before\n").unwrap();
        let (events, outputs) = mixed();
        let mut sink =
            Annotations::new(Form::Workflow, Vec::new(), Summary::Append(summary.clone()));
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
        let mut sink = Annotations::new(Form::Workflow, Vec::new(), Summary::None);
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
        let mut sink =
            Annotations::new(Form::Workflow, Vec::new(), Summary::Append(summary.clone()));
        sink.handle(&events[0], &outputs).unwrap();
        sink.close().unwrap();
        let text = fs::read_to_string(&summary).unwrap();
        assert!(text.contains("did not reach its end"), "{text}");
    }

    #[test]
    fn a_summary_that_cannot_be_written_is_an_error() {
        let (events, _) = mixed();
        let mut sink = Annotations::new(
            Form::Workflow,
            Vec::new(),
            Summary::Append("/dev/null/x".into()),
        );
        sink.handle(&events[0], &Memory::default()).unwrap();
        let error = sink.close().unwrap_err().to_string();
        assert_eq!(
            error,
            "failed to write the summary of the step to `/dev/null/x`"
        );
    }

    #[test]
    fn ten_errors_are_printed_and_what_the_summary_leaves_out_is_counted() {
        let mut sink = Annotations::new(Form::Workflow, Vec::new(), Summary::None);
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

    /// Returns what is written to the log.
    fn log(form: Form, summary: Summary) -> String {
        let (events, outputs) = mixed();
        let mut sink = Annotations::new(form, Vec::new(), summary);
        feed(&mut sink, &events, &outputs);
        String::from_utf8(sink.commands).unwrap()
    }

    #[test]
    fn azure_gets_issues_and_the_path_of_a_summary() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("deep/summary.md")).unwrap();
        let log = log(Form::Azure, Summary::Create(path.clone()));
        let issue = "##vso[task.logissue type=error;sourcepath=src/a.rs;linenumber=3]sample a::fails failed: boom\n";
        assert!(log.contains(issue), "{log}");
        assert!(
            log.contains("##vso[task.logissue type=warning;sourcepath=src/lib.rs;linenumber=7]"),
            "{log}"
        );
        assert!(
            log.ends_with(&format!("##vso[task.uploadsummary]{path}\n")),
            "{log}"
        );
        assert!(
            fs::read_to_string(path)
                .unwrap()
                .starts_with("### Tests failed\n")
        );
    }

    #[test]
    fn teamcity_gets_every_test_with_its_result() {
        let log = log(Form::Teamcity, Summary::None);
        let started = log.matches("##teamcity[testStarted name='").count();
        let finished = log.matches("##teamcity[testFinished name='").count();
        assert_eq!((started, finished), (6, 6), "{log}");
        let failed =
            "##teamcity[testFailed name='sample: a::fails' message='boom' details='src/a.rs:3']\n";
        assert!(log.contains(failed), "{log}");
        assert!(log.contains("name='sample: a::hangs|n'"), "{log}");
        for line in log.lines() {
            assert!(
                line.starts_with("##teamcity[test") && line.ends_with("']"),
                "{line}"
            );
        }
    }

    #[test]
    fn gitlab_gets_a_report_with_a_place_for_each_test() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("quality.json")).unwrap();
        assert_eq!(log(Form::Quality, Summary::Create(path.clone())), "");
        let report: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let entries = report.as_array().unwrap();
        assert_eq!(entries.len(), 4);
        let fails = entries
            .iter()
            .find(|entry| entry["severity"] == "major")
            .unwrap();
        assert_eq!(fails["location"]["path"], "src/a.rs");
        assert_eq!(fails["location"]["lines"]["begin"], 3);
        assert_eq!(fails["description"], "sample a::fails failed: boom");
        let mut prints: Vec<_> = entries
            .iter()
            .map(|entry| entry["fingerprint"].as_str().unwrap())
            .collect();
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), 4);
    }

    #[test]
    fn a_summary_is_handed_over_with_the_result() {
        let handed = std::rc::Rc::new(std::cell::RefCell::new(None));
        let to = std::rc::Rc::clone(&handed);
        let hand = move |text: &str, failed| {
            *to.borrow_mut() = Some((text.to_owned(), failed));
            Ok(())
        };
        assert_eq!(log(Form::Summary, Summary::Hand(Box::new(hand))), "");
        let (text, failed) = handed.borrow_mut().take().unwrap();
        assert!(failed && text.contains("#### Failed"), "{text}");
    }
}
