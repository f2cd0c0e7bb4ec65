//! The results of the run for Allure: a folder with a JSON file for each attempt, and its output beside it.
//!
//! Each file is there as soon as its test has its result, and is whole. Attempts of a test have the same history, by
//! which Allure knows them as retries.

#[cfg(test)]
mod tests;

use super::{
    Outputs, Sink, SinkError,
    attachments::{MOST_TRACES, wants_trace},
    derived,
    document::Document,
    entry::{self, Entry},
    result::{self, Sources, Status, Told},
    share::Share,
    style::escaped,
};
use crate::own_files;
use camino::Utf8PathBuf;
use harness_metadata::{
    Attempt, AttemptId, Event, EventKind, Location, TestId,
    event::{RunStarted, TestFinished},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Write},
};
use uuid::Uuid;

/// The sink that writes results for Allure.
#[derive(Debug)]
pub struct Allure {
    folder: Utf8PathBuf,
    run: String,
    /// The start of the run, in milliseconds since 1970: the time of tests that did not run.
    start: i64,
    sources: Sources,
    share: Share,
    /// The number of traces in the folder.
    traces: usize,
    /// The number of tests that are not in the folder.
    lost: usize,
    /// The first error. It is reported at the end: the run is about the tests.
    broken: Option<io::Error>,
}

