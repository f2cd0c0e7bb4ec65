//! The run as a timeline in the Trace Event Format of Chrome, which Perfetto reads too: a track for
//! each slot with its attempts, and their processes nested below.
//!
//! Slices of one track nest, as Perfetto wants it. Processes of an attempt that overlap without one
//! containing the other go to further tracks of the slot. What spans several tracks (a test with
//! several attempts, a setup script) is asynchronous. Times are active time: a pause is an instant.

mod lanes;

use super::{Outputs, Sink, SinkError, document::Document, wording};
use camino::Utf8PathBuf;
use harness_metadata::{
    Attempt, Event, EventKind, Remote, TestId, TraceSummary,
    event::{AttemptStarted, RunStarted, ScriptFinished, ScriptStarted, TestFinished},
};
use lanes::Lanes;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    time::Duration,
};

/// The process of the timeline.
const RUN: u32 = 1;

/// The track of the run itself.
const OWN_TRACK: usize = 0;

/// The name of the time between two attempts.
const WAITS: &str = "waits for its next attempt";

/// Tracks of a slot.
const LANES: usize = 64;

/// The sink that writes a timeline.
#[derive(Debug)]
pub struct ChromeTrace {
    path: Utf8PathBuf,
    /// `None` before the run has begun, and once it has ended or something went wrong.
    document: Option<Document>,
    entries: usize,
    /// The start of each attempt that is running.
    running: HashMap<TestId, Started>,
    /// The ids of the spans of tests with several attempts, and of scripts.
    spans: HashMap<TestId, u64>,
    next_span: u64,
    /// The number of tracks that each slot has.
    tracks: BTreeMap<usize, usize>,
    at: Duration,
    broken: Option<io::Error>,
}

#[derive(Copy, Clone, Debug)]
struct Started {
    slot: usize,
    at: Duration,
    total: u32,
}

impl ChromeTrace {
    /// Returns a sink that writes to a file.
    pub fn new(path: impl Into<Utf8PathBuf>) -> Self {
        Self {
            path: path.into(),
            document: None,
            entries: 0,
            running: HashMap::new(),
            spans: HashMap::new(),
            next_span: 0,
            tracks: BTreeMap::new(),
            at: Duration::ZERO,
            broken: None,
        }
    }

    fn begin(&mut self, run: &RunStarted) -> io::Result<()> {
        let mut document = Document::create(&self.path)?;
        let about = json!({
            "run_id": run.run_id,
            "harness_version": run.harness_version,
            "profile": run.profile,
            "command_line": run.command_line,
            "started_at": run.started_at.to_rfc3339(),
            "workspace_root": run.workspace_root,
        });
        write!(
            document,
            "{{\"displayTimeUnit\":\"ms\",\"otherData\":{about},\"traceEvents\":["
        )?;
        self.document = Some(document);
        let name = format!("run {}", run.run_id);
        self.add(&metadata(
            "process_name",
            OWN_TRACK,
            &json!({ "name": name }),
        ))?;
        self.name_track(OWN_TRACK, "run")
    }

    /// Adds an entry.
    fn add(&mut self, entry: &Value) -> io::Result<()> {
        let Some(document) = &mut self.document else {
            return Ok(());
        };
        let separator = if self.entries == 0 { "\n" } else { ",\n" };
        self.entries += 1;
        write!(document, "{separator}{entry}")
    }

    fn name_track(&mut self, track: usize, name: &str) -> io::Result<()> {
        self.add(&metadata("thread_name", track, &json!({ "name": name })))?;
        self.add(&metadata(
            "thread_sort_index",
            track,
            &json!({ "sort_index": track }),
        ))
    }

    /// Returns a track of a slot, which is named when it is first used.
    fn track(&mut self, slot: usize, lane: usize) -> io::Result<usize> {
        let first = 1 + slot.saturating_mul(LANES);
        let mut named = self.tracks.get(&slot).copied().unwrap_or(0);
        while named <= lane {
            let name = match named {
                0 => format!("slot {slot}"),
                _ => format!("slot {slot}, processes {named}"),
            };
            self.name_track(first.saturating_add(named), &name)?;
            named += 1;
            self.tracks.insert(slot, named);
        }
        Ok(first.saturating_add(lane))
    }

    fn instant(&mut self, name: &str, args: &Value) -> io::Result<()> {
        let at = micros(self.at);
        self.add(&json!({
            "ph": "i", "s": "g", "name": name, "pid": RUN, "tid": OWN_TRACK, "ts": at, "args": args,
        }))
    }

    /// Begins or ends a span that is on no track.
    fn span(
        &mut self,
        ph: &str,
        test: &TestId,
        kind: &str,
        name: &str,
        at: Duration,
    ) -> io::Result<()> {
        let id = *self.spans.entry(test.clone()).or_insert_with(|| {
            self.next_span += 1;
            self.next_span
        });
        if ph == "e" && kind != "wait" {
            self.spans.remove(test);
        }
        self.add(&json!({
            "ph": ph, "cat": kind, "id": id, "name": name, "pid": RUN, "tid": OWN_TRACK,
            "ts": micros(at),
        }))
    }

