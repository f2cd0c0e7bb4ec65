//! The details of each test: its attempts, with their output, trace and resources.
//!
//! Strings, and lists of files and addresses, are kept once: most tests of a binary use the same.

use super::{
    Started,
    facts::Facts,
    index::{Words, ms},
};
use crate::report::{
    Excerpt, Outputs, Stream,
    attachments::Attachments,
    budget, failure, injected, result,
    share::Share,
    stuck::{self, Pids},
    violations, wording,
};
use camino::Utf8Path;
use harness_metadata::{
    Attempt, AttemptId, Exit, TestId, TraceSummary,
    event::TestFinished,
    outcome::Leak,
    trace::{FileUse, NetworkOperation, ProcessSummary, Sender},
};
use serde_json::{Value, json};
use std::{collections::HashMap, io};

/// The properties that the index has of a test with one attempt.
const IN_INDEX: &[&str] = &["start", "slot", "ms", "system", "processes"];

/// The most bytes of a message.
const MESSAGE_CAP: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Details {
    /// The details of each row, as JSON.
    tests: Vec<String>,
    strings: Words,
    /// Lists of files and addresses, as JSON.
    sets: Words,
    share: Share,
    /// The place of output that is too long for the page; `None` if there is none.
    attachments: Option<Attachments>,
    /// The facts of the last trace of each row, each once.
    rows: Vec<Option<usize>>,
    facts: Vec<Facts>,
    known: HashMap<Facts, usize>,
    keys: Words,
}

impl Details {
    /// Returns details whose long output lies in files beside the report at `path`.
    pub(super) fn beside(path: &Utf8Path) -> Self {
        Self {
            attachments: Attachments::beside(path),
            ..Self::default()
        }
    }

    /// The report is written, and refers to no other files.
    pub(super) fn end(&mut self) {
        if let Some(attachments) = self.attachments.take() {
            attachments.finish();
        }
    }

    /// Writes each stream that the page has only the ends of to a file of its own. Returns the names of the files,
    /// from the folder of the report, or why there is none.
    fn attach(
        &mut self,
        test: &TestId,
        attempt: &Attempt,
        excerpts: [&Option<Excerpt>; 2],
        outputs: &dyn Outputs,
    ) -> Option<Value> {
        let attachments = self.attachments.as_mut()?;
        let id = AttemptId {
            test: test.clone(),
            attempt: attempt.number,
        };
        let streams = [Stream::Stdout, Stream::Stderr].into_iter().zip(excerpts);
        let files = streams.map(|(stream, excerpt)| {
            (excerpt.as_ref()).filter(|excerpt| excerpt.left_out > 0)?;
            let added = attachments.add(&id, stream, outputs);
            linked(attachments, added)
        });
        let files: Vec<_> = files.collect();
        (files != [None, None]).then(|| json!(files))
    }

    /// Writes the trace of an attempt that failed to a file of its own. Returns as for a stream.
    fn attach_trace(
        &mut self,
        test: &TestId,
        attempt: &Attempt,
        outputs: &dyn Outputs,
    ) -> Option<Value> {
        let attachments = self.attachments.as_mut()?;
        let id = AttemptId {
            test: test.clone(),
            attempt: attempt.number,
        };
        let added = attachments.add_trace(&id, attempt, outputs);
        linked(attachments, added)
    }

    pub(super) fn len(&self) -> usize {
        self.tests.len()
    }

    /// Returns the facts of a trace that are compared with those of a row.
    pub(super) fn facts(&mut self, trace: &TraceSummary) -> Facts {
        Facts::of(trace, &mut self.keys, &mut self.strings)
    }

    /// Returns the facts of a row's last trace.
    pub(super) fn facts_of(&self, row: usize) -> Option<&Facts> {
        let number = *self.rows.get(row)?;
        self.facts.get(number?)
    }

