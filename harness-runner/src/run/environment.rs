//! Variables of a test beyond those that the tests of its binary share.

use super::{Test, Work};
use crate::{
    config::settings::TestGroup,
    protocol::{Environment, push_variable},
};
use harness_metadata::RunId;
use std::ffi::OsStr;

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
    run_id: String,
}

/// The properties of an attempt that are in its environment.
pub(super) struct OfAttempt<'a> {
    pub(super) test: &'a Test,
    pub(super) attempt: u32,
    pub(super) total_attempts: u32,
    pub(super) slot: usize,
    pub(super) group_slot: Option<usize>,
}

impl Blocks {
    pub(super) fn new(work: &Work) -> Self {
        let blocks = work.binaries.iter().map(|binary| {
            let mut environment = binary.environment.clone();
            for name in OF_ATTEMPT {
                for prefix in PREFIXES {
                    environment.remove(format!("{prefix}{name}"));
                }
            }
            add_run(&mut environment, work);
            environment.to_block()
        });
        Self {
            blocks: blocks.collect(),
            run_id: work.run_id.to_string(),
        }
    }

    /// Returns the environment block of an attempt.
    pub(super) fn of_attempt(&self, of: &OfAttempt<'_>) -> Vec<u8> {
        let base = &self.blocks[of.test.binary];
        let mut block = Vec::with_capacity(base.len() + 1024);
        block.extend_from_slice(base);
        let number = if of.attempt > 1 {
            format!("#{}", of.attempt)
        } else {
            String::new()
        };
        let id = &of.test.id;
        let group = match &of.test.settings.test_group {
            TestGroup::Global => "@global",
            TestGroup::Named(name) => name,
        };
        let values = [
            id.name.as_str().to_owned(),
            of.attempt.to_string(),
            of.total_attempts.to_string(),
            format!("{}:{}${}{number}", self.run_id, id.binary, id.name),
            group.to_owned(),
            of.slot.to_string(),
            of.group_slot
                .map_or_else(|| "none".to_owned(), |slot| slot.to_string()),
            "run".to_owned(),
        ];
        for (name, value) in OF_ATTEMPT.iter().zip(&values) {
            for prefix in PREFIXES {
                let name = format!("{prefix}{name}");
                push_variable(&mut block, OsStr::new(&name), OsStr::new(value));
            }
        }
        block
    }
}

/// Returns a variable, as `NAME=value`, that all tests of a run have and no other process.
pub(super) fn mark(run_id: RunId) -> String {
    format!("{}RUN_ID={run_id}", PREFIXES[0])
}

fn add_run(environment: &mut Environment, work: &Work) {
    let run_id = work.run_id.to_string();
    let threads = work.slots.to_string();
    let both = [
        ("RUN_ID", run_id.as_str()),
        ("PROFILE", work.profile.as_str()),
        ("TEST_THREADS", threads.as_str()),
        ("RUN_MODE", "test"),
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
    environment.set("NEXTEST_STRESS_CURRENT", "none");
    environment.set("NEXTEST_STRESS_TOTAL", "none");
}
