//! The index of the report: the run, and a row for each test, in columns.

use super::Started;
use crate::report::{
    Outputs,
    failure::Reason,
    findings,
    wording::{self, Class},
};
use harness_metadata::{
    Location, TestId,
    event::{Findings, RunFinished, RunStarted, TestFinished},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// Failed.
const FAILED: u8 = 1;
/// Passed at last, or failed by that.
const FLAKY: u8 = 2;
/// Longer than its slow period.
const SLOW: u8 = 4;
/// Left something behind.
const LEAKY: u8 = 8;
/// Ended with the run.
const INTERRUPTED: u8 = 16;
/// Failed in quarantine.
const QUARANTINED: u8 = 32;
/// Not selected.
const SKIPPED: u8 = 64;
/// To be run, and never finished.
const NOT_RUN: u8 = 128;

/// Rows are in the order in which tests finished; skipped ones come last.
#[derive(Debug, Default)]
pub(super) struct Index {
    run: Option<Value>,
    name: String,
    finished: Option<Value>,
    counts: Vec<(usize, String)>,
    rows: Columns,
    skipped: Columns,
    binaries: Words,
    statuses: Words,
    files: Words,
    workspace_root: String,
    elapsed: f64,
}

/// The rows, a list for each property.
#[derive(Debug, Default, Serialize)]
struct Columns {
    binary: Vec<u32>,
    name: Vec<String>,
    status: Vec<u32>,
    flags: Vec<u8>,
    /// Milliseconds since the start of the run, and those of the last attempt.
    start: Vec<f64>,
    ms: Vec<f64>,
    slot: Vec<usize>,
    attempts: Vec<usize>,
    /// Milliseconds of CPU time, bytes, and processes, of all attempts, the largest, and the last.
    cpu: Vec<f64>,
    memory: Vec<u64>,
    processes: Vec<u32>,
    /// Bytes read from and written to disks, of all attempts.
    disk: Vec<u64>,
    /// The definition: a file, or -1, and a line.
    file: Vec<i64>,
    line: Vec<u32>,
    /// The place of a failure and the first line of its reason, for rows that have one.
    place: BTreeMap<usize, String>,
    message: BTreeMap<usize, String>,
    /// The test that disturbed the last attempt.
    disturbed: BTreeMap<usize, String>,
    /// The place of the last attempt, of rows for which that was not this machine.
    elsewhere: BTreeMap<usize, String>,
    /// Attempts before the last one: row, slot, start, milliseconds.
    earlier: Vec<(usize, usize, f64, f64)>,
}

impl Columns {
    fn len(&self) -> usize {
        self.name.len()
    }
}

/// Words, each once.
#[derive(Debug, Default)]
pub(super) struct Words {
    list: Vec<String>,
    known: HashMap<String, u32>,
}

impl Words {
    pub(super) fn number(&mut self, word: &str) -> u32 {
        if let Some(number) = self.known.get(word) {
            return *number;
        }
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(word.to_owned());
        self.known.insert(word.to_owned(), number);
        number
    }

    pub(super) fn list(&self) -> &[String] {
        &self.list
    }
}

/// Returns milliseconds with two places: more is noise, and does not compress.
pub(super) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 1e2
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn workspace_root(&self) -> &str {
        &self.workspace_root
    }

    /// Returns the rows of tests that ran, by binary and name.
    pub(super) fn by_test(&self) -> HashMap<(&str, &str), usize> {
        let rows = &self.rows;
        let ran = (0..rows.len()).filter(|row| rows.flags[*row] & NOT_RUN == 0);
        let binaries = self.binaries.list();
        ran.map(|row| {
            let binary = &binaries[rows.binary[row] as usize];
            ((binary.as_str(), rows.name[row].as_str()), row)
        })
        .collect()
    }

    pub(super) fn begin(&mut self, run: &RunStarted) {
        self.workspace_root.clone_from(&run.workspace_root);
        let root = run.workspace_root.rsplit('/').next().unwrap_or_default();
        root.clone_into(&mut self.name);
        self.run = Some(json!({
            "id": run.run_id,
            "rerunOf": run.rerun_of,
            "started": run.started_at.format("%Y-%m-%d %H:%M:%S %:z").to_string(),
            "profile": run.profile,
            "command": shell_words::join(&run.command_line),
            "root": run.workspace_root,
            "slots": run.slots,
            "tests": run.tests,
            "skipped": run.skipped_tests,
            "program": format!("cargo-harness {}", run.harness_version),
            "trace": run.trace.level.as_str(),
            "degraded": run.trace.degraded,
            "host": run.machine.as_ref().and_then(|machine| machine.host.clone()),
            "seed": run.shuffle_seed.map(|seed| seed.to_string()),
        }));
    }

    pub(super) fn add(
        &mut self,
        finished: &TestFinished,
        starts: &[Started],
        at: Duration,
        outputs: &dyn Outputs,
    ) {
        let row = self.rows.len();
        let last = finished.attempts.last();
        let reason = match finished.flaky() {
            true => Some(Reason::of_flaky(finished)),
            false => Reason::of(finished, &self.workspace_root, outputs),
        };
        if let Some(reason) = reason {
            if let Some((file, line)) = reason.place {
                self.rows.place.insert(row, format!("{file}:{line}"));
            }
            if !reason.message.is_empty() {
                self.rows.message.insert(row, reason.message);
            }
        }
        if let Some(place) = last.and_then(wording::elsewhere) {
            self.rows.elsewhere.insert(row, place);
        }
        let start = |number: u32| starts.iter().rfind(|start| start.attempt == number);
        for attempt in finished.attempts.iter().rev().skip(1) {
            if let Some(start) = start(attempt.number) {
                let earlier = (row, start.slot, ms(start.at), ms(attempt.elapsed));
                self.rows.earlier.push(earlier);
            }
        }
        let elapsed = last.map_or(Duration::ZERO, |last| last.elapsed);
        let began = last.and_then(|last| start(last.number));
        let began = began.map_or(at.saturating_sub(elapsed), |start| start.at);
        let attempts = || finished.attempts.iter();
        let cpu = attempts().map(|attempt| attempt.usage.user + attempt.usage.system);
        let memory = attempts().map(|attempt| {
            let usage = &attempt.usage;
            usage.peak_tree_memory.unwrap_or(usage.peak_memory)
        });
        let disk = attempts().map(|attempt| attempt.usage.disk_read + attempt.usage.disk_written);
        let status = self.statuses.number(&wording::final_status(finished));
        let flags = flags(finished);
        let rows = &mut self.rows;
        rows.status.push(status);
        rows.flags.push(flags);
        rows.start.push(ms(began));
        rows.ms.push(ms(elapsed));
        rows.slot.push(finished.slot);
        rows.attempts.push(finished.attempts.len());
        rows.cpu.push(ms(cpu.sum()));
        rows.memory.push(memory.max().unwrap_or(0));
        rows.disk.push(disk.sum());
        let processes = last.and_then(|last| last.usage.processes);
        rows.processes.push(processes.unwrap_or(0));
        let location = finished.location.as_ref();
        name(
            &mut self.rows,
            &mut self.binaries,
            &mut self.files,
            &finished.test,
            location,
        );
    }

    pub(super) fn skip(
        &mut self,
        test: &TestId,
        reason: &str,
        ignored: Option<&str>,
        location: Option<&Location>,
    ) {
        let status = self.statuses.number("SKIP");
        let row = self.skipped.len();
        let reason = match ignored {
            Some(ignored) => format!("ignored: {ignored}"),
            None => reason.to_owned(),
        };
        self.skipped.message.insert(row, reason);
        without_run(&mut self.skipped, status, SKIPPED);
        name(
            &mut self.skipped,
            &mut self.binaries,
            &mut self.files,
            test,
            location,
        );
    }

    pub(super) fn finish(&mut self, finished: &RunFinished) {
        let cancelled = finished.cancelled.map(wording::cancel_reason);
        self.counts = wording::counts(&finished.stats)
            .into_iter()
            .map(|(count, word, _)| (count, word))
            .collect();
        self.finished = Some(json!({
            "elapsed": ms(finished.elapsed),
            "cancelled": cancelled,
            "failedScripts": finished.failed_scripts,
            "causes": finished.findings.causes.iter().map(findings::common_cause).collect::<Vec<_>>(),
            "credentials": findings::credentials(&finished.findings),
        }));
        self.disturb(&finished.findings);
        let status = self.statuses.number("NOT RUN");
        for test in &finished.not_run {
            without_run(&mut self.rows, status, NOT_RUN);
            name(
                &mut self.rows,
                &mut self.binaries,
                &mut self.files,
                test,
                None,
            );
        }
    }

    /// Adds which tests disturbed others in their last attempts.
    fn disturb(&mut self, findings: &Findings) {
        let mut disturbed = BTreeMap::new();
        let rows = self.by_test();
        for found in &findings.interferences {
            let test = (found.test.binary.as_str(), found.test.name.as_str());
            let Some(row) = rows.get(&test) else { continue };
            if self.rows.attempts[*row] == found.attempt as usize {
                disturbed.insert(*row, findings::interference(found));
            }
        }
        self.rows.disturbed = disturbed;
    }

    /// Ends the index of a run, of which these tests have no end.
    pub(super) fn end(&mut self, at: Duration, running: &HashMap<TestId, Vec<Started>>) {
        self.elapsed = ms(at);
        let status = self.statuses.number("NO END");
        let mut tests: Vec<_> = running.keys().collect();
        tests.sort();
        for test in tests {
            without_run(&mut self.rows, status, NOT_RUN);
            name(
                &mut self.rows,
                &mut self.binaries,
                &mut self.files,
                test,
                None,
            );
        }
    }

    pub(super) fn title(&self) -> String {
        let failed = self.rows.flags.iter();
        let failed = failed.filter(|flags| **flags & FAILED != 0).count();
        match failed {
            0 => format!("{} passed: {}", self.rows.len(), self.name),
            _ => format!("{failed} failed: {}", self.name),
        }
    }

    pub(super) fn json(&self) -> Vec<u8> {
        let index = json!({
            "version": 1,
            "run": self.run,
            "finished": self.finished,
            "counts": self.counts,
            "elapsed": self.elapsed,
            "binaries": self.binaries.list(),
            "statuses": self.statuses.list(),
            "files": self.files.list(),
            "rows": self.rows,
            "skipped": self.skipped,
        });
        index.to_string().into_bytes()
    }
}