    fn keep_facts(&mut self, finished: &TestFinished) {
        let trace = finished.attempts.last();
        let trace = trace.and_then(|last| last.trace.as_deref());
        let number = trace.map(|trace| {
            let facts = self.facts(trace);
            *self.known.entry(facts).or_insert_with_key(|facts| {
                self.facts.push(facts.clone());
                self.facts.len() - 1
            })
        });
        self.rows.push(number);
    }

    pub(super) fn add_nothing(&mut self) {
        self.tests.push("null".to_owned());
    }

    pub(super) fn add(
        &mut self,
        finished: &TestFinished,
        starts: &[Started],
        outputs: &dyn Outputs,
    ) {
        let attempts = finished.attempts.iter();
        let mut attempts: Vec<Value> = attempts
            .map(|attempt| {
                let start = starts.iter().rfind(|start| start.attempt == attempt.number);
                self.attempt(&finished.test, attempt, start, outputs)
            })
            .collect();
        if let [Value::Object(only)] = attempts.as_mut_slice() {
            // The index has the same.
            only.retain(|key, _| !IN_INDEX.contains(&key.as_str()));
        }
        let details = json!({
            "attempts": attempts,
            "total": finished.total_attempts,
            "quarantine": wording::quarantined(finished),
        });
        self.tests.push(details.to_string());
        self.keep_facts(finished);
    }

