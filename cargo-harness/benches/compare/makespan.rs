//! The makespan of real suites whose tests take unequal time: in the order of names, in our order, under
//! cargo-nextest, and at best.

use crate::{contender::Contender, workload::Workload};
use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

pub(crate) const NAME: &str = "makespan";

/// Public suites with tests that take seconds beside many that take milliseconds.
const SUITES: [(&str, &str, &[&str]); 1] = [("crossbeam-channel", "0.5.15", &["--tests"])];

/// A way to run a suite.
#[derive(Copy, Clone, Debug)]
enum Way {
    Nextest,
    ByName,
    LongestFirst,
}

impl Way {
    const ALL: [Self; 3] = [Self::Nextest, Self::ByName, Self::LongestFirst];

    fn name(self) -> &'static str {
        match self {
            Self::Nextest => "cargo-nextest",
            Self::ByName => "harness, by name",
            Self::LongestFirst => "harness, longest first",
        }
    }

    fn command(self, workload: &Workload, slots: usize) -> Command {
        let contender = match self {
            Self::Nextest => Contender::Nextest,
            Self::ByName | Self::LongestFirst => Contender::Io,
        };
        let mut command = contender
            .command_in(workload, slots)
            .expect("it is no floor");
        match self {
            Self::Nextest => {}
            Self::ByName => drop(command.args(["--order", "name"])),
            Self::LongestFirst => drop(command.args(["--order", "longest-first"])),
        }
        command
    }

    fn run(self, workload: &Workload, slots: usize) -> Duration {
        let started = Instant::now();
        let status = self
            .command(workload, slots)
            .status()
            .expect("the contender starts");
        let elapsed = started.elapsed();
        // A public suite may have tests that fail on this machine, under any runner.
        let known = status.success() || status.code() == Some(100);
        assert!(known, "{} on {}: {status}", self.name(), workload.name);
        elapsed
    }
}

/// Prints a table for each suite.
pub(crate) fn compare(contenders: &[Contender], slots: usize, rounds: usize) {
    let has_nextest = contenders.contains(&Contender::Nextest);
    let mut ways = Way::ALL.to_vec();
    ways.retain(|way| has_nextest || !matches!(way, Way::Nextest));
    for (package, version, targets) in SUITES {
        let Some(workload) = Workload::public(package, version, targets) else {
            println!("{NAME}, {package}: left out, its sources cannot be fetched\n");
            continue;
        };
        compare_suite(&workload, slots, rounds, &ways);
    }
}

fn compare_suite(workload: &Workload, slots: usize, rounds: usize, ways: &[Way]) {
    // The first run records what each test takes.
    for way in ways {
        way.run(workload, slots);
    }
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (way, times) in ways.iter().zip(&mut times) {
            times.push(way.run(workload, slots));
        }
    }
    let best = best(workload, slots);
    println!(
        "{NAME}, {}: {} tests, {slots} slots, {rounds} rounds; at best {:.3} s",
        workload.name,
        workload.tests(),
        best.as_secs_f64()
    );
    for (way, mut times) in ways.iter().zip(times) {
        times.sort();
        let seconds = times[times.len() / 2].as_secs_f64();
        let ratio = seconds / best.as_secs_f64();
        println!(
            "  {:<24}{seconds:>9.3} s{ratio:>8.2} × the best",
            way.name()
        );
    }
    println!();
}

/// Returns the least that any order can take: the longest test alone, or all tests spread over all slots
/// without a gap. The durations are those of a run with that many slots.
fn best(workload: &Workload, slots: usize) -> Duration {
    let file = timings_file(workload);
    let mut command = Way::LongestFirst.command(workload, slots);
    command.arg("--write-timings").arg(&file);
    command.status().expect("the contender starts");
    let timings = fs::read_to_string(&file).expect("the run has written it");
    let timings: serde_json::Value = serde_json::from_str(&timings).expect("it is JSON");
    let binaries = timings["milliseconds"].as_object();
    let binaries = binaries.expect("it has the binaries").values();
    let tests = binaries.flat_map(|tests| tests.as_object().expect("it has the tests").values());
    let (longest, all) = tests.fold((0, 0), |(longest, all), millis| {
        let millis = millis.as_u64().expect("it is a number");
        (longest.max(millis), all + millis)
    });
    Duration::from_millis(longest.max(all / slots as u64))
}

fn timings_file(workload: &Workload) -> PathBuf {
    workload.folder.join("target/makespan-timings.json")
}
