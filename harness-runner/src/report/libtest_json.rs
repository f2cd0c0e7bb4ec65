//! The messages of libtest (`--format json`), for programs that read those.
//!
//! Each binary is a suite with one start and one end. A test has the name `PACKAGE::BINARY$TEST`, as under
//! cargo-nextest, and the same in each of its messages. Ignored tests are said when their suite starts.
//! libtest has no words for a test that ran again, so there is only its last attempt.
//!
//! `libtest-json` writes a suite when it is over, so that suites do not mix. `libtest-json-plus` writes each
//! message at once, and its suites say which binary they are.

use super::{
    Excerpt, Outputs, Sink, SinkError, Stream, account, captured::plain, excerpt, failure::Reason,
    wording,
};
use harness_metadata::{
    AttemptId, Event, EventKind, Exit, Outcome, TestId, Verdict,
    event::{RunStarted, Source, TestFinished},
};
use nextest_metadata::{MismatchReason, RustBinaryId, TestCaseName};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

/// The most bytes of a stream in a message.
const OUTPUT_CAP: usize = 1024 * 1024;

/// The form of the messages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Those of libtest and nothing else, suite after suite.
    Plain,
    /// With `nextest` in the messages of suites: `crate`, `test_binary`, `kind`.
    Plus,
}

/// The sink that writes the messages of libtest.
#[derive(Debug)]
pub struct LibtestJson<W: Write> {
    writer: W,
    place: String,
    form: Form,
    workspace_root: String,
    /// The number of iterations of a stress run, if it is known.
    iterations: Option<usize>,
    suites: BTreeMap<RustBinaryId, Suite>,
    /// Messages to be written.
    pending: Vec<u8>,
    /// The first error. Nothing is written after it. It is reported at the end: the run is about
    /// the tests.
    broken: Option<io::Error>,
    told: bool,
}

/// The tests of a binary.
#[derive(Debug, Default)]
struct Suite {
    source: Option<Source>,
    /// In a stress run: the iteration, and the number of all if that is known.
    iteration: Option<(usize, Option<usize>)>,
    ignored: Vec<(TestCaseName, Option<String>)>,
    filtered_out: usize,
    state: State,
    finished: usize,
    passed: usize,
    failed: usize,
    /// Tests that ran and count as ignored.
    ran_ignored: usize,
    elapsed: Duration,
    /// Messages that wait for the end of the suite.
    held: Vec<u8>,
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Awaited,
    Started,
    Ended,
}

/// A message.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Message<'a> {
    Suite(SuiteMessage<'a>),
    Test(TestMessage<'a>),
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum SuiteMessage<'a> {
    Started {
        test_count: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        nextest: Option<Binary<'a>>,
    },
    Ok(SuiteCounts<'a>),
    Failed(SuiteCounts<'a>),
}

#[derive(Serialize)]
struct SuiteCounts<'a> {
    passed: usize,
    failed: usize,
    ignored: usize,
    measured: usize,
    filtered_out: usize,
    exec_time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nextest: Option<Binary<'a>>,
}

#[derive(Serialize)]
struct Binary<'a> {
    #[serde(rename = "crate")]
    package: &'a str,
    test_binary: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stress_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stress_total: Option<usize>,
}

#[derive(Serialize)]
struct TestMessage<'a> {
    event: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec_time: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> TestMessage<'a> {
    fn new(event: &'static str, name: &'a str) -> Self {
        Self {
            event,
            name,
            exec_time: None,
            stdout: None,
            message: None,
            reason: None,
        }
    }
}

impl Suite {
    fn name(&self, binary: &RustBinaryId, test: &TestCaseName) -> String {
        let iteration = self
            .iteration
            .map(|(number, _)| format!("@stress-{number}"));
        match &self.source {
            Some(source) => format!(
                "{}::{}{}${test}",
                source.package,
                source.binary,
                iteration.unwrap_or_default()
            ),
            None => format!("{binary}${test}"),
        }
    }

