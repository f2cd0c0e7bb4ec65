//! Runs a plan, and tells the sinks of it.

use super::{
    Notice, RunOptions, Session, SessionError, Summary,
    backends::Learning,
    cached::Reusing,
    cpus,
    keeping::{Ended, Keeping},
    machine,
    policies::Policies,
    prepare, programs,
    reporting::{Reporting, Sinks},
    tracing::{self, Choice},
};
use crate::{
    answers::gathered::Gathered,
    config::settings::MemoryRequired,
    history::{History, Others, Remembering, Timings, TimingsError},
    keys::Keys,
    plan::PlannedTest,
    report::{Sink, less},
    run, store,
    stub::{
        self,
        cgroup::{Cgroups, Made, available_memory},
        link::Stub,
    },
};
use camino::Utf8Path;
use chrono::NaiveDate;
use harness_metadata::{
    Event, EventKind, Quarantine,
    event::{RunMode, RunStarted, SCHEMA_VERSION, Source, TraceInForce, TraceLevel},
};
use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

impl Session {
    /// Runs the plan. Returns when every process of it is gone and every sink has seen the end.
    ///
    /// # Errors
    ///
    /// When the run cannot begin or cannot be driven. The sinks have the events
    /// of the tests until then.
    pub fn run(&self, options: &RunOptions, sinks: Sinks<'_>) -> Result<Summary, SessionError> {
        let summary = self.run_plan(options, sinks)?;
        if let Some(file) = &options.write_timings {
            self.write_timings(file)?;
        }
        Ok(summary)
    }

    /// Brings a timing file up to date with the record. Of a workspace that was listed as a whole it has
    /// no other tests then.
    fn write_timings(&self, file: &Utf8Path) -> Result<(), TimingsError> {
        let old = match file.exists() {
            true => Timings::read(file)?,
            false => Timings::default(),
        };
        let others = match self.chose_binaries || self.plan.counts.skipped_binaries > 0 {
            true => Others::Stay,
            false => Others::Leave,
        };
        let history = History::load(&self.store);
        let tests = self.plan.tests.iter().map(|test| &test.id);
        let skipped = self.plan.skipped.iter().map(|test| &test.id);
        old.updated(tests.chain(skipped), others, &history)
            .write(file)
    }

    fn run_plan(
        &self,
        options: &RunOptions,
        mut sinks: Sinks<'_>,
    ) -> Result<Summary, SessionError> {
        stub::open_files::raise();
        let slots = self.slots(options);
        let mut stubs = self.stubs.take();
        stubs.truncate(slots.given);
        let (choices, awaited) = self.choose_tracing(options, &mut stubs)?;
        self.launch_missing(&mut stubs, slots)?;
        let started_at = chrono::Local::now().fixed_offset();
        let store = &self.store;
        let retention = store::Retention {
            bytes: self.profile.run_settings().keep_size,
            ..store::Retention::default()
        };
        // What keeps it from being made keeps the run from being created too.
        let _ = store::make(store, self.workspace.root());
        let kept = store::Run::create(store, self.run_id, options.junit.as_deref());
        if let Ok(run) = &kept {
            store::tidy_in_background(store, retention);
            // Without it a rerun knows less: see `store::Standing`.
            let _ = run.note_chain(&self.chain);
            // Without it a replay has the default options.
            let _ = run.note_presentation(&options.presentation);
        }
        let traced = (choices.iter()).any(|choice| choice.tracing.level > TraceLevel::Off);
        let unkept = kept.as_ref().err().filter(|_| traced);
        let trace = trace_in_force(options, &choices, unkept);
        let trace_files = kept.as_ref().ok().map(store::Run::trace_files);
        // Its files are removed when the run is over.
        let (observing, recording) = self.observing(kept.as_ref().ok());
        let keeping = Keeping::new(kept, sinks.files, self.gathered(), observing);
        sinks.readers.push(Box::new(self.learning(&choices)));
        sinks.readers.extend(self.remembering(store));
        let mut reporting = Reporting::new(sinks.readers, keeping);
        let made = self.make_cgroups();
        let begin = RunStarted {
            limits_missing: made.not_enforced(),
            ..self.run_started(options, slots.given, trace, started_at)
        };
        reporting.begin(at_start(EventKind::RunStarted(Box::new(begin))));
        if let Some((because, limit)) = awaited {
            reporting.begin(at_start(EventKind::AwaitsSystem { because, limit }));
        }
        self.begin(&mut reporting, slots);
        // Removed here, when the run is over.
        let cgroups = made.cgroups.map(Arc::new);
        let work = match self.work(options, slots.given, &choices, started_at, stubs) {
            Ok(work) => work,
            Err(source) => {
                reporting.cut_short();
                reporting.end();
                return Err(SessionError::Run { source });
            }
        };
        let work = run::Work {
            trace_files,
            entries: recording.as_ref().map(programs::OfRun::files),
            cgroups: cgroups.clone(),
            ..work
        };
        // Before there are stubs that watch over it; given back when the sinks are done with it.
        let keys = match options.keys {
            true => Keys::open().ok().flatten(),
            false => None,
        };
        drive(work, reporting, keys.as_ref())
    }