    fn running(&mut self, count: usize) -> io::Result<()> {
        let at = micros(self.at);
        self.add(&json!({
            "ph": "C", "name": "running tests", "pid": RUN, "tid": OWN_TRACK, "ts": at,
            "args": { "tests": count },
        }))
    }

    fn attempt_started(&mut self, started: &AttemptStarted) -> io::Result<()> {
        let (slot, at, total) = (started.slot, self.at, started.total_attempts);
        self.running
            .insert(started.test.clone(), Started { slot, at, total });
        if started.attempt > 1 && self.spans.contains_key(&started.test) {
            self.span("e", &started.test, "wait", WAITS, at)?;
        }
        self.running(started.running)
    }

    fn attempt_failed(&mut self, test: &TestId, attempt: &Attempt) -> io::Result<()> {
        let from = self.running.get(test).map_or(self.at, |started| started.at);
        if !self.spans.contains_key(test) {
            self.span("b", test, "test", &test.to_string(), from)?;
        }
        self.attempt_ended(test, Some(attempt))?;
        self.span("b", test, "wait", WAITS, self.at)
    }

    fn attempt_ended(&mut self, test: &TestId, attempt: Option<&Attempt>) -> io::Result<()> {
        let Some(started) = self.running.remove(test) else {
            return Ok(());
        };
        let (from, to) = (started.at, self.at.max(started.at));
        let track = self.track(started.slot, 0)?;
        let name = test.to_string();
        let args = attempt.map_or_else(|| json!({ "status": "unknown" }), arguments);
        self.add(&slice(track, "test", &name, from, to, &args))?;
        if started.total > 1 {
            let number = attempt.map_or(0, |attempt| attempt.number);
            let name = format!("attempt {number} of {}", started.total);
            self.add(&slice(track, "attempt", &name, from, to, &json!({})))?;
        }
        let remote = attempt.and_then(|attempt| attempt.remote.as_deref());
        let (from, to) = match remote {
            Some(remote) => self.parts(track, remote, from, to)?,
            None => (from, to),
        };
        match attempt.and_then(|attempt| attempt.trace.as_deref()) {
            Some(trace) => self.processes(started.slot, trace, from, to),
            None => Ok(()),
        }
    }

    /// Adds the parts of an attempt elsewhere. The last try of it ends with the attempt. Returns when its agent began
    /// and ended.
    fn parts(
        &mut self,
        track: usize,
        remote: &Remote,
        from: Duration,
        to: Duration,
    ) -> io::Result<(Duration, Duration)> {
        let (mut end, mut agent) = (to, (from, to));
        for (name, lasts) in [
            ("fetch", remote.fetch),
            ("run", remote.execution),
            ("staging", remote.staging),
            ("queue", remote.queue),
            ("upload", remote.upload),
        ] {
            let begin = end.saturating_sub(lasts).max(from);
            if name == "run" {
                agent = (begin, end);
            }
            let args = json!({ "engine": remote.engine, "worker": remote.worker });
            self.add(&slice(track, "remote", name, begin, end, &args))?;
            end = begin;
        }
        Ok(agent)
    }

    fn processes(
        &mut self,
        slot: usize,
        trace: &TraceSummary,
        from: Duration,
        to: Duration,
    ) -> io::Result<()> {
        let mut spans: Vec<_> = trace
            .processes
            .iter()
            .map(|process| {
                let start = from.saturating_add(process.started).min(to);
                let end = process.ended.map(|end| from.saturating_add(end));
                (start, end.unwrap_or(to).clamp(start, to), process)
            })
            .collect();
        spans.sort_by_key(|(start, end, _)| (*start, std::cmp::Reverse(*end)));
        let mut lanes = Lanes::below(to, LANES);
        for (start, end, process) in spans {
            let Some(lane) = lanes.place(start, end) else {
                continue;
            };
            let track = self.track(slot, lane)?;
            let words: Vec<String> = process.args.iter().map(ToString::to_string).collect();
            let name = words
                .first()
                .map_or("", |program| program.rsplit('/').next().unwrap_or_default());
            let args = json!({
                "pid": process.pid, "creator": process.creator, "command": words,
                "exit": process.exit, "killed_by": process.killed_by,
                "executions": process.execs,
            });
            self.add(&slice(track, "process", name, start, end, &args))?;
        }
        match lanes.without_place {
            0 => Ok(()),
            count => self.instant("processes without a track", &json!({ "count": count })),
        }
    }

    fn test_finished(&mut self, finished: &TestFinished) -> io::Result<()> {
        self.attempt_ended(&finished.test, finished.attempts.last())?;
        if self.spans.contains_key(&finished.test) {
            let name = finished.test.to_string();
            self.span("e", &finished.test, "test", &name, self.at)?;
        }
        self.running(finished.running)
    }

    fn script_started(&mut self, script: &ScriptStarted) -> io::Result<()> {
        self.span(
            "b",
            &script.test,
            "script",
            &script.test.to_string(),
            self.at,
        )
    }

