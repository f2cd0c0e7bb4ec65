//! Compares `cargo harness` with cargo-nextest and with the bare floor: the same tests, started
//! and reaped by a loop that does nothing else.
//!
//! ```text
//! cargo bench -p cargo-harness --bench compare -- [--quick] [names…]
//! cargo bench -p cargo-harness --bench compare -- --against=OTHER-CARGO-HARNESS [--quick] [names…]
//! ```
//!
//! Contenders take turns, so that a busy moment of the machine hits all of them; the table shows
//! medians. What is not installed, or cannot be fetched, is left out by name.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

mod before;
mod contender;
mod makespan;
mod memory;
mod recorder;
mod regressions;
mod reports;
mod reuse;
mod strace;
mod workload;

use contender::Contender;
use fixture_kit::{environment, registry};
use std::{env, fs, time::Duration};
use workload::Workload;

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let quick = args.iter().any(|arg| arg == "--quick");
    let names: Vec<_> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| *wanted == name);
    for name in &names {
        let others = [
            strace::NAME,
            memory::NAME,
            makespan::NAME,
            regressions::NAME,
            reports::NAME,
            reuse::NAME,
            recorder::NAME,
        ];
        let known = Workload::NAMES
            .iter()
            .chain(&others)
            .any(|known| known == name);
        assert!(
            known,
            "unknown: {name}; known: {:?}, {others:?}",
            Workload::NAMES
        );
    }

    let other = args.iter().find_map(|arg| arg.strip_prefix(before::OPTION));
    if let Some(other) = other {
        return compare_with(other, &wanted, quick);
    }
    let contenders = Contender::installed();
    println!("{} slots; medians of the rounds\n", contender::slots());
    let mut thousand = Vec::new();
    for name in Workload::NAMES.into_iter().filter(|name| wanted(name)) {
        let is_long = name == Workload::TWENTY_THOUSAND;
        if is_long && quick && names.is_empty() {
            println!("{name}: left out, it takes minutes; its name as an argument runs it\n");
            continue;
        }
        let Some(workload) = Workload::prepare(name) else {
            println!("{name}: left out, its sources cannot be fetched\n");
            continue;
        };
        let rounds = if quick {
            workload.rounds.div_ceil(3)
        } else {
            workload.rounds
        };
        let mut contenders = contenders.clone();
        contenders.retain(|contender| !is_long || contender.is_patient());
        let medians = measure(&workload, &contenders, rounds);
        print_table(&workload, &medians, rounds);
        match name {
            Workload::THOUSAND => thousand = medians,
            Workload::TWENTY_THOUSAND => print_growth(&thousand, &medians),
            _ => {}
        }
    }
    compare_others(&wanted, &contenders, quick);
}

/// Makes the comparisons that are no table of contenders.
fn compare_others(wanted: &dyn Fn(&str) -> bool, contenders: &[Contender], quick: bool) {
    if wanted(strace::NAME) {
        strace::compare(if quick { 3 } else { 9 });
    }
    if wanted(memory::NAME) {
        memory::compare(contenders);
    }
    if wanted(regressions::NAME) {
        regressions::compare();
    }
    if wanted(reports::NAME) {
        reports::compare(if quick { 7 } else { 21 });
    }
    if wanted(reuse::NAME) {
        reuse::compare(if quick { 3 } else { 9 });
    }
    if wanted(recorder::NAME) {
        recorder::compare(if quick { 3 } else { 9 });
    }
    if wanted(makespan::NAME) {
        makespan::compare(contenders, contender::slots(), if quick { 1 } else { 3 });
    }
}

/// Compares with another build of the runner.
fn compare_with(other: &str, wanted: &dyn Fn(&str) -> bool, quick: bool) {
    // Runs have folders of their own.
    let other = fs::canonicalize(other).expect("it names a program, by an absolute path");
    for name in [Workload::THOUSAND, Workload::NOTHING] {
        if wanted(name) {
            let workload = Workload::prepare(name).expect("it is generated");
            before::compare(&other, &workload, if quick { 7 } else { 21 });
        }
    }
}

/// The median of a contender, or nothing if it cannot run the workload.
type Median = (Contender, Duration);

/// Runs the workload with each contender in turn, round after round, after one that warms up and
/// checks that all do the same.
fn measure(workload: &Workload, contenders: &[Contender], rounds: usize) -> Vec<Median> {
    for contender in contenders {
        contender.check(workload);
    }
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for (contender, times) in contenders.iter().zip(&mut times) {
            times.push(contender.run(workload));
        }
    }
    let medians = times.into_iter().map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    contenders.iter().copied().zip(medians).collect()
}

fn print_table(workload: &Workload, medians: &[Median], rounds: usize) {
    println!(
        "{}: {} tests, {rounds} rounds",
        workload.name,
        workload.tests()
    );
    let yardsticks = [
        (Contender::Off, "off"),
        (Contender::Floor, "floor"),
        (Contender::Nextest, "cargo-nextest"),
    ];
    for (contender, median) in medians {
        let seconds = median.as_secs_f64();
        print!("  {:<24}{seconds:>9.3} s", contender.name());
        for (yardstick, name) in yardsticks {
            // What is not installed has no column.
            if let Some((_, one)) = medians
                .iter()
                .find(|(contender, _)| *contender == yardstick)
            {
                print!("{:>8.2} × {name}", seconds / one.as_secs_f64());
            }
        }
        println!();
    }
    println!();
}

/// Shows the cost of a test among many against its cost among a thousand.
fn print_growth(thousand: &[Median], many: &[Median]) {
    if thousand.is_empty() {
        return;
    }
    println!("  cost of a test, against {}", Workload::THOUSAND);
    for ((contender, few), (_, many)) in thousand.iter().zip(many) {
        let few = few.as_secs_f64() / 1_000.0;
        let many = many.as_secs_f64() / 20_000.0;
        let (name, micros) = (contender.name(), many * 1e6);
        println!("  {name:<24}{micros:>9.0} µs{:>8.2} × as much", many / few);
    }
    println!();
}
