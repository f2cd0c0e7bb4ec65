//! Answers which settings a test runs under, and why.
//!
//! There are few overrides and many tests. Overrides are evaluated once a binary where that
//! decides them, and a test only asks for the rest. Tests to which the same overrides apply share
//! one [`Resolved`].

use super::{
    RunSettings,
    budget::Budget,
    declared::{FlakyFailStatus, RunOrigins, TestLayer, TestOrigins, TestValues},
    layer::{Explained, Origin, OverrideOrigin},
    quarantine::QuarantineEntry,
    rules::RuleScripts,
    scripts::{Scripts, Service, SetupScript, WrapperScript},
    settings::{LeakPolicy, RemoteSetting, TestSettings, TestThreads, TraceSetting},
};
use crate::{filter::Known, policy::Policy};
use guppy::graph::cargo::BuildPlatform;
use harness_metadata::{
    Limits, ReportSkipped,
    event::{OutputPolicy, RunMode},
};
use nextest_filtering::{
    BinaryQuery, CompiledExpr, EvalContext, GroupLookup, NameMatcher, TestQuery,
};
use nextest_metadata::RustBinaryId;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The settings of a test, and where each comes from.
#[derive(Debug)]
pub struct Resolved {
    /// The settings.
    pub settings: Arc<TestSettings>,
    /// Whether a JUnit report mentions the test if it does not run.
    pub report_skipped: ReportSkipped,
    /// The origin of each setting.
    pub origins: TestOrigins,
    values: TestValues,
}

impl Resolved {
    /// Returns every setting with its value and its origin.
    pub fn explain(&self) -> Vec<Explained> {
        self.values.explain(&self.origins)
    }
}

/// The filterset that bounds what a run selects.
#[derive(Clone, Debug)]
pub struct DefaultFilter {
    /// As it is written.
    pub text: String,
    /// Ready to use.
    pub compiled: CompiledExpr,
    /// Its origin.
    pub origin: Origin,
}

impl DefaultFilter {
    pub(super) fn all() -> Self {
        Self {
            text: "all()".to_owned(),
            compiled: CompiledExpr::ALL,
            origin: Origin::Default,
        }
    }
}

/// An override whose platforms match at least some of the binaries.
#[derive(Debug)]
pub(super) struct CompiledOverride {
    pub(super) layer: TestLayer,
    pub(super) origin: Origin,
    pub(super) scope: Applicability,
}

/// A rule that says for which tests scripts run.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) origin: Arc<OverrideOrigin>,
    pub(super) scripts: RuleScripts,
    pub(super) scope: Applicability,
}

/// The tests that an override or a rule is for.
#[derive(Debug)]
pub(super) struct Applicability {
    /// `None` for all tests.
    pub(super) filter: Option<CompiledExpr>,
    pub(super) on_host: bool,
    pub(super) on_targets: OnTargets,
}

/// The scripts of a test.
#[derive(Clone, Debug, Default)]
pub struct TestScripts {
    /// Its setup scripts, by their indexes among [`CompiledProfile::setup_scripts`], ascending, and
    /// the rule that names each.
    pub setup: Vec<(usize, Arc<OverrideOrigin>)>,
    /// The wrapper that runs it.
    pub run_wrapper: Option<(Arc<WrapperScript>, Arc<OverrideOrigin>)>,
    /// Its services, by their indexes among [`CompiledProfile::services`], ascending, and the rule
    /// that names each.
    pub services: Vec<(usize, Arc<OverrideOrigin>)>,
}

/// Whether an override is for binaries that are built for the target.
#[derive(Debug)]
pub(super) enum OnTargets {
    /// There is one target.
    One(bool),
    /// By the end that the target gives to the ids of its binaries, such as `@TRIPLE`.
    Several(Vec<(String, bool)>),
}

impl OnTargets {
    pub(super) fn any(&self) -> bool {
        match self {
            Self::One(one) => *one,
            Self::Several(several) => several.iter().any(|(_, on)| *on),
        }
    }

    /// Whether it is for all targets, as what bounds the whole run has to be.
    pub(super) fn all(&self) -> bool {
        match self {
            Self::One(one) => *one,
            Self::Several(several) => several.iter().all(|(_, on)| *on),
        }
    }

    fn matches(&self, id: &RustBinaryId) -> bool {
        match self {
            Self::One(one) => *one,
            Self::Several(several) => several
                .iter()
                .any(|(end, on)| *on && id.as_str().ends_with(end)),
        }
    }
}

