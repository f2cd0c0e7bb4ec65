//! Variables of a test beyond those that the tests of its binary share.

use super::{
    Test, Work,
    metrics::{self, METRICS_FILE},
    scripts::ENV_FILE,
};
use crate::{
    config::settings::TestGroup,
    protocol::{Environment, Ticket, push_variable},
};
use harness_metadata::{RunId, Word, event::RunMode};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// The version of cargo-nextest whose contract tests can rely on.
const NEXTEST_VERSION: &str = "0.9.143";

/// Variables that depend on the test or the attempt. They come under two names, ours and the
/// peer's: suites that were written for the peer read those.
const OF_ATTEMPT: [&str; 8] = [
    "TEST_NAME",
    "ATTEMPT",
    "TOTAL_ATTEMPTS",
    "ATTEMPT_ID",
    "TEST_GROUP",
    "TEST_GLOBAL_SLOT",
    "TEST_GROUP_SLOT",
    "TEST_PHASE",
];

const PREFIXES: [&str; 2] = ["HARNESS_", "NEXTEST_"];

/// The environment blocks of the binaries, made once.
pub(super) struct Blocks {
    blocks: Vec<Vec<u8>>,
    run: OfRun,
}

/// The variables that all processes of a run have.
struct OfRun {
    run_id: RunId,
    id: String,
    profile: String,
    threads: usize,
    mode: RunMode,
    /// The number of iterations of a stress run, in words.
    iterations: Option<String>,
}

/// The properties of an attempt that are in its environment.
pub(super) struct OfAttempt<'a> {
    pub(super) test: &'a Test,
    /// The iteration of a stress run.
    pub(super) iteration: usize,
    pub(super) attempt: u32,
    pub(super) total_attempts: u32,
    pub(super) slot: usize,
    pub(super) group_slot: Option<usize>,
    /// The file that it may append metrics to.
    pub(super) metrics_file: Option<&'a Path>,
}

/// The facts of a run that an agent elsewhere makes the same variables of.
pub(super) struct Facts<'a> {
    pub(super) run_id: RunId,
    pub(super) profile: &'a str,
    pub(super) threads: usize,
    pub(super) mode: RunMode,
}

impl Blocks {
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            run_id: self.run.run_id,
            profile: &self.run.profile,
            threads: self.run.threads,
            mode: self.run.mode,
        }
    }

    pub(super) fn new(work: &Work) -> Self {
        let run = OfRun {
            run_id: work.run_id,
            id: work.run_id.to_string(),
            profile: work.profile.clone(),
            threads: work.slots,
            mode: work.mode,
            iterations: work.stress.map(|stress| stress.total()),
        };
        let binaries = work.binaries.iter();
        let blocks = binaries.map(|binary| run.block(binary.environment.clone()));
        Self {
            blocks: blocks.collect(),
            run,
        }
    }

    /// Returns the block of an environment, with the variables of the run.
    pub(super) fn of_run(&self, environment: Environment) -> Vec<u8> {
        self.run.block(environment)
    }

    /// Returns the environment block of an attempt. `own` is what its binary's environment is for this
    /// test, if that is another than for all of them.
    pub(super) fn of_attempt(&self, of: &OfAttempt<'_>, own: Option<Environment>) -> Vec<u8> {
        let own = own.map(|environment| self.run.block(environment));
        let base = own.as_ref().unwrap_or(&self.blocks[of.test.binary]);
        let mut block = Vec::with_capacity(base.len() + 1024);
        block.extend_from_slice(base);
        let number = if of.attempt > 1 {
            format!("#{}", of.attempt)
        } else {
            String::new()
        };
        let id = &of.test.id;
        let current = of.iteration.to_string();
        let stress = match &self.run.iterations {
            Some(_) => format!("@stress-{current}"),
            None => String::new(),
        };
        let group = match &of.test.settings.test_group {
            TestGroup::Global => "@global",
            TestGroup::Named(name) => name,
        };
        let values = [
            id.name.as_str().to_owned(),
            of.attempt.to_string(),
            of.total_attempts.to_string(),
            format!("{}{stress}:{}${}{number}", self.run.id, id.binary, id.name),
            group.to_owned(),
            of.slot.to_string(),
            of.group_slot
                .map_or_else(|| "none".to_owned(), |slot| slot.to_string()),
            "run".to_owned(),
        ];
        let iteration = self
            .run
            .iterations
            .as_ref()
            .map(|total| [("STRESS_CURRENT", &current), ("STRESS_TOTAL", total)]);
        let values = OF_ATTEMPT.iter().copied().zip(&values);
        for (name, value) in values.chain(iteration.into_iter().flatten()) {
            for prefix in PREFIXES {
                let name = format!("{prefix}{name}");
                push_variable(&mut block, OsStr::new(&name), OsStr::new(value));
            }
        }
        if let Some(path) = of.metrics_file {
            push_variable(&mut block, OsStr::new(METRICS_FILE), path.as_os_str());
        }
        block
    }

    /// Returns the path for the metrics of an attempt.
    pub(super) fn metrics_file(&self, slot: usize, ticket: Ticket) -> PathBuf {
        metrics::path(&self.run.id, slot, ticket)
    }
}

/// Returns a variable, as `NAME=value`, that all tests of a run have and no other process.
pub(super) fn mark(run_id: RunId) -> String {
    format!("{}RUN_ID={run_id}", PREFIXES[0])
}

impl OfRun {
    /// Returns the block of an environment, with the variables of the run and without those of attempts.
    fn block(&self, mut environment: Environment) -> Vec<u8> {
        for prefix in PREFIXES {
            for name in OF_ATTEMPT {
                environment.remove(format!("{prefix}{name}"));
            }
        }
        for name in ENV_FILE {
            environment.remove(name);
        }
        environment.remove(METRICS_FILE);
        add_run(&mut environment, self);
        environment.to_block()
    }
}

fn add_run(environment: &mut Environment, run: &OfRun) {
    let threads = run.threads.to_string();
    let both = [
        ("RUN_ID", run.id.as_str()),
        ("PROFILE", run.profile.as_str()),
        ("TEST_THREADS", threads.as_str()),
        ("RUN_MODE", run.mode.word()),
    ];
    for (name, value) in both {
        for prefix in PREFIXES {
            environment.set(format!("{prefix}{name}"), value);
        }
    }
    environment.set("HARNESS_VERSION", env!("CARGO_PKG_VERSION"));
    environment.set("NEXTEST_VERSION", NEXTEST_VERSION);
    environment.set("NEXTEST_REQUIRED_VERSION", "none");
    environment.set("NEXTEST_RECOMMENDED_VERSION", "none");
    for name in ["STRESS_CURRENT", "STRESS_TOTAL"] {
        for prefix in PREFIXES {
            // Each attempt of a stress run has its own.
            environment.remove(format!("{prefix}{name}"));
        }
        if run.iterations.is_none() {
            environment.set(format!("NEXTEST_{name}"), "none");
        }
    }
}
