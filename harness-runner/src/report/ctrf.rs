//! The report in the Common Test Report Format: one JSON document.
//!
//! It is written at the end of the run, and is whole or not there. Until then the tests wait in a temporary file, so
//! that memory does not grow with them.

#[cfg(test)]
mod tests;

use super::{
    Outputs, Sink, SinkError, derived,
    document::Document,
    entry::{self, Entry},
    result::{self, Sources, Status, Told},
    style::escaped,
    wording,
};
use crate::report::share::Share;
use camino::Utf8PathBuf;
use harness_metadata::{
    Event, EventKind, Location, TestId,
    event::{RunFinished, RunStarted, TestFinished},
};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    time::Duration,
};

/// The version of the format.
const VERSION: &str = "0.0.0";

/// The sink that writes a CTRF report.
#[derive(Debug)]
pub struct Ctrf {
    path: Utf8PathBuf,
    /// `None` before the run has begun.
    run: Option<Box<RunStarted>>,
    sources: Sources,
    /// The tests so far, as JSON between commas.
    tests: Option<BufWriter<File>>,
    counts: Counts,
    suites: BTreeSet<String>,
    share: Share,
    at: Duration,
    written: bool,
    /// The first error. It is reported at the end: the run is about the tests.
    broken: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Counts {
    tests: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
    pending: usize,
    other: usize,
    flaky: usize,
}

impl Ctrf {
    /// Returns a sink that writes to a file.
    pub fn new(path: impl Into<Utf8PathBuf>) -> Self {
        Self {
            path: path.into(),
            run: None,
            sources: Sources::default(),
            tests: None,
            counts: Counts::default(),
            suites: BTreeSet::new(),
            share: Share::default(),
            at: Duration::ZERO,
            written: false,
            broken: None,
        }
    }

    fn begin(&mut self, run: &RunStarted) -> io::Result<()> {
        self.sources = Sources(run.sources.clone());
        self.run = Some(Box::new(run.clone()));
        self.tests = Some(BufWriter::new(tempfile::tempfile()?));
        Ok(())
    }

    /// Adds a test with its result. `problem` is why a setup script or a service failed.
    fn finished(
        &mut self,
        finished: &TestFinished,
        problem: Option<&str>,
        outputs: &dyn Outputs,
    ) -> io::Result<()> {
        let mut attempts = result::attempts(finished, problem, &mut self.share, outputs);
        let last = attempts.pop();
        let status = last.as_ref().map_or(Status::Broken, |last| last.status);
        let mut test = self.test(&finished.test, finished.location.as_ref(), status);
        let raw = wording::final_status(finished);
        test.insert("rawStatus".into(), raw.into());
        test.insert("threadId".into(), finished.slot.to_string().into());
        let ty = last.as_ref().and_then(|last| last.ty.clone());
        if let Some(last) = last {
            test.insert("start".into(), last.start.into());
            test.insert("stop".into(), last.stop.into());
            tell(&mut test, &last);
        }
        if !attempts.is_empty() {
            test.insert("retries".into(), attempts.len().into());
            let earlier = finished.attempts.iter().zip(&attempts);
            let earlier: Vec<Value> = earlier
                .map(|(attempt, told)| earlier_attempt(attempt.number, told))
                .collect();
            test.insert("retryAttempts".into(), earlier.into());
        }
        if finished.flaky() {
            self.counts.flaky += 1;
            test.insert("flaky".into(), true.into());
        }
        let mut extra = extra(finished);
        if let Some(ty) = ty {
            extra["type"] = ty.into();
        }
        test.insert("extra".into(), extra);
        self.add(test)
    }

    /// Adds a test that did not run.
    fn unrun(
        &mut self,
        test: &TestId,
        location: Option<&Location>,
        status: Status,
        why: &str,
    ) -> io::Result<()> {
        let mut test = self.test(test, location, status);
        test.insert("message".into(), escaped(why).into());
        self.add(test)
    }