impl Applicability {
    fn matches_binary(&self, query: &BinaryQuery<'_>, cx: &EvalContext<'_>) -> Option<bool> {
        let on_platform = match query.platform {
            BuildPlatform::Host => self.on_host,
            BuildPlatform::Target => self.on_targets.matches(query.binary_id),
        };
        if !on_platform {
            return Some(false);
        }
        let known = Known::new(query);
        let query = known.binary(query);
        self.filter
            .as_ref()
            .map_or(Some(true), |filter| filter.matches_binary(&query, cx))
    }
}

/// The parts of a [`CompiledProfile`].
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) cli: TestLayer,
    pub(super) mode: RunMode,
    /// In order of precedence.
    pub(super) overrides: Vec<CompiledOverride>,
    /// In order of precedence.
    pub(super) profiles: Vec<(TestLayer, Origin)>,
    pub(super) default_filter: DefaultFilter,
    /// In order of precedence.
    pub(super) quarantine: Vec<QuarantineEntry>,
    pub(super) run: RunSettings,
    pub(super) run_origins: RunOrigins,
    pub(super) test_groups: Arc<BTreeMap<String, TestThreads>>,
    pub(super) scripts: Arc<Scripts>,
    /// In order of precedence.
    pub(super) rules: Vec<CompiledRule>,
}

/// A profile that can tell the settings of every test.
pub struct CompiledProfile {
    parts: Parts,
    /// Keyed by the indexes of the overrides that apply, ascending.
    resolved: Mutex<HashMap<Box<[u32]>, Arc<Resolved>>>,
}