    fn script_finished(&mut self, script: &ScriptFinished) -> io::Result<()> {
        self.span(
            "e",
            &script.test,
            "script",
            &script.test.to_string(),
            self.at,
        )
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.at = event.at;
        match &event.kind {
            EventKind::RunStarted(run) => self.begin(run),
            EventKind::AttemptStarted(started) => self.attempt_started(started),
            EventKind::AttemptFailed { test, attempt, .. } => self.attempt_failed(test, attempt),
            EventKind::TestFinished(finished) => self.test_finished(finished),
            EventKind::SetupStarted(script) | EventKind::TeardownStarted(script) => {
                self.script_started(script)
            }
            EventKind::SetupFinished(script) | EventKind::TeardownFinished(script) => {
                self.script_finished(script)
            }
            EventKind::ServiceStarted(service) => {
                let (test, name) = (&service.test, service.test.to_string());
                self.span("b", test, "service", &name, self.at)
            }
            EventKind::ServiceFinished(service) => {
                let (test, name) = (&service.test, service.test.to_string());
                self.span("e", test, "service", &name, self.at)
            }
            EventKind::AttemptSlow { test, .. } => {
                self.instant("slow", &json!({ "test": test.to_string() }))
            }
            EventKind::IterationFinished(iteration) => {
                let number = iteration.iteration;
                self.instant("iteration finished", &json!({ "iteration": number }))
            }
            EventKind::Cancelled { reason, .. } => {
                let reason = wording::cancel_reason(*reason);
                self.instant("cancelled", &json!({ "reason": reason }))
            }
            EventKind::FewerSlots { slots, because } => self.instant(
                "fewer slots",
                &json!({ "slots": slots, "because": because }),
            ),
            EventKind::MoreSlots { slots } => {
                self.instant("more slots", &json!({ "slots": slots }))
            }
            EventKind::AwaitsSystem { because, .. } => {
                self.instant("waits for the system", &json!({ "because": because }))
            }
            EventKind::Stopped { .. } => self.instant("the runner was stopped", &json!({})),
            EventKind::Paused { .. } => self.instant("paused", &json!({})),
            EventKind::Continued { .. } => self.instant("continued", &json!({})),
            EventKind::RunFinished(_) => self.end(),
            EventKind::TestSkipped { .. }
            | EventKind::TestCached(_)
            | EventKind::AttemptTraced { .. }
            | EventKind::AttemptPrinted(_)
            | EventKind::AttemptBroke { .. }
            | EventKind::Status { .. }
            | EventKind::Progress { .. }
            | EventKind::SetupSlow { .. }
            | EventKind::SetupLeft { .. }
            | EventKind::ServiceReady(_) => Ok(()),
        }
    }

    /// Ends what is still running, and the file.
    fn end(&mut self) -> io::Result<()> {
        let running: Vec<_> = self.running.keys().cloned().collect();
        for test in running {
            self.attempt_ended(&test, None)?;
        }
        let whole = slice(OWN_TRACK, "run", "run", Duration::ZERO, self.at, &json!({}));
        self.add(&whole)?;
        let Some(mut document) = self.document.take() else {
            return Ok(());
        };
        document.write_all(b"\n]}\n")?;
        document.finish()
    }

    fn failed(&self, source: io::Error) -> SinkError {
        SinkError {
            what: format!("the timeline to `{}`", self.path),
            source,
        }
    }
}

impl Sink for ChromeTrace {
    fn handle(&mut self, event: &Event, _: &dyn Outputs) -> Result<(), SinkError> {
        if self.broken.is_none()
            && let Err(error) = self.event(event)
        {
            self.document = None;
            self.broken = Some(error);
        }
        match event.kind {
            EventKind::RunFinished(_) => self.close(),
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), SinkError> {
        if let Some(source) = self.broken.take() {
            return Err(self.failed(source));
        }
        self.end().map_err(|source| self.failed(source))
    }
}

fn metadata(name: &str, track: usize, args: &Value) -> Value {
    json!({ "ph": "M", "name": name, "pid": RUN, "tid": track, "args": args })
}

fn slice(
    track: usize,
    kind: &str,
    name: &str,
    from: Duration,
    to: Duration,
    args: &Value,
) -> Value {
    let lasts = to.saturating_sub(from);
    json!({
        "ph": "X", "cat": kind, "name": name, "pid": RUN, "tid": track,
        "ts": micros(from), "dur": micros(lasts), "args": args,
    })
}

fn arguments(attempt: &Attempt) -> Value {
    let usage = &attempt.usage;
    json!({
        "attempt": attempt.number,
        "status": wording::attempt_status(attempt),
        "verdict": attempt.verdict,
        "outcome": attempt.outcome,
        "pid": attempt.pid,
        "user_ms": usage.user.as_secs_f64() * 1e3,
        "system_ms": usage.system.as_secs_f64() * 1e3,
        "peak_memory": usage.peak_memory,
        "processes": usage.processes,
    })
}

/// Returns the microseconds of a duration, with nanoseconds as a fraction.
#[expect(
    clippy::cast_precision_loss,
    reason = "a run of 100 days has 53 bits of nanoseconds"
)]
fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

#[cfg(test)]
mod tests;
