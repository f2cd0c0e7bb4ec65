//! Builds, lists while cargo still builds, and plans.

use super::{Notice, Options, SessionError, query::query, scripts};
use crate::{
    cargo::{Build, BuildError, Built, Graph, Reused, TestBinary, Workspace},
    config::{CompiledProfile, Config, settings::Order},
    filter::{self, BinaryMatch, BinaryMismatch, TestFilter},
    history::{History, Timings, TimingsError},
    list::{self, Execute, ListError, ListOptions, Selection, Status, TestList},
    plan::{ListedBinary, ListedTest, Plan},
    protocol::Environment,
    run,
};
use camino::Utf8Path;
use guppy::PackageId;
use harness_metadata::RunId;
use nextest_metadata::RustTestKind;
use std::{
    ffi::OsString,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
};

/// Returns how much of the package graph the filtersets can ask for.
pub(super) fn graph(config: &Config, options: &Options) -> Graph {
    let mut filtersets = options.filter.filtersets.iter();
    let asks = |text: &String| filter::asks_for_dependencies(text);
    match config.asks_for_dependencies() || filtersets.any(asks) {
        true => Graph::Dependencies,
        false => Graph::Members,
    }
}

/// The origin of the binaries.
#[derive(Copy, Clone)]
pub(super) struct Source<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) options: &'a Options,
    /// A build that was made before.
    pub(super) reused: Option<&'a Reused>,
}

/// Builds, or takes a build up. Binaries go to `ready` when they can be listed.
pub(super) fn build(
    workspace: &Workspace,
    options: &Options,
    reused: Option<&Reused>,
    ready: Sender<Arc<TestBinary>>,
) -> Result<Built, BuildError> {
    let inherited = Environment::inherited();
    if let Some(reused) = reused {
        return reused.built(workspace, &options.cargo, &inherited, &ready);
    }
    let build = Build {
        workspace,
        options: &options.cargo,
        inherited: &inherited,
    };
    build.run(ready, &mut io::stdout())
}

/// Builds in one thread and lists in others what is ready.
pub(super) fn build_and_list(
    source: Source<'_>,
    filter: &TestFilter,
    profile: &CompiledProfile,
    run_id: RunId,
    workers: Vec<Box<dyn Execute + '_>>,
) -> Result<(Built, TestList), SessionError> {
    let Source {
        workspace,
        options,
        reused,
    } = source;
    let runners = &workspace.runners;
    for runner in runners.all() {
        runner.check().map_err(ListError::Runner)?;
    }
    let (ready, binaries) = mpsc::channel();
    let environment: Vec<(OsString, OsString)> = ["HARNESS", "NEXTEST"]
        .iter()
        .flat_map(|prefix| {
            [
                (format!("{prefix}_RUN_ID").into(), run_id.to_string().into()),
                (format!("{prefix}_PROFILE").into(), profile.name().into()),
            ]
        })
        .collect();
    let list_options = ListOptions {
        runners: &workspace.runners,
        limit: profile.run_settings().list_timeout,
        // What a wrapper answers depends on more than the binary.
        target_directory: (!profile.has_list_wrappers()).then(|| workspace.kept_in()),
        environment: &environment,
        wrapper: &|binary| scripts::list_wrapper(workspace, profile, binary),
    };
    let select = |binary: &TestBinary| {
        let package_id = PackageId::new(binary.package_id.clone());
        match filter.matches_binary(&query(binary, &package_id)) {
            BinaryMatch::Possible => Selection::Ask,
            BinaryMatch::Never(BinaryMismatch::Expression) => Selection::Skip,
            BinaryMatch::Never(BinaryMismatch::DefaultFilter) => Selection::SkipByDefault,
        }
    };
    let ready = Mutex::new(Some(ready));
    let run_build = || {
        let ready = ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        build(workspace, options, reused, ready.expect("it is built once"))
    };
    thread::scope(|scope| {
        let building = thread::Builder::new().spawn_scoped(scope, run_build);
        // Without a thread to be had, one comes after the other.
        let built = building.as_ref().err().map(|_| run_build());
        let tests = list::list(binaries, workers, &select, &list_options);
        let built = match (building, built) {
            (Ok(building), _) => building.join().expect("the build does not panic"),
            (Err(_), Some(built)) => built,
            (Err(error), None) => unreachable!("built above: {error}"),
        }?;
        Ok((built, tests?))
    })
}