impl CompiledProfile {
    pub(super) fn new(mut parts: Parts) -> Self {
        // An override that only replaces the default filter has nothing to say here.
        parts
            .overrides
            .retain(|candidate| candidate.layer != TestLayer::default());
        Self {
            parts,
            resolved: Mutex::default(),
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Returns the kind of items that run.
    pub fn mode(&self) -> RunMode {
        self.parts.mode
    }

    /// Returns the settings of the run as a whole.
    pub fn run_settings(&self) -> &RunSettings {
        &self.parts.run
    }

    /// Returns the time limit of the run; `None` for no limit.
    pub fn global_timeout(&self) -> Option<Duration> {
        match self.parts.mode {
            RunMode::Benchmark => self.parts.run.bench_global_timeout,
            _ => self.parts.run.global_timeout,
        }
    }

    /// Returns where each setting of the run comes from.
    pub fn run_origins(&self) -> &RunOrigins {
        &self.parts.run_origins
    }

    /// Returns every setting of the run with its value and its origin.
    pub fn explain_run(&self) -> Vec<Explained> {
        self.parts.run.explain(&self.parts.run_origins)
    }

    /// Returns the filterset that bounds what a run selects.
    pub fn default_filter(&self) -> &DefaultFilter {
        &self.parts.default_filter
    }

    /// Returns the entries of the quarantine, the one that wins first.
    pub fn quarantine(&self) -> &[QuarantineEntry] {
        &self.parts.quarantine
    }

    /// Returns the test groups and how many of their tests may run at once.
    pub fn test_groups(&self) -> &BTreeMap<String, TestThreads> {
        &self.parts.test_groups
    }

    /// Returns the settings of a test. For all tests of a binary,
    /// [`CompiledProfile::for_binary`] is cheaper.
    pub fn settings_for(&self, query: &TestQuery<'_>) -> Arc<Resolved> {
        self.for_binary(&query.binary_query).settings_for(query)
    }

    /// Decides the overrides that a binary decides.
    pub fn for_binary(&self, query: &BinaryQuery<'_>) -> BinarySettings<'_> {
        let cx = self.eval_context();
        let mut candidates = Vec::new();
        for (index, candidate) in (0u32..).zip(&self.parts.overrides) {
            match candidate.scope.matches_binary(query, &cx) {
                Some(true) => candidates.push((index, Applies::Always)),
                None => candidates.push((index, Applies::Sometimes)),
                Some(false) => {}
            }
        }
        let decided = candidates
            .iter()
            .all(|&(_, applies)| applies == Applies::Always);
        let shared =
            decided.then(|| self.resolve(candidates.iter().map(|&(index, _)| index).collect()));
        BinarySettings {
            profile: self,
            candidates,
            shared,
        }
    }

    /// Returns all setup scripts, in the order in which they run.
    pub fn setup_scripts(&self) -> &[Arc<SetupScript>] {
        &self.parts.scripts.setup
    }

    /// Returns all services, in the order in which they are written.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.parts.scripts.service
    }

    /// Returns which scripts run for a test.
    pub fn scripts_for(&self, query: &TestQuery<'_>) -> TestScripts {
        let mut scripts = TestScripts::default();
        let cx = self.eval_context();
        let known = Known::new(&query.binary_query);
        let by_id = known.test(query);
        for rule in &self.parts.rules {
            let matches = match rule.scope.matches_binary(&query.binary_query, &cx) {
                Some(decided) => decided,
                None => (rule.scope.filter.as_ref())
                    .is_none_or(|filter| filter.matches_test(&by_id, &cx)),
            };
            if matches {
                scripts.add(&self.parts.scripts, rule);
            }
        }
        scripts.setup.sort_by_key(|(index, _)| *index);
        scripts.services.sort_by_key(|(index, _)| *index);
        scripts
    }

    /// Returns whether a wrapper may list binaries.
    pub fn has_list_wrappers(&self) -> bool {
        let mut rules = self.parts.rules.iter();
        rules.any(|rule| rule.scripts.list_wrapper.is_some())
    }

    /// Returns the wrapper by which a binary is listed.
    pub fn list_wrapper(
        &self,
        query: &BinaryQuery<'_>,
    ) -> Option<(Arc<WrapperScript>, Arc<OverrideOrigin>)> {
        let cx = self.eval_context();
        let wrappers = &self.parts.scripts.wrapper;
        self.parts.rules.iter().find_map(|rule| {
            let name = rule.scripts.list_wrapper.as_deref()?;
            let matches = rule.scope.matches_binary(query, &cx) == Some(true);
            let wrapper = wrappers.iter().find(|wrapper| &*wrapper.name == name);
            let wrapper = wrapper.filter(|_| matches)?;
            Some((Arc::clone(wrapper), Arc::clone(&rule.origin)))
        })
    }

    fn eval_context(&self) -> EvalContext<'_> {
        EvalContext {
            default_filter: &self.parts.default_filter.compiled,
        }
    }

    fn resolve(&self, overrides: Box<[u32]>) -> Arc<Resolved> {
        // Nothing panics while the lock is held but for want of memory, and the map is valid
        // between any two statements.
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = resolved.get(&overrides) {
            return Arc::clone(known);
        }
        let new = Arc::new(self.merge(&overrides));
        resolved.insert(overrides, Arc::clone(&new));
        new
    }

    fn merge(&self, overrides: &[u32]) -> Resolved {
        let overrides = overrides
            .iter()
            .map(|&index| &self.parts.overrides[index as usize])
            .map(|candidate| (&candidate.layer, &candidate.origin));
        let profiles = self
            .parts
            .profiles
            .iter()
            .map(|(layer, origin)| (layer, origin));
        let cli = std::iter::once((&self.parts.cli, &Origin::CommandLine));
        let layers: Vec<_> = cli.chain(overrides).chain(profiles).collect();
        let (mut values, origins) = TestValues::merge(layers.iter().copied());
        values.leak = leak_policy(layers.iter().map(|(layer, _)| *layer));
        // Variable by variable: the first layer that sets one counts.
        let set = layers
            .iter()
            .rev()
            .filter_map(|(layer, _)| layer.env.as_ref());
        values.env = set.flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        values.budget =
            Budget::merged(layers.iter().filter_map(|(layer, _)| layer.budget.as_ref()));
        let mut settings = TestSettings::from(&values);
        if self.parts.mode == RunMode::Benchmark {
            settings.slow_timeout = values.bench_slow_timeout;
        }
        Resolved {
            settings: Arc::new(settings),
            report_skipped: values.report_skipped,
            origins,
            values,
        }
    }
}

impl From<&TestValues> for TestSettings {
    fn from(values: &TestValues) -> Self {
        Self {
            retries: values.retries,
            flaky_result: values.flaky_result,
            slow_timeout: values.slow_timeout,
            leak_timeout: values.leak_timeout,
            leak: values.leak,
            limits: Limits {
                memory_max: values.memory_max,
                pids_max: values.pids_max,
                cpu_max: values.cpu_max,
            },
            threads_required: values.threads_required,
            exclusive: values.exclusive,
            memory_required: values.memory_required,
            test_group: values.test_group.clone(),
            priority: values.priority,
            run_extra_args: values.run_extra_args.clone(),
            env: values.env.clone(),
            require_result: values.require_result,
            output: OutputPolicy {
                success: values.success_output,
                failure: values.failure_output,
                junit_success: values.junit_success,
                junit_failure: values.junit_failure,
                junit_flaky_fail_as_failure: values.flaky_fail_status == FlakyFailStatus::Failure,
            },
            policy: Policy {
                mode: values.policy_mode,
                read: values.policy_read.clone(),
                write: values.policy_write.clone(),
                exec: values.policy_exec.clone(),
                ipc: values.policy_ipc.clone(),
                net: values.policy_net.clone(),
            },
            budget: values.budget.clone(),
            trace: TraceSetting {
                level: values.trace_level,
                required: values.trace_required,
                backend: values.trace_backend,
                no_new_privs: values.trace_no_new_privs,
            },
            remote: RemoteSetting {
                allow: values.remote_allow,
                properties: values.remote_properties.clone(),
                backup_after: values.remote_backup_after,
            },
        }
    }
}

/// The settings where nothing is configured.
impl Default for TestSettings {
    fn default() -> Self {
        Self::from(&TestValues::merge([]).0)
    }
}

/// Returns what layers, the one that wins first, make of leaks. `leak` says it, and so does the
/// `result` of a `leak-timeout`: the first that is said counts, and `leak` where one place says
/// both. A `leak-timeout` replaces those after it as a whole.
fn leak_policy<'a>(layers: impl Iterator<Item = &'a TestLayer>) -> LeakPolicy {
    let mut replaced = false;
    for layer in layers {
        if let Some(leak) = layer.leak {
            return leak;
        }
        if let Some(timeout) = layer.leak_timeout.filter(|_| !replaced) {
            if let Some(result) = timeout.result {
                return result.into();
            }
            replaced = true;
        }
    }
    LeakPolicy::default()
}

