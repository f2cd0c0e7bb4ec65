//! Causes that several failed tests of a run have in common: one dead port, one missing file, one helper that panics.
//!
//! A cause is a call that failed, by what it asked for and its error, or the place and the words of a panic. A missing
//! file that a test that passed lacks as well is none, and an address that a fourth as many such tests could not use.

use super::{evidence, failure::Reason};
use harness_metadata::{TestId, TraceSummary, event::CommonCause, noise::Names, trace::Failure};
use std::collections::{BTreeMap, HashMap, HashSet};
use xxhash_rust::xxh64::xxh64;

/// The least number of tests with a common cause.
const LEAST: usize = 3;
/// The most causes of a run.
const MOST: usize = 5;
/// Tests of a cause that are named in events.
const NAMED: usize = 20;
/// Failed tests that are looked at.
const FAILED: usize = 20_000;
/// Causes that are remembered, of all failed tests.
const CAUSES: usize = 50_000;
/// Failed calls of tests that passed that are remembered.
const PASSED: usize = 200_000;

/// A cause, the same in each test that has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    /// A network address and an error.
    Address(String, i32),
    /// A panic.
    Panic(String),
    /// A path and an error.
    Path(Vec<u8>, i32),
}

/// A cause with the tests that have it.
#[derive(Debug, Default)]
struct Having {
    text: String,
    tests: Vec<usize>,
    /// The names that it had, by their hashes.
    names: HashSet<u64>,
}

/// The causes of the failures of a run.
#[derive(Debug, Default)]
pub struct Causes {
    failed: Vec<TestId>,
    causes: BTreeMap<Key, Having>,
    /// The calls that failed in tests that passed, and in how many.
    passed: HashMap<u64, usize>,
}

impl Causes {
    /// Takes a test that passed: what failed in it explains little.
    pub fn passed(&mut self, trace: Option<&TraceSummary>) {
        let failures = trace.iter().flat_map(|trace| &trace.failures);
        let calls: HashSet<u64> = failures.map(hash).collect();
        for call in calls {
            if self.passed.len() < PASSED || self.passed.contains_key(&call) {
                *self.passed.entry(call).or_default() += 1;
            }
        }
    }

    /// Takes a test that failed, with its trace and the reason that its output gives.
    pub(crate) fn failed(
        &mut self,
        test: &TestId,
        trace: Option<&TraceSummary>,
        reason: Option<&Reason>,
    ) {
        if self.failed.len() == FAILED {
            return;
        }
        let number = self.failed.len();
        self.failed.push(test.clone());
        for (key, (text, name)) in found(trace, reason) {
            if self.causes.len() == CAUSES && !self.causes.contains_key(&key) {
                continue;
            }
            let having = self.causes.entry(key).or_default();
            if having.tests.is_empty() {
                having.text = text;
            }
            having.tests.push(number);
            having.names.extend(name);
        }
    }

    /// Returns whether tests that passed show that this is no cause.
    fn is_none(&self, key: &Key, having: &Having) -> bool {
        let passed = having.names.iter().filter_map(|name| self.passed.get(name));
        let passed: usize = passed.sum();
        match key {
            Key::Address(..) => passed * 4 >= having.tests.len(),
            Key::Path(..) => passed > 0,
            Key::Panic(_) => false,
        }
    }

    /// Returns the causes of at least three tests each, the one of the most tests first. A test counts for one.
    pub fn common(mut self) -> Vec<CommonCause> {
        let mut common = Vec::new();
        let mut explained = HashSet::new();
        let mut causes = std::mem::take(&mut self.causes);
        causes.retain(|key, having| having.tests.len() >= LEAST && !self.is_none(key, having));
        while common.len() < MOST {
            for having in causes.values_mut() {
                having.tests.retain(|test| !explained.contains(test));
            }
            // Of those with as many tests, an address comes before a panic, and a panic before a path.
            let most = causes.iter().max_by(|(a, one), (b, other)| {
                let counts = one.tests.len().cmp(&other.tests.len());
                counts.then_with(|| b.cmp(a))
            });
            let Some((_, most)) = most.filter(|(_, most)| most.tests.len() >= LEAST) else {
                break;
            };
            explained.extend(most.tests.iter().copied());
            let named = most.tests.iter().take(NAMED);
            common.push(CommonCause {
                cause: most.text.clone(),
                count: most.tests.len(),
                tests: named.map(|test| self.failed[*test].clone()).collect(),
            });
        }
        common
    }
}

/// Returns what may be the cause of a failure: each with its text, and a hash of the name that it had.
fn found(
    trace: Option<&TraceSummary>,
    reason: Option<&Reason>,
) -> HashMap<Key, (String, Option<u64>)> {
    let mut found = HashMap::new();
    if let Some(trace) = trace {
        let names = Names {
            pids: trace.processes.iter().map(|process| process.pid).collect(),
            ..Names::default()
        };
        for failure in evidence::telling(trace) {
            let cause = (evidence::call(failure), Some(hash(failure)));
            found.insert(key(failure, &names), cause);
        }
    }
    if let Some(reason) = reason
        && let Some((file, line)) = &reason.place
        && !reason.message.is_empty()
    {
        let text = format!("{file}:{line}: {}", reason.message);
        found.insert(Key::Panic(without_numbers(&text)), (text, None));
    }
    found
}