/// Decides what runs.
pub(super) fn plan(tests: &TestList, filter: &TestFilter, profile: &CompiledProfile) -> Plan {
    let package_ids: Vec<PackageId> = tests
        .binaries
        .iter()
        .map(|listed| PackageId::new(listed.binary.package_id.clone()))
        .collect();
    let (test, bench) = (RustTestKind::TEST, RustTestKind::BENCH);
    let kind = |kind| match kind {
        list::TestKind::Test => &test,
        list::TestKind::Bench => &bench,
    };
    let binaries: Vec<ListedBinary<'_>> = tests
        .binaries
        .iter()
        .zip(&package_ids)
        .map(|(listed, package_id)| ListedBinary {
            query: query(&listed.binary, package_id),
            tests: match &listed.status {
                Status::Listed(tests) => Some(
                    tests
                        .iter()
                        .map(|test| ListedTest {
                            name: &test.name,
                            ignored: test.ignored,
                            kind: kind(test.kind),
                            ignore_reason: test.reason.as_deref(),
                            location: test.location.as_ref(),
                        })
                        .collect(),
                ),
                Status::Skipped | Status::SkippedDefaultFilter => None,
            },
        })
        .collect();
    Plan::new(&binaries, filter, profile)
}

/// Keeps the part of a plan that `--partition time:M/N` asks for.
pub(super) fn part(
    plan: &mut Plan,
    filter: &TestFilter,
    timings: Option<&Utf8Path>,
    history: &History,
    notify: &mut dyn FnMut(Notice),
) -> Result<(), TimingsError> {
    let Some((part, total)) = filter.part_by_time() else {
        return Ok(());
    };
    if let Some(file) = timings {
        let timings = Timings::read(file)?;
        plan.keep_part(part, total, |test| timings.of(test));
        return Ok(());
    }
    notify(Notice::PartsOfThisMachine);
    let past = |test: &_| history.of(test).map(|past| past.elapsed());
    plan.keep_part(part, total, past);
    Ok(())
}

/// Puts a plan into the order of its profile. Returns the seed of a random one.
pub(super) fn order(
    plan: &mut Plan,
    profile: &CompiledProfile,
    history: &History,
    seed: Option<u64>,
) -> Option<u64> {
    match profile.run_settings().order {
        Order::Name => None,
        Order::LongestFirst => {
            plan.longest_first(history);
            None
        }
        Order::Shuffle => {
            // Short enough to be typed.
            let seed = seed.unwrap_or_else(|| u64::from(fastrand::u16(..)));
            plan.shuffle(seed);
            Some(seed)
        }
    }
}

/// Returns a listed binary as a run takes it.
pub(super) fn binary(
    workspace: &Workspace,
    built: &Built,
    listed: &list::ListedBinary,
    below: Option<&run::Below>,
) -> run::Binary {
    let binary = &listed.binary;
    let mut program: Vec<_> = below
        .into_iter()
        .flat_map(|below| below.words.clone())
        .collect();
    if let Some(runner) = workspace.runners.get(binary.target.as_deref()) {
        program.push(runner.program.clone().into_os_string());
        program.extend(runner.args.iter().cloned());
    }
    program.push(binary.path.clone().into_os_string());
    let environment = built.environments.get(&binary.id);
    run::Binary {
        program,
        cwd: binary.cwd.clone().into_std_path_buf(),
        environment: environment.map_or_else(Environment::inherited, |env| (**env).clone()),
        libtest: listed.libtest,
        image: listed
            .identity
            .map(|identity| run::Image::new(&binary.path, identity)),
    }
}