    /// Returns what is known of a test whatever becomes of it.
    fn test(
        &mut self,
        test: &TestId,
        location: Option<&Location>,
        status: Status,
    ) -> Map<String, Value> {
        let (once, iteration) = test.without_iteration();
        let (binary, name) = (escaped(once.binary.as_str()), escaped(once.name.as_str()));
        let id = format!("{binary} {name}");
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| drop(map.insert(key.to_owned(), value));
        if let Some(run) = &self.run {
            let parts = [&run.run_id.to_string(), test.binary.as_str(), &name];
            put("executionId", derived::id(&parts).to_string().into());
        }
        put("testId", id.into());
        // The format knows no empty name.
        let name = if name.is_empty() { "(no name)" } else { &name };
        put("name", name.into());
        put("suite", json!([binary]));
        put("status", word(status).into());
        put("duration", 0.into());
        let (file, line) = self.sources.place(test, location);
        if let Some(file) = file {
            put("filePath", escaped(file).into());
        }
        if let Some(line) = line {
            put("line", line.into());
        }
        if let Some(source) = self.sources.of(test) {
            let kind = source.kind.as_str();
            put("labels", json!({ "package": source.package, "kind": kind }));
        }
        if let Some(iteration) = iteration {
            put("parameters", json!({ "iteration": iteration }));
        }
        self.suites.insert(binary.into_owned());
        self.counts.add(status);
        map
    }

    fn add(&mut self, test: Map<String, Value>) -> io::Result<()> {
        let Some(tests) = &mut self.tests else {
            return Ok(());
        };
        let separator = if self.counts.tests == 1 { "\n" } else { ",\n" };
        write!(tests, "{separator}{}", Value::Object(test))
    }

    /// Writes the report; `finished` is `None` if the run did not come to its end.
    fn write(&mut self, finished: Option<&RunFinished>) -> io::Result<()> {
        self.written = true;
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let (Some(run), Some(tests)) = (&self.run, self.tests.take()) else {
            return Ok(());
        };
        let mut tests = tests.into_inner().map_err(io::IntoInnerError::into_error)?;
        tests.seek(SeekFrom::Start(0))?;
        let mut document = Document::create(&self.path)?;
        let around = self.around(run, finished).to_string();
        let (before, after) = around.split_once(TESTS).unwrap_or((&around, ""));
        document.write_all(before.as_bytes())?;
        document.write_all(b"\"tests\":[")?;
        io::copy(&mut tests, &mut document)?;
        document.write_all(b"\n]")?;
        document.write_all(after.as_bytes())?;
        document.write_all(b"\n")?;
        document.flush()?;
        document.finish()
    }

    /// Returns the document with a mark in the place of its tests.
    fn around(&self, run: &RunStarted, finished: Option<&RunFinished>) -> Value {
        let counts = &self.counts;
        let start = run.started_at.timestamp_millis();
        let duration = result::millis(self.at);
        let cancelled = finished.and_then(|finished| finished.cancelled);
        let healthy = finished.is_some() && cancelled.is_none() && counts.failed == 0;
        let mut extra = json!({ "profile": run.profile, "workspace": run.workspace_root });
        if finished.is_none() {
            extra["incomplete"] = true.into();
        }
        if let Some(reason) = cancelled {
            extra["cancelled"] = wording::cancel_reason(reason).into();
        }
        let mut environment = json!({ "osPlatform": "linux", "healthy": healthy });
        if let Some(kernel) = run.machine.as_ref().and_then(|it| it.kernel.as_ref()) {
            environment["osRelease"] = kernel.as_str().into();
        }
        let run_id = run.run_id.to_string();
        let by = format!("{TOOL} {}", run.harness_version);
        let at = chrono::TimeDelta::from_std(self.at).unwrap_or_default();
        json!({
            "reportFormat": "CTRF",
            "specVersion": VERSION,
            "reportId": derived::id(&[&run_id, "ctrf"]).to_string(),
            "runId": run_id,
            "timestamp": (run.started_at + at).to_rfc3339(),
            "generatedBy": by,
            "results": {
                "tool": { "name": TOOL, "version": run.harness_version },
                "summary": {
                    "tests": counts.tests,
                    "passed": counts.passed,
                    "failed": counts.failed,
                    "skipped": counts.skipped,
                    "pending": counts.pending,
                    "other": counts.other,
                    "flaky": counts.flaky,
                    "suites": self.suites.len(),
                    "start": start,
                    "stop": start.saturating_add(duration),
                    "duration": duration,
                },
                "tests": Value::Null,
                "environment": environment,
                "extra": extra,
            },
        })
    }

