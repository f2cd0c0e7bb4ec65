//! From options to a summary: the only module that knows all others.
//!
//! [`Start::prepare`] reads the configuration, asks cargo about the workspace, builds, lists
//! while cargo still builds, and plans. [`Session::run`] runs the plan and hands its events to the
//! sinks. What must be wrong before the build is found before the build.

mod audience;
mod backends;
mod choices;
mod explain;
mod keeping;
mod lister;
mod machine;
mod notice;
mod outputs;
mod prepare;
mod queue;
mod reporting;
mod tracing;

pub use explain::{ExplainedProfile, ExplainedTest};
pub use notice::Notice;
pub use reporting::Sinks;

use crate::{
    build::{
        Build, BuildError, Built, CargoOptions, Graph, LocateError, MetadataError, Workspace,
        locate_workspace,
    },
    config::{
        self, CliOverrides, CompiledProfile, Config, ConfigError, DEFAULT_PROFILE, MIRI_PROFILE,
        Platforms, RunSettings,
    },
    filter::{FilterOptions, FiltersetsError, TestFilter},
    keys::Keys,
    list::{ListError, TestList},
    plan::Plan,
    protocol::Environment,
    report::SinkError,
    run, store,
    stub::{
        self,
        cgroup::{Cgroups, Made},
        link::{Stub, StubError},
    },
};
use backends::Learning;
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{
    Event, EventKind, RunId, RunStats, TestId,
    event::{
        CancelReason, RunFinished, RunStarted, SCHEMA_VERSION, Source, TraceInForce, TraceLevel,
    },
};
use keeping::Keeping;
use lister::{Shortages, Stubs};
use nextest_filtering::ParseContext;
use nextest_metadata::FilterMatch;
use notice::notify_of_runners;
use reporting::Reporting;
use std::{
    collections::{BTreeMap, HashMap},
    env, io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use thiserror::Error;
use tracing::Choice;

/// What to build and which tests to select.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is passed on to cargo.
    pub cargo: CargoOptions,
    /// Where the command was given.
    pub cwd: Utf8PathBuf,
    /// Where the configuration is read from.
    pub sources: config::Sources,
    /// The profile; `None` for the default.
    pub profile: Option<String>,
    /// Which tests to select.
    pub filter: FilterOptions,
    /// What beats the profile.
    pub overrides: CliOverrides,
}

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The command line, for the record.
    pub command_line: Vec<String>,
    /// Where the tests' output goes.
    pub capture: run::Capture,
    /// Whether keys are listened to: Enter and `t`.
    pub keys: bool,
    /// Whether what traces see is told as it happens.
    pub trace_live: bool,
    /// Which processes to stop for a debugger, and what to do then. Tests are then traced at the level
    /// `process`.
    pub break_exec: Option<run::BreakExec>,
    /// Where the JUnit report is written, for those who look for it after a crash.
    pub junit: Option<Utf8PathBuf>,
}

/// Why a session did not come to its end.
#[derive(Debug, Error)]
#[allow(
    missing_docs,
    reason = "each variant is the error of the module that it names"
)]
pub enum SessionError {
    #[error(transparent)]
    Locate(#[from] LocateError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Filtersets(#[from] FiltersetsError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Stub(#[from] StubError),
    /// Tracing was asked for as required.
    #[error("tests cannot be traced here as closely as is required: {reason}")]
    TraceRequired { reason: String },
    /// The run could not be driven.
    #[error("the run could not be driven to its end")]
    Run { source: io::Error },
}

/// A workspace that is built, listed and planned.
pub struct Session {
    /// The workspace.
    pub workspace: Workspace,
    /// What was built.
    pub built: Built,
    /// All tests.
    pub tests: TestList,
    /// Which of them run.
    pub plan: Plan,
    /// What they run under.
    pub profile: Arc<CompiledProfile>,
    run_id: RunId,
    stubs: Stubs,
    /// Where the reports of the profile go, if the configuration says so.
    reports: Option<Utf8PathBuf>,
    /// Whether the command line chose a part of the workspace's tests.
    partial: bool,
}

/// A configuration that was read before anything else.
pub struct Start {
    root: Utf8PathBuf,
    config: Config,
    profile: crate::config::Profile,
    /// The settings of the run as a whole.
    pub settings: RunSettings,
}

impl Start {
    /// Finds the workspace and reads its configuration, which takes about a millisecond.
    ///
    /// # Errors
    ///
    /// When there is no workspace, or what the configuration says makes no sense.
    pub fn new(options: &Options, notify: &mut dyn FnMut(Notice)) -> Result<Self, SessionError> {
        let root = locate_workspace(options.cargo.manifest_path.as_deref(), &options.cwd)?;
        let mut sources = options.sources.clone();
        sources.config_file = sources.config_file.map(|file| options.cwd.join(file));
        let (config, warnings) = Config::load(&root, &sources)?;
        if sources.config_file.is_none() && config.dialect() == config::Dialect::Peer {
            notify(Notice::PeerConfig);
        }
        warnings.into_iter().map(Notice::Config).for_each(notify);
        let miri = env::var_os("MIRI_SYSROOT").is_some();
        let default = if miri { MIRI_PROFILE } else { DEFAULT_PROFILE };
        let profile = config.profile(options.profile.as_deref().unwrap_or(default))?;
        let (settings, _) = profile.run_settings(&options.overrides);
        Ok(Self {
            root,
            config,
            profile,
            settings,
        })
    }

