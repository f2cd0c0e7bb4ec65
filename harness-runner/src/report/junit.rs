//! The JUnit report.
//!
//! At every moment of a run the report is a valid file of what is known: test cases are added
//! when their tests finish, those of a few milliseconds at once (`interim`), in the order in which tests finish, so
//! that a binary may have several suites. Until the end the report's name ends in `(incomplete)` and its last test
//! case is an error which says that the run did not end. The last report has a suite for each
//! binary; it is put together from the cases on disk, so memory does not grow with output, in a
//! temporary file that is renamed over the former.
//!
//! A report to something that is no file, such as a pipe, is written at the end only.
//!
//! Tests that were ended with the run are errors of type `interrupted`, `global-timeout`,
//! `fail-fast` or `report-failed`, never failures; tests that a cancelled run never started are
//! `skipped` with a message that starts with `not run`. In the last report each suite of a run that
//! was interrupted or ran out of time has the property `run-cut-off` that says so: the root can
//! have none.

mod append;
mod case;
mod frame;
mod helpers;
mod interim;
pub mod merge;
mod options;

pub use options::{JunitOptions, Schema};

use super::{Outputs, Sink, SinkError, account, outlet::Outlet};
use crate::own_files::{self, Beside};
use append::{Open, Waiting};
use case::Cases;
use chrono::{DateTime, FixedOffset};
use frame::{Frame, Mark, rendered};
use harness_metadata::{
    Event, EventKind, Location, RunId, TestId,
    event::{CancelReason, RunFinished, RunStarted, TestCached},
};
use interim::{Interim, Part};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    time::Duration,
};

/// The sink that writes the JUnit report.
#[derive(Debug)]
pub struct Junit {
    options: JunitOptions,
    cases: Cases,
    run: Option<RunId>,
    started_at: Option<DateTime<FixedOffset>>,
    at: Duration,
    /// The reason why the run will not finish, if there is one.
    cancelled: Option<CancelReason>,
    suites: Vec<Suite>,
    by_name: HashMap<String, usize>,
    /// The file on disk; `None` if it could not be written.
    interim: Option<Interim>,
    open: Open,
    /// The test cases that are not in the file yet.
    waiting: Vec<Waiting>,
    /// The statement that the run has not come to its end.
    mark: Mark,
    /// The number of tests that could not be written to the report.
    lost: usize,
    /// The first error. It is reported at the end, so that a report that cannot be written does not
    /// end its run.
    broken: Option<io::Error>,
}

/// One binary.
#[derive(Debug)]
struct Suite {
    counts: TestSuite,
    span: Option<Span>,
    parts: Vec<Part>,
}

/// From the first start to the last end of tests.
type Span = (DateTime<FixedOffset>, DateTime<FixedOffset>);

#[derive(Copy, Clone, Debug, Default)]
struct Totals {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
}

impl Totals {
    fn add(self, suite: &TestSuite) -> Self {
        Self {
            tests: self.tests + suite.tests,
            failures: self.failures + suite.failures,
            errors: self.errors + suite.errors,
            skipped: self.skipped + suite.skipped,
        }
    }
}

impl Junit {
    /// Returns a sink that will write the report.
    pub fn new(options: JunitOptions) -> Self {
        Self {
            cases: Cases::new(&options),
            run: None,
            started_at: None,
            at: Duration::ZERO,
            cancelled: None,
            suites: Vec::new(),
            by_name: HashMap::new(),
            interim: None,
            open: Open::default(),
            waiting: Vec::new(),
            mark: Mark::default(),
            lost: 0,
            broken: None,
            options,
        }
    }

    fn failed(&self, source: io::Error) -> SinkError {
        let path = &self.options.path;
        let what = match self.lost {
            0 => format!("the JUnit report to `{path}`"),
            1 => format!("the JUnit report to `{path}`, which lacks 1 test"),
            lost => format!("the JUnit report to `{path}`, which lacks {lost} tests"),
        };
        SinkError { what, source }
    }

