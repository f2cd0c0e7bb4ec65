//! From options to a summary: the only module that knows all others.
//!
//! [`Start::prepare`] reads the configuration, asks cargo about the workspace, builds, lists
//! while cargo still builds, and plans. [`Session::run`] runs the plan and hands its events to the
//! sinks. What must be wrong before the build is found before the build.

mod archiving;
mod audience;
mod backends;
mod cached;
mod changed;
mod choices;
mod doctests;
mod explain;
mod keeping;
mod kept;
mod lister;
mod machine;
mod notice;
mod outputs;
mod policies;
mod prepare;
mod programs;
mod query;
mod queue;
mod remote;
mod reporting;
mod rerun;
mod reuse;
mod running;
mod scripts;
mod services;
mod tracing;
mod watching;

pub use archiving::{ArchiveError, Archived, compressing_threads};
pub use cached::{Decided, Deciding};
pub use changed::{Changed, ChangedError};
pub use explain::{ExplainedProfile, ExplainedTest};
pub use kept::store_of;
pub use notice::Notice;
pub use programs::{ChangedFunction, ChangedProgram};
pub use reporting::Sinks;
pub use rerun::Scope;
pub use reuse::{Descriptions, Reuse, ReuseFrom, TakeUpError};
pub use watching::{FilesChanged, Watching, WatchingError};

use crate::{
    cargo::{
        BuildError, Built, CargoOptions, DoctestError, Graph, LocateError, MetadataError,
        Workspace, locate_workspace,
    },
    config::{
        self, CliOverrides, CompiledProfile, Config, ConfigError, DEFAULT_PROFILE, MIRI_PROFILE,
        RunSettings,
    },
    filter::{FilterOptions, FiltersetsError, TestFilter, TestSet},
    history::{History, TimingsError},
    list::{ListError, TestList},
    plan::Plan,
    report::SinkError,
    run, store,
    stub::link::StubError,
    tracer::inject::Injection,
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{RunId, RunStats, TestId, event::CancelReason};
use lister::{Shortages, Stubs};
use nextest_filtering::ParseContext;
use nextest_metadata::FilterMatch;
use notice::notify_of_runners;
use reuse::TakenUp;
use std::{
    collections::HashMap,
    env, io,
    sync::{Arc, mpsc},
    thread,
};
use tempfile::TempDir;
use thiserror::Error;

/// The options of a session: the build and the selection of tests.
#[derive(Clone, Debug)]
pub struct Options {
    /// Options that are passed on to cargo.
    pub cargo: CargoOptions,
    /// The working directory of the command.
    pub cwd: Utf8PathBuf,
    /// The files of the configuration.
    pub sources: config::Sources,
    /// The profile; `None` for the default.
    pub profile: Option<String>,
    /// The selection of tests.
    pub filter: FilterOptions,
    /// The chain of runs that this one continues, if it is a rerun.
    pub rerun: Option<Arc<store::Standing>>,
    /// Tests that start before all others.
    pub first: Option<Arc<TestSet>>,
    /// The settings that beat the profile.
    pub overrides: CliOverrides,
    /// The seed of a random order; `None` for a new one.
    pub seed: Option<u64>,
    /// A build to take up instead of building.
    pub reuse: Option<Reuse>,
    /// Whether documentation tests are listed, if the profile runs them.
    pub documentation: bool,
    /// The folders that are asked for, for the store of the runs.
    pub store: store::Wish,
}

/// The options of a run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The command line, for the record.
    pub command_line: Vec<String>,
    /// The target of the tests' output.
    pub capture: run::Capture,
    /// Whether keys are listened to: Enter and `t`.
    pub keys: bool,
    /// True if traces are shown live.
    pub trace_live: bool,
    /// True if the output of tests is shown while they run.
    pub output_live: bool,
    /// The program that runs the test's process, such as a debugger.
    pub below: Option<run::Below>,
    /// The processes to stop for a debugger, and the command for each. Tests are then traced at the
    /// level `process`.
    pub break_exec: Option<run::BreakExec>,
    /// The calls of tests that fail.
    pub inject: Vec<Injection>,
    /// The iterations of a stress run.
    pub stress: Option<run::Stress>,
    /// The timing file to bring up to date at the end.
    pub write_timings: Option<Utf8PathBuf>,
    /// The path of the JUnit report, for readers after a crash.
    pub junit: Option<Utf8PathBuf>,
    /// The engine that runs tests elsewhere; `None` if all run here.
    pub remote: Option<Remote>,
    /// The options of the reports, for a replay.
    pub presentation: store::Presentation,
}