    /// Returns the findings of a run that has not begun.
    fn gathered(&self) -> Gathered {
        let credentials = self.profile.run_settings().warn_credentials;
        let target = self.workspace.target_directory();
        Gathered::new(self.workspace.root(), target, credentials)
    }

    /// Returns the sink that remembers how tests ended. How long a benchmark measures says nothing of a test.
    fn remembering(&self, store: &Utf8Path) -> Option<Box<dyn Sink>> {
        let is_test = self.profile.mode().is_test();
        is_test.then(|| Box::new(Remembering::new(store)) as _)
    }

    /// Returns how many tests can run at the same time.
    fn slots(&self, options: &RunOptions) -> SlotCount {
        let asked = match options.capture {
            run::Capture::Pipes => self.profile.run_settings().test_threads.resolve(cpus()),
            run::Capture::Inherit { .. } => 1,
        };
        let (room, open_files) = stub::open_files::room_for_slots();
        SlotCount {
            asked,
            given: asked.min(room),
            open_files,
        }
    }

    /// Launches the stubs that are needed at once and not there yet.
    fn launch_missing(&self, stubs: &mut Vec<Stub>, slots: SlotCount) -> Result<(), SessionError> {
        let wanted = slots.given.min(self.plan.tests.len());
        while stubs.len() < wanted.min(cpus()) {
            match Stub::launch() {
                Ok(stub) => stubs.push(stub),
                // Each slot starts its own, and waits if need be.
                Err(error) if error.is_scarcity() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Returns the sink that learns how tests are to be traced.
    fn learning(&self, choices: &[Choice]) -> Learning {
        let learnable = self.plan.tests.iter().zip(choices);
        let learnable = learnable.filter(|(_, choice)| choice.tracing.ladder.is_some());
        let learnable = learnable.map(|(test, _)| test.id.clone()).collect();
        let target = self.workspace.kept_in();
        Learning::new(target, self.identities(), learnable)
    }

    /// Sends the events that come before the first test.
    fn begin(&self, reporting: &mut Reporting<'_>, slots: SlotCount) {
        let SlotCount {
            asked,
            given: slots,
            open_files,
        } = slots;
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
                ignore_reason: skipped.ignore_reason.clone(),
                location: skipped.location.as_deref().cloned(),
            }));
        }
        for cached in self.reusing.iter().flat_map(Reusing::events) {
            reporting.begin(at_start(cached));
        }
    }

    /// Makes cgroups, in which the tests' limits are to be had.
    fn make_cgroups(&self) -> Made {
        let limits = self.plan.tests.iter().map(|test| test.settings.limits);
        Cgroups::make(&limits.flat_map(|limits| limits.kinds()).collect())
    }

    fn run_started(
        &self,
        options: &RunOptions,
        slots: usize,
        trace: TraceInForce,
        started_at: chrono::DateTime<chrono::FixedOffset>,
    ) -> RunStarted {
        let stress = options.stress.map(|stress| stress.started());
        let iterations = stress.and_then(|stress| stress.iterations).unwrap_or(1);
        let root = self.workspace.root();
        let mut tests = vec![0; self.tests.binaries.len()];
        for test in &self.plan.tests {
            tests[test.binary] += 1;
        }
        let sources = self
            .tests
            .binaries
            .iter()
            .zip(tests)
            .map(|(listed, tests)| {
                let file = &listed.binary.source_file;
                let source = Source {
                    package: listed.binary.package_name.clone(),
                    file: file.strip_prefix(root).unwrap_or(file).to_string(),
                    binary: listed.binary.name.clone(),
                    kind: listed.binary.kind.to_string(),
                    tests,
                };
                (listed.binary.id.clone(), source)
            });
        RunStarted {
            schema_version: SCHEMA_VERSION,
            harness_version: env!("CARGO_PKG_VERSION").to_owned(),
            run_id: self.run_id,
            rerun_of: self.chain.rerun_of,
            mode: self.profile.mode(),
            profile: self.profile.name().to_owned(),
            command_line: options.command_line.clone(),
            started_at,
            workspace_root: root.to_string(),
            slots,
            tests: self.plan.tests.len().saturating_mul(iterations),
            binaries: self.plan.counts.binaries,
            skipped_tests: self.plan.skipped.len(),
            skipped_by_default_filter: self.plan.counts.skipped_by_default_filter,
            skipped_passed_before: self.plan.counts.passed_before,
            cached_tests: self.cached(),
            skipped_binaries: self.plan.counts.skipped_binaries,
            skipped_binaries_by_default_filter: self.plan.counts.binaries_skipped_by_default_filter,
            partial: self.partial || self.profile.mode() == RunMode::Benchmark,
            shuffle_seed: self.shuffled,
            stress,
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

    /// Returns the entry of the quarantine that has a test, as of a day.
    fn quarantine(&self, test: &PlannedTest, day: NaiveDate) -> Option<Box<Quarantine>> {
        let entry = self.profile.quarantine().get(test.quarantine?)?;
        Some(Box::new(entry.on(day)))
    }

    /// Tells of the entries of the quarantine that have expired, and of those that have no test.
    pub fn tell_of_quarantine(&self, notify: &mut dyn FnMut(Notice)) {
        let today = chrono::Local::now().date_naive();
        let all = !self.partial && self.plan.counts.skipped_binaries == 0;
        for (index, entry) in self.profile.quarantine().iter().enumerate() {
            if all && !self.plan.quarantine.contains(&index) {
                notify(Notice::Quarantine(entry.has_no_test()));
            } else if entry.on(today).expired {
                notify(Notice::Quarantine(entry.has_expired()));
            }
        }
    }

    /// Returns how much memory has to be available before a test starts.
    fn memory(&self, test: &PlannedTest) -> u64 {
        match test.settings.memory_required {
            MemoryRequired::None => 0,
            MemoryRequired::Bytes(bytes) => bytes,
            MemoryRequired::Learnt => self.history.of(&test.id).map_or(0, |past| past.memory),
        }
    }

    pub(super) fn binaries(&self, below: Option<&run::Below>) -> Vec<run::Binary> {
        let (workspace, built) = (&self.workspace, &self.built);
        let binaries = self.tests.binaries.iter();
        let binaries = binaries.map(|listed| prepare::binary(workspace, built, listed, below));
        binaries.collect()
    }

    fn work(
        &self,
        options: &RunOptions,
        slots: usize,
        choices: &[Choice],
        started_at: chrono::DateTime<chrono::FixedOffset>,
        stubs: Vec<Stub>,
    ) -> io::Result<run::Work> {
        let (settings, mode) = (self.profile.run_settings(), self.profile.mode());
        let (scripts, scripts_of_tests) = self.setup_scripts();
        let (services, services_of_tests) = self.services(&scripts_of_tests)?;
        let own = scripts_of_tests.into_iter().zip(services_of_tests);
        let mut policies = Policies::new(&self.workspace);
        let tests = self.plan.tests.iter().zip(choices).zip(own);
        let tests = tests.map(|((test, choice), (scripts, services))| run::Test {
            id: test.id.clone(),
            settings: Arc::clone(&test.settings),
            memory: self.memory(test),
            quarantine: self.quarantine(test, started_at.date_naive()),
            binary: test.binary,
            ignored: test.ignored,
            location: test.location.clone(),
            tracing: choice.tracing,
            policy: policies.of(&test.settings.policy),
            inject: options.inject(),
            // Its instances would write to the same files.
            keeps_trace: choice.tracing.level > TraceLevel::Off && options.stress.is_none(),
            role: run::Role::Test,
            measured: mode == RunMode::Benchmark,
            scripts,
            services,
            wrapped: self.wrapped(test, options.below.as_ref()),
        });
        let limit = |threads: &crate::config::settings::TestThreads| threads.resolve(cpus());
        let (groups, tests) = (self.profile.test_groups().iter(), tests.collect::<Vec<_>>());
        let needs_memory = tests.iter().any(|test| test.memory > 0);
        let binaries = self.binaries(options.below.as_ref());
        let remote = self.away(options, &tests, &binaries)?;
        Ok(run::Work {
            run_id: self.run_id,
            mode,
            profile: self.profile.name().to_owned(),
            started_at,
            tests,
            binaries,
            slots,
            cpus: cpus(),
            memory: needs_memory.then(available_memory).flatten(),
            groups: groups
                .map(|(name, threads)| (name.clone(), limit(threads)))
                .collect::<BTreeMap<_, _>>(),
            max_fail: settings.max_fail,
            stress: options.stress,
            global_timeout: self.profile.global_timeout(),
            skipped: self.plan.skipped.len(),
            output_cap: settings.output_cap,
            capture: options.capture,
            stdin: (options.below.as_ref()).map_or_else(Default::default, |below| below.stdin),
            trace_live: options.trace_live,
            output_live: options.output_live,
            break_exec: options.break_exec.clone(),
            trace_files: None,
            entries: None,
            cgroups: None,
            stubs,
            scripts,
            services,
            remote,
        })
    }
}

/// The number of tests that can run at the same time.
#[derive(Copy, Clone)]
struct SlotCount {
    asked: usize,
    /// No more than there is room for.
    given: usize,
    /// The number of files that a process may have open.
    open_files: u64,
}

/// Returns what is in force, and why it is less than what was asked for.
fn trace_in_force(
    options: &RunOptions,
    choices: &[Choice],
    unkept: Option<&store::KeepError>,
) -> TraceInForce {
    let mut trace = tracing::in_force(choices, stub::no_proc().as_ref());
    if options.break_exec.is_some() && trace.level > TraceLevel::Off {
        trace.degraded.get_or_insert_with(less::breaks);
    }
    if let Some(error) = unkept {
        trace.degraded.get_or_insert_with(|| {
            format!("{error}, so no trace of this run is kept: {}", error.source)
        });
    }
    trace
}

/// Drives a run to its end.
fn drive(
    work: run::Work,
    mut reporting: Reporting<'_>,
    keys: Option<&Keys>,
) -> Result<Summary, SessionError> {
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
    if let Some(keys) = keys {
        // A run without keys is better than none.
        let _ = keys.listen(running.keys());
    }
    let finished = reporting.follow(keeper, &running, events);
    let driven = running.join();
    let Some(finished) = finished else {
        reporting.cut_short();
        let lost = || io::Error::other("the run ended without its last event");
        let source = driven.err().unwrap_or_else(lost);
        return Err(SessionError::Run { source });
    };
    let panicked = reporting.has_panicked();
    let Ended {
        unwritten,
        not_kept,
        observed,
    } = reporting.end();
    driven.map_err(|source| SessionError::Run { source })?;
    if panicked {
        let source = io::Error::other("what reports the results has panicked");
        return Err(SessionError::Run { source });
    }
    Ok(Summary {
        stats: finished.stats,
        cancelled: finished.cancelled,
        failed_scripts: finished.failed_scripts,
        failed_services: finished.failed_services,
        not_kept,
        unwritten,
        observed,
    })
}

fn at_start(kind: EventKind) -> Event {
    Event {
        at: Duration::ZERO,
        kind,
    }
}
