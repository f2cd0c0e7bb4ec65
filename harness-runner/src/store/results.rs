//! The results of tests over several runs: how a test fared, which tests are flaky, and what differs
//! between two runs.

use super::recording::{kind, lines};
use camino::Utf8Path;
use harness_metadata::{TestId, Usage, Verdict};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

/// A change of duration below this is noise, whatever its factor.
const NOISE: Duration = Duration::from_millis(50);

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
    /// The peak memory of the last one, in bytes.
    pub memory: u64,
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
        }
        #[derive(Deserialize)]
        struct Finished {
            test: TestId,
            verdict: Verdict,
            attempts: Vec<Attempt>,
        }
        let finished: Finished = serde_json::from_slice(line).ok()?;
        let attempts = &finished.attempts;
        let last = attempts.last()?;
        let failed = |attempt: &&Attempt| attempt.verdict == Verdict::Fail;
        Some(Self {
            test: finished.test.without_iteration().0,
            verdict: finished.verdict,
            attempts: attempts.len(),
            failed: attempts.iter().filter(failed).count(),
            elapsed: last.elapsed,
            memory: last
                .usage
                .peak_tree_memory
                .unwrap_or(last.usage.peak_memory),
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
    /// The running times in the first and in the second run.
    pub elapsed: [Option<Duration>; 2],
}

/// Returns the tests that differ between two runs, by what differs.
pub fn compare(before: &[TestResult], after: &[TestResult]) -> Vec<Comparison> {
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
                change: change(was, is)?,
                elapsed: [was, is].map(|it| it.map(|it| it.elapsed)),
            })
        })
        .collect();
    found.sort_by_key(|it| it.change);
    found
}

fn change(was: Option<&TestResult>, is: Option<&TestResult>) -> Option<Change> {
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
    let longer = |a: Duration, b: Duration| a.saturating_sub(b) >= NOISE && a * 2 >= b * 3;
    if longer(is.elapsed, was.elapsed) {
        return Some(Change::Slower);
    }
    longer(was.elapsed, is.elapsed).then_some(Change::Faster)
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
            memory: 0,
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
            words(compare(&before, &after)),
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
            words(compare(&before, &before)),
            ["still-fails is mended", "still-fails stays red"]
        );
    }
}
