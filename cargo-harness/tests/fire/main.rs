//! Storms: what users, machines and tests do to a run, at random moments and many times over.
//! In every storm, each known result is reported, every process is gone, nothing hangs.
//!
//! ```text
//! cargo test -p cargo-harness --test fire -- [--full] [--seed N] [NAME…]
//! ```
//!
//! Without `--full` a storm has a size that fits beside other tests. The seed is printed, and repeats
//! what was random. At the end there is a table of figures; where cargo-nextest is installed, it
//! stands in the same weather beside us.
//!
//! This has a `main` of its own because of its arguments, and because the shell of a job
//! ([`shell`]) is a process of this executable.

mod course;
mod daemon_zoo;
mod fork_bomb;
mod many;
mod options;
mod output;
mod peer;
mod runner_killed;
mod shell;
mod stopped;
mod stub_killed;
mod table;
mod watched;

use course::Course;
use fixture_kit::{environment, nobody, package, processes, random, results, scene};
use options::Options;
use random::Random;
use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};
use table::Table;

/// Something that happens to runs again and again.
struct Storm {
    name: &'static str,
    /// The number of times, beside other tests.
    few: u64,
    /// The number of times, to be sure.
    many: u64,
    run: fn(&mut Course<'_>),
}

const STORMS: [Storm; 8] = [
    Storm {
        name: "daemon-zoo",
        few: 1,
        many: 20,
        run: daemon_zoo::run,
    },
    Storm {
        name: "fork-bomb",
        few: 1,
        many: 20,
        run: fork_bomb::run,
    },
    Storm {
        name: "many",
        few: 10_000,
        many: 100_000,
        run: many::run,
    },
    Storm {
        name: "output",
        few: 128,
        many: 1_024,
        run: output::run,
    },
    Storm {
        name: "peer",
        few: 1,
        many: 1,
        run: peer::run,
    },
    Storm {
        name: "runner-killed",
        few: 30,
        many: 300,
        run: runner_killed::run,
    },
    Storm {
        name: "stopped",
        few: 100,
        many: 1_000,
        run: stopped::run,
    },
    Storm {
        name: "stub-killed",
        few: 30,
        many: 300,
        run: stub_killed::run,
    },
];

#[allow(clippy::print_stdout, reason = "what the program is for")]
fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == shell::ARGUMENT) {
        return shell::main(&args[1..]);
    }
    let options = Options::of_command_line();
    if options.list {
        if !options.ignored {
            STORMS
                .iter()
                .for_each(|storm| println!("{}: test", storm.name));
        }
        return ExitCode::SUCCESS;
    }
    let seed = options.seed.unwrap_or_else(Random::seed);
    let mut table = Table::default();
    let mut failed = Vec::new();
    for storm in STORMS.iter().filter(|storm| options.wants(storm.name)) {
        let name = storm.name;
        let times = if options.full { storm.many } else { storm.few };
        println!("{name}: {times} times, seed {seed}");
        let begun = Instant::now();
        let mut course = Course::new(times, Random::new(seed), &mut table);
        let held = catch_unwind(AssertUnwindSafe(|| (storm.run)(&mut course))).is_ok();
        let word = if held { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {word} ({:.1} s)",
            begun.elapsed().as_secs_f64()
        );
        if !held {
            failed.push(name);
        }
    }
    print!("{table}");
    for name in &failed {
        let full = if options.full { "--full " } else { "" };
        println!(
            "again: cargo test -p cargo-harness --test fire -- {full}--seed {seed} --exact {name}"
        );
    }
    // As of libtest, so that runners and scripts take it for one.
    ExitCode::from(if failed.is_empty() { 0 } else { 101 })
}