    /// Reads which versions the workspace asks for, whether or not they are met.
    ///
    /// # Errors
    ///
    /// As for [`Start::new`].
    pub fn requirements(options: &Options) -> Result<Vec<config::Requirement>, SessionError> {
        let mut options = options.clone();
        options.sources.override_version_check = true;
        options.profile = None;
        let start = Self::new(&options, &mut |_| ())?;
        Ok(start.config.requirements().to_vec())
    }

    /// The root of the workspace.
    pub fn workspace_root(&self) -> &Utf8Path {
        &self.root
    }

    /// Builds only. Cargo's messages go to where they go by themselves.
    ///
    /// # Errors
    ///
    /// When there is nothing to build, or it does not build.
    pub fn build(self, options: &Options) -> Result<(Workspace, Built), SessionError> {
        let workspace = Workspace::load(&options.cargo, &options.cwd, Graph::Members)?;
        let inherited = Environment::inherited();
        let build = Build {
            workspace: &workspace,
            options: &options.cargo,
            inherited: &inherited,
        };
        let (ready, _) = mpsc::channel();
        let built = build.run(ready, &mut io::stdout())?;
        Ok((workspace, built))
    }

    /// Builds, lists and plans.
    ///
    /// # Errors
    ///
    /// When any of that fails.
    pub fn prepare(
        self,
        options: &Options,
        notify: &mut (dyn FnMut(Notice) + Send),
    ) -> Result<Session, SessionError> {
        let workspace = Workspace::load(
            &options.cargo,
            &options.cwd,
            prepare::graph(&self.config, options),
        )?;
        notify_of_runners(&workspace, notify);
        let packages = ParseContext::new(&workspace.graph);
        let platforms = Platforms {
            host: workspace.platforms.host.clone(),
            targets: (workspace.platforms.targets.iter())
                .map(|target| (target.folder().to_owned(), target.platform.clone()))
                .collect(),
        };
        let overrides = options.overrides.clone();
        let profile = Arc::new(self.profile.compile(&packages, &platforms, overrides)?);
        let filter = TestFilter::new(
            options.filter.clone(),
            &packages,
            &self.config.known_groups(),
            profile.default_filter().compiled.clone(),
            Arc::<CompiledProfile>::clone(&profile) as _,
        )?;
        let run_id = RunId::random();
        let stubs = Stubs::default();
        let shortages = Shortages::new(notify);
        let workers = stubs.workers(cpus(), &shortages);
        let (built, tests) =
            prepare::build_and_list(&workspace, options, &filter, &profile, run_id, workers)?;
        let plan = prepare::plan(&tests, &filter, &profile);
        Ok(Session {
            workspace,
            built,
            tests,
            plan,
            profile,
            run_id,
            stubs,
            reports: self.config.reports(&self.root),
            partial: options.cargo.selects() || options.filter.is_set(),
        })
    }
}

/// Returns how many CPUs this process may use.
pub fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// How a run went.
#[derive(Debug)]
pub struct Summary {
    /// The counts.
    pub stats: RunStats,
    /// Why it was cancelled, if it was.
    pub cancelled: Option<CancelReason>,
    /// Why the run is not kept whole, if so.
    pub not_kept: Option<store::KeepError>,
    /// What the sinks could not write.
    pub unwritten: Vec<SinkError>,
}

impl Session {
    /// The run's id.
    pub fn run_id(&self) -> RunId {
        self.run_id
    }

    /// Returns the folder below which relative paths of the profile's reports are.
    pub fn reports(&self) -> Utf8PathBuf {
        let folder = self.reports.clone();
        let folder = folder.unwrap_or_else(|| self.workspace.target_directory().join("harness"));
        folder.join(self.profile.name())
    }

    /// Returns for every listed test whether it is selected.
    pub fn filter_matches(&self) -> HashMap<TestId, FilterMatch> {
        let skipped = self.plan.skipped.iter().map(|test| {
            let reason = test.reason;
            (test.id.clone(), FilterMatch::Mismatch { reason })
        });
        let selected = self.plan.tests.iter();
        let selected = selected.map(|test| (test.id.clone(), FilterMatch::Matches));
        skipped.chain(selected).collect()
    }

