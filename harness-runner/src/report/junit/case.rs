//! One test as a test case.

use super::{JunitOptions, Schema, property};
use crate::report::{
    Excerpt, Outputs, Stream,
    account::{self, Account, Kind},
    attachments::{self, Attachments},
    captured::plain,
    excerpt, extract, result,
    style::escaped,
    wording,
};
use camino::Utf8PathBuf;
use harness_metadata::{
    Attempt, AttemptId, Location, Outcome, TestId, Verdict,
    event::{OutputPolicy, RunStarted, TestFinished},
};
use quick_junit::{FlakyOrRerun, NonSuccessKind, TestCase, TestCaseStatus, TestRerun};
use std::{
    collections::{BTreeMap, HashMap},
    io,
};

/// The size of a stream's rest once the report has reached its limit.
const TAIL: usize = 4 * 1024;

/// Makes test cases.
#[derive(Debug)]
pub(super) struct Cases {
    stream_cap: usize,
    left: u64,
    properties: bool,
    schema: Schema,
    files: BTreeMap<String, String>,
    /// `None` if there are to be none.
    attachments: Option<Attachments>,
    workspace: Utf8PathBuf,
    failed: HashMap<TestId, Vec<Told>>,
}

/// The elements of one attempt.
#[derive(Clone, Debug)]
struct Told {
    account: Account,
    stdout: Option<String>,
    stderr: Option<String>,
}

impl Told {
    fn new(account: Account) -> Self {
        Self {
            account,
            stdout: None,
            stderr: None,
        }
    }

    fn kind(&self) -> NonSuccessKind {
        match self.account.kind {
            Kind::Failure => NonSuccessKind::Failure,
            Kind::Error => NonSuccessKind::Error,
        }
    }
}

impl Cases {
    pub(super) fn new(options: &JunitOptions) -> Self {
        Self {
            stream_cap: options.stream_cap,
            left: options.total_cap,
            properties: options.properties && options.schema == Schema::Free,
            schema: options.schema,
            files: BTreeMap::new(),
            attachments: (options.attachments)
                .then(|| Attachments::beside(&options.path))
                .flatten(),
            workspace: Utf8PathBuf::new(),
            failed: HashMap::new(),
        }
    }