    fn start(&mut self, run: &RunStarted) -> io::Result<()> {
        self.run = Some(run.run_id);
        self.started_at = Some(run.started_at);
        self.cases.know(run);
        self.mark = Mark::of(self.mark(), self.options.schema)?;
        let header = frame::wide(&self.frame(Totals::default(), true)?.header);
        // Unseen, too, it has its place.
        self.open.end = header.len() as u64;
        let beginning = header + &self.first_suite(true, &self.mark)? + &self.mark.end;
        self.interim = Some(match self.is_file() {
            true => {
                if let Ok(path) = self.options.path.canonicalize_utf8() {
                    // A link stays one.
                    self.options.path = path;
                }
                Interim::replace(&self.options.path, beginning.as_bytes())?
            }
            false => Interim::unseen()?,
        });
        Ok(())
    }

    /// Returns whether the report is a file of its own, or will be one. A path below /dev is a
    /// descriptor of another program, even if it leads to a file.
    fn is_file(&self) -> bool {
        let path = &self.options.path;
        !path.starts_with("/dev")
            && !path.starts_with("/proc")
            && fs::metadata(path).map_or(true, |there| there.is_file())
    }

    fn suite(&mut self, test: &TestId) -> usize {
        let name = match self.options.schema {
            Schema::Surefire => self.options.name.clone(),
            Schema::Free | Schema::Junit10 => test.binary.to_string(),
        };
        *self.by_name.entry(name.clone()).or_insert_with(|| {
            self.suites.push(Suite {
                counts: TestSuite::new(name),
                span: None,
                parts: Vec::new(),
            });
            self.suites.len() - 1
        })
    }

    /// Returns the suite which says that the run did not end.
    fn mark(&self) -> TestSuite {
        const MESSAGE: &str = "the run did not end: this report holds what was known by then";
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status
            .set_type("interrupted")
            .set_message(MESSAGE)
            .set_description(MESSAGE);
        let mut case = TestCase::new("the run did not end", status);
        case.set_classname(RUN).set_time(Duration::ZERO);
        let mut suite = TestSuite::new(RUN);
        suite.add_test_case(case);
        self.describe(&mut suite, None);
        suite
    }

    fn skip(
        &mut self,
        test: &TestId,
        location: Option<&Location>,
        message: String,
    ) -> io::Result<()> {
        let mut status = TestCaseStatus::skipped();
        status.set_message(message);
        let mut case = self.cases.empty(test, location, status);
        case.set_time(Duration::ZERO);
        self.add(test, case, None)
    }

    /// Adds a test whose earlier pass counts: it has passed, in no time, with a property that says when.
    fn cached(&mut self, cached: &TestCached) -> io::Result<()> {
        let status = TestCaseStatus::success();
        let location = cached.location.as_ref();
        let mut case = self.cases.empty(&cached.test, location, status);
        case.set_time(Duration::ZERO);
        case.add_property(("cached", account::cached(cached).as_str()));
        self.add(&cached.test, case, None)
    }

    fn finish(&mut self, run: &RunFinished) -> io::Result<()> {
        let why = account::not_run(run);
        for test in &run.not_run {
            if let Err(error) = self.skip(test, None, why.clone()) {
                self.lose(error);
            }
        }
        self.at = run.elapsed;
        self.write(false)?;
        self.cases.end();
        Ok(())
    }

    /// Notes that a test is not in the report.
    fn lose(&mut self, error: io::Error) {
        self.lost += 1;
        self.broken.get_or_insert(error);
    }