    /// Tells of earlier runs whose runner was killed, once.
    pub fn tell_of_killed(&self, notify: &mut dyn FnMut(Notice)) {
        let killed = store::take_killed(self.workspace.target_directory());
        killed.into_iter().map(Notice::Killed).for_each(notify);
    }

    /// Runs the plan. Returns when every process of it is gone and every sink has seen the end.
    ///
    /// # Errors
    ///
    /// When the run cannot begin or cannot be driven. What is known of the tests has been told to
    /// the sinks.
    pub fn run(self, options: &RunOptions, mut sinks: Sinks<'_>) -> Result<Summary, SessionError> {
        let settings = self.profile.run_settings();
        stub::open_files::raise();
        let asked = match options.capture {
            run::Capture::Pipes => settings.test_threads.resolve(cpus()),
            run::Capture::Inherit => 1,
        };
        let (room, open_files) = stub::open_files::room_for_slots();
        let slots = asked.min(room);
        let mut stubs = self.stubs.take();
        stubs.truncate(slots);
        let (choices, awaited) = self.choose_tracing(options, &mut stubs)?;
        let mut trace = tracing::in_force(&choices, stub::no_proc());
        if options.break_exec.is_some() && trace.level > TraceLevel::Off {
            trace.degraded.get_or_insert_with(tracing::cost_of_breaks);
        }
        let wanted = slots.min(self.plan.tests.len());
        while stubs.len() < wanted.min(cpus()) {
            match Stub::launch() {
                Ok(stub) => stubs.push(stub),
                // Each slot starts its own, and waits if need be.
                Err(error) if error.is_scarcity() => break,
                Err(error) => return Err(error.into()),
            }
        }
        let started_at = chrono::Local::now().fixed_offset();
        let numbers = self.trace_numbers(&choices);
        let target = self.workspace.target_directory();
        let kept = store::Run::create(target, self.run_id, options.junit.as_deref());
        let trace_files = kept.as_ref().ok().map(store::Run::trace_files);
        if let (Err(error), false) = (&kept, numbers.is_empty()) {
            trace.degraded.get_or_insert_with(|| {
                format!("{error}, so no trace of this run is kept: {}", error.source)
            });
        }
        let first = numbers.iter().map(|(&id, &number)| (id.clone(), number));
        let keeping = Keeping::new(kept, first.collect(), sinks.files);
        let learnable = self.plan.tests.iter().zip(&choices);
        let learnable = learnable.filter(|(_, choice)| choice.tracing.ladder.is_some());
        let learnable = learnable.map(|(test, _)| test.id.clone()).collect();
        sinks.readers.push(Box::new(Learning::new(
            target,
            self.identities(),
            learnable,
        )));
        let mut reporting = Reporting::new(sinks.readers, keeping);
        let made = self.make_cgroups();
        let begin = RunStarted {
            limits_missing: made.not_enforced(),
            ..self.run_started(options, slots, trace, started_at)
        };
        // Removed here, when the run is over.
        let cgroups = made.cgroups.map(Arc::new);
        reporting.begin(at_start(EventKind::RunStarted(Box::new(begin))));
        if let Some((because, limit)) = awaited {
            reporting.begin(at_start(EventKind::AwaitsSystem { because, limit }));
        }
        if slots < asked.min(self.plan.tests.len()) {
            let because = format!(
                "{asked} were asked for, and a process may have no more than {open_files} open \
                 files here (`ulimit -Hn`)"
            );
            reporting.begin(at_start(EventKind::FewerSlots { slots, because }));
        }
        for skipped in &self.plan.skipped {
            reporting.begin(at_start(EventKind::TestSkipped {
                test: skipped.id.clone(),
                reason: skipped.reason,
                reported: skipped.reported(),
            }));
        }
        let work = self.work(options, slots, &choices, &numbers, started_at, stubs);
        let work = run::Work {
            trace_files,
            cgroups: cgroups.clone(),
            ..work
        };
        // Before there are stubs that watch over it; given back when the sinks are done with it.
        let keys = match options.keys {
            true => Keys::open().ok().flatten(),
            false => None,
        };
        let started = reporting.start_keeper().and_then(|keeper| {
            let (running, events) = run::Running::start(work, keeper.thread().clone())?;
            Ok((keeper, running, events))
        });
        let (keeper, running, events) = match started {
            Ok(started) => started,
            Err(source) => {
                reporting.cut_short();
                reporting.end();
                return Err(SessionError::Run { source });
            }
        };
        if let Some(keys) = &keys {
            // A run without keys is better than none.
            let _ = keys.listen(running.keys());
        }
        let finished = reporting.follow(keeper, &running, events);
        let driven = running.join();
        let RunFinished {
            stats, cancelled, ..
        } = match finished {
            Some(finished) => finished,
            None => {
                reporting.cut_short();
                let lost = || io::Error::other("the run ended without its last event");
                let source = driven.err().unwrap_or_else(lost);
                return Err(SessionError::Run { source });
            }
        };
        let panicked = reporting.has_panicked();
        let (unwritten, not_kept) = reporting.end();
        driven.map_err(|source| SessionError::Run { source })?;
        if panicked {
            let source = io::Error::other("what reports the results has panicked");
            return Err(SessionError::Run { source });
        }
        Ok(Summary {
            stats,
            cancelled,
            not_kept,
            unwritten,
        })
    }

