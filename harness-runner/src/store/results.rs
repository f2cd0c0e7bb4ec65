//! The results of tests over several runs: how a test fared, which tests are flaky, and what differs
//! between two runs.

use super::recording::{kind, lines};
use camino::Utf8Path;
use harness_metadata::{DurationsBy, Metric, Metrics, TestId, Usage, Verdict};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

/// The result of a test in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// The test; an iteration of a stress run counts as the test itself.
    pub test: TestId,
    /// The profile's verdict over all attempts.
    pub verdict: Verdict,
    /// The number of attempts.
    pub attempts: usize,
    /// Of these: failed.
    pub failed: usize,
    /// The running time of the last one.
    pub elapsed: Duration,
    /// The CPU time of the last one.
    pub cpu: Duration,
    /// The peak memory of the last one, in bytes.
    pub memory: u64,
    /// The bytes that the last one read from and wrote to disks.
    pub disk: u64,
    /// The processes of the last one; `None` if they were not counted.
    pub processes: Option<u32>,
    /// The metrics of the last one.
    pub metrics: Vec<Metric>,
}

impl TestResult {
    /// Returns true if it passed after a failed attempt.
    pub fn flaky(&self) -> bool {
        self.failed > 0 && self.failed < self.attempts
    }

    /// Returns true if it failed, also in quarantine.
    pub fn is_failure(&self) -> bool {
        matches!(self.verdict, Verdict::Fail | Verdict::Quarantined)
    }

    /// Reads the results in a recording, in the order in which tests finished. Lines that are not whole
    /// are left out.
    ///
    /// # Errors
    ///
    /// When the recording cannot be read.
    pub fn read(recording: &Utf8Path) -> io::Result<Vec<Self>> {
        let lines = lines(recording)?;
        let finished = lines.filter(|line| kind(line) == Some(b"test-finished"));
        Ok(finished.filter_map(|line| Self::parse(&line)).collect())
    }

    fn parse(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Attempt {
            verdict: Verdict,
            #[serde(with = "harness_metadata::seconds")]
            elapsed: Duration,
            usage: Usage,
            #[serde(default)]
            metrics: Metrics,
        }
        #[derive(Deserialize)]
        struct Finished {
            test: TestId,
            verdict: Verdict,
            attempts: Vec<Attempt>,
        }
        let mut finished: Finished = serde_json::from_slice(line).ok()?;
        let metrics = std::mem::take(&mut finished.attempts.last_mut()?.metrics.found);
        let attempts = &finished.attempts;
        let last = attempts.last()?;
        let failed = |attempt: &&Attempt| attempt.verdict == Verdict::Fail;
        let usage = &last.usage;
        Some(Self {
            test: finished.test.without_iteration().0,
            verdict: finished.verdict,
            attempts: attempts.len(),
            failed: attempts.iter().filter(failed).count(),
            elapsed: last.elapsed,
            cpu: usage.user + usage.system,
            memory: usage.peak_tree_memory.unwrap_or(usage.peak_memory),
            disk: usage.disk_read + usage.disk_written,
            processes: usage.processes,
            metrics,
        })
    }

    /// Returns how much it used: times in nanoseconds, memory, input and output in bytes; `None` for processes
    /// that were not counted.
    pub fn used(&self, by: DurationsBy) -> Option<u64> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Some(match by {
            DurationsBy::Time => nanos(self.elapsed),
            DurationsBy::Cpu => nanos(self.cpu),
            DurationsBy::Memory => self.memory,
            DurationsBy::Io => self.disk,
            DurationsBy::Processes => self.processes?.into(),
        })
    }
}

/// Returns the middle of some durations; zero of none.
pub fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort();
    durations
        .get(durations.len() / 2)
        .copied()
        .unwrap_or_default()
}

/// The evidence that a test is flaky.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flakiness {
    /// The test.
    pub test: TestId,
    /// The number of its results.
    pub results: usize,
    /// Attempts in all of them.
    pub attempts: usize,
    /// Of these: failed.
    pub failed: usize,
    /// Results that are a pass after a failed attempt.
    pub flaky: usize,
    /// Results that differ from the one before.
    pub turns: usize,
    /// The number of the latest run with a failed attempt, as given to [`flakiness`].
    pub last_failed: usize,
}