/// Returns a hash of a failed call, with the name that it had.
fn hash(failure: &Failure) -> u64 {
    xxh64(
        failure.target.as_bytes(),
        failure.errno.unsigned_abs().into(),
    )
}

fn key(failure: &Failure, names: &Names) -> Key {
    match evidence::is_network(failure) {
        true => Key::Address(failure.target.to_string(), failure.errno),
        false => Key::Path(names.path(failure.target.as_bytes()), failure.errno),
    }
}

/// Returns a message without its numbers, which are other ones in each test.
fn without_numbers(text: &str) -> String {
    let mut key = String::with_capacity(text.len());
    // The line of the place is a number too, and stays.
    let place = text.find(": ").unwrap_or(0);
    key.push_str(&text[..place]);
    let mut in_number = false;
    for c in text[place..].chars() {
        if !c.is_ascii_digit() {
            key.push(c);
        } else if !in_number {
            key.push('#');
        }
        in_number = c.is_ascii_digit();
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use harness_metadata::trace::{FileOperation, NetworkOperation, Operation};
    use std::time::Duration;

    fn failure(target: &str, errno: i32) -> Failure {
        let network = !target.starts_with('/');
        Failure {
            at: Duration::ZERO,
            pid: 1,
            call: if network { "connect" } else { "openat" }.to_owned(),
            operation: Some(match network {
                true => Operation::Network(NetworkOperation::Connect),
                false => Operation::File(FileOperation::Open),
            }),
            target: target.into(),
            errno,
        }
    }

    fn trace(failures: Vec<Failure>) -> TraceSummary {
        TraceSummary {
            failures,
            ..sample::trace()
        }
    }

    fn refused() -> Failure {
        failure("127.0.0.1:5432", libc::ECONNREFUSED)
    }

    fn panic(line: u32, message: &str) -> Reason {
        Reason {
            place: Some(("tests/common.rs".to_owned(), line)),
            message: message.to_owned(),
        }
    }

    fn lines(causes: Causes) -> Vec<String> {
        let common = causes.common().into_iter();
        common
            .map(|it| format!("{} tests: {}", it.count, it.cause))
            .collect()
    }

    #[test]
    fn tests_that_lack_one_port_are_one_cluster_and_each_test_counts_once() {
        let mut causes = Causes::default();
        for number in 0..40 {
            let missing = failure("/srv/optional.toml", libc::ENOENT);
            let trace = trace(vec![missing, refused()]);
            let reason = panic(7, &format!("no connection after {number} attempts"));
            let test = sample::test(&format!("needs_the_port_{number}"));
            causes.failed(&test, Some(&trace), Some(&reason));
        }
        causes.failed(&sample::test("alone"), None, Some(&panic(9, "alone")));
        let all = "40 tests: connect 127.0.0.1:5432: Connection refused (ECONNREFUSED)";
        assert_eq!(lines(causes), [all]);
    }

    #[test]
    fn a_panic_in_a_shared_place_is_a_cause_whatever_numbers_it_has() {
        let mut causes = Causes::default();
        for number in 0..4 {
            let reason = panic(7, &format!("bad fixture {number}"));
            causes.failed(&sample::test(&number.to_string()), None, Some(&reason));
        }
        for line in 100..104 {
            let reason = panic(line, "assertion failed: it works");
            causes.failed(&sample::test(&line.to_string()), None, Some(&reason));
        }
        assert_eq!(lines(causes), ["4 tests: tests/common.rs:7: bad fixture 0"]);
    }

    #[test]
    fn what_tests_that_passed_have_as_well_is_no_cause() {
        let missing = || failure("/srv/optional.toml", libc::ENOENT);
        let mut causes = Causes::default();
        for number in 0..8 {
            let trace = trace(vec![missing(), refused()]);
            causes.failed(&sample::test(&number.to_string()), Some(&trace), None);
        }
        causes.passed(Some(&trace(vec![missing(), refused(), refused()])));
        let port = "8 tests: connect 127.0.0.1:5432: Connection refused (ECONNREFUSED)";
        assert_eq!(lines(causes), [port]);
        let mut causes = Causes::default();
        for number in 0..4 {
            let trace = trace(vec![refused()]);
            causes.failed(&sample::test(&number.to_string()), Some(&trace), None);
            causes.passed(Some(&trace));
        }
        assert_eq!(lines(causes), [""; 0]);
    }

    #[test]
    fn two_tests_are_no_cluster_and_temporary_names_are_alike() {
        let mut causes = Causes::default();
        for name in ["Ab12Cd", "Xy34Zz", "Qq56Rr"] {
            let path = format!("/tmp/.tmp{name}/server.sock");
            let trace = trace(vec![failure(&path, libc::ENOENT)]);
            causes.failed(&sample::test(name), Some(&trace), None);
        }
        for name in ["a", "b"] {
            let trace = trace(vec![refused()]);
            causes.failed(&sample::test(name), Some(&trace), None);
        }
        let found = lines(causes);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("3 tests: openat \"/tmp/.tmp"),
            "{found:?}"
        );
    }
}