    fn attempt(
        &mut self,
        test: &TestId,
        attempt: &Attempt,
        start: Option<&Started>,
        outputs: &dyn Outputs,
    ) -> Value {
        let [stdout, stderr] = self.share.read(test, attempt.number, outputs);
        let message = failure::text(test, stdout.as_ref(), stderr.as_ref());
        let whole = self.attach(test, attempt, [&stdout, &stderr], outputs);
        let trace_file = self.attach_trace(test, attempt, outputs);
        let [stdout, stderr] = [stdout, stderr].map(|excerpt| {
            let shown = excerpt.as_ref().map(shown);
            self.share.take(shown.as_deref().unwrap_or_default());
            shown
        });
        let usage = &attempt.usage;
        let mut value = json!({
            "n": attempt.number,
            "status": wording::attempt_status(attempt),
            "passed": attempt.verdict == harness_metadata::Verdict::Pass,
            "ms": ms(attempt.elapsed),
            "pid": attempt.pid,
            "user": ms(usage.user), "system": ms(usage.system),
            "memory": usage.peak_memory,
            "processes": usage.processes,
            "switches": [usage.voluntary_switches, usage.involuntary_switches],
            "written": [attempt.stdout.written, attempt.stderr.written],
        });
        let map = value.as_object_mut().expect("it was made of one above");
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), value);
            }
        };
        put("whole", whole);
        put("traceFile", trace_file);
        put("slot", start.map(|start| json!(start.slot)));
        put("start", start.map(|start| json!(ms(start.at))));
        put("elsewhere", elsewhere(attempt));
        put("closing", wording::closing(attempt).map(Value::String));
        put("disturbed", wording::disturbed(attempt).map(Value::String));
        put("injected", lines(injected::lines(attempt)));
        put("policy", lines(violations::lines(attempt, Pids::Shown)));
        put("slow", lines(stuck::slow(attempt, Pids::Shown)));
        put("budget", lines(budget::lines(attempt, Pids::Shown)));
        put("measured", measured(attempt));
        put("metrics", metrics(attempt));
        put("treeMemory", usage.peak_tree_memory.map(Value::from));
        put("throttled", usage.throttled.map(|time| json!(ms(time))));
        put("message", message.map(|text| json!(cut(&text))));
        put(
            "stdout",
            stdout.filter(|text| !text.is_empty()).map(Value::String),
        );
        put(
            "stderr",
            stderr.filter(|text| !text.is_empty()).map(Value::String),
        );
        put("leak", attempt.leak.as_ref().map(leak));
        put("stuck", stuck_tasks(attempt));
        put(
            "trace",
            attempt.trace.as_deref().map(|trace| self.trace(trace)),
        );
        value
    }

    fn trace(&mut self, trace: &TraceSummary) -> Value {
        let processes = trace.processes.iter();
        let mut root = 0;
        let processes: Vec<Value> = processes
            .map(|process| {
                let shown = self.process(process, root);
                if root == 0 {
                    root = process.pid;
                }
                shown
            })
            .collect();
        let files = trace.files.iter().map(|file| {
            let uses: Vec<&str> = file.uses.iter().map(|it| file_use(*it)).collect();
            let path = self.strings.number(&file.path.to_string());
            json!([path, self.strings.number(&uses.join(", "))])
        });
        let files = json!(files.collect::<Vec<_>>()).to_string();
        let peers = trace.peers.iter().map(|peer| {
            let names: Vec<String> = peer.names.iter().map(ToString::to_string).collect();
            let address = self.strings.number(&peer.address.to_string());
            let error = peer.error.map(wording_of_error);
            json!([operation(peer.operation), address, names, peer.count, error])
        });
        let peers = json!(peers.collect::<Vec<_>>()).to_string();
        let failures = trace.failures.iter().map(|failure| {
            let target = self.strings.number(&failure.target.to_string());
            let error = wording_of_error(failure.errno);
            json!([ms(failure.at), failure.pid, failure.call, target, error])
        });
        let failures: Vec<Value> = failures.collect();
        let doubts: Vec<String> = trace.doubts.iter().map(ToString::to_string).collect();
        let dropped = &trace.dropped;
        json!({
            "level": trace.level.as_str(),
            "backend": trace.backend.as_str(),
            "doubts": doubts,
            "processes": processes,
            "files": self.sets.number(&files),
            "peers": self.sets.number(&peers),
            "failures": failures,
            "dropped": [dropped.processes, dropped.files, dropped.peers],
        })
    }

    /// Returns a process. The ids of all but the first are counted from it: they have fewer digits.
    fn process(&mut self, process: &ProcessSummary, root: i32) -> Value {
        let relative = |pid: i32| pid.wrapping_sub(root);
        let words: Vec<String> = process.args.iter().map(ToString::to_string).collect();
        let command = self.strings.number(&shell_words::join(&words));
        let end = match (process.exit, process.killed_by) {
            (Some(Exit::Code(code)), _) => format!("exit code {code}"),
            (Some(Exit::Signal { signal, .. }), by) => {
                let by = by.map_or_else(String::new, |by| format!(" by {}", sender(by)));
                format!("{}{by}", wording::signal_name(signal))
            }
            (None, _) => "no end".to_owned(),
        };
        let end = self.strings.number(&end);
        let ended = process.ended.map(ms);
        let (pid, creator) = (relative(process.pid), process.creator.map(relative));
        json!([pid, creator, ms(process.started), ended, end, command])
    }

    /// Returns the details, with the last results before this run, as JSON.
    pub(super) fn json(&self, before: &str) -> Vec<u8> {
        let strings = json!(self.strings.list()).to_string();
        let (sets, tests) = (self.sets.list().join(","), self.tests.join(","));
        format!(
            "{{\"strings\":{strings},\"sets\":[{sets}],\"before\":{before},\"tests\":[{tests}]}}"
        )
        .into_bytes()
    }
}

/// Returns the place of a file that was added to the folder of the report, or why it was not; `None` if there is none.
fn linked(attachments: &Attachments, added: io::Result<Option<String>>) -> Option<Value> {
    match added {
        Ok(name) => {
            let folder = attachments.folder().file_name().unwrap_or_default();
            Some(json!({ "file": format!("{folder}/{}", name?) }))
        }
        Err(error) => Some(json!({ "why": error.to_string() })),
    }
}

/// Returns what an attempt did with disks, files and sockets.
fn measured(attempt: &Attempt) -> Option<Value> {
    let measured: Vec<_> = result::measured(attempt).map(|it| json!(it)).collect();
    (!measured.is_empty()).then(|| json!(measured))
}

