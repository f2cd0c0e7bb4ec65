//! Compares this build of `cargo harness` with another one: what a change costs.
//!
//! The two take turns, and each turn gives a ratio. CPU time is that of all processes of a run, cargo,
//! rustc and the tests included. It tells more than the time that passes where a machine is shared.

use crate::{contender::Contender, workload::Workload};
use harness_metadata::exit_code;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// The option that takes the other build.
pub(crate) const OPTION: &str = "--against=";

const LEVELS: [Contender; 4] = [
    Contender::Off,
    Contender::Process,
    Contender::Io,
    Contender::Full,
];

/// The cost of one run.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) passed: Duration,
}

/// Prints for each level what this build takes, against what the other takes.
pub(crate) fn compare(other: &Path, workload: &Workload, rounds: usize) {
    println!(
        "{}: {} tests, {rounds} rounds; this build against `{}`",
        workload.name,
        workload.tests(),
        other.display()
    );
    let own = Path::new(env!("CARGO_BIN_EXE_cargo-harness"));
    // Each build has a target folder of its own: the recordings and caches of one are work for the other.
    let targets = ["target/own", "target/other"].map(|target| workload.folder.join(target));
    for level in LEVELS {
        let mut costs: [Vec<Cost>; 2] = Default::default();
        // One more, which warms up.
        for round in 0..=rounds {
            // The first build finds other caches than the second.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for build in order {
                let cost = cost([own, other][build], level, workload, &targets[build]);
                if round > 0 {
                    costs[build].push(cost);
                }
            }
        }
        let [own, other] = &costs;
        let cpu = Compared::of(own, other, |cost| cost.cpu);
        let passed = Compared::of(own, other, |cost| cost.passed);
        println!("  {:<24}CPU  {cpu}", level.name());
        println!("  {:<24}time {passed}", "");
    }
    println!();
}

fn cost(program: &Path, level: Contender, workload: &Workload, target: &Path) -> Cost {
    let command = level.command_of(program.as_os_str(), workload);
    let mut command = command.expect("every level has one");
    command.env("CARGO_TARGET_DIR", target);
    // As `cargo harness`, and not as `cargo-harness`: cargo and rustup say where they are.
    for name in ["CARGO", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    cost_of(&mut command, workload.may_fail)
}

/// Runs a command and returns what it took. Tests fail only if they may.
pub(crate) fn cost_of(command: &mut Command, may_fail: bool) -> Cost {
    let before = cpu_of_children();
    let started = Instant::now();
    let status = command.status().expect("it starts");
    let passed = started.elapsed();
    let failed = status.code() == Some(exit_code::TEST_RUN_FAILED);
    assert!(
        status.success() || may_fail && failed,
        "{command:?}: {status}"
    );
    Cost {
        cpu: cpu_of_children() - before,
        passed,
    }
}

/// Returns the CPU time of all processes that have ended and were waited for, theirs included.
fn cpu_of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("it takes no other argument");
    let time = |time: TimeVal| {
        Duration::new(
            time.tv_sec().unsigned_abs(),
            time.tv_usec().unsigned_abs() as u32 * 1_000,
        )
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// Medians of both, and the ratios of the rounds.
pub(crate) struct Compared {
    medians: [Duration; 2],
    /// The lower quartile, the median, the upper quartile.
    ratios: [f64; 3],
}

impl Compared {
    pub(crate) fn of(own: &[Cost], other: &[Cost], which: impl Fn(&Cost) -> Duration) -> Self {
        let median = |costs: &[Cost]| {
            let mut all: Vec<Duration> = costs.iter().map(&which).collect();
            all.sort();
            all[all.len() / 2]
        };
        let mut ratios: Vec<f64> = own
            .iter()
            .zip(other)
            .map(|(own, other)| which(own).as_secs_f64() / which(other).as_secs_f64())
            .collect();
        ratios.sort_by(f64::total_cmp);
        let at = |quarter: usize| ratios[(ratios.len() - 1) * quarter / 4];
        Self {
            medians: [median(own), median(other)],
            ratios: [at(1), at(2), at(3)],
        }
    }
}

impl std::fmt::Display for Compared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [own, other] = self.medians.map(|median| median.as_secs_f64());
        let [low, median, high] = self.ratios;
        write!(
            f,
            "{own:>8.3} s, against {other:>8.3} s: {median:.3} ({low:.3} to {high:.3})"
        )
    }
}