/// Returns the tests that passed and failed in these runs, the flakiest first. The latest run comes
/// first. A test that failed once and passes since may have been mended, so a pass after a failure
/// within a run counts most, then the number of turns.
pub fn flakiness(runs: &[Vec<TestResult>]) -> Vec<Flakiness> {
    let mut tests: BTreeMap<&TestId, Vec<(usize, &TestResult)>> = BTreeMap::new();
    for (number, run) in runs.iter().enumerate().rev() {
        for result in run {
            if result.verdict != Verdict::Interrupted {
                tests
                    .entry(&result.test)
                    .or_default()
                    .push((number, result));
            }
        }
    }
    let mut found: Vec<Flakiness> = tests
        .into_iter()
        .filter_map(|(test, results)| {
            let sum = |of: fn(&TestResult) -> usize| results.iter().map(|(_, it)| of(it)).sum();
            let (attempts, failed): (usize, usize) = (sum(|it| it.attempts), sum(|it| it.failed));
            let turns = results.windows(2);
            let turns = turns.filter(|pair| pair[0].1.is_failure() != pair[1].1.is_failure());
            let last_failed = results.iter().rfind(|(_, it)| it.failed > 0);
            Some(Flakiness {
                test: test.clone(),
                results: results.len(),
                attempts,
                failed,
                flaky: results.iter().filter(|(_, it)| it.flaky()).count(),
                turns: turns.count(),
                last_failed: last_failed?.0,
            })
            .filter(|found| found.flaky + found.turns > 0)
        })
        .collect();
    found.sort_by_key(|it| std::cmp::Reverse((2 * it.flaky + it.turns, it.failed)));
    found
}

/// A difference of a test between two runs.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It passed, and fails.
    Broken,
    /// It is new, and fails.
    NewFailure,
    /// It fails in both.
    StillFails,
    /// It passes only after a failed attempt, and did not need one before.
    Flaky,
    /// It failed, and passes.
    Mended,
    /// It takes half as long again, or more.
    Slower,
    /// It takes two thirds of the time, or less.
    Faster,
    /// It uses half as much again, or more, of what was asked for.
    More,
    /// It uses two thirds of that, or less.
    Less,
    /// It is new, and passes.
    New,
    /// It has no result any more.
    Gone,
}

impl Change {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::NewFailure => "new-failure",
            Self::StillFails => "still-fails",
            Self::Flaky => "flaky",
            Self::Mended => "mended",
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::More => "more",
            Self::Less => "less",
            Self::New => "new",
            Self::Gone => "gone",
        }
    }
}

/// A test that differs between two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The test.
    pub test: TestId,
    /// The difference.
    pub change: Change,
    /// The results in the first and in the second run.
    pub results: [Option<TestResult>; 2],
}

impl Comparison {
    /// Returns by how much the use differs, if that is the difference.
    fn difference(&self, by: DurationsBy) -> u64 {
        let used = |result: &Option<TestResult>| result.as_ref()?.used(by);
        let [was, is] = self.results.each_ref().map(used);
        match self.change {
            Change::Slower | Change::Faster | Change::More | Change::Less => {
                was.unwrap_or(0).abs_diff(is.unwrap_or(0))
            }
            _ => 0,
        }
    }
}

/// Returns the tests that differ between two runs, by what differs. Of those that passed in both, the use that is
/// asked for counts, and the greatest difference comes first.
pub fn compare(before: &[TestResult], after: &[TestResult], by: DurationsBy) -> Vec<Comparison> {
    let known = |run: &'_ [TestResult]| -> BTreeMap<TestId, TestResult> {
        let results = run.iter().filter(|it| it.verdict != Verdict::Interrupted);
        results.map(|it| (it.test.clone(), it.clone())).collect()
    };
    let (before, after) = (known(before), known(after));
    let tests: BTreeSet<&TestId> = before.keys().chain(after.keys()).collect();
    let mut found: Vec<Comparison> = tests
        .into_iter()
        .filter_map(|test| {
            let pair = (before.get(test), after.get(test));
            let (was, is) = pair;
            Some(Comparison {
                test: test.clone(),
                change: change(was, is, by)?,
                results: [was, is].map(Option::<&TestResult>::cloned),
            })
        })
        .collect();
    found.sort_by_key(|it| (it.change, std::cmp::Reverse(it.difference(by))));
    found
}

/// Returns the least difference of a use that tells something.
fn noise(by: DurationsBy) -> u64 {
    match by {
        DurationsBy::Time | DurationsBy::Cpu => 50_000_000,
        DurationsBy::Memory => 4 * 1024 * 1024,
        DurationsBy::Io => 1024 * 1024,
        DurationsBy::Processes => 1,
    }
}

