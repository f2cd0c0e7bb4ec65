//! Decides which tests the command line selects.
//!
//! A [`FilterOptions`] is what the user typed; [`TestFilter`] is that with its filtersets resolved.
//! It knows binaries and tests one at a time. What depends on all tests together, `--partition`,
//! is dealt out afterwards by a [`Dealer`].

mod diagnostic;
mod emulated;
mod known;
mod names;
mod nesting;
mod partition;
mod syntax;
mod test_set;

pub use diagnostic::FiltersetError;
pub use emulated::{Emulated, EmulatedError};
pub(crate) use known::Known;
pub use names::NameFilter;
pub use partition::{Dealer, Partition, PartitionError};
pub use syntax::check_filtersets;
pub(crate) use syntax::{asks_for_dependencies, check_syntax, parse_filterset};
pub use test_set::TestSet;

use guppy::graph::PackageGraph;
pub use guppy::graph::cargo::BuildPlatform;
use harness_metadata::event::RunMode;
use known::WholeId;
use nextest_filtering::{
    BinaryQuery, CompiledExpr, EvalContext, FiltersetKind, GroupLookup, KnownGroups, ParseContext,
    TestQuery,
};
use nextest_metadata::{FilterMatch, MismatchReason, RustTestKind};
use std::{collections::BTreeSet, str::FromStr, sync::Arc};
use thiserror::Error;

/// The selection of tests by the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterOptions {
    /// Names of tests, from before and after `--`.
    pub names: NameFilter,
    /// Filtersets (`-E`). A test needs to be in one of them; none at all select every test.
    pub filtersets: Vec<String>,
    /// The treatment of ignored tests.
    pub run_ignored: RunIgnored,
    /// Whether the profile's default filter bounds the selection.
    pub default_filter: DefaultFilterUse,
    /// Tests, or benchmarks only.
    pub mode: RunMode,
    /// The part of the selection to run.
    pub partition: Option<Partition>,
    /// Tests that passed before, and so do not run again (`--rerun`).
    pub passed: Option<Arc<TestSet>>,
    /// The tests to choose from (`--last-failed`); `None` for all.
    pub among: Option<Arc<TestSet>>,
    /// Tests that are left out (`--touching`): they are known not to use a file.
    pub without: Option<Arc<TestSet>>,
    /// The ids of the packages to choose from (`--changed`); `None` for all.
    pub packages: Option<Arc<BTreeSet<String>>>,
    /// The names of the packages to choose from; none for all.
    pub among_packages: Vec<String>,
    /// A part that names must have, beside all else.
    pub among_names: Option<String>,
    /// Only tests of binaries that are built for this platform.
    pub platform: Option<BuildPlatform>,
}

impl FilterOptions {
    /// Returns whether they choose among tests.
    pub fn is_set(&self) -> bool {
        self.names != NameFilter::default()
            || !self.filtersets.is_empty()
            || self.run_ignored == RunIgnored::Only
            || self.partition.is_some()
            || self.passed.is_some()
            || self.among.is_some()
            || self.without.is_some()
            || self.packages.is_some()
            || !self.among_packages.is_empty()
            || self.among_names.is_some()
            || self.platform.is_some()
    }
}

/// The treatment of tests that are marked `#[ignore]`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum RunIgnored {
    /// Leave them out.
    #[default]
    Default,
    /// Run them and no others.
    Only,
    /// Run them like all others.
    All,
}

impl RunIgnored {
    fn selects(self, ignored: bool) -> bool {
        match self {
            Self::Default => !ignored,
            Self::Only => ignored,
            Self::All => true,
        }
    }
}

/// The name of no choice for `--run-ignored`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is none of `default`, `only`, `all`")]
pub struct UnknownRunIgnored(pub String);

impl FromStr for RunIgnored {
    type Err = UnknownRunIgnored;

    fn from_str(text: &str) -> Result<Self, UnknownRunIgnored> {
        match text {
            "default" => Ok(Self::Default),
            "only" | "ignored-only" => Ok(Self::Only),
            "all" => Ok(Self::All),
            _ => Err(UnknownRunIgnored(text.to_owned())),
        }
    }
}

/// Whether the profile's default filter bounds the selection.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum DefaultFilterUse {
    /// It does.
    #[default]
    Bound,
    /// `--ignore-default-filter`.
    Ignore,
}

/// Filtersets of the command line that cannot be used: all of them, in the order given.
#[derive(Debug, Error)]
#[error("{}", headline(.0))]
pub struct FiltersetsError(pub Vec<FiltersetError>);

fn headline(errors: &[FiltersetError]) -> String {
    let inputs: Vec<String> = errors
        .iter()
        .map(|error| format!("`{}`", error.input))
        .collect();
    match inputs.as_slice() {
        [only] => format!("failed to parse the filterset {only}"),
        several => format!(
            "failed to parse {} filtersets: {}",
            several.len(),
            several.join(", ")
        ),
    }
}

