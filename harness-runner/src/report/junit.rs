//! The JUnit report.
//!
//! Each test case is rendered when its test finishes and appended to an unlinked spool file beside
//! the report, so memory does not grow with output. The report is put together from the spool at
//! the end, in a temporary file that is renamed over the old report.
//!
//! When a run starts, the report of an earlier one is replaced by a valid report without tests,
//! whose name ends in `(incomplete)`: whoever reads it after a crash cannot take it for a result.
//! Tests that were ended with the run are errors of type `interrupted`, `global-timeout`,
//! `fail-fast` or `report-failed`, never failures; tests that a cancelled run never started are
//! `skipped` with a message that starts with `not run`. Each suite of a run that was interrupted or
//! ran out of time has the property `run-cut-off` that says so: the root can have none.

mod case;
mod spool;

use super::{Outputs, Sink, SinkError};
use camino::Utf8PathBuf;
use case::Cases;
use chrono::{DateTime, FixedOffset};
use harness_metadata::{
    Event, EventKind, RunId, TestId,
    event::{CancelReason, RunFinished, RunStarted},
};
use quick_junit::{Property, Report, TestCase, TestCaseStatus, TestSuite};
use spool::Spool;
use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    time::Duration,
};

/// What the report holds, and where it is written.
#[derive(Clone, Debug)]
pub struct JunitOptions {
    /// The file.
    pub path: Utf8PathBuf,
    /// The name of the report.
    pub name: String,
    /// The most bytes of one stream of one attempt; head and tail are kept.
    pub stream_cap: usize,
    /// The most bytes of output in the whole report. After that only the ends are kept.
    pub total_cap: u64,
    /// Whether each test case has properties: attempts, slot, resources, survivors.
    pub properties: bool,
    /// Whether to leave out what strict schemas (`junit-10`) do not know: properties, file, line,
    /// timestamps of cases and retries, the run's id, its time stamp and count of skipped tests.
    pub plain: bool,
    /// The host's name.
    pub hostname: String,
}

impl JunitOptions {
    /// Returns the defaults for a report at `path`.
    pub fn new(path: impl Into<Utf8PathBuf>) -> Self {
        Self {
            path: path.into(),
            name: "harness-run".to_owned(),
            stream_cap: 1024 * 1024,
            total_cap: 256 * 1024 * 1024,
            properties: false,
            plain: false,
            hostname: "localhost".to_owned(),
        }
    }
}

/// The sink that writes the JUnit report.
#[derive(Debug)]
pub struct Junit {
    options: JunitOptions,
    cases: Cases,
    run: Option<RunId>,
    started_at: Option<DateTime<FixedOffset>>,
    at: Duration,
    /// Why the run is not going to come to its end, if so.
    cancelled: Option<CancelReason>,
    suites: Vec<Suite>,
    by_name: HashMap<String, usize>,
    spool: Option<Spool>,
    /// The first error. It is told at the end, so that a report that cannot be written does not
    /// end the run that it is about.
    broken: Option<io::Error>,
}