    /// Writes the report from the test cases on disk.
    fn write(&mut self, incomplete: bool) -> io::Result<()> {
        self.write_waiting();
        if let Some(interim) = &mut self.interim {
            interim.freeze();
        }
        let Some(interim) = &self.interim else {
            return Ok(());
        };
        let totals = self.suites.iter().map(|suite| &suite.counts);
        let totals = totals.fold(Totals::default(), Totals::add);
        let frame = self.frame(totals, incomplete)?;
        let mark = match incomplete {
            true => self.mark.clone(),
            false => Mark::none(&frame),
        };
        let write = |writer: &mut dyn Write| {
            writer.write_all(frame.header.as_bytes())?;
            for suite in &self.suites {
                let mut counts = suite.counts.clone();
                if let Some((_, how)) = self.cancelled.and_then(super::wording::cut_off) {
                    counts.add_property(property("run-cut-off", how));
                }
                let header = self.suite_header(&counts, suite.span, incomplete)?;
                writer.write_all(header.as_bytes())?;
                for part in &suite.parts {
                    interim.copy(*part, writer)?;
                }
                writer.write_all(mark.in_suite.as_bytes())?;
                writer.write_all(frame::CLOSE_SUITE.as_bytes())?;
            }
            if self.suites.is_empty() {
                let suite = self.first_suite(incomplete, &mark)?;
                writer.write_all(suite.as_bytes())?;
            }
            writer.write_all(mark.end.as_bytes())?;
            writer.flush()
        };
        if !self.is_file() {
            let outlet = Outlet::create(self.options.path.as_std_path())?;
            return write(&mut io::BufWriter::new(outlet));
        }
        fs::create_dir_all(own_files::directory(&self.options.path))?;
        let new = Beside::new(&self.options.path, interim::SUFFIX)?;
        write(&mut io::BufWriter::new(&new.file))?;
        new.replace(&self.options.path)?;
        Ok(())
    }

    /// Returns what a report has around its suites, those which the totals are of and, if it is
    /// incomplete, the one that says so.
    fn frame(&self, totals: Totals, incomplete: bool) -> io::Result<Frame> {
        let mut report = Report::new(self.name(incomplete));
        report.set_time(self.at);
        if let Some(run) = self.run.filter(|_| self.options.schema == Schema::Free) {
            report.set_uuid(run.0);
        }
        if let Some(started_at) = self
            .started_at
            .filter(|_| self.options.schema == Schema::Free)
        {
            report.set_timestamp(started_at);
        }
        let totals = match incomplete {
            true => totals.add(&self.mark()),
            false => totals,
        };
        (report.tests, report.failures) = (totals.tests, totals.failures);
        (report.errors, report.skipped) = (totals.errors, totals.skipped);
        let text = rendered(&report)?;
        Ok(match self.options.schema {
            Schema::Free => Frame::of(&text),
            Schema::Junit10 => Frame::of(&frame::without_skipped_total(&text)),
            Schema::Surefire => Frame::without_root(&text),
        })
    }

    fn name(&self, incomplete: bool) -> String {
        match incomplete {
            true => format!("{} (incomplete)", self.options.name),
            false => self.options.name.clone(),
        }
    }

    /// Returns the suite of a report without tests, if that needs one.
    fn first_suite(&self, incomplete: bool, mark: &Mark) -> io::Result<String> {
        if self.options.schema != Schema::Surefire {
            return Ok(String::new());
        }
        let none = TestSuite::new(self.options.name.as_str());
        let header = self.suite_header(&none, None, incomplete)?;
        Ok(header + &mark.in_suite + frame::CLOSE_SUITE)
    }

    /// Returns the first line of a suite, and its properties.
    fn suite_header(
        &self,
        counts: &TestSuite,
        span: Option<Span>,
        incomplete: bool,
    ) -> io::Result<String> {
        let mut suite = counts.clone();
        if self.options.schema == Schema::Surefire && incomplete {
            suite.name = self.name(true).into();
            add_counts(&mut suite, &self.mark());
        }
        self.describe(&mut suite, span);
        suite
            .test_cases
            .push(TestCase::new(frame::MARK, TestCaseStatus::success()));
        let mut report = Report::unnamed();
        report.test_suites.push(suite);
        let text = rendered(&report)?;
        Ok(frame::suite_header(&text).to_owned())
    }

    fn describe(&self, suite: &mut TestSuite, span: Option<Span>) {
        let time = span.and_then(|(from, to)| (to - from).to_std().ok());
        suite.set_time(time.unwrap_or_default());
        if self.options.schema == Schema::Surefire {
            return;
        }
        if let Some(started_at) = span.map(|span| span.0).or(self.started_at) {
            suite.set_timestamp(started_at);
        }
        suite
            .extra
            .insert("hostname".into(), self.options.hostname.as_str().into());
    }
}

/// The name of the suite that is about the run itself.
const RUN: &str = "cargo-harness";

fn joined(one: Option<Span>, other: Option<Span>) -> Option<Span> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}