    pub(super) fn know(&mut self, run: &RunStarted) {
        self.workspace = run.workspace_root.as_str().into();
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
        if self.schema != Schema::Free {
            return case;
        }
        let location = location.filter(|location| location.is_inside());
        let (once, _) = test.without_iteration();
        let root = self.files.get(once.binary.as_str());
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
            let mut status = passed_status(finished);
            status.add_reruns(self.reruns(&earlier, &finished.attempts));
            (status, told, last)
        } else {
            let mut all = earlier;
            all.push(told);
            let main = self.main(&all);
            let mut first = all.remove(main);
            first.account.surround(finished);
            let mut status = TestCaseStatus::non_success(first.kind());
            if finished.verdict == Verdict::Quarantined {
                // Readers count a skipped test as no failure.
                status = TestCaseStatus::skipped();
            }
            if self.schema != Schema::Surefire || finished.verdict != Verdict::Quarantined {
                status.set_type(legal(&first.account.ty));
            }
            status
                .set_message(legal(&first.account.message))
                .set_description(legal(&first.account.body));
            status.add_reruns(self.reruns(&all, finished.attempts.get(1..).unwrap_or_default()));
            (status, first, finished.attempts.get(main).unwrap_or(last))
        };
        let mut case = self.empty(test, finished.location.as_ref(), status);
        self.describe(&mut case, attempt, shown);
        if self.properties {
            for (name, value) in result::properties(finished) {
                case.add_property(property(name, value));
            }
        }
        case
    }

    /// Adds when an attempt was, and what it printed.
    fn describe(&self, case: &mut TestCase, attempt: &Attempt, shown: Told) {
        case.set_time(attempt.elapsed);
        if self.schema == Schema::Free {
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
            let mut rerun = TestRerun::new(told.kind());
            rerun
                .set_type(legal(&told.account.ty))
                .set_message(legal(&told.account.message));
            rerun.set_stack_trace(legal(&told.account.body));
            if self.schema == Schema::Free {
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
        let mut reruns: Vec<_> = told.iter().zip(attempts).map(one).collect();
        if self.schema == Schema::Surefire {
            reruns.sort_by_key(|rerun| rerun.kind == NonSuccessKind::Error);
        }
        reruns
    }

    /// Returns the attempt that describes a test which never passed: the first. Maven's schema has failures before
    /// errors.
    fn main(&self, all: &[Told]) -> usize {
        let failure = all
            .iter()
            .position(|told| told.account.kind == Kind::Failure);
        match self.schema {
            Schema::Free | Schema::Junit10 => 0,
            Schema::Surefire => failure.unwrap_or(0),
        }
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
        if !failed && !stored {
            return Told::new(Account::ending(attempt));
        }
        let cap = if self.left == 0 {
            TAIL
        } else {
            self.stream_cap
        };
        let stdout = excerpt(outputs, &id, Stream::Stdout, cap);
        let stderr = excerpt(outputs, &id, Stream::Stderr, cap);
        let account = Account::of(test, attempt, stdout.as_ref(), stderr.as_ref());
        let mut told = Told::new(account);
        if stored {
            let missing = match attempt.outcome {
                Outcome::StartFailed(_) => "(process failed to start)",
                _ => "not captured",
            };
            let is_cut =
                |excerpt: &Option<Excerpt>| excerpt.as_ref().is_some_and(|it| it.left_out > 0);
            let cut = [
                (Stream::Stdout, is_cut(&stdout)),
                (Stream::Stderr, is_cut(&stderr)),
            ];
            let mut stdout = self.stream(stdout, "stdout", missing);
            for (stream, _) in cut.into_iter().filter(|(_, is_cut)| *is_cut) {
                let file = |files: &mut Attachments| files.add(&id, stream, outputs);
                stdout.push_str(&self.attached(file));
            }
            let trace = |files: &mut Attachments| files.add_trace(&id, attempt, outputs);
            stdout.push_str(&self.attached(trace));
            told.stdout = Some(stdout);
            told.stderr = Some(self.stream(stderr, "stderr", missing));
        }
        told
    }

    /// Writes a file beside the report, if that is asked for. Returns the line that refers to it: Jenkins and
    /// GitLab look for it in standard output.
    fn attached(
        &mut self,
        write: impl FnOnce(&mut Attachments) -> io::Result<Option<String>>,
    ) -> String {
        let Some(attachments) = &mut self.attachments else {
            return String::new();
        };
        match write(attachments) {
            Ok(None) => String::new(),
            Ok(Some(name)) => {
                let file = attachments.folder().join(name);
                let path = attachments::shown(&file, &self.workspace);
                format!("\n[[ATTACHMENT|{}]]\n", legal(path.as_str()))
            }
            Err(error) => format!("\n(no file has the whole of it: {error})\n"),
        }
    }

    /// Every test is in the report.
    pub(super) fn end(&mut self) {
        if let Some(attachments) = self.attachments.take() {
            attachments.finish();
        }
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
fn passed_status(finished: &TestFinished) -> TestCaseStatus {
    let counts = finished.output.junit_flaky_fail_as_failure;
    let Some(message) = account::flaky_failure(finished).filter(|_| counts) else {
        return TestCaseStatus::success();
    };
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
    let text_of = |bytes: &[u8]| extract::without_thread_ids(&plain(bytes));
    let mut text = legal(&text_of(&excerpt.head));
    if excerpt.left_out > 0 {
        text.push_str(&format!(
            "\n… {} left out{why} …\n",
            wording::size(excerpt.left_out)
        ));
        text.push_str(&legal(&text_of(&excerpt.tail)));
    }
    text
}

/// Returns the text without characters that XML 1.0 forbids. Escape sequences and the C0 controls
/// go when the string becomes quick-junit's; these two non-characters would remain.
pub(super) fn legal(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}