    fn event(&mut self, event: &Event, outputs: &dyn Outputs) -> io::Result<()> {
        self.at = event.at;
        match &event.kind {
            EventKind::RunStarted(run) => self.begin(run)?,
            EventKind::RunFinished(finished) => self.at = finished.elapsed,
            _ => {}
        }
        for entry in entry::entries(&event.kind) {
            match entry {
                Entry::Finished { finished, problem } => {
                    self.finished(&finished, problem.as_deref(), outputs)?;
                }
                Entry::Unrun {
                    test,
                    location,
                    status,
                    why,
                } => self.unrun(test, location, status, &why)?,
            }
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> SinkError {
        SinkError {
            what: format!("the CTRF report to `{}`", self.path),
            source,
        }
    }
}

/// The name of the tool.
const TOOL: &str = "cargo-harness";

/// The place of the tests. A quote inside of a string has a backslash before it, so no string has this.
const TESTS: &str = "\"tests\":null";

impl Counts {
    fn add(&mut self, status: Status) {
        self.tests += 1;
        let count = match word(status) {
            "passed" => &mut self.passed,
            "failed" => &mut self.failed,
            "skipped" => &mut self.skipped,
            "pending" => &mut self.pending,
            _ => &mut self.other,
        };
        *count += 1;
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Passed => "passed",
        Status::Failed | Status::Broken => "failed",
        Status::Skipped | Status::Quarantined => "skipped",
        Status::NotRun => "pending",
        Status::Interrupted => "other",
    }
}

/// Adds the words and the output of an attempt.
fn tell(map: &mut Map<String, Value>, told: &Told) {
    map.insert("duration".into(), (told.stop - told.start).into());
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(key.to_owned(), value);
        }
    };
    put("message", told.message.as_deref().map(Value::from));
    put("trace", told.trace.as_deref().map(Value::from));
    put("stdout", told.stdout.as_deref().and_then(lines));
    put("stderr", told.stderr.as_deref().and_then(lines));
}

fn lines(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| text.lines().collect::<Vec<_>>().into())
}

fn earlier_attempt(number: u32, told: &Told) -> Value {
    let mut map = Map::new();
    map.insert("attempt".into(), number.into());
    map.insert("status".into(), word(told.status).into());
    map.insert("start".into(), told.start.into());
    map.insert("stop".into(), told.stop.into());
    tell(&mut map, told);
    if let Some(ty) = &told.ty {
        map.insert("extra".into(), json!({ "type": ty }));
    }
    Value::Object(map)
}

/// Returns what the format has no field for.
fn extra(finished: &TestFinished) -> Value {
    let mut extra = Map::new();
    let mut survivors = Vec::new();
    for (name, value) in result::properties(finished) {
        if name == "survivor" {
            survivors.push(value);
            continue;
        }
        let number = value.parse::<u64>().map(Value::from);
        let number = number.or_else(|_| value.parse::<f64>().map(Value::from));
        extra.insert(name.to_owned(), number.unwrap_or_else(|_| value.into()));
    }
    if !survivors.is_empty() {
        extra.insert("survivors".to_owned(), survivors.into());
    }
    if let Some(last) = finished.attempts.last() {
        let seconds = last.elapsed.as_secs_f64();
        extra.insert("seconds".to_owned(), seconds.into());
    }
    Value::Object(extra)
}

impl Sink for Ctrf {
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError> {
        if let Err(error) = self.event(event, outputs) {
            self.tests = None;
            self.broken.get_or_insert(error);
        }
        match &event.kind {
            EventKind::RunFinished(finished) => {
                let written = self.write(Some(finished));
                written.map_err(|source| self.failed(source))
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), SinkError> {
        if self.written {
            return Ok(());
        }
        self.write(None).map_err(|source| self.failed(source))
    }
}