/// Whether a binary needs to be asked for its tests.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BinaryMatch {
    /// Some of its tests may be selected.
    Possible,
    /// None of its tests can be selected.
    Never(BinaryMismatch),
}

impl BinaryMatch {
    /// Returns true if the binary needs to be asked for its tests.
    pub fn is_possible(self) -> bool {
        self == Self::Possible
    }
}

/// A reason why none of a binary's tests can be selected.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BinaryMismatch {
    /// The filtersets exclude it.
    Expression,
    /// The profile's default filter excludes it.
    DefaultFilter,
}

/// Says of each binary whether it goes into an archive.
#[derive(Clone, Debug)]
pub struct BinaryFilter(Vec<CompiledExpr>);

impl BinaryFilter {
    /// Resolves filtersets, which must not ask about tests. A binary needs to be in one of them; none at
    /// all select every binary.
    ///
    /// # Errors
    ///
    /// When they do not parse, ask about tests, or name what does not exist.
    pub fn new(texts: &[String], packages: &ParseContext<'_>) -> Result<Self, FiltersetsError> {
        let (expressions, errors) = parse(
            texts,
            packages,
            FiltersetKind::TestArchive,
            &KnownGroups::Unavailable,
        );
        match errors.is_empty() {
            true => Ok(Self(expressions)),
            false => Err(FiltersetsError(errors)),
        }
    }

    /// Returns whether a binary is selected.
    pub fn selects(&self, query: &BinaryQuery<'_>) -> bool {
        let cx = EvalContext {
            default_filter: &CompiledExpr::ALL,
        };
        let known = Known::new(query);
        let query = known.binary(query);
        let selects = |expr: &CompiledExpr| expr.matches_binary(&query, &cx) != Some(false);
        self.0.is_empty() || self.0.iter().any(selects)
    }
}

fn parse(
    texts: &[String],
    packages: &ParseContext<'_>,
    kind: FiltersetKind,
    groups: &KnownGroups,
) -> (Vec<CompiledExpr>, Vec<FiltersetError>) {
    let mut expressions = Vec::new();
    let mut errors = Vec::new();
    for text in texts {
        match parse_filterset(text.clone(), packages, kind, groups) {
            Ok(filterset) => expressions.push(filterset.compiled),
            Err(error) => errors.push(error),
        }
    }
    (expressions, errors)
}

/// Says of each binary and of each test whether the command line selects it.
#[derive(Clone, Debug)]
pub struct TestFilter {
    names: NameFilter,
    expressions: Vec<CompiledExpr>,
    run_ignored: RunIgnored,
    mode: RunMode,
    default_filter: CompiledExpr,
    default_filter_use: DefaultFilterUse,
    partition: Option<Partition>,
    passed: Option<Arc<TestSet>>,
    among: Option<Arc<TestSet>>,
    without: Option<Arc<TestSet>>,
    packages: Option<Arc<BTreeSet<String>>>,
    among_names: Option<String>,
    platform: Option<BuildPlatform>,
    groups: Arc<dyn GroupLookup + Send + Sync>,
}

impl TestFilter {
    /// Resolves the filtersets of `options`.
    ///
    /// `default_filter` and `groups` come from the profile: its default filter, and who is a
    /// member of which test group.
    ///
    /// # Errors
    ///
    /// When filtersets do not parse, or name what does not exist.
    pub fn new(
        options: FilterOptions,
        packages: &ParseContext<'_>,
        known_groups: &KnownGroups,
        default_filter: CompiledExpr,
        groups: Arc<dyn GroupLookup + Send + Sync>,
    ) -> Result<Self, FiltersetsError> {
        let chosen = bounded_packages(&options, packages.graph());
        let (expressions, errors) = parse(
            &options.filtersets,
            packages,
            FiltersetKind::Test,
            known_groups,
        );
        if !errors.is_empty() {
            return Err(FiltersetsError(errors));
        }
        Ok(Self {
            names: options.names,
            expressions,
            run_ignored: options.run_ignored,
            mode: options.mode,
            default_filter,
            default_filter_use: options.default_filter,
            partition: options.partition,
            passed: options.passed,
            among: options.among,
            without: options.without,
            packages: chosen,
            among_names: options.among_names,
            platform: options.platform,
            groups,
        })
    }