    fn binary(&self, form: Form) -> Option<Binary<'_>> {
        let source = self.source.as_ref().filter(|_| form == Form::Plus)?;
        Some(Binary {
            package: &source.package,
            test_binary: &source.binary,
            kind: &source.kind,
            stress_index: self.iteration.map(|(number, _)| number),
            stress_total: self.iteration.and_then(|(_, total)| total),
        })
    }

    /// Returns the number of its tests that are to run.
    fn tests(&self) -> usize {
        self.source.as_ref().map_or(0, |source| source.tests)
    }

    /// Says the start and the ignored tests, unless that is done.
    fn start(&mut self, id: &RustBinaryId, form: Form) {
        if self.state != State::Awaited {
            return;
        }
        self.state = State::Started;
        let mut lines = Vec::new();
        let started = SuiteMessage::Started {
            test_count: self.tests() + self.ignored.len(),
            nextest: self.binary(form),
        };
        push(&mut lines, &Message::Suite(started));
        for (test, why) in &self.ignored {
            let name = self.name(id, test);
            let started = TestMessage::new("started", &name);
            push(&mut lines, &Message::Test(started));
            let ignored = TestMessage {
                message: why.as_deref(),
                ..TestMessage::new("ignored", &name)
            };
            push(&mut lines, &Message::Test(ignored));
        }
        self.held.extend(lines);
    }

    fn end(&mut self, form: Form) {
        if self.state != State::Started {
            return;
        }
        self.state = State::Ended;
        let counts = SuiteCounts {
            passed: self.passed,
            failed: self.failed,
            ignored: self.ignored.len() + self.ran_ignored,
            measured: 0,
            filtered_out: self.filtered_out,
            exec_time: self.elapsed.as_secs_f64(),
            nextest: self.binary(form),
        };
        let all = self.finished == self.tests();
        let message = match self.failed == 0 && all {
            true => SuiteMessage::Ok(counts),
            false => SuiteMessage::Failed(counts),
        };
        let mut lines = Vec::new();
        push(&mut lines, &Message::Suite(message));
        self.held.extend(lines);
    }
}

impl<W: Write> LibtestJson<W> {
    /// Returns a sink that writes to `writer`. Errors say that the messages could not be written to this
    /// `place`.
    pub fn new(writer: W, place: impl Into<String>, form: Form) -> Self {
        Self {
            writer,
            place: place.into(),
            form,
            workspace_root: String::new(),
            iterations: None,
            suites: BTreeMap::new(),
            pending: Vec::new(),
            broken: None,
            told: false,
        }
    }

    /// Returns the writer. What was not flushed is lost.
    pub fn into_inner(self) -> W {
        self.writer
    }

    fn run_started(&mut self, run: &RunStarted) {
        self.workspace_root.clone_from(&run.workspace_root);
        self.iterations = run.stress.and_then(|stress| stress.iterations);
        for (id, source) in &run.sources {
            let suite = self.suites.entry(id.clone()).or_default();
            suite.source = Some(source.clone());
        }
    }

    /// Returns the suite of a test. Each iteration of a stress run has its own.
    fn suite(&mut self, test: &TestId) -> &mut Suite {
        let (once, iteration) = test.without_iteration();
        let made = iteration.and_then(|number| {
            let whole = self.suites.get(&once.binary)?;
            Some(Suite {
                source: whole.source.clone(),
                iteration: Some((number, self.iterations)),
                ignored: whole.ignored.clone(),
                filtered_out: whole.filtered_out,
                ..Suite::default()
            })
        });
        let suite = self.suites.entry(test.binary.clone());
        suite.or_insert_with(|| made.unwrap_or_default())
    }

    fn skipped(&mut self, test: &TestId, reason: MismatchReason, why: Option<&String>) {
        let suite = self.suite(test);
        match reason {
            MismatchReason::Ignored => suite.ignored.push((test.name.clone(), why.cloned())),
            _ => suite.filtered_out += 1,
        }
    }

    fn attempt_started(&mut self, test: &TestId) {
        let form = self.form;
        let suite = self.suite(test);
        suite.start(&test.binary, form);
        let name = suite.name(&test.binary, &test.name);
        let message = Message::Test(TestMessage::new("started", &name));
        push(&mut suite.held, &message);
        self.release(&test.binary);
    }

