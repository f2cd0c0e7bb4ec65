//! One test as a test case.

use super::{JunitOptions, property};
use crate::report::{
    Excerpt, Outputs, Stream, captured::plain, evidence, excerpt, extract, failure, leak,
    stuck::Pids, style::escaped, wording,
};
use harness_metadata::NoResultKind;
use harness_metadata::{
    Attempt, AttemptId, Exit, Location, Outcome, TestId, Verdict,
    event::{OutputPolicy, RunStarted, TestFinished},
};
use quick_junit::{FlakyOrRerun, NonSuccessKind, TestCase, TestCaseStatus, TestRerun};
use std::collections::{BTreeMap, HashMap};

/// The size of a stream's rest once the report has reached its limit.
const TAIL: usize = 4 * 1024;

/// Makes test cases.
#[derive(Debug)]
pub(super) struct Cases {
    stream_cap: usize,
    left: u64,
    properties: bool,
    plain: bool,
    files: BTreeMap<String, String>,
    failed: HashMap<TestId, Vec<Told>>,
}

/// The elements of one attempt.
#[derive(Clone, Debug)]
struct Told {
    kind: NonSuccessKind,
    ty: String,
    message: String,
    body: String,
    stdout: Option<String>,
    stderr: Option<String>,
}

impl Cases {
    pub(super) fn new(options: &JunitOptions) -> Self {
        Self {
            stream_cap: options.stream_cap,
            left: options.total_cap,
            properties: options.properties && !options.plain,
            plain: options.plain,
            files: BTreeMap::new(),
            failed: HashMap::new(),
        }
    }

    pub(super) fn know(&mut self, run: &RunStarted) {
        let files = run.sources.iter();
        self.files = files
            .map(|(id, source)| (id.to_string(), source.file.clone()))
            .collect();
    }

    /// Returns a test case with its name and the place of its definition, which is the same for every
    /// result. Without a place, the file is the root of its binary.
    pub(super) fn empty(
        &self,
        test: &TestId,
        location: Option<&Location>,
        status: TestCaseStatus,
    ) -> TestCase {
        let mut case = TestCase::new(legal(&escaped(test.name.as_str())), status);
        case.set_classname(legal(test.binary.as_str()));
        if self.plain {
            return case;
        }
        let location = location.filter(|location| location.is_inside());
        let root = self.files.get(test.binary.as_str());
        if let Some(file) = location.map(|location| &location.file).or(root) {
            case.extra.insert("file".into(), legal(file).into());
        }
        if let Some(location) = location {
            let line = location.line.to_string();
            case.extra.insert("line".into(), line.into());
        }
        case
    }

    pub(super) fn remember(
        &mut self,
        test: &TestId,
        attempt: &Attempt,
        policy: OutputPolicy,
        outputs: &dyn Outputs,
    ) {
        let told = self.told(test, attempt, policy.junit_failure, outputs);
        self.failed.entry(test.clone()).or_default().push(told);
    }

    pub(super) fn finished(&mut self, finished: &TestFinished, outputs: &dyn Outputs) -> TestCase {
        let test = &finished.test;
        let earlier = self.failed.remove(test).unwrap_or_default();
        let Some(last) = finished.attempts.last() else {
            return self.empty(test, finished.location.as_ref(), lost_status());
        };
        let passed = last.verdict == Verdict::Pass;
        let policy = finished.output;
        let stored = if passed {
            policy.junit_success
        } else {
            policy.junit_failure
        };
        let told = self.told(test, last, stored, outputs);

        // A test that passed at last is described by its last attempt, one that never did by its
        // first.
        let (status, shown, attempt) = if passed {
            let mut status = passed_status(finished, last);
            status.add_reruns(self.reruns(&earlier, &finished.attempts));
            (status, told, last)
        } else {
            let mut all = earlier;
            all.push(told);
            let mut first = all.remove(0);
            if let Some(line) = wording::quarantined(finished) {
                first.message = format!("{line}: {}", first.message);
                first.body = format!("{line}\n{}", first.body);
            }
            let mut status = TestCaseStatus::non_success(first.kind);
            if finished.verdict == Verdict::Quarantined {
                // Readers count a skipped test as no failure.
                status = TestCaseStatus::skipped();
            }
            status
                .set_type(legal(&first.ty))
                .set_message(legal(&first.message))
                .set_description(legal(&first.body));
            status.add_reruns(self.reruns(&all, finished.attempts.get(1..).unwrap_or_default()));
            (status, first, finished.attempts.first().unwrap_or(last))
        };
        let mut case = self.empty(test, finished.location.as_ref(), status);
        self.describe(&mut case, attempt, shown);
        if self.properties {
            self.add_properties(&mut case, finished, last);
        }
        case
    }