    /// Returns whether a binary needs to be asked for its tests.
    pub fn matches_binary(&self, query: &BinaryQuery<'_>) -> BinaryMatch {
        let cx = self.eval_context();
        let known = Known::new(query);
        let query = known.binary(query);
        let excluded = |expr: &CompiledExpr| expr.matches_binary(&query, &cx) == Some(false);
        let among = self.among.as_ref();
        let excluded_before = among.is_some_and(|among| !among.has_binary(query.binary_id));
        let elsewhere = self.platform.is_some_and(|it| it != query.platform);
        if excluded_before || elsewhere || !self.in_packages(&query) {
            return BinaryMatch::Never(BinaryMismatch::Expression);
        }
        if !self.expressions.is_empty() && self.expressions.iter().all(excluded) {
            BinaryMatch::Never(BinaryMismatch::Expression)
        } else if self.bounded() && excluded(&self.default_filter) {
            BinaryMatch::Never(BinaryMismatch::DefaultFilter)
        } else {
            BinaryMatch::Possible
        }
    }

    /// Returns the part, counted from 0, and the number of parts, if the selected tests are dealt out by
    /// their durations.
    pub fn part_by_time(&self) -> Option<(usize, usize)> {
        self.partition?.by_time()
    }

    /// Returns whether a test passed before and so does not run again.
    pub fn passed_before(&self, query: &TestQuery<'_>) -> bool {
        let passed = self.passed.as_ref();
        passed.is_some_and(|passed| passed.contains(query.binary_query.binary_id, query.test_name))
    }

    /// Returns whether a test is selected, partitions and earlier passes aside, and if not the first
    /// reason why.
    pub fn matches_test(
        &self,
        query: &TestQuery<'_>,
        ignored: bool,
        kind: &RustTestKind,
    ) -> FilterMatch {
        let mismatch = |reason| FilterMatch::Mismatch { reason };
        if self.mode == RunMode::Benchmark && *kind != RustTestKind::BENCH {
            mismatch(MismatchReason::NotBenchmark)
        } else if !self.run_ignored.selects(ignored) {
            mismatch(MismatchReason::Ignored)
        } else if !self.names_select(query.test_name.as_str()) {
            mismatch(MismatchReason::String)
        } else if !self.in_expressions(query) {
            mismatch(MismatchReason::Expression)
        } else if self.bounded() && !self.in_default_filter(query) {
            mismatch(MismatchReason::DefaultFilter)
        } else {
            FilterMatch::Matches
        }
    }

    /// Returns someone who deals out the selected tests, if only a part of them is to run.
    pub fn dealer(&self) -> Option<Dealer> {
        self.partition.map(Dealer::new)
    }

    fn in_expressions(&self, query: &TestQuery<'_>) -> bool {
        let binary = query.binary_query.binary_id;
        let among = self.among.as_ref();
        let excluded = among.is_some_and(|among| !among.contains(binary, query.test_name));
        let without = self.without.as_ref();
        let known = without.is_some_and(|tests| tests.contains(binary, query.test_name));
        if excluded || known || !self.in_packages(&query.binary_query) {
            return false;
        }
        if self.expressions.is_empty() {
            return true;
        }
        let cx = self.eval_context();
        let known = Known::new(&query.binary_query);
        let groups = WholeId {
            query: *query,
            groups: &*self.groups,
        };
        let query = known.test(query);
        let mut expressions = self.expressions.iter();
        expressions.any(|expr| expr.matches_test_with_groups(&query, &cx, &groups))
    }

    fn names_select(&self, name: &str) -> bool {
        let among = self.among_names.as_deref();
        among.is_none_or(|part| name.contains(part)) && self.names.selects(name)
    }

    fn in_packages(&self, query: &BinaryQuery<'_>) -> bool {
        let packages = self.packages.as_ref();
        packages.is_none_or(|packages| packages.contains(query.package_id.repr()))
    }

    fn in_default_filter(&self, query: &TestQuery<'_>) -> bool {
        let known = Known::new(&query.binary_query);
        let (query, cx) = (known.test(query), self.eval_context());
        self.default_filter.matches_test(&query, &cx)
    }

    fn bounded(&self) -> bool {
        self.default_filter_use == DefaultFilterUse::Bound
    }

    fn eval_context(&self) -> EvalContext<'_> {
        EvalContext {
            default_filter: &self.default_filter,
        }
    }
}

/// Returns the ids of the packages to choose from, if not from all.
fn bounded_packages(
    options: &FilterOptions,
    graph: &PackageGraph,
) -> Option<Arc<BTreeSet<String>>> {
    if options.among_packages.is_empty() {
        return options.packages.clone();
    }
    let names = options.among_packages.iter();
    let members = names.filter_map(|name| graph.workspace().member_by_name(name).ok());
    let mut ids: BTreeSet<String> = members.map(|it| it.id().repr().to_owned()).collect();
    if let Some(packages) = &options.packages {
        ids.retain(|id| packages.contains(id));
    }
    Some(Arc::new(ids))
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