impl fmt::Debug for CompiledProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledProfile")
            .field("name", &self.parts.name)
            .finish_non_exhaustive()
    }
}

impl GroupLookup for CompiledProfile {
    fn is_member_test(&self, test: &TestQuery<'_>, matcher: &NameMatcher) -> bool {
        matcher.is_match(self.settings_for(test).settings.test_group.name())
    }
}

impl TestScripts {
    /// Adds the scripts of a rule that is for the test, unless an earlier rule has said so.
    fn add(&mut self, scripts: &Scripts, rule: &CompiledRule) {
        for name in &rule.scripts.setup {
            let mut setup = scripts.setup.iter();
            let index = setup.position(|script| *script.name == **name);
            note(&mut self.setup, index, rule);
        }
        for name in &rule.scripts.service {
            let mut services = scripts.service.iter();
            let index = services.position(|service| *service.name == **name);
            note(&mut self.services, index, rule);
        }
        let name = rule.scripts.run_wrapper.as_deref();
        if let (None, Some(name)) = (&self.run_wrapper, name) {
            let mut wrappers = scripts.wrapper.iter();
            let wrapper = wrappers.find(|wrapper| &*wrapper.name == name);
            self.run_wrapper =
                wrapper.map(|wrapper| (Arc::clone(wrapper), Arc::clone(&rule.origin)));
        }
    }
}

/// Notes what a rule names, unless an earlier rule has.
fn note(noted: &mut Vec<(usize, Arc<OverrideOrigin>)>, index: Option<usize>, rule: &CompiledRule) {
    if let Some(index) = index
        && !noted.iter().any(|(known, _)| *known == index)
    {
        noted.push((index, Arc::clone(&rule.origin)));
    }
}

/// To which tests of a binary an override applies.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Applies {
    Always,
    Sometimes,
}

/// The settings of the tests of one binary.
pub struct BinarySettings<'a> {
    profile: &'a CompiledProfile,
    candidates: Vec<(u32, Applies)>,
    /// The settings that all tests share, if no override selects by name.
    shared: Option<Arc<Resolved>>,
}

impl BinarySettings<'_> {
    /// Returns the indexes of all entries of the quarantine that have a test of this binary.
    pub fn quarantine(&self, query: &TestQuery<'_>) -> Vec<usize> {
        let cx = self.profile.eval_context();
        let known = Known::new(&query.binary_query);
        let query = known.test(query);
        let entries = self.profile.parts.quarantine.iter().enumerate();
        let entries = entries.filter(|(_, entry)| entry.has(&query, &cx));
        entries.map(|(index, _)| index).collect()
    }

    /// Returns the settings of a test of this binary.
    pub fn settings_for(&self, query: &TestQuery<'_>) -> Arc<Resolved> {
        if let Some(shared) = &self.shared {
            return Arc::clone(shared);
        }
        let cx = self.profile.eval_context();
        let known = Known::new(&query.binary_query);
        let query = known.test(query);
        let applies = |&(index, applies): &(u32, Applies)| {
            let filter = &self.profile.parts.overrides[index as usize].scope.filter;
            applies == Applies::Always
                || filter
                    .as_ref()
                    .is_none_or(|filter| filter.matches_test(&query, &cx))
        };
        let matching = self
            .candidates
            .iter()
            .filter(|candidate| applies(candidate));
        self.profile
            .resolve(matching.map(|&(index, _)| index).collect())
    }
}
