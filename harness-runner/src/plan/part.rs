//! A part of the selected tests that takes as long as each other part.

use super::{Plan, SkippedTest};
use harness_metadata::TestId;
use nextest_metadata::MismatchReason;
use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

impl Plan {
    /// Keeps the tests of one of `total` parts, counted from 0. The longest test goes to the part that
    /// has the least so far, then the next one, so that every machine with the same durations comes to
    /// the same parts. A test of unknown duration counts as the median of the others.
    ///
    /// Ignored tests are dealt out after the others: whether they are selected moves no other.
    pub fn keep_part(
        &mut self,
        part: usize,
        total: usize,
        duration: impl Fn(&TestId) -> Option<Duration>,
    ) {
        let known: Vec<Option<u128>> = (self.tests.iter())
            .map(|test| duration(&test.id).map(|duration| duration.as_millis()))
            .collect();
        let median = median(known.iter().copied().flatten().collect());
        let mut turns: Vec<usize> = (0..self.tests.len()).collect();
        turns.sort_by_key(|&index| {
            let test = &self.tests[index];
            let millis = known[index].unwrap_or(median);
            (test.ignored, Reverse(millis), &test.id)
        });
        // No test is free: of a thousand, each part has its share.
        let mut loads = vec![0_u128; total];
        let mut own = BTreeSet::new();
        for index in turns {
            let (place, load) = (loads.iter_mut().enumerate())
                .min_by_key(|(place, load)| (**load, *place))
                .expect("there is at least one part");
            *load += known[index].unwrap_or(median).max(1);
            if place == part {
                own.insert(index);
            }
        }
        let mut kept = Vec::new();
        for (index, test) in std::mem::take(&mut self.tests).into_iter().enumerate() {
            if own.contains(&index) {
                kept.push(test);
                continue;
            }
            self.skipped.push(SkippedTest {
                id: test.id,
                binary: test.binary,
                reason: MismatchReason::Partition,
                ignored: test.ignored,
                ignore_reason: None,
                location: test.location,
                report_skipped: test.report_skipped,
            });
        }
        self.tests = kept;
        self.skipped.sort_by(|one, other| one.id.cmp(&other.id));
        let binaries: BTreeSet<usize> = self.tests.iter().map(|test| test.binary).collect();
        self.counts.binaries = binaries.len();
    }
}

/// Returns the middle of these numbers, the lower of two; 0 of none.
fn median(mut numbers: Vec<u128>) -> u128 {
    numbers.sort_unstable();
    numbers
        .get(numbers.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0)
}
