//! Decides which tests run, in what order, and with which settings.
//!
//! A [`Plan`] is complete before the first process starts. Nothing after it reads configuration
//! or evaluates a filterset.

mod order;
mod part;

use crate::{
    config::{BinarySettings, CompiledProfile, TestScripts, settings::TestSettings},
    filter::{BinaryMatch, BinaryMismatch, Dealer, TestFilter, TestSet},
};
use harness_metadata::{Location, ReportSkipped, TestId};
use nextest_filtering::{BinaryQuery, TestQuery};
use nextest_metadata::{FilterMatch, MismatchReason, RustTestKind, TestCaseName};
use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

/// A binary, and the tests that it listed.
#[derive(Clone, Debug)]
pub struct ListedBinary<'a> {
    /// The binary.
    pub query: BinaryQuery<'a>,
    /// Its tests in any order; `None` if [`TestFilter::matches_binary`] ruled it out and it was
    /// not asked.
    pub tests: Option<Vec<ListedTest<'a>>>,
}

/// A test as its binary listed it.
#[derive(Copy, Clone, Debug)]
pub struct ListedTest<'a> {
    /// Its name.
    pub name: &'a TestCaseName,
    /// Whether it is marked `#[ignore]`.
    pub ignored: bool,
    /// Test or benchmark.
    pub kind: &'a RustTestKind,
    /// The reason why it is ignored, if there is one.
    pub ignore_reason: Option<&'a str>,
    /// The place of its definition.
    pub location: Option<&'a Arc<Location>>,
}

/// A test that will run.
#[derive(Clone, Debug)]
pub struct PlannedTest {
    /// The test.
    pub id: TestId,
    /// The index of its binary among those that the plan was made from.
    pub binary: usize,
    /// Whether it is marked `#[ignore]`, and so has to be asked for by `--ignored`.
    pub ignored: bool,
    /// Whether it is a benchmark.
    pub bench: bool,
    /// The place of its definition.
    pub location: Option<Arc<Location>>,
    /// Its settings.
    pub settings: Arc<TestSettings>,
    /// The scripts that run for it.
    pub scripts: TestScripts,
    /// The index of the entry of the profile's quarantine that has it.
    pub quarantine: Option<usize>,
    /// The setting for skipped tests in JUnit reports, in case that it is skipped.
    report_skipped: ReportSkipped,
}

/// A test that was listed and will not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedTest {
    /// The test.
    pub id: TestId,
    /// The index of its binary among those that the plan was made from.
    pub binary: usize,
    /// The reason.
    pub reason: MismatchReason,
    /// Whether it is marked `#[ignore]`.
    pub ignored: bool,
    /// The reason of `#[ignore = "…"]`, if it is skipped because of that.
    pub ignore_reason: Option<String>,
    /// The place of its definition.
    pub location: Option<Arc<Location>>,
    /// The setting for skipped tests in JUnit reports, for this test.
    pub report_skipped: ReportSkipped,
}

impl SkippedTest {
    /// Returns whether JUnit reports mention it.
    pub fn reported(&self) -> bool {
        match self.report_skipped {
            ReportSkipped::None => false,
            ReportSkipped::Ignored => self.reason == MismatchReason::Ignored,
            ReportSkipped::All => true,
        }
    }
}

/// The tests that will run and those that will not.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The tests that will run, in the order in which they start: by priority, then by binary and name
    /// unless [another order](Plan::longest_first) is chosen.
    pub tests: Vec<PlannedTest>,
    /// The tests that were listed and will not run, by binary and then by name.
    pub skipped: Vec<SkippedTest>,
    /// The indexes of the entries of the quarantine that have a listed test.
    pub quarantine: BTreeSet<usize>,
    /// Numbers of the above.
    pub counts: PlanCounts,
}

/// The counts of a plan.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanCounts {
    /// Binaries that have at least one test in the plan.
    pub binaries: usize,
    /// Binaries that were not asked for their tests.
    pub skipped_binaries: usize,
    /// Of these: because of the profile's default filter.
    pub binaries_skipped_by_default_filter: usize,
    /// Tests skipped because of the profile's default filter.
    pub skipped_by_default_filter: usize,
    /// Tests skipped because they passed before, in a run that this one continues.
    pub passed_before: usize,
}

