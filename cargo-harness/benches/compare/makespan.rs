//! The makespan of real suites whose tests take unequal time: in the order of names, in our order, under
//! cargo-nextest, and at best; and that of their parts, divided by time.

use crate::{contender::Contender, workload::Workload};
use std::{
    cmp::Reverse,
    fs,
    process::Command,
    time::{Duration, Instant},
};

pub(crate) const NAME: &str = "makespan";

/// Public suites with tests that take seconds beside many that take milliseconds.
const SUITES: [(&str, &str, &[&str]); 2] = [
    ("crossbeam-channel", "0.5.15", &["--tests"]),
    ("itertools", "0.15.0", &["--tests"]),
];
/// The numbers of slots for which the time of an order is computed.
const SLOTS: [usize; 4] = [2, 4, 8, 16];
/// The numbers of parts that a suite is divided into.
const PARTS: [usize; 3] = [2, 4, 8];

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
    // The first run records how long each test takes.
    for way in ways {
        way.run(workload, slots);
    }
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (way, times) in ways.iter().zip(&mut times) {
            times.push(way.run(workload, slots));
        }
    }
    let by_name = durations(workload, slots);
    let mut durations = by_name.clone();
    durations.sort_by_key(|duration| Reverse(*duration));
    let best = best(&durations, slots);
    println!(
        "{NAME}, {}: {} tests, the longest {:.3} s, {slots} slots, {rounds} rounds; at best {:.3} s, \
         without a runner and longest first {:.3} s",
        workload.name,
        workload.tests(),
        durations[0].as_secs_f64(),
        best.as_secs_f64(),
        schedule(&durations, slots).as_secs_f64(),
    );
    let mut medians: Vec<f64> = Vec::new();
    for times in &mut times {
        times.sort();
        medians.push(times[times.len() / 2].as_secs_f64());
    }
    for (way, seconds) in ways.iter().zip(&medians) {
        let of_best = seconds / best.as_secs_f64();
        print!(
            "  {:<24}{seconds:>9.3} s{of_best:>8.2} × the best",
            way.name()
        );
        if matches!(ways[0], Way::Nextest) {
            print!("{:>8.2} × cargo-nextest", seconds / medians[0]);
        }
        println!();
    }
    print_computed(&by_name, &durations);
    for parts in PARTS {
        compare_parts(workload, slots, parts, &durations);
    }
    println!();
}

/// Prints the time of both orders with other numbers of slots, if the tests took the same.
fn print_computed(by_name: &[Duration], longest_first: &[Duration]) {
    for slots in SLOTS {
        let best = best(longest_first, slots).as_secs_f64();
        println!(
            "  computed for {slots:>2} slots:{:>8.3} × the best by name,{:>8.3} × longest first",
            schedule(by_name, slots).as_secs_f64() / best,
            schedule(longest_first, slots).as_secs_f64() / best,
        );
    }
}

/// Runs each part of a suite that is divided by the durations of the run before, one after the other.
fn compare_parts(workload: &Workload, slots: usize, parts: usize, durations: &[Duration]) {
    let sum: Duration = durations.iter().sum();
    let even = sum / u32::try_from(parts).expect("there are few");
    if durations[0] > even {
        println!("  {parts} parts: left out, the longest test takes longer than a part");
        return;
    }
    let config = workload.folder.join("target/makespan.toml");
    let text = "[profile.default]\ntimings = \"target/makespan-timings.json\"\n";
    fs::write(&config, text).expect("it can be written");
    let mut took = Vec::new();
    for part in 1..=parts {
        let mut command = Way::ByName.command(workload, slots);
        command.arg("--config-file").arg(&config);
        command.args(["--partition", &format!("time:{part}/{parts}")]);
        let started = Instant::now();
        let status = command.status().expect("the contender starts");
        let known = status.success() || status.code() == Some(100);
        assert!(known, "part {part} of {}: {status}", workload.name);
        took.push(started.elapsed());
    }
    took.sort();
    let seconds = |time: &Duration| time.as_secs_f64();
    let mean = took.iter().map(seconds).sum::<f64>() / took.len() as f64;
    let (least, most) = (seconds(&took[0]), seconds(&took[parts - 1]));
    println!(
        "  {parts} parts by time: {least:.3} s to {most:.3} s, {:+.1} % to {:+.1} % of their mean",
        (least / mean - 1.0) * 100.0,
        (most / mean - 1.0) * 100.0,
    );
}

/// Returns how long each test takes, in a run with that many slots, in the order of names.
fn durations(workload: &Workload, slots: usize) -> Vec<Duration> {
    let file = workload.folder.join("target/makespan-timings.json");
    // Numbers that hardly differ would stay as they are.
    let _ = fs::remove_file(&file);
    let mut command = Way::LongestFirst.command(workload, slots);
    command.arg("--write-timings").arg(&file);
    command.status().expect("the contender starts");
    let timings = fs::read_to_string(&file).expect("the run has written it");
    let timings: serde_json::Value = serde_json::from_str(&timings).expect("it is JSON");
    let binaries = timings["milliseconds"].as_object();
    let binaries = binaries.expect("it has the binaries").values();
    let tests = binaries.flat_map(|tests| tests.as_object().expect("it has the tests").values());
    tests
        .map(|millis| Duration::from_millis(millis.as_u64().expect("it is a number")))
        .collect()
}

/// Returns the least that any order of tests can take, given the longest first: the longest test alone, or all tests spread over all slots
/// without a gap.
fn best(durations: &[Duration], slots: usize) -> Duration {
    let sum: Duration = durations.iter().sum();
    durations[0].max(sum / u32::try_from(slots).expect("there are few"))
}

/// Returns the time of an order if nothing but the tests takes any. No order takes less than three quarters of
/// longest first (Graham's bound).
fn schedule(durations: &[Duration], slots: usize) -> Duration {
    let mut slots = vec![Duration::ZERO; slots];
    for duration in durations {
        *slots.iter_mut().min().expect("there is a slot") += *duration;
    }
    slots.into_iter().max().unwrap_or_default()
}