/// Adds the properties that every row has last.
fn name(
    rows: &mut Columns,
    binaries: &mut Words,
    files: &mut Words,
    test: &TestId,
    location: Option<&Location>,
) {
    rows.binary.push(binaries.number(test.binary.as_str()));
    rows.name.push(test.name.to_string());
    let file = location.map(|location| files.number(&location.file));
    rows.file.push(file.map_or(-1, i64::from));
    rows.line.push(location.map_or(0, |location| location.line));
}

/// Adds what a row has whose test did not run.
fn without_run(rows: &mut Columns, status: u32, flag: u8) {
    rows.status.push(status);
    rows.flags.push(flag);
    rows.start.push(0.0);
    rows.ms.push(0.0);
    rows.slot.push(0);
    rows.attempts.push(0);
    rows.cpu.push(0.0);
    rows.memory.push(0);
    rows.processes.push(0);
    rows.disk.push(0);
}

fn flags(finished: &TestFinished) -> u8 {
    let mut flags = match Class::of(finished) {
        Class::Failed => FAILED,
        Class::Interrupted => INTERRUPTED,
        Class::Quarantined => QUARANTINED,
        Class::Flaky | Class::Slow | Class::Leaky | Class::Passed => 0,
    };
    if finished.flaky() {
        flags |= FLAKY;
    }
    if let Some(last) = finished.attempts.last() {
        if last.slow {
            flags |= SLOW;
        }
        if last.leaked().is_some() {
            flags |= LEAKY;
        }
    }
    flags
}
