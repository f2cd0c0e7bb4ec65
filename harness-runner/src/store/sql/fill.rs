//! Writes a recorded run into the tables.

use super::super::PastRun;
use crate::report::{self, Outputs, Sink, SinkError};
use harness_metadata::{
    Attempt, Event, EventKind, Exit, Outcome, Polarity, RawString, TestId, TraceSummary, Verdict,
    event::{RunStarted, TestFinished},
    trace::{Address, FileSummary, PeerSummary, ProcessSummary},
};
use rusqlite::{Connection, Statement, params, types::Value};
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet},
    io,
    time::Duration,
};
use xxhash_rust::xxh64::xxh64;

/// The columns of a run that its first event has.
const RUN: [&str; 14] = [
    "run_id",
    "started_at",
    "workspace_root",
    "profile",
    "command_line",
    "harness_version",
    "rerun_of",
    "partial",
    "slots",
    "tests",
    "skipped",
    "trace_level",
    "imported",
    "damaged",
];

/// The columns of an attempt.
const ATTEMPT: [&str; 28] = [
    "run",
    "test",
    "iteration",
    "number",
    "verdict",
    "outcome",
    "exit_code",
    "signal",
    "reason",
    "message",
    "slow",
    "leaked",
    "started_at",
    "elapsed",
    "slot",
    "cpu_user",
    "cpu_system",
    "peak_memory",
    "peak_tree_memory",
    "processes",
    "disk_read",
    "disk_written",
    "stdout_bytes",
    "stderr_bytes",
    "trace_level",
    "trace_backend",
    "complete",
    "file_set",
];

/// Returns the statement that inserts a row with these columns.
fn insertion(table: &str, columns: &[&str]) -> String {
    let values: Vec<String> = (1..=columns.len()).map(|it| format!("?{it}")).collect();
    let (columns, values) = (columns.join(", "), values.join(", "));
    format!("INSERT INTO {table} ({columns}) VALUES ({values})")
}

/// Adds a run. Returns false if it cannot be read, and then nothing is added.
pub(super) fn add(connection: &Connection, run: &PastRun) -> rusqlite::Result<bool> {
    let Ok(recording) = run.open_recording() else {
        return Ok(false);
    };
    let number = begin(connection, run, &recording.started)?;
    let packages = recording.started.sources.iter();
    let packages = packages.map(|(binary, source)| (binary.to_string(), source.package.clone()));
    let mut filler = Filler {
        run: number,
        packages: packages.collect(),
        slots: HashMap::new(),
        tests: HashMap::new(),
        sets: HashMap::new(),
        statements: Statements::new(connection)?,
        connection,
        error: None,
    };
    let replayed = recording.replay(&mut [Box::new(&mut filler)], &|_| ());
    if let Some(error) = filler.error {
        return Err(error);
    }
    let Ok(replayed) = replayed else {
        connection.execute("DELETE FROM runs WHERE id = ?1", [number])?;
        return Ok(false);
    };
    let damaged = replayed.damaged.len();
    if let Some(finished) = replayed.finished {
        let stats = &finished.stats;
        connection.execute(
            "UPDATE runs SET elapsed = ?2, passed = ?3, flaky = ?4, failed = ?5, \
             interrupted = ?6, cancelled = ?7 WHERE id = ?1",
            params![
                number,
                finished.elapsed.as_secs_f64(),
                count(stats.passed),
                count(stats.flaky),
                count(stats.failures()),
                count(stats.interrupted),
                finished.cancelled.map(word),
            ],
        )?;
    }
    connection.execute(
        "UPDATE runs SET damaged = ?2 WHERE id = ?1",
        params![number, count(damaged)],
    )?;
    Ok(true)
}

/// Adds the row of a run. Returns its number.
fn begin(connection: &Connection, run: &PastRun, started: &RunStarted) -> rusqlite::Result<i64> {
    connection.execute(
        &insertion("runs", &RUN),
        params![
            started.run_id.to_string(),
            utc(&started.started_at),
            started.workspace_root,
            started.profile,
            json(&started.command_line),
            started.harness_version,
            started.rerun_of.map(|run| run.to_string()),
            started.partial,
            count(started.slots),
            count(started.tests),
            count(started.skipped_tests),
            word(started.trace.level),
            run.imported,
            0,
        ],
    )?;
    Ok(connection.last_insert_rowid())
}

