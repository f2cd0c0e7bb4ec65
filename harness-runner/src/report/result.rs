//! The result of a test in the words that reports for programs share.

use super::{
    Outputs,
    account::{self, Account, Kind},
    budget, injected, leak,
    share::Share,
    stuck::{self, Pids},
    style::escaped_lines,
    violations, wording,
};
use harness_metadata::{
    Attempt, Location, Measure, Measured, TestId, TraceSummary, Verdict, Word,
    event::{Source, TestFinished},
};
use nextest_metadata::RustBinaryId;
use std::collections::BTreeMap;

/// The status of a test or of one of its attempts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Passed,
    Failed,
    /// It failed without a result of its own.
    Broken,
    /// It was ended with the run.
    Interrupted,
    /// It failed, which does not fail the run.
    Quarantined,
    /// It was not to run.
    Skipped,
    /// The run ended before it could start.
    NotRun,
}

/// An attempt, with its words and its output.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: Status,
    /// The class of its ending; `None` if it passed.
    pub(super) ty: Option<String>,
    /// `None` if it passed.
    pub(super) message: Option<String>,
    /// The message and all that is known; `None` if it passed.
    pub(super) trace: Option<String>,
    /// `None` if it was not kept.
    pub(super) stdout: Option<String>,
    /// As for standard output.
    pub(super) stderr: Option<String>,
    /// Milliseconds since 1970.
    pub(super) start: i64,
    pub(super) stop: i64,
}

/// Returns the attempts of a test, in order. The last one has the verdict on the test, and the problem of a
/// setup script or a service that failed by it.
pub(super) fn attempts(
    finished: &TestFinished,
    problem: Option<&str>,
    share: &mut Share,
    outputs: &dyn Outputs,
) -> Vec<Told> {
    let attempts = finished.attempts.iter();
    let mut told: Vec<Told> = attempts
        .map(|attempt| of_attempt(finished, attempt, share, outputs))
        .collect();
    let Some(last) = told.last_mut() else {
        return told;
    };
    let why = problem.map(|why| ("setup failure", why.to_owned()));
    let flaky = || Some(("flaky failure", account::flaky_failure(finished)?));
    if let Some((ty, why)) = why.or_else(flaky) {
        last.status = Status::Failed;
        last.ty = Some(ty.to_owned());
        let why = escaped_lines(&why).into_owned();
        last.trace = Some(why.clone());
        last.message = Some(why);
    }
    told
}

fn of_attempt(
    finished: &TestFinished,
    attempt: &Attempt,
    share: &mut Share,
    outputs: &dyn Outputs,
) -> Told {
    let test = &finished.test;
    let [stdout, stderr] = share.read(test, attempt.number, outputs);
    let mut account = Account::of(test, attempt, stdout.as_ref(), stderr.as_ref());
    let is_last = (finished.attempts.last()).is_some_and(|last| last.number == attempt.number);
    if is_last {
        account.surround(finished);
    }
    let status = match attempt.verdict {
        Verdict::Pass => Status::Passed,
        Verdict::Interrupted => Status::Interrupted,
        Verdict::Fail | Verdict::Quarantined => match (account.kind, finished.verdict) {
            (_, Verdict::Quarantined) if is_last => Status::Quarantined,
            (Kind::Failure, _) => Status::Failed,
            (Kind::Error, _) => Status::Broken,
        },
    };
    let failed = status != Status::Passed;
    let words = |text: &str| failed.then(|| escaped_lines(text).into_owned());
    let start = attempt.started_at.timestamp_millis();
    Told {
        status,
        ty: words(&account.ty),
        message: words(&account.message),
        trace: words(&account.body),
        stdout: stdout.map(|excerpt| share.text(&excerpt)),
        stderr: stderr.map(|excerpt| share.text(&excerpt)),
        start,
        stop: start.saturating_add(millis(attempt.elapsed)),
    }
}

/// Returns whole milliseconds.
pub(super) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The binaries of a run.
#[derive(Debug, Default)]
pub(super) struct Sources(pub(super) BTreeMap<RustBinaryId, Source>);

impl Sources {
    /// Returns the binary of a test.
    pub(super) fn of(&self, test: &TestId) -> Option<&Source> {
        let (once, _) = test.without_iteration();
        self.0.get(&once.binary)
    }

    /// Returns the file and the line of a test's definition, or else the root of its binary.
    pub(super) fn place<'a>(
        &'a self,
        test: &TestId,
        location: Option<&'a Location>,
    ) -> (Option<&'a str>, Option<u32>) {
        match location.filter(|location| location.is_inside()) {
            Some(location) => (Some(&location.file), Some(location.line)),
            None => (self.of(test).map(|source| source.file.as_str()), None),
        }
    }
}