impl Allure {
    /// Returns a sink that writes to a folder.
    pub fn new(folder: impl Into<Utf8PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            run: String::new(),
            start: 0,
            sources: Sources::default(),
            share: Share::default(),
            traces: 0,
            lost: 0,
            broken: None,
        }
    }

    fn begin(&mut self, run: &RunStarted) -> io::Result<()> {
        self.run = run.run_id.to_string();
        self.start = run.started_at.timestamp_millis();
        self.sources = Sources(run.sources.clone());
        fs::create_dir_all(&self.folder)?;
        let machine = run.machine.as_ref();
        let kernel = machine.and_then(|machine| machine.kernel.as_deref());
        let lines = [
            ("Profile", Some(run.profile.as_str())),
            ("cargo-harness", Some(run.harness_version.as_str())),
            ("Kernel", kernel),
            ("Trace", Some(run.trace.level.as_str())),
        ];
        let lines = lines.into_iter().filter_map(|(name, value)| {
            let value = escaped(value?).replace('\\', "\\\\");
            Some(format!("{name}={value}\n"))
        });
        let environment: String = lines.collect();
        self.write("environment.properties", environment.as_bytes())
    }

    /// Writes a file, which has its name when it is whole.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.join(name);
        // Its name is of this run alone. What a document asks before would cost ten times as many calls.
        let new = self.folder.join(format!(".{name}.new"));
        if let Ok(mut file) = own_files::create_new(&new) {
            let written = file.write_all(bytes);
            let named = written.and_then(|()| fs::rename(&new, &path));
            if named.is_err() {
                let _ = fs::remove_file(&new);
            }
            return named;
        }
        let mut document = Document::create(&path)?;
        document.write_all(bytes)?;
        document.flush()?;
        document.finish()
    }

    /// Adds a test with its result. `problem` is why a setup script or a service failed.
    fn finished(
        &mut self,
        finished: &TestFinished,
        problem: Option<&str>,
        outputs: &dyn Outputs,
    ) -> io::Result<()> {
        let attempts = result::attempts(finished, problem, &mut self.share, outputs);
        let properties = result::properties(finished);
        let count = attempts.len();
        for (number, told) in (1..).zip(&attempts) {
            let uuid = self.uuid(&finished.test, number);
            let mut value = self.test(&finished.test, finished.location.as_ref(), uuid);
            value["status"] = word(told.status).into();
            value["start"] = told.start.into();
            value["stop"] = told.stop.into();
            value["attachments"] = self.attachments(uuid, told)?;
            if let Some(attempt) = finished.attempts.get(number - 1)
                && let Some(trace) = self.trace(uuid, &finished.test, attempt, outputs)?
            {
                add(&mut value["attachments"], trace);
            }
            value["statusDetails"] = details(told);
            push(
                &mut value["labels"],
                "thread",
                &format!("slot {}", finished.slot),
            );
            if let Some(ty) = &told.ty {
                let parameter = json!({ "name": "type", "value": ty, "excluded": true });
                add(&mut value["parameters"], parameter);
            }
            if number == count {
                if finished.flaky() {
                    value["statusDetails"]["flaky"] = true.into();
                }
                if let Some(quarantine) = finished.quarantine.as_deref() {
                    push(&mut value["labels"], "owner", &quarantine.owner);
                }
                for (name, of_it) in &properties {
                    // They are not part of the test's identity.
                    let shown = escaped(of_it);
                    let parameter = json!({ "name": name, "value": shown, "excluded": true });
                    add(&mut value["parameters"], parameter);
                }
            }
            self.write(&format!("{uuid}-result.json"), value.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Writes the output of an attempt.
    fn attachments(&self, uuid: Uuid, told: &Told) -> io::Result<Value> {
        let mut attachments = Vec::new();
        for (name, text) in [("stdout", &told.stdout), ("stderr", &told.stderr)] {
            let Some(text) = text.as_ref().filter(|text| !text.is_empty()) else {
                continue;
            };
            let source = format!("{uuid}-{name}-attachment.txt");
            self.write(&source, text.as_bytes())?;
            attachments.push(json!({ "name": name, "type": "text/plain", "source": source }));
        }
        Ok(attachments.into())
    }

    /// Writes the trace of an attempt that failed.
    fn trace(
        &mut self,
        uuid: Uuid,
        test: &TestId,
        attempt: &Attempt,
        outputs: &dyn Outputs,
    ) -> io::Result<Option<Value>> {
        if !wants_trace(attempt) || self.traces >= MOST_TRACES {
            return Ok(None);
        }
        let id = AttemptId {
            test: test.clone(),
            attempt: attempt.number,
        };
        let mut text = Vec::new();
        // What cannot be read back costs no result.
        if !outputs.write_trace(&id, &mut text).unwrap_or(false) {
            return Ok(None);
        }
        self.traces += 1;
        let source = format!("{uuid}-trace-attachment.txt");
        self.write(&source, &text)?;
        Ok(Some(
            json!({ "name": "trace", "type": "text/plain", "source": source }),
        ))
    }

    /// Adds a test that did not run.
    fn unrun(
        &self,
        test: &TestId,
        location: Option<&Location>,
        status: Status,
        why: &str,
    ) -> io::Result<()> {
        let uuid = self.uuid(test, 1);
        let mut value = self.test(test, location, uuid);
        value["status"] = word(status).into();
        value["start"] = self.start.into();
        value["stop"] = self.start.into();
        value["statusDetails"] = json!({ "message": escaped(why) });
        self.write(&format!("{uuid}-result.json"), value.to_string().as_bytes())
    }

    fn uuid(&self, test: &TestId, attempt: usize) -> Uuid {
        let attempt = attempt.to_string();
        let (binary, name) = (test.binary.as_str(), test.name.as_str());
        derived::id(&[&self.run, binary, name, &attempt])
    }

    /// Returns what is known of a test whatever becomes of it.
    fn test(&self, test: &TestId, location: Option<&Location>, uuid: Uuid) -> Value {
        let (once, iteration) = test.without_iteration();
        let (binary, name) = (once.binary.as_str(), once.name.as_str());
        let case = derived::id(&[binary, name]).simple().to_string();
        let history = match iteration {
            None => case.clone(),
            Some(iteration) => derived::id(&[binary, name, &iteration.to_string()])
                .simple()
                .to_string(),
        };
        let (binary, name) = (escaped(binary), escaped(name));
        let source = self.sources.of(test);
        let package = source.map_or(&*binary, |source| source.package.as_str());
        let (modules, leaf) = name.rsplit_once("::").unwrap_or(("", &name));
        let mut path = vec![package, &binary];
        path.extend(modules.split("::").filter(|module| !module.is_empty()));
        let class = path[1..].join("::");
        let mut labels = json!([]);
        for (label, value) in [
            ("language", "rust"),
            ("framework", "cargo-harness"),
            ("package", &*class.replace("::", ".")),
            ("parentSuite", package),
            ("suite", &binary),
            ("subSuite", modules),
            ("testClass", &class),
            ("testMethod", leaf),
        ] {
            if !value.is_empty() {
                push(&mut labels, label, value);
            }
        }
        let mut parameters = json!([]);
        if let Some(iteration) = iteration {
            let iteration = iteration.to_string();
            add(
                &mut parameters,
                json!({ "name": "iteration", "value": iteration }),
            );
        }
        let mut value = json!({
            "uuid": uuid.to_string(),
            "historyId": history,
            "testCaseId": case,
            "fullName": format!("{binary} {name}"),
            "name": name,
            "titlePath": path,
            "stage": "finished",
            "labels": labels,
            "links": [],
            "parameters": parameters,
            "attachments": [],
            "steps": [],
        });
        if let (Some(file), line) = self.sources.place(test, location) {
            let line = line.map_or_else(String::new, |line| format!(":{line}"));
            value["description"] = format!("`{}{line}`", escaped(file)).into();
        }
        value
    }

    fn event(&mut self, event: &Event, outputs: &dyn Outputs) {
        if let EventKind::RunStarted(run) = &event.kind
            && let Err(error) = self.begin(run)
        {
            self.broken.get_or_insert(error);
        }
        for entry in entry::entries(&event.kind) {
            let done = match entry {
                Entry::Finished { finished, problem } => {
                    self.finished(&finished, problem.as_deref(), outputs)
                }
                Entry::Unrun {
                    test,
                    location,
                    status,
                    why,
                } => self.unrun(test, location, status, &why),
            };
            if let Err(error) = done {
                self.lost += 1;
                self.broken.get_or_insert(error);
            }
        }
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Passed => "passed",
        Status::Failed => "failed",
        Status::Broken | Status::Interrupted => "broken",
        Status::Skipped | Status::Quarantined | Status::NotRun => "skipped",
    }
}

fn details(told: &Told) -> Value {
    let mut details = json!({});
    if let Some(message) = &told.message {
        details["message"] = message.as_str().into();
    }
    if let Some(trace) = &told.trace {
        details["trace"] = trace.as_str().into();
    }
    if told.status == Status::Quarantined {
        details["known"] = true.into();
        details["muted"] = true.into();
    }
    details
}

fn push(labels: &mut Value, name: &str, value: &str) {
    add(labels, json!({ "name": name, "value": value }));
}

fn add(list: &mut Value, value: Value) {
    if let Value::Array(list) = list {
        list.push(value);
    }
}

impl Sink for Allure {
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError> {
        self.event(event, outputs);
        match event.kind {
            EventKind::RunFinished(_) => self.close(),
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), SinkError> {
        let Some(source) = self.broken.take() else {
            return Ok(());
        };
        let folder = &self.folder;
        let what = match self.lost {
            0 => format!("the Allure results to `{folder}`"),
            1 => format!("the Allure results to `{folder}`, which lack 1 test"),
            lost => format!("the Allure results to `{folder}`, which lack {lost} tests"),
        };
        Err(SinkError { what, source })
    }
}