/// One binary.
#[derive(Debug)]
struct Suite {
    counts: TestSuite,
    /// From the first start to the last end of its tests.
    span: Option<(DateTime<FixedOffset>, DateTime<FixedOffset>)>,
    parts: Vec<spool::Part>,
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
            spool: None,
            broken: None,
            options,
        }
    }

    fn failed(&self, source: io::Error) -> SinkError {
        SinkError {
            what: format!("the JUnit report to `{}`", self.options.path),
            source,
        }
    }

    fn start(&mut self, run: &RunStarted) -> io::Result<()> {
        self.run = Some(run.run_id);
        self.started_at = Some(run.started_at);
        self.cases.know(run);
        fs::create_dir_all(self.directory())?;
        self.spool = Some(Spool::new(tempfile::tempfile_in(self.directory())?));
        self.write(Duration::ZERO, true)
    }

    fn directory(&self) -> Utf8PathBuf {
        match self.options.path.parent() {
            Some(parent) if !parent.as_str().is_empty() => parent.to_owned(),
            _ => Utf8PathBuf::from("."),
        }
    }

    fn add(
        &mut self,
        test: &TestId,
        case: TestCase,
        span: Option<(DateTime<FixedOffset>, DateTime<FixedOffset>)>,
    ) -> io::Result<()> {
        let Some(spool) = &mut self.spool else {
            return Ok(());
        };
        let at = *self
            .by_name
            .entry(test.binary.to_string())
            .or_insert_with(|| {
                let counts = TestSuite::new(test.binary.as_str());
                self.suites.push(Suite {
                    counts,
                    span: None,
                    parts: Vec::new(),
                });
                self.suites.len() - 1
            });
        let suite = &mut self.suites[at];
        suite.span = match (suite.span, span) {
            (Some(old), Some(new)) => Some((old.0.min(new.0), old.1.max(new.1))),
            (old, new) => old.or(new),
        };
        let mut alone = TestSuite::new("");
        alone.add_test_case(case);
        suite.counts.tests += 1;
        suite.counts.failures += alone.failures;
        suite.counts.errors += alone.errors;
        suite.counts.skipped += alone.skipped;
        let mut report = Report::unnamed();
        report.add_test_suite(alone);
        let part = spool.append(spool::inside_suite(&rendered(&report)?).as_bytes())?;
        suite.parts.push(part);
        Ok(())
    }

    fn skip(&mut self, test: &TestId, message: String) -> io::Result<()> {
        let mut status = TestCaseStatus::skipped();
        status.set_message(message);
        let mut case = self.cases.empty(test, status);
        case.set_time(Duration::ZERO);
        self.add(test, case, None)
    }

    fn finish(&mut self, run: &RunFinished) -> io::Result<()> {
        let why = match run.cancelled {
            Some(reason) => super::wording::cancel_reason(reason),
            None => "the run ended".to_owned(),
        };
        for test in &run.not_run {
            self.skip(test, format!("not run: {why}"))?;
        }
        self.write(run.elapsed, false)
    }

    fn write(&self, elapsed: Duration, incomplete: bool) -> io::Result<()> {
        let Some(spool) = &self.spool else {
            return Ok(());
        };
        let name = match incomplete {
            true => format!("{} (incomplete)", self.options.name),
            false => self.options.name.clone(),
        };
        let mut report = Report::new(name);
        report.set_time(elapsed);
        if let Some(run) = self.run.filter(|_| !self.options.plain) {
            report.set_uuid(run.0);
        }
        if let Some(started_at) = self.started_at.filter(|_| !self.options.plain) {
            report.set_timestamp(started_at);
        }
        for suite in &self.suites {
            report.add_test_suite(self.shell(suite));
        }
        let frame = rendered(&report)?;
        let frame = if self.options.plain {
            spool::without_skipped_total(&frame)
        } else {
            frame
        };

        let mut file = tempfile::NamedTempFile::new_in(self.directory())?;
        {
            let mut writer = io::BufWriter::new(&mut file);
            let mut shells = frame.split(spool::PLACE);
            writer.write_all(shells.next().unwrap_or_default().as_bytes())?;
            for (suite, rest) in self.suites.iter().zip(shells) {
                for part in &suite.parts {
                    spool.copy(*part, &mut writer)?;
                }
                writer.write_all(rest.as_bytes())?;
            }
            writer.flush()?;
        }
        spool::readable_by_all(file.as_file())?;
        file.persist(&self.options.path)
            .map_err(|error| error.error)?;
        Ok(())
    }

    /// Returns the suite with a mark in the place of its test cases.
    fn shell(&self, suite: &Suite) -> TestSuite {
        let mut shell = suite.counts.clone();
        shell
            .test_cases
            .push(TestCase::new(spool::MARK, TestCaseStatus::success()));
        let started_at = suite.span.map(|span| span.0).or(self.started_at);
        if let Some(started_at) = started_at {
            shell.set_timestamp(started_at);
        }
        let time = suite.span.and_then(|(from, to)| (to - from).to_std().ok());
        shell.set_time(time.unwrap_or_default());
        shell
            .extra
            .insert("hostname".into(), self.options.hostname.as_str().into());
        if let Some((_, how)) = self.cancelled.and_then(super::wording::cut_off) {
            shell.add_property(property("run-cut-off", how));
        }
        shell
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
            EventKind::TestSkipped { test, reason, .. } => {
                self.skip(test, format!("skipped: {reason}"))
            }
            EventKind::TestFinished(finished) => {
                let case = self.cases.finished(finished, outputs);
                let span = finished.attempts.first().zip(finished.attempts.last());
                let span = span.map(|(first, last)| {
                    let took = chrono::TimeDelta::from_std(last.elapsed).unwrap_or_default();
                    (first.started_at, last.started_at + took)
                });
                self.add(&finished.test, case, span)
            }
            EventKind::Cancelled { reason, .. } => {
                self.cancelled = Some(*reason);
                Ok(())
            }
            EventKind::RunFinished(run) => self.finish(run),
            EventKind::AttemptStarted(_)
            | EventKind::AttemptSlow { .. }
            | EventKind::AttemptTraced { .. }
            | EventKind::AttemptBroke { .. }
            | EventKind::FewerSlots { .. }
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
        let ended = matches!(event.kind, EventKind::RunFinished(_));
        if let Err(error) = done {
            self.broken.get_or_insert(error);
        }
        match self.broken.take_if(|_| ended) {
            Some(error) => Err(self.failed(error)),
            None => Ok(()),
        }
    }

    /// Writes what is known; the report's name says that it is incomplete.
    fn close(&mut self) -> Result<(), SinkError> {
        let written = self.write(self.at, true);
        match self.broken.take().map_or(written, Err) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }
}

fn rendered(report: &Report) -> io::Result<String> {
    report.to_string().map_err(io::Error::other)
}

/// Returns a property; both strings may be anything.
fn property(name: &str, value: String) -> Property {
    Property::new(name, case::legal(&value))
}