fn add_counts(suite: &mut TestSuite, other: &TestSuite) {
    suite.tests += other.tests;
    suite.failures += other.failures;
    suite.errors += other.errors;
    suite.skipped += other.skipped;
}

impl Junit {
    fn finished(
        &mut self,
        finished: &harness_metadata::event::TestFinished,
        outputs: &dyn Outputs,
    ) -> io::Result<()> {
        let case = self.cases.finished(finished, outputs);
        let span = finished.attempts.first().zip(finished.attempts.last());
        let span = span.map(|(first, last)| {
            let took = chrono::TimeDelta::from_std(last.elapsed).unwrap_or_default();
            (first.started_at, last.started_at + took)
        });
        self.add(&finished.test, case, span)
    }
}

impl Junit {
    /// Takes the result of handling an event.
    fn done(&mut self, kind: &EventKind, done: io::Result<()>) -> Result<(), SinkError> {
        let ended = matches!(kind, EventKind::RunFinished(_));
        match done {
            Ok(()) => {}
            Err(error) if matches!(kind, EventKind::TestFinished(_)) => self.lose(error),
            Err(error) => drop(self.broken.get_or_insert(error)),
        }
        match self.broken.take_if(|_| ended) {
            Some(error) => Err(self.failed(error)),
            None => Ok(()),
        }
    }
}

impl Sink for Junit {
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError> {
        self.at = event.at;
        let done = match &event.kind {
            EventKind::RunStarted(run) => self.start(run),
            EventKind::TestSkipped {
                reported: false, ..
            } => Ok(()),
            EventKind::TestSkipped {
                test,
                reason,
                ignore_reason,
                location,
                ..
            } => {
                let why = account::skipped(ignore_reason.as_deref(), *reason);
                self.skip(test, location.as_ref(), case::legal(&why))
            }
            EventKind::TestCached(cached) => self.cached(cached),
            EventKind::TestFinished(finished) => self.finished(finished, outputs),
            EventKind::SetupFinished(script) | EventKind::TeardownFinished(script) => {
                self.script(script, outputs)
            }
            EventKind::ServiceFinished(service) => self.service(service, outputs),
            EventKind::Cancelled { reason, .. } => {
                self.cancelled = Some(*reason);
                Ok(())
            }
            EventKind::RunFinished(run) => self.finish(run),
            EventKind::AttemptStarted(_)
            | EventKind::SetupStarted(_)
            | EventKind::TeardownStarted(_)
            | EventKind::SetupSlow { .. }
            | EventKind::SetupLeft { .. }
            | EventKind::ServiceStarted(_)
            | EventKind::ServiceReady(_)
            | EventKind::AttemptSlow { .. }
            | EventKind::AttemptTraced { .. }
            | EventKind::AttemptPrinted(_)
            | EventKind::AttemptBroke { .. }
            | EventKind::IterationFinished(_)
            | EventKind::FewerSlots { .. }
            | EventKind::MoreSlots { .. }
            | EventKind::AwaitsSystem { .. }
            | EventKind::Stopped { .. }
            | EventKind::Paused { .. }
            | EventKind::Continued { .. }
            | EventKind::Progress { .. }
            | EventKind::Status { .. } => Ok(()),
            EventKind::AttemptFailed {
                test,
                attempt,
                output,
                ..
            } => {
                // Outputs are sure to be readable now, not when the test finishes.
                self.cases.remember(test, attempt, *output, outputs);
                Ok(())
            }
        };
        self.done(&event.kind, done)
    }

    /// Each result is in the report now. If there is no room, the end of the run says so.
    fn flush(&mut self) -> Result<(), SinkError> {
        self.write_waiting();
        Ok(())
    }

    /// The known results are in the report already, whose name says that it is incomplete.
    fn close(&mut self) -> Result<(), SinkError> {
        self.write_waiting();
        let written = match &self.interim {
            Some(interim) if !interim.is_seen() => self.write(true),
            _ => Ok(()),
        };
        match self.broken.take().map_or(written, Err) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }
}

/// Returns a property; both strings may be anything.
fn property(name: &str, value: String) -> Property {
    Property::new(name, case::legal(&value))
}