    /// Adds when an attempt was, and what it printed.
    fn describe(&self, case: &mut TestCase, attempt: &Attempt, shown: Told) {
        case.set_time(attempt.elapsed);
        if !self.plain {
            case.set_timestamp(attempt.started_at);
        }
        if let Some(stdout) = shown.stdout {
            case.set_system_out(stdout);
        }
        if let Some(stderr) = shown.stderr {
            case.set_system_err(stderr);
        }
    }

    fn reruns(&self, told: &[Told], attempts: &[Attempt]) -> Vec<TestRerun> {
        let one = |(told, attempt): (&Told, &Attempt)| {
            let mut rerun = TestRerun::new(told.kind);
            rerun
                .set_type(legal(&told.ty))
                .set_message(legal(&told.message));
            rerun.set_stack_trace(legal(&told.body));
            if !self.plain {
                rerun
                    .set_time(attempt.elapsed)
                    .set_timestamp(attempt.started_at);
            }
            if let Some(stdout) = &told.stdout {
                rerun.set_system_out(stdout);
            }
            if let Some(stderr) = &told.stderr {
                rerun.set_system_err(stderr);
            }
            rerun
        };
        told.iter().zip(attempts).map(one).collect()
    }

    fn told(
        &mut self,
        test: &TestId,
        attempt: &Attempt,
        stored: bool,
        outputs: &dyn Outputs,
    ) -> Told {
        let id = AttemptId {
            test: test.clone(),
            attempt: attempt.number,
        };
        let failed = attempt.verdict != Verdict::Pass;
        let mut told = self.ending(attempt);
        if !failed && !stored {
            return told;
        }
        let cap = if self.left == 0 {
            TAIL
        } else {
            self.stream_cap
        };
        let stdout = excerpt(outputs, &id, Stream::Stdout, cap);
        let stderr = excerpt(outputs, &id, Stream::Stderr, cap);
        if failed && let Some(text) = failure::text(stdout.as_ref(), stderr.as_ref()) {
            let text = extract::without_thread_ids(&text);
            let plain = matches!(attempt.outcome, Outcome::Exited(Exit::Code(code)) if code != 0);
            if !plain || !attempt.limits.is_empty() {
                // The end says more than the output: it stays the message.
                told.body = format!("{}\n{text}", told.message);
            } else {
                told.message = extract::message(&text).to_owned();
                told.body = match text.starts_with(&told.message) {
                    true => text,
                    false => format!("{}\n{text}", told.message),
                };
            }
        }
        for line in evidence::lines(test, attempt) {
            told.body.push_str("\ntrace: ");
            told.body.push_str(&line);
        }
        if stored {
            let missing = match attempt.outcome {
                Outcome::StartFailed(_) => "(process failed to start)",
                _ => "not captured",
            };
            told.stdout = Some(self.stream(stdout, "stdout", missing));
            told.stderr = Some(self.stream(stderr, "stderr", missing));
        }
        told
    }

    fn stream(&mut self, excerpt: Option<Excerpt>, name: &str, missing: &str) -> String {
        match excerpt {
            Some(excerpt) => {
                let why = match self.left {
                    0 => "; the report has as much output as it may have",
                    _ => "",
                };
                let text = text(&excerpt, why);
                self.left = self.left.saturating_sub(text.len() as u64);
                text
            }
            None if missing == "not captured" => format!("({name} not captured)"),
            None => missing.to_owned(),
        }
    }