    fn test_finished(&mut self, finished: &TestFinished, outputs: &dyn Outputs) {
        let id = &finished.test;
        let why = Reason::of(finished, &self.workspace_root, outputs);
        let form = self.form;
        let suite = self.suite(id);
        suite.start(&id.binary, form);
        let name = suite.name(&id.binary, &id.name);
        let elapsed: Duration = finished.attempts.iter().map(|it| it.elapsed).sum();
        suite.elapsed += elapsed;
        suite.finished += 1;
        let quarantine = wording::quarantined(finished);
        let said = why.as_ref().map(|why| why.message.as_str());
        let mut message = match finished.verdict {
            Verdict::Pass => TestMessage::new("ok", &name),
            Verdict::Quarantined => TestMessage {
                message: quarantine.as_deref(),
                ..TestMessage::new("ignored", &name)
            },
            _ => TestMessage {
                message: said.filter(|said| !said.is_empty()),
                reason: reason(finished),
                stdout: output(finished, outputs),
                ..TestMessage::new("failed", &name)
            },
        };
        message.exec_time = Some(elapsed.as_secs_f64());
        *match message.event {
            "ok" => &mut suite.passed,
            "ignored" => &mut suite.ran_ignored,
            _ => &mut suite.failed,
        } += 1;
        push(&mut suite.held, &Message::Test(message));
        if suite.finished >= suite.tests() {
            suite.end(form);
        }
        self.release(&id.binary);
    }

    /// Hands on what a suite has to say, if its time has come.
    fn release(&mut self, binary: &RustBinaryId) {
        let Some(suite) = self.suites.get_mut(binary) else {
            return;
        };
        if self.form == Form::Plus || suite.state == State::Ended {
            self.pending.append(&mut suite.held);
        }
    }

    /// Ends what is open, and says what has only ignored tests.
    fn end(&mut self) {
        let form = self.form;
        for (id, suite) in &mut self.suites {
            if suite.tests() == 0 && !suite.ignored.is_empty() {
                suite.start(id, form);
            }
            suite.end(form);
            self.pending.append(&mut suite.held);
        }
    }

    fn write(&mut self) {
        if self.broken.is_none() && !self.told && !self.pending.is_empty() {
            let written = self
                .writer
                .write_all(&self.pending)
                .and_then(|()| self.writer.flush());
            self.broken = written.err();
        }
        self.pending.clear();
    }
}

/// Appends a message as a line.
fn push(lines: &mut Vec<u8>, message: &Message<'_>) {
    serde_json::to_writer(&mut *lines, message).expect("a message is text and numbers");
    lines.push(b'\n');
}

/// Returns why a test failed that did not say so itself, in words of libtest where it has some.
fn reason(finished: &TestFinished) -> Option<&'static str> {
    let last = finished.attempts.last()?;
    match last.outcome {
        Outcome::TimedOut { .. } => Some("time limit exceeded"),
        Outcome::Interrupted { .. } => Some("interrupted"),
        _ if finished.flaky() => Some("flaky test treated as failure"),
        _ if last.leaked().is_some() && last.outcome == Outcome::Exited(Exit::Code(0)) => {
            Some("leaky test treated as failure")
        }
        _ => None,
    }
}

/// Returns what the last attempt wrote to both streams.
fn output(finished: &TestFinished, outputs: &dyn Outputs) -> Option<String> {
    let id = AttemptId {
        test: finished.test.clone(),
        attempt: finished.attempts.last()?.number,
    };
    let read = |stream| excerpt(outputs, &id, stream, OUTPUT_CAP);
    let (out, err) = (read(Stream::Stdout), read(Stream::Stderr));
    (out.is_some() || err.is_some()).then(|| {
        let texts = [out, err].into_iter().flatten().map(|it| text(&it));
        texts.collect()
    })
}

fn text(excerpt: &Excerpt) -> String {
    let mut text = plain(&excerpt.head);
    if excerpt.left_out > 0 {
        let size = wording::size(excerpt.left_out);
        text.push_str(&format!("\n… {size} left out …\n"));
    }
    text.push_str(&plain(&excerpt.tail));
    text
}