/// Returns the metrics that an attempt recorded, each as its name and its value.
fn metrics(attempt: &Attempt) -> Option<Value> {
    let metrics = attempt.metrics.found.iter().map(ToString::to_string);
    let metrics: Vec<_> = metrics
        .filter_map(|metric| Some(json!(metric.split_once(" = ")?)))
        .collect();
    (!metrics.is_empty()).then(|| json!(metrics))
}

/// Returns where an attempt ran, if that was not on this machine, and how long each part of it took.
fn elsewhere(attempt: &Attempt) -> Option<Value> {
    let place = wording::elsewhere(attempt)?;
    let remote = attempt.remote.as_deref()?;
    let parts = [
        ("upload", remote.upload),
        ("queue", remote.queue),
        ("staging", remote.staging),
        ("run", remote.execution),
        ("fetch", remote.fetch),
    ];
    let parts = parts.map(|(part, time)| json!([part, ms(time)]));
    Some(json!({ "at": place, "parts": parts, "earlier": remote.earlier }))
}

/// Returns the two ends of a stream as text. Bytes that are not UTF-8 are shown as `\xff`.
fn shown(excerpt: &Excerpt) -> String {
    let mut text = lossless(&excerpt.head);
    if excerpt.left_out > 0 {
        let left_out = wording::size(excerpt.left_out);
        text.push_str(&format!("\n… {left_out} left out …\n"));
        text.push_str(&lossless(&excerpt.tail));
    }
    text
}

fn lossless(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(MESSAGE_CAP);
    &text[..end]
}

fn leak(leak: &Leak) -> Value {
    let survivors = leak.survivors.iter().map(|survivor| {
        let holds: Vec<_> = survivor.holds.iter().map(|held| json!(held)).collect();
        json!({
            "pid": survivor.pid, "command": survivor.command, "killed": survivor.killed,
            "outlived": ms(survivor.outlived), "age": survivor.age.map(ms), "holds": holds,
        })
    });
    json!({
        "survivors": survivors.collect::<Vec<_>>(),
        "outputOpen": leak.output_open, "late": leak.late_output, "allowed": leak.allowed,
    })
}

/// Returns the states of the tasks of a test whose time was up, by process and thread.
/// Returns lines, if there are any.
fn lines(lines: Vec<String>) -> Option<Value> {
    (!lines.is_empty()).then(|| json!(lines))
}

fn stuck_tasks(attempt: &Attempt) -> Option<Value> {
    let tasks = attempt.stuck.iter().map(|task| {
        let doing = json!(task.doing);
        json!([
            task.pid,
            task.tid,
            task.command,
            task.thread,
            doing.to_string()
        ])
    });
    let tasks: Vec<Value> = tasks.collect();
    (!tasks.is_empty()).then(|| json!(tasks))
}

fn file_use(file_use: FileUse) -> &'static str {
    match file_use {
        FileUse::Executed => "executed",
        FileUse::Read => "read",
        FileUse::Written => "written",
        FileUse::Created => "created",
        FileUse::Truncated => "truncated",
        FileUse::Removed => "removed",
        FileUse::RenamedFrom => "renamed from",
        FileUse::RenamedTo => "renamed to",
        FileUse::Linked => "linked",
        FileUse::MetadataChanged => "metadata changed",
        FileUse::Queried => "queried",
        FileUse::Listed => "listed",
        FileUse::Missing => "missing",
        FileUse::Refused => "refused",
    }
}

fn operation(operation: NetworkOperation) -> Value {
    json!(operation)
}

fn sender(sender: Sender) -> String {
    match sender {
        Sender::Kernel => "the kernel".to_owned(),
        Sender::Harness => "the harness".to_owned(),
        Sender::Tree(pid) => format!("process {pid}"),
        Sender::Outside(pid) => format!("process {pid} outside"),
    }
}

fn wording_of_error(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}