fn change(was: Option<&TestResult>, is: Option<&TestResult>, by: DurationsBy) -> Option<Change> {
    let (was, is) = match (was, is) {
        (Some(was), Some(is)) => (was, is),
        (None, Some(is)) if is.is_failure() => return Some(Change::NewFailure),
        (None, Some(_)) => return Some(Change::New),
        (Some(_), None) => return Some(Change::Gone),
        (None, None) => return None,
    };
    match (was.is_failure(), is.is_failure()) {
        (false, true) => return Some(Change::Broken),
        (true, true) => return Some(Change::StillFails),
        (true, false) => return Some(Change::Mended),
        (false, false) => {}
    }
    if is.flaky() && !was.flaky() {
        return Some(Change::Flaky);
    }
    let (was, is) = (was.used(by)?, is.used(by)?);
    let greater =
        |a: u64, b: u64| a.saturating_sub(b) >= noise(by) && u128::from(a) * 2 >= u128::from(b) * 3;
    let (more, less) = match by {
        DurationsBy::Time => (Change::Slower, Change::Faster),
        _ => (Change::More, Change::Less),
    };
    match (greater(is, was), greater(was, is)) {
        (true, _) => Some(more),
        (false, true) => Some(less),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture_kit::sample;

    fn result(name: &str, attempts: usize, failed: usize, millis: u64) -> TestResult {
        TestResult {
            test: sample::test("crate", name),
            verdict: match failed < attempts {
                true => Verdict::Pass,
                false => Verdict::Fail,
            },
            attempts,
            failed,
            elapsed: Duration::from_millis(millis),
            cpu: Duration::from_millis(millis / 2),
            memory: millis << 20,
            disk: 0,
            processes: None,
            metrics: Vec::new(),
        }
    }

    #[test]
    fn flaky_tests_are_ranked_and_have_their_evidence() {
        let runs = [
            vec![
                result("turns", 1, 0, 1),
                result("retried", 2, 1, 1),
                result("red", 1, 1, 1),
            ],
            vec![
                result("turns", 1, 1, 1),
                result("retried", 3, 2, 1),
                result("red", 1, 1, 1),
            ],
            vec![
                result("turns", 1, 0, 1),
                result("retried", 1, 0, 1),
                result("green", 1, 0, 1),
            ],
        ];
        let found = flakiness(&runs);
        let facts: Vec<_> = found
            .iter()
            .map(|it| {
                (
                    it.test.name.as_str(),
                    it.flaky,
                    it.turns,
                    it.failed,
                    it.attempts,
                    it.last_failed,
                )
            })
            .collect();
        assert_eq!(
            facts,
            [("retried", 2, 0, 3, 6, 0), ("turns", 0, 2, 1, 3, 1)]
        );
    }

    #[test]
    fn two_runs_are_compared_test_by_test() {
        let before = [
            result("breaks", 1, 0, 9),
            result("is mended", 1, 1, 9),
            result("stays red", 2, 2, 9),
            result("gets slower", 1, 0, 100),
            result("gets a bit slower", 1, 0, 1000),
            result("is noise", 1, 0, 1),
            result("goes", 1, 0, 9),
        ];
        let after = [
            result("breaks", 1, 1, 9),
            result("is mended", 1, 0, 9),
            result("stays red", 2, 2, 9),
            result("gets slower", 1, 0, 150),
            result("gets a bit slower", 1, 0, 1100),
            result("is noise", 1, 0, 40),
            result("comes", 1, 0, 9),
        ];
        let words = |found: Vec<Comparison>| -> Vec<String> {
            let lines = found.iter();
            lines
                .map(|it| format!("{} {}", it.change.word(), it.test.name))
                .collect()
        };
        assert_eq!(
            words(compare(&before, &after, DurationsBy::Time)),
            [
                "broken breaks",
                "still-fails stays red",
                "mended is mended",
                "slower gets slower",
                "new comes",
                "gone goes"
            ]
        );
        assert_eq!(
            words(compare(&before, &before, DurationsBy::Time)),
            ["still-fails is mended", "still-fails stays red"]
        );
    }

    #[test]
    fn any_use_is_compared_and_the_greatest_difference_comes_first() {
        let run = |sizes: [u64; 5]| -> Vec<TestResult> {
            let names = ["grows", "grows most", "shrinks", "is noise", "stays"];
            let tests = names.into_iter().zip(sizes);
            tests.map(|(name, size)| result(name, 1, 0, size)).collect()
        };
        let (before, after) = (run([10, 10, 90, 2, 300]), run([90, 500, 10, 5, 310]));
        let of = |by| -> Vec<String> {
            let found = compare(&before, &after, by).into_iter();
            found
                .map(|it| format!("{} {}", it.change.word(), it.test.name))
                .collect()
        };
        assert_eq!(
            of(DurationsBy::Memory),
            ["more grows most", "more grows", "less shrinks"]
        );
        assert_eq!(of(DurationsBy::Cpu), ["more grows most"]);
        assert_eq!(of(DurationsBy::Processes), [""; 0]);
        assert_eq!(
            of(DurationsBy::Time),
            ["slower grows most", "slower grows", "faster shrinks"]
        );
    }
}