/// Returns what an attempt did with disks, files and sockets, by the names of budgets. What is nothing, or not known
/// exactly, is left out.
pub(super) fn measured(attempt: &Attempt) -> impl Iterator<Item = (&'static str, String)> {
    let all = [
        Measure::DiskRead,
        Measure::DiskWritten,
        Measure::FilesOpened,
        Measure::CallsFiles,
        Measure::CallsNetwork,
    ];
    all.into_iter()
        .filter_map(|measure| match measure.of(attempt) {
            Measured::Exactly(number) if number > 0.0 => Some((measure.word(), number.to_string())),
            _ => None,
        })
}

/// Returns what is known of a trace as a whole, as names and values.
fn traced(trace: &TraceSummary) -> [(&'static str, String); 4] {
    let processes = trace.processes.len() as u64 + trace.dropped.processes;
    let verdict = match trace.complete() {
        true => "complete".to_owned(),
        false => {
            let doubts: Vec<_> = trace.doubts.iter().map(ToString::to_string).collect();
            format!("incomplete: {}", doubts.join("; "))
        }
    };
    [
        ("trace-level", trace.level.as_str().to_owned()),
        ("trace-backend", trace.backend.as_str().to_owned()),
        ("trace", verdict),
        ("processes", processes.to_string()),
    ]
}

/// Returns what is known of a test beside its result, as names and values.
pub(super) fn properties(finished: &TestFinished) -> Vec<(&'static str, String)> {
    let Some(last) = finished.attempts.last() else {
        return Vec::new();
    };
    let cpu = last.usage.user + last.usage.system;
    let mut all = vec![
        ("attempts", finished.attempts.len().to_string()),
        ("slot", finished.slot.to_string()),
    ];
    if let Some(place) = wording::elsewhere(last) {
        all.push(("ran-on", place));
    }
    all.extend([
        ("cpu-time", format!("{:.3}", cpu.as_secs_f64())),
        ("peak-memory", last.usage.peak_memory.to_string()),
    ]);
    if let Some(peak) = last.usage.peak_tree_memory {
        all.push(("peak-tree-memory", peak.to_string()));
    }
    if let Some(line) = wording::quarantined(finished) {
        all.push(("quarantine", line));
    }
    let attempts = || finished.attempts.iter();
    if let Some(line) = attempts().find_map(wording::disturbed) {
        let name = match attempts().all(|attempt| attempt.earlier.is_empty()) {
            true => "disturbed",
            false => "rerun",
        };
        all.push((name, line));
    }
    all.extend(last.trace.iter().flat_map(|trace| traced(trace)));
    all.extend(measured(last));
    let metrics = last.metrics.found.iter();
    all.extend(metrics.map(|metric| ("metric", metric.to_string())));
    if last.metrics.unread > 0 {
        all.push(("metrics-unread", last.metrics.unread.to_string()));
    }
    let injected = injected::lines(last).into_iter();
    all.extend(injected.map(|line| ("injected", line)));
    let violations = violations::lines(last, Pids::Hidden).into_iter();
    all.extend(violations.map(|line| ("violation", line)));
    let slow = stuck::slow(last, Pids::Hidden).into_iter();
    let slow = slow.map(|line| line.trim_start_matches("slow: ").to_owned());
    all.extend(slow.map(|line| ("slow", line)));
    let budgets = budget::lines(last, Pids::Shown).into_iter();
    let budgets = budgets.map(|line| line.trim_start_matches("budget: ").to_owned());
    all.extend(budgets.map(|line| ("budget", line)));
    all.extend(leak::survivors(last, Pids::Hidden).map(|survivor| ("survivor", survivor)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture_kit::sample;
    use harness_metadata::Metrics;

    #[test]
    fn metrics_of_the_last_attempt_are_properties() {
        let line = r#"{"payload":"p","invocation":0,"name":"a","value":2.5,"unit":"ms"}"#;
        let metric = serde_json::from_str(line).expect("it is a metric");
        let attempt = Attempt {
            metrics: Metrics {
                found: vec![metric],
                unread: 3,
            },
            ..sample::code(1, 0)
        };
        let finished = sample::finished(sample::test("greet", "says_hello"), vec![attempt]);
        let properties = properties(&finished);
        assert!(properties.contains(&("metric", "p.a = 2.5 ms".to_owned())));
        assert!(properties.contains(&("metrics-unread", "3".to_owned())));
        let none = sample::finished(sample::test("greet", "waves"), vec![sample::code(1, 0)]);
        let names = super::properties(&none).into_iter().map(|(name, _)| name);
        assert_eq!(names.filter(|name| name.starts_with("metric")).count(), 0);
    }
}