    /// Makes cgroups, in which the tests' limits are to be had.
    fn make_cgroups(&self) -> Made {
        let limits = self.plan.tests.iter().map(|test| test.settings.limits);
        Cgroups::make(&limits.flat_map(|limits| limits.kinds()).collect())
    }

    /// Numbers the attempts of the tests that are traced. Returns the number of each test's first.
    fn trace_numbers(&self, choices: &[Choice]) -> HashMap<&TestId, u64> {
        let mut numbers = HashMap::new();
        let mut next = 1;
        for (test, choice) in self.plan.tests.iter().zip(choices) {
            if choice.tracing.level > TraceLevel::Off {
                numbers.insert(&test.id, next);
                next += 1 + u64::from(test.settings.retries.count());
            }
        }
        numbers
    }

    fn run_started(
        &self,
        options: &RunOptions,
        slots: usize,
        trace: TraceInForce,
        started_at: chrono::DateTime<chrono::FixedOffset>,
    ) -> RunStarted {
        let root = self.workspace.root();
        let sources = self.tests.binaries.iter().map(|listed| {
            let file = &listed.binary.source_file;
            let source = Source {
                package: listed.binary.package_name.clone(),
                file: file.strip_prefix(root).unwrap_or(file).to_string(),
            };
            (listed.binary.id.clone(), source)
        });
        RunStarted {
            schema_version: SCHEMA_VERSION,
            harness_version: env!("CARGO_PKG_VERSION").to_owned(),
            run_id: self.run_id,
            profile: self.profile.name().to_owned(),
            command_line: options.command_line.clone(),
            started_at,
            workspace_root: root.to_string(),
            slots,
            tests: self.plan.tests.len(),
            binaries: self.plan.counts.binaries,
            skipped_tests: self.plan.skipped.len(),
            skipped_by_default_filter: self.plan.counts.skipped_by_default_filter,
            skipped_binaries: self.plan.counts.skipped_binaries,
            skipped_binaries_by_default_filter: self.plan.counts.binaries_skipped_by_default_filter,
            partial: self.partial,
            trace,
            machine: Some(machine::machine()),
            limits_missing: None,
            silent_binaries: self
                .tests
                .silent()
                .map(|binary| binary.id.clone())
                .collect(),
            sources: sources.collect(),
        }
    }

    fn work(
        &self,
        options: &RunOptions,
        slots: usize,
        choices: &[Choice],
        numbers: &HashMap<&TestId, u64>,
        started_at: chrono::DateTime<chrono::FixedOffset>,
        stubs: Vec<Stub>,
    ) -> run::Work {
        let settings = self.profile.run_settings();
        let tests = self.plan.tests.iter().zip(choices);
        let tests = tests.map(|(test, choice)| run::Test {
            id: test.id.clone(),
            settings: Arc::clone(&test.settings),
            binary: test.binary,
            ignored: test.ignored,
            tracing: choice.tracing,
            trace_number: numbers.get(&test.id).copied(),
        });
        let limit = |threads: &crate::config::settings::TestThreads| threads.resolve(cpus());
        let groups = self.profile.test_groups().iter();
        run::Work {
            run_id: self.run_id,
            profile: self.profile.name().to_owned(),
            started_at,
            tests: tests.collect(),
            binaries: self
                .tests
                .binaries
                .iter()
                .map(|listed| prepare::binary(&self.workspace, &self.built, listed))
                .collect(),
            slots,
            cpus: cpus(),
            groups: groups
                .map(|(name, threads)| (name.clone(), limit(threads)))
                .collect::<BTreeMap<_, _>>(),
            max_fail: settings.max_fail,
            global_timeout: settings.global_timeout,
            skipped: self.plan.skipped.len(),
            output_cap: settings.output_cap,
            capture: options.capture,
            trace_live: options.trace_live,
            break_exec: options.break_exec.clone(),
            trace_files: None,
            cgroups: None,
            stubs,
        }
    }
}

fn at_start(kind: EventKind) -> Event {
    Event {
        at: Duration::ZERO,
        kind,
    }
}