    fn ending(&self, attempt: &Attempt) -> Told {
        let leaked = if attempt.leaked().is_some() {
            " (leaked handles)"
        } else {
            ""
        };
        let (kind, ty) = match &attempt.outcome {
            Outcome::Exited(Exit::Code(0)) => (NonSuccessKind::Error, "test leak".to_owned()),
            Outcome::Exited(Exit::Code(code)) => (
                NonSuccessKind::Failure,
                format!("test failure with exit code {code}{leaked}"),
            ),
            Outcome::Exited(Exit::Signal { .. }) => {
                (NonSuccessKind::Failure, format!("test abort{leaked}"))
            }
            Outcome::TimedOut { .. } => (NonSuccessKind::Failure, "test timeout".to_owned()),
            Outcome::StartFailed(_) => (NonSuccessKind::Error, "execution failure".to_owned()),
            Outcome::Interrupted { by, .. } => {
                let ty = wording::interruption_type(*by);
                (NonSuccessKind::Error, ty.to_owned())
            }
            Outcome::HarnessFault(_) => (NonSuccessKind::Error, "harness fault".to_owned()),
            Outcome::NoResult(no) => match no.kind {
                NoResultKind::Unreported => (NonSuccessKind::Failure, "no result".to_owned()),
                NoResultKind::RanNothing => (NonSuccessKind::Failure, "ran no test".to_owned()),
                NoResultKind::Ignored => (NonSuccessKind::Error, "test leak".to_owned()),
            },
            Outcome::BinaryChanged(_) => (NonSuccessKind::Error, "binary changed".to_owned()),
        };
        let (kind, ty) = match wording::limits_decide(attempt) {
            true => (NonSuccessKind::Failure, "test limit".to_owned()),
            false => (kind, ty),
        };
        let message = wording::closing(attempt).unwrap_or_else(|| ty.clone());
        let mut body = message.clone();
        for line in leak::lines(attempt, Pids::Hidden) {
            body.push('\n');
            body.push_str(&line);
        }
        Told {
            kind,
            ty,
            message,
            body,
            stdout: None,
            stderr: None,
        }
    }

    fn add_properties(&self, case: &mut TestCase, finished: &TestFinished, last: &Attempt) {
        let cpu = last.usage.user + last.usage.system;
        case.add_property(property("attempts", finished.attempts.len().to_string()));
        case.add_property(property("slot", finished.slot.to_string()));
        case.add_property(property("cpu-time", format!("{:.3}", cpu.as_secs_f64())));
        case.add_property(property("peak-memory", last.usage.peak_memory.to_string()));
        if let Some(peak) = last.usage.peak_tree_memory {
            case.add_property(property("peak-tree-memory", peak.to_string()));
        }
        if let Some(line) = wording::quarantined(finished) {
            case.add_property(property("quarantine", line));
        }
        let attempts = || finished.attempts.iter();
        if let Some(line) = attempts().find_map(wording::disturbed) {
            let name = match attempts().all(|attempt| attempt.earlier.is_empty()) {
                true => "disturbed",
                false => "rerun",
            };
            case.add_property(property(name, line));
        }
        if let Some(trace) = &last.trace {
            let processes = trace.processes.len() as u64 + trace.dropped.processes;
            let verdict = match trace.complete() {
                true => "complete".to_owned(),
                false => {
                    let doubts: Vec<_> = trace.doubts.iter().map(ToString::to_string).collect();
                    format!("incomplete: {}", doubts.join("; "))
                }
            };
            case.add_property(property("trace-level", trace.level.as_str().to_owned()));
            case.add_property(property("trace-backend", trace.backend.as_str().to_owned()));
            case.add_property(property("trace", verdict));
            case.add_property(property("processes", processes.to_string()));
        }
        for survivor in leak::survivors(last, Pids::Hidden) {
            case.add_property(property("survivor", survivor));
        }
    }
}

/// Returns the status of a test of which nothing is known.
fn lost_status() -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    let message = "the harness lost the test";
    status
        .set_type("harness fault")
        .set_message(message)
        .set_description(message);
    status
}

/// Returns the status of a test whose last attempt has passed.
fn passed_status(finished: &TestFinished, last: &Attempt) -> TestCaseStatus {
    let flaky_failure = finished.verdict == Verdict::Fail
        && finished.flaky()
        && finished.output.junit_flaky_fail_as_failure;
    if !flaky_failure {
        return TestCaseStatus::success();
    }
    let message = format!(
        "test passed on attempt {}/{} but is configured to fail when flaky",
        last.number, finished.total_attempts,
    );
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status
        .set_type("flaky failure")
        .set_message(&message)
        .set_description(message);
    status.set_rerun_kind(FlakyOrRerun::Flaky);
    status
}

/// Returns what of a stream the report has; `why` says what it lacks more than `output-cap`.
fn text(excerpt: &Excerpt, why: &str) -> String {
    let mut text = legal(&plain(&excerpt.head));
    if excerpt.left_out > 0 {
        text.push_str(&format!(
            "\n… {} left out{why} …\n",
            wording::size(excerpt.left_out)
        ));
        text.push_str(&legal(&plain(&excerpt.tail)));
    }
    text
}

/// Returns the text without characters that XML 1.0 forbids. Escape sequences and the C0 controls
/// go when the string becomes quick-junit's; these two non-characters would remain.
pub(super) fn legal(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}