/// The sink that writes results and attempts.
struct Filler<'a> {
    run: i64,
    /// The packages of binaries.
    packages: HashMap<String, String>,
    /// The slots of attempts that have started.
    slots: HashMap<(TestId, u32), usize>,
    /// The numbers of tests.
    tests: HashMap<TestId, i64>,
    /// The numbers of sets of uses of files, by their hashes.
    sets: HashMap<String, i64>,
    statements: Statements<'a>,
    connection: &'a Connection,
    /// The first error; the rest is left out then.
    error: Option<rusqlite::Error>,
}

/// The statements that are used for each attempt.
struct Statements<'a> {
    attempt: Statement<'a>,
    result: Statement<'a>,
    process: Statement<'a>,
    path: Statement<'a>,
    path_of: Statement<'a>,
    set: Statement<'a>,
    set_of: Statement<'a>,
    file_use: Statement<'a>,
    peer: Statement<'a>,
    failure: Statement<'a>,
    metric: Statement<'a>,
    budget: Statement<'a>,
}

impl<'a> Statements<'a> {
    fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            attempt: connection.prepare(&insertion("attempts", &ATTEMPT))?,
            result: connection
                .prepare("INSERT INTO results VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?,
            process: connection
                .prepare("INSERT INTO processes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?,
            path: connection.prepare("INSERT OR IGNORE INTO paths (path) VALUES (?1)")?,
            path_of: connection.prepare("SELECT id FROM paths WHERE path = ?1")?,
            set: connection.prepare("INSERT INTO file_sets (hash) VALUES (?1)")?,
            set_of: connection.prepare("SELECT id FROM file_sets WHERE hash = ?1")?,
            file_use: connection.prepare("INSERT OR IGNORE INTO file_uses VALUES (?1, ?2, ?3)")?,
            peer: connection
                .prepare("INSERT INTO peers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?,
            failure: connection.prepare("INSERT INTO failures VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            metric: connection
                .prepare("INSERT INTO metrics VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?,
            budget: connection
                .prepare("INSERT INTO budgets VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?,
        })
    }
}

impl Sink for &mut Filler<'_> {
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError> {
        if self.error.is_none() {
            self.error = self.take(event, outputs).err();
        }
        match &self.error {
            None => Ok(()),
            Some(error) => Err(SinkError {
                what: "to the database".to_owned(),
                source: io::Error::other(error.to_string()),
            }),
        }
    }
}

impl Filler<'_> {
    fn take(&mut self, event: &Event, outputs: &dyn Outputs) -> rusqlite::Result<()> {
        match &event.kind {
            EventKind::AttemptStarted(started) => {
                let id = (started.test.clone(), started.attempt);
                self.slots.insert(id, started.slot);
                Ok(())
            }
            EventKind::AttemptFailed { test, attempt, .. } => self.attempt(test, attempt, outputs),
            EventKind::TestFinished(finished) => {
                if let Some(last) = finished.attempts.last() {
                    self.attempt(&finished.test, last, outputs)?;
                }
                self.result(finished)
            }
            _ => Ok(()),
        }
    }

    /// Returns the number of a test, and of its iteration.
    fn test(&mut self, id: &TestId) -> rusqlite::Result<(i64, Option<i64>)> {
        let (test, iteration) = id.without_iteration();
        let iteration = iteration.map(count);
        if let Some(number) = self.tests.get(&test) {
            return Ok((*number, iteration));
        }
        let (binary, name) = (test.binary.as_str(), test.name.as_str());
        let package = self.packages.get(binary);
        self.connection.execute(
            "INSERT INTO tests (binary, name, package) VALUES (?1, ?2, ?3) \
             ON CONFLICT DO UPDATE SET package = coalesce(?3, package)",
            params![binary, name, package],
        )?;
        let number = self.connection.query_row(
            "SELECT id FROM tests WHERE binary = ?1 AND name = ?2",
            params![binary, name],
            |row| row.get(0),
        )?;
        self.tests.insert(test, number);
        Ok((number, iteration))
    }

    fn result(&mut self, finished: &TestFinished) -> rusqlite::Result<()> {
        let (test, iteration) = self.test(&finished.test)?;
        let location = finished.location.as_ref();
        self.statements.result.execute(params![
            self.run,
            test,
            iteration,
            word(finished.verdict),
            finished.flaky(),
            count(finished.attempts.len()),
            location.map(|it| it.file.as_str()),
            location.map(|it| it.line),
        ])?;
        Ok(())
    }

    fn attempt(
        &mut self,
        id: &TestId,
        attempt: &Attempt,
        outputs: &dyn Outputs,
    ) -> rusqlite::Result<()> {
        let (test, iteration) = self.test(id)?;
        let slot = self.slots.remove(&(id.clone(), attempt.number));
        let failed = attempt.verdict != Verdict::Pass;
        let (reason, message) = match failed.then(|| report::ending(id, attempt, outputs)) {
            Some((reason, message)) => (Some(reason), Some(message)),
            None => (None, None),
        };
        let (code, signal) = exit_of(&attempt.outcome);
        let trace = attempt.trace.as_deref();
        let files = trace.map(|trace| self.files(&files_of(trace)));
        let files = files.transpose()?;
        let usage = &attempt.usage;
        let number = self.statements.attempt.insert(params![
            self.run,
            test,
            iteration,
            attempt.number,
            word(attempt.verdict),
            word(&attempt.outcome),
            code,
            signal,
            reason,
            message,
            attempt.slow,
            attempt.leak.is_some(),
            utc(&attempt.started_at),
            attempt.elapsed.as_secs_f64(),
            slot.map(count),
            usage.user.as_secs_f64(),
            usage.system.as_secs_f64(),
            bytes(usage.peak_memory),
            usage.peak_tree_memory.map(bytes),
            usage.processes,
            bytes(usage.disk_read),
            bytes(usage.disk_written),
            bytes(attempt.stdout.written),
            bytes(attempt.stderr.written),
            trace.map(|trace| word(trace.level)),
            trace.map(|trace| trace.backend.as_str()),
            trace.map(TraceSummary::complete),
            files,
        ])?;
        self.numbers(number, attempt)?;
        match trace {
            Some(trace) => self.trace(number, trace),
            None => Ok(()),
        }
    }

    /// Adds the metrics of an attempt, and the budgets that it did not keep to.
    fn numbers(&mut self, number: i64, attempt: &Attempt) -> rusqlite::Result<()> {
        for metric in &attempt.metrics.found {
            let (polarity, target) = match metric.polarity {
                Polarity::HigherIsBetter => ("higher-is-better", None),
                Polarity::LowerIsBetter => ("lower-is-better", None),
                Polarity::Target(target) => ("target", Some(target.0)),
                _ => ("unknown", None),
            };
            self.statements.metric.execute(params![
                number,
                metric.payload,
                metric.invocation,
                metric.name,
                // SQLite makes NULL of NaN.
                metric.value.0,
                metric.unit,
                polarity,
                target,
                metric.source,
            ])?;
        }
        for finding in &attempt.budget {
            self.statements.budget.execute(params![
                number,
                finding.name,
                finding.value.map(|value| value.0),
                finding.unit,
                finding.max.map(|max| max.0),
                finding.min.map(|min| min.0),
                finding.fails,
                finding.unmeasured,
                finding.file,
                finding.line,
            ])?;
        }
        Ok(())
    }

    /// Returns the number of a set of uses of files.
    fn files(&mut self, files: &[FileSummary]) -> rusqlite::Result<i64> {
        let hash = hash_of(files);
        if let Some(number) = self.sets.get(&hash) {
            return Ok(*number);
        }
        let known = self.statements.set_of.query_row([&hash], |row| row.get(0));
        let number = match known {
            Err(rusqlite::Error::QueryReturnedNoRows) => self.new_files(&hash, files)?,
            known => known?,
        };
        self.sets.insert(hash, number);
        Ok(number)
    }

    fn new_files(&mut self, hash: &str, files: &[FileSummary]) -> rusqlite::Result<i64> {
        let set = self.statements.set.insert([hash])?;
        for file in files {
            let path = raw(&file.path);
            self.statements.path.execute([&path])?;
            let number = |row: &rusqlite::Row<'_>| row.get(0);
            let path: i64 = self.statements.path_of.query_row([&path], number)?;
            for used in &file.uses {
                let used = word(used);
                self.statements.file_use.execute(params![set, path, used])?;
            }
        }
        Ok(set)
    }

    fn trace(&mut self, attempt: i64, trace: &TraceSummary) -> rusqlite::Result<()> {
        for process in &trace.processes {
            self.process(attempt, process)?;
        }
        for peer in &trace.peers {
            self.peer(attempt, peer)?;
        }
        for failure in &trace.failures {
            self.statements.failure.execute(params![
                attempt,
                failure.at.as_secs_f64(),
                failure.pid,
                failure.call,
                raw(&failure.target),
                failure.errno,
            ])?;
        }
        Ok(())
    }

    fn process(&mut self, attempt: i64, process: &ProcessSummary) -> rusqlite::Result<()> {
        let (code, signal) = process.exit.map_or((None, None), code_and_signal);
        let seconds = |time: Duration| time.as_secs_f64();
        self.statements.process.execute(params![
            attempt,
            process.pid,
            process.creator,
            json(&process.args.iter().map(lossy).collect::<Vec<_>>()),
            process.execs,
            seconds(process.started),
            process.ended.map(seconds),
            code,
            signal,
        ])?;
        Ok(())
    }

    fn peer(&mut self, attempt: i64, peer: &PeerSummary) -> rusqlite::Result<()> {
        let (address, port) = match &peer.address {
            Address::Ip { ip, port } => (ip.to_string(), Some(u32::from(*port))),
            Address::Vsock { cid, port } => (format!("vsock:{cid}"), Some(*port)),
            address => (address.to_string(), None),
        };
        self.statements.peer.execute(params![
            attempt,
            word(peer.operation),
            address,
            port,
            word(peer.reach),
            json(&peer.names.iter().map(lossy).collect::<Vec<_>>()),
            bytes(peer.count),
            peer.error,
        ])?;
        Ok(())
    }
}

/// Returns the uses of files. Those below `/proc/PID` of the attempt's own processes have a name that does not
/// change from run to run.
fn files_of(trace: &TraceSummary) -> Vec<FileSummary> {
    let own: HashSet<i32> = trace.processes.iter().map(|it| it.pid).collect();
    let mut files = trace.files.clone();
    for file in &mut files {
        let text = std::str::from_utf8(file.path.as_bytes());
        let below = text.ok().and_then(|path| path.strip_prefix("/proc/"));
        let (pid, rest) = match below.and_then(|path| path.split_once('/')) {
            Some(parts) => parts,
            None => (below.unwrap_or_default(), ""),
        };
        if pid.parse().is_ok_and(|pid| own.contains(&pid)) {
            let slash = if rest.is_empty() { "" } else { "/" };
            file.path = format!("/proc/PID{slash}{rest}").into_bytes().into();
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Returns the hash of uses of files.
fn hash_of(files: &[FileSummary]) -> String {
    let mut bytes = Vec::new();
    for file in files {
        let path = file.path.as_bytes();
        bytes.extend((path.len() as u64).to_le_bytes());
        bytes.extend(path);
        bytes.extend(file.uses.iter().map(|used| *used as u8));
        bytes.push(u8::MAX);
    }
    format!("{:016x}{:016x}", xxh64(&bytes, 0), xxh64(&bytes, 1))
}

/// Returns exit code and signal of an attempt's process.
fn exit_of(outcome: &Outcome) -> (Option<i32>, Option<i32>) {
    match outcome {
        Outcome::Exited(exit) => code_and_signal(*exit),
        Outcome::TimedOut { exit } | Outcome::Interrupted { exit, .. } => {
            exit.map_or((None, None), code_and_signal)
        }
        Outcome::NoResult(_) => (Some(0), None),
        Outcome::StartFailed(_) | Outcome::HarnessFault(_) | Outcome::BinaryChanged(_) => {
            (None, None)
        }
    }
}

fn code_and_signal(exit: Exit) -> (Option<i32>, Option<i32>) {
    match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal { signal, .. } => (None, Some(signal)),
    }
}

/// Returns the word of a variant in the events.
fn word(variant: impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(serde_json::Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

fn json(values: &[String]) -> String {
    serde_json::json!(values).to_string()
}

fn lossy(text: &RawString) -> String {
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

/// Returns text, or a blob if it is none.
fn raw(text: &RawString) -> Value {
    match std::str::from_utf8(text.as_bytes()) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::Blob(text.as_bytes().to_vec()),
    }
}

/// Returns a time as functions of SQLite read it.
fn utc(time: &chrono::DateTime<chrono::FixedOffset>) -> String {
    let utc = time.with_timezone(&chrono::Utc);
    utc.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// Returns a number as SQLite has it. A recording is a file that anybody can write.
fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn bytes(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