impl<W: Write> Sink for LibtestJson<W> {
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError> {
        match &event.kind {
            EventKind::RunStarted(run) => self.run_started(run),
            EventKind::TestSkipped {
                test,
                reason,
                ignore_reason,
                ..
            } => self.skipped(test, *reason, ignore_reason.as_ref()),
            EventKind::TestCached(cached) => {
                let suite = self.suite(&cached.test);
                let why = account::cached(cached);
                suite.ignored.push((cached.test.name.clone(), Some(why)));
            }
            EventKind::AttemptStarted(started) if started.attempt == 1 => {
                self.attempt_started(&started.test);
            }
            EventKind::TestFinished(finished) => self.test_finished(finished, outputs),
            EventKind::RunFinished(_) => return self.close(),
            _ => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.write();
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.end();
        self.write();
        match self.broken.take() {
            Some(source) => {
                self.told = true;
                Err(SinkError {
                    what: format!("all messages to {}", self.place),
                    source,
                })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        sample::{Memory, feed},
        tests::mixed,
    };
    use expect_test::expect;

    fn written(events: &[Event], outputs: &Memory, form: Form) -> String {
        let mut sink = LibtestJson::new(Vec::new(), "a buffer", form);
        feed(&mut sink, events, outputs);
        sink.close().expect("a buffer takes everything");
        String::from_utf8(sink.into_inner()).expect("JSON is text")
    }

    #[test]
    fn the_messages_of_a_run_are_those_of_libtest() {
        let (events, outputs) = mixed();
        expect![[r#"
            {"type":"suite","event":"started","test_count":6}
            {"type":"test","event":"started","name":"sample::sample$a::passes"}
            {"type":"test","event":"ok","name":"sample::sample$a::passes","exec_time":1.234}
            {"type":"test","event":"started","name":"sample::sample$a::fails"}
            {"type":"test","event":"failed","name":"sample::sample$a::fails","exec_time":1.234,"stdout":"noise\nthread 'a::fails' (7) panicked at src/a.rs:3:5:\nboom\n","message":"boom"}
            {"type":"test","event":"started","name":"sample::sample$a::flaky"}
            {"type":"test","event":"ok","name":"sample::sample$a::flaky","exec_time":2.468}
            {"type":"test","event":"started","name":"sample::sample$a::aborts"}
            {"type":"test","event":"failed","name":"sample::sample$a::aborts","exec_time":1.234,"stdout":"bye\n","message":"test aborted with signal 6: SIGABRT"}
            {"type":"test","event":"started","name":"sample::sample$a::leaks"}
            {"type":"test","event":"ok","name":"sample::sample$a::leaks","exec_time":1.234}
            {"type":"test","event":"started","name":"sample::sample$a::hangs\n"}
            {"type":"test","event":"failed","name":"sample::sample$a::hangs\n","exec_time":1.234,"message":"test timed out and could not be killed","reason":"time limit exceeded"}
            {"type":"suite","event":"failed","passed":3,"failed":3,"ignored":0,"measured":0,"filtered_out":0,"exec_time":8.638}
        "#]].assert_eq(&written(&events, &outputs, Form::Plain));
    }

    #[test]
    fn a_suite_that_was_cut_off_has_its_end_and_has_failed() {
        let (events, outputs) = mixed();
        expect![[r#"
            {"type":"suite","event":"started","test_count":6,"nextest":{"crate":"sample","test_binary":"sample","kind":"lib"}}
            {"type":"test","event":"started","name":"sample::sample$a::passes"}
            {"type":"test","event":"ok","name":"sample::sample$a::passes","exec_time":1.234}
            {"type":"suite","event":"failed","passed":1,"failed":0,"ignored":0,"measured":0,"filtered_out":0,"exec_time":1.234,"nextest":{"crate":"sample","test_binary":"sample","kind":"lib"}}
        "#]].assert_eq(&written(&events[..3], &outputs, Form::Plus));
    }
}