/// The engine of a run.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The engine.
    pub engine: Arc<dyn run::engine::Engine>,
    /// Tells the user which tests stay here.
    pub notify: fn(Notice),
}

/// An error that ended a session early.
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
    TakeUp(#[from] TakeUpError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Doctests(#[from] DoctestError),
    #[error(transparent)]
    Stub(#[from] StubError),
    #[error(transparent)]
    Store(#[from] store::PlaceError),
    /// Tracing was asked for as required.
    #[error("tests cannot be traced here as closely as is required: {reason}")]
    TraceRequired { reason: String },
    /// The timing file cannot be used.
    #[error(transparent)]
    Timings(#[from] TimingsError),
    /// The run could not be driven.
    #[error("the run could not be driven to its end")]
    Run { source: io::Error },
}

/// A workspace that is built, listed and planned.
pub struct Session {
    /// The workspace.
    pub workspace: Workspace,
    /// The built binaries.
    pub built: Built,
    /// All tests.
    pub tests: TestList,
    /// The binaries that run.
    pub plan: Plan,
    /// Their settings.
    pub profile: Arc<CompiledProfile>,
    run_id: RunId,
    stubs: Stubs,
    /// The folder of the profile's reports, if the configuration says so.
    reports: Option<Utf8PathBuf>,
    /// The store of its runs.
    store: Utf8PathBuf,
    /// The last result of each test.
    history: History,
    /// The seed of a random order.
    shuffled: Option<u64>,
    /// Whether the command line chose packages or targets.
    chose_binaries: bool,
    /// Whether the command line chose a part of the workspace's tests.
    partial: bool,
    /// The folder of an archive, which goes with the session.
    _extracted: Option<TempDir>,
    /// The note for a rerun of this run.
    chain: store::Chain,
    /// The documentation tests.
    documentation: doctests::Documentation,
    /// The passes that are used and stored; `None` for none.
    reusing: Option<cached::Reusing>,
}

/// A configuration that was read before anything else.
pub struct Start {
    root: Utf8PathBuf,
    /// The build to take up, if there is to be none.
    taken_up: Option<TakenUp>,
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
        let reuse = options.reuse.as_ref();
        let taken_up = reuse.map(|reuse| TakenUp::new(reuse, options, notify));
        let taken_up = taken_up.transpose()?;
        let root = match &taken_up {
            Some(taken_up) => taken_up.root()?.to_owned(),
            None => locate_workspace(options.cargo.manifest_path.as_deref(), &options.cwd)?,
        };
        let sources = explain::sources(options);
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
            taken_up,
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
        let workspace = self.workspace(options, Graph::Members)?;
        let (ready, _) = mpsc::channel();
        let reused = self.taken_up.as_ref().map(|taken_up| &taken_up.reused);
        let built = prepare::build(&workspace, options, reused, ready)?;
        Ok((workspace, built))
    }

    /// Asks cargo about the workspace, unless a build that was made before says what it is.
    fn workspace(&self, options: &Options, graph: Graph) -> Result<Workspace, SessionError> {
        let Some(taken_up) = &self.taken_up else {
            return Ok(Workspace::load(&options.cargo, &options.cwd, graph)?);
        };
        // Cargo's configuration came along with the sources.
        let cwd = match taken_up.own_sources {
            true => taken_up.root()?,
            false => &options.cwd,
        };
        let workspace = taken_up.reused.workspace(&options.cargo, cwd);
        Ok(workspace.map_err(TakeUpError::from)?)
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
        let workspace = self.workspace(options, prepare::graph(&self.config, options))?;
        let store = self.store(options, &workspace)?;
        notify_of_runners(&workspace, notify);
        let packages = ParseContext::new(&workspace.graph);
        let platforms = explain::platforms(&workspace);
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
        let reused = self.taken_up.as_ref().map(|taken_up| &taken_up.reused);
        let source = prepare::Source {
            workspace: &workspace,
            options,
            reused,
        };
        let (mut built, mut tests) =
            prepare::build_and_list(source, &filter, &profile, run_id, workers)?;
        let listed = (&mut built, &mut tests);
        let documentation = doctests::list(source, &profile, &filter, listed)?;
        let mut plan = prepare::plan(&tests, &filter, &profile);
        let history = History::load(&store);
        let file = timings_file(&self.root, &profile);
        prepare::part(&mut plan, &filter, file.as_deref(), &history, notify)?;
        let shuffled = prepare::order(&mut plan, &profile, &history, options.seed);
        if let Some(first) = &options.first {
            plan.put_first(first);
        }
        Ok(Session {
            chain: rerun::chain(options, &tests, &plan),
            workspace,
            built,
            tests,
            plan,
            profile,
            run_id,
            stubs,
            reports: self.config.reports(match &self.taken_up {
                Some(TakenUp {
                    own_sources: true, ..
                }) => &options.cwd,
                _ => &self.root,
            }),
            store,
            history,
            shuffled,
            chose_binaries: options.cargo.selects(),
            partial: options.cargo.selects() || options.filter.is_set(),
            _extracted: self.taken_up.and_then(|taken_up| taken_up.folder),
            documentation,
            reusing: None,
        })
    }
}

fn timings_file(root: &Utf8Path, profile: &CompiledProfile) -> Option<Utf8PathBuf> {
    Some(root.join(profile.run_settings().timings.as_ref()?))
}

/// Returns how many CPUs this process may use.
pub fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The result of a run.
#[derive(Debug)]
pub struct Summary {
    /// The counts.
    pub stats: RunStats,
    /// The reason of its cancellation.
    pub cancelled: Option<CancelReason>,
    /// The setup scripts that failed, or whose teardown did.
    pub failed_scripts: Vec<String>,
    /// The services that failed.
    pub failed_services: Vec<String>,
    /// The reason why the run is not recorded as a whole, if it is not.
    pub not_kept: Option<store::KeepError>,
    /// The output that the sinks could not write.
    pub unwritten: Vec<SinkError>,
    /// The passes that are stored; `None` if that was not asked for.
    pub observed: Option<crate::reuse::Observed>,
}

impl Session {
    /// The run's id.
    pub fn run_id(&self) -> RunId {
        self.run_id
    }

    /// Returns the folder below which relative paths of the profile's reports are.
    pub fn reports(&self) -> Utf8PathBuf {
        let folder = self.reports.clone();
        let folder = folder.unwrap_or_else(|| self.workspace.kept_in().join("harness"));
        folder.join(self.profile.name())
    }

    /// Returns the runs before this one, for a report that shows its tests against them.
    pub fn earlier_runs(&self) -> store::Earlier {
        store::Earlier::new(&self.store, self.workspace.root())
    }

    /// The store that the run is kept in.
    pub fn store(&self) -> &Utf8Path {
        &self.store
    }

    /// Returns the path of the timing file, if the profile has one.
    pub fn timings_file(&self) -> Option<Utf8PathBuf> {
        timings_file(self.workspace.root(), &self.profile)
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
        let killed = take_killed(&self.store);
        killed.into_iter().map(Notice::Killed).for_each(notify);
    }
}

/// Returns the runs in a store whose runner was killed, each only once, and deletes what their tests left for it.
pub fn take_killed(store: &Utf8Path) -> Vec<store::Killed> {
    let killed = store::take_killed(store);
    for killed in &killed {
        run::forget_metrics(killed.run.header.run_id);
    }
    killed
}