impl Plan {
    /// Applies the filter and the profile to what was listed.
    pub fn new(
        binaries: &[ListedBinary<'_>],
        filter: &TestFilter,
        profile: &CompiledProfile,
    ) -> Self {
        // Partitions depend on the order in which tests are dealt, which must be the same on every
        // machine.
        let mut order: Vec<usize> = (0..binaries.len()).collect();
        order.sort_by_key(|&index| binaries[index].query.binary_id);

        let mut plan = Self::default();
        let mut dealer = filter.dealer();
        for index in order {
            let binary = &binaries[index];
            let Some(tests) = &binary.tests else {
                plan.skip_binary(filter.matches_binary(&binary.query));
                continue;
            };
            let mut tests = tests.clone();
            // Of two with the same name the ignored one stays.
            tests.sort_unstable_by_key(|test| (test.name.as_bytes(), !test.ignored));
            tests.dedup_by_key(|test| test.name);
            if let Some(dealer) = &mut dealer {
                dealer.next_binary();
            }
            let settings = profile.for_binary(&binary.query);
            let before = plan.tests.len();
            for test in tests {
                let place = Place {
                    index,
                    binary,
                    settings: &settings,
                    profile,
                };
                plan.add(test, place, filter, dealer.as_mut());
            }
            plan.counts.binaries += usize::from(plan.tests.len() > before);
        }
        // Stable: among equals the order is by binary and name.
        plan.tests
            .sort_by_key(|test| Reverse(test.settings.priority));
        plan
    }

    /// Lets these tests start before all others, whatever their priority.
    pub fn put_first(&mut self, tests: &TestSet) {
        let first = |test: &PlannedTest| tests.contains(&test.id.binary, &test.id.name);
        self.tests.sort_by_key(|test| !first(test));
    }

    fn skip_binary(&mut self, matched: BinaryMatch) {
        self.counts.skipped_binaries += 1;
        if matched == BinaryMatch::Never(BinaryMismatch::DefaultFilter) {
            self.counts.binaries_skipped_by_default_filter += 1;
        }
    }

    fn add(
        &mut self,
        test: ListedTest<'_>,
        place: Place<'_>,
        filter: &TestFilter,
        dealer: Option<&mut Dealer>,
    ) {
        let query = TestQuery {
            binary_query: place.binary.query,
            test_name: test.name,
        };
        let mut matched = filter.matches_test(&query, test.ignored, test.kind);
        if matched == NO_BENCHMARK {
            // It is none of the items that a run of benchmarks is about.
            return;
        }
        if let (FilterMatch::Matches, Some(dealer)) = (matched, dealer)
            && !dealer.deal(test.name.as_str(), test.ignored)
        {
            matched = FilterMatch::Mismatch {
                reason: MismatchReason::Partition,
            };
        }
        // It has been dealt, so that parts stay the same from rerun to rerun.
        if filter.passed_before(&query) {
            matched = FilterMatch::Mismatch {
                reason: MismatchReason::RerunAlreadyPassed,
            };
        }
        let id = TestId {
            binary: place.binary.query.binary_id.clone(),
            name: test.name.clone(),
        };
        let resolved = place.settings.settings_for(&query);
        let quarantine = place.settings.quarantine(&query);
        let first = quarantine.first().copied();
        self.quarantine.extend(quarantine);
        match matched {
            FilterMatch::Matches => self.tests.push(PlannedTest {
                id,
                binary: place.index,
                ignored: test.ignored,
                bench: *test.kind == RustTestKind::BENCH,
                location: test.location.cloned(),
                settings: Arc::clone(&resolved.settings),
                scripts: place.profile.scripts_for(&query),
                quarantine: first,
                report_skipped: resolved.report_skipped,
            }),
            FilterMatch::Mismatch { reason } => {
                self.counts.skipped_by_default_filter +=
                    usize::from(reason == MismatchReason::DefaultFilter);
                self.counts.passed_before +=
                    usize::from(reason == MismatchReason::RerunAlreadyPassed);
                self.skipped.push(SkippedTest {
                    id,
                    binary: place.index,
                    reason,
                    ignored: test.ignored,
                    ignore_reason: test
                        .ignore_reason
                        .filter(|_| reason == MismatchReason::Ignored)
                        .map(str::to_owned),
                    location: test.location.cloned(),
                    report_skipped: resolved.report_skipped,
                });
            }
        }
    }
}

/// The match of a test in a run of benchmarks.
const NO_BENCHMARK: FilterMatch = FilterMatch::Mismatch {
    reason: MismatchReason::NotBenchmark,
};

/// The place of a test.
struct Place<'a> {
    index: usize,
    binary: &'a ListedBinary<'a>,
    settings: &'a BinarySettings<'a>,
    profile: &'a CompiledProfile,
}

#[cfg(test)]
mod tests;
