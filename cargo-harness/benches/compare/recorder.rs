//! The cost of one call, by who watches it: loops of 100,000 calls in one test, with stops, with the recorder and
//! with strace(1), against the same loop untraced.

use crate::{
    contender::Contender,
    environment::{command, installed},
    workload::{CALLS, TOOK, Workload},
};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

pub(crate) const NAME: &str = "recorder";

/// The loops: the test, and its call.
const LOOPS: [(&str, &str); 5] = [
    ("opens", "open and close a file"),
    ("opens_relative", "the same, by a relative path"),
    ("opens_missing", "open a file that is not there"),
    ("stats", "stat a file"),
    ("lists", "list an empty directory"),
];

/// The watcher of a loop.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Watcher {
    Nobody,
    Harness(Contender, &'static str),
    Strace,
}

impl Watcher {
    const ALL: [Self; 6] = [
        Self::Nobody,
        Self::Harness(Contender::Io, "ptrace"),
        Self::Harness(Contender::Io, NAME),
        Self::Harness(Contender::Full, "ptrace"),
        Self::Harness(Contender::Full, NAME),
        Self::Strace,
    ];

    fn name(self) -> String {
        match self {
            Self::Nobody => "off".to_owned(),
            Self::Harness(Contender::Io, backend) => format!("io, {backend}"),
            Self::Harness(_, backend) => format!("full, {backend}"),
            Self::Strace => "strace".to_owned(),
        }
    }

    fn command(self, workload: &Workload, test: &str, trace: &Path) -> Command {
        let (contender, backend) = match self {
            Self::Nobody => (Contender::Off, "ptrace"),
            Self::Harness(contender, backend) => (contender, backend),
            Self::Strace => {
                let (binary, _) = workload.test(0).expect("it has tests");
                let mut strace = command("strace");
                strace.args(["-f", "--seccomp-bpf", "-qq", "-e", "trace=%file"]);
                strace.arg("-o").arg(trace).arg(&binary.path);
                strace.args(["--exact", test, "--nocapture"]);
                strace.current_dir(&workload.folder);
                strace.stdout(Stdio::null()).stderr(Stdio::null());
                return strace;
            }
        };
        let mut command = contender.command(workload).expect("it is no floor");
        command.args(["--profile", backend]);
        command.args(["-E", &format!("test(={test})")]);
        command
    }

    /// Returns whether it is to tell each call.
    fn tells(self, test: &str) -> bool {
        match self {
            Self::Nobody | Self::Strace => false,
            Self::Harness(contender, _) => contender == Contender::Full || test != "stats",
        }
    }
}

/// Prints the time of each loop, against that of the untraced one.
pub(crate) fn compare(rounds: usize) {
    let mut watchers = Watcher::ALL.to_vec();
    if !installed("strace", &["--seccomp-bpf", "-f", "true"]) {
        println!("strace: left out, it is not installed or may not trace");
        watchers.retain(|watcher| *watcher != Watcher::Strace);
    }
    let workload = Workload::calling();
    println!(
        "{NAME}: loops of {CALLS} calls in a test, {rounds} rounds; against the loop untraced"
    );
    for (test, what) in LOOPS {
        println!("  {what}");
        let mut times = vec![Vec::new(); watchers.len()];
        // One more, which warms up, and in which the traces are looked at.
        for round in 0..=rounds {
            for (watcher, times) in watchers.iter().zip(&mut times) {
                let taken = taken(*watcher, &workload, test);
                if round == 0 && watcher.tells(test) {
                    assert!(told(&workload, test) >= CALLS, "{}", watcher.name());
                }
                if round > 0 {
                    times.push(taken);
                }
            }
        }
        print_loop(&watchers, &times);
    }
    println!();
}

/// Runs a loop and returns the time that it took, and how often its thread waited.
fn taken(watcher: Watcher, workload: &Workload, test: &str) -> (Duration, u64) {
    let target = workload.folder.join("target");
    let (took, trace) = (target.join("took"), target.join("strace"));
    let _ = fs::remove_file(&took);
    let mut command = watcher.command(workload, test, &trace);
    let status = command.env(TOOK, &took).status().expect("it starts");
    assert!(status.success(), "{}: {command:?}", watcher.name());
    let _ = fs::remove_file(&trace);
    let took = fs::read_to_string(took).expect("the loop has written it");
    let mut numbers = took.split(' ').map(|number| number.parse());
    let mut next = || numbers.next().and_then(Result::ok).expect("two numbers");
    (Duration::from_nanos(next()), next())
}

/// Returns how many calls the latest trace of a loop has that name files.
fn told(workload: &Workload, test: &str) -> usize {
    let mut trace = command(env!("CARGO_BIN_EXE_cargo-harness"));
    trace.args(["trace", test, "--json", "--no-pager"]);
    trace.args(["--kind", "file"]).current_dir(&workload.folder);
    let trace = trace.output().expect("it starts");
    assert!(trace.status.success(), "{trace:?}");
    trace.stdout.split(|byte| *byte == b'\n').count()
}

/// Prints for each watcher the median of its times and of its ratios to the untraced loop, with quartiles, and what it
/// adds to a call.
fn print_loop(watchers: &[Watcher], times: &[Vec<(Duration, u64)>]) {
    let seconds = |taken: &(Duration, u64)| taken.0.as_secs_f64();
    for (watcher, own) in watchers.iter().zip(times) {
        let pairs = own.iter().map(seconds).zip(times[0].iter().map(seconds));
        let ratios = pairs.clone().map(|(own, off)| own / off);
        let added = pairs.map(|(own, off)| (own - off) / CALLS as f64);
        let [_, time, _] = quartiles(own.iter().map(seconds));
        let [low, ratio, high] = quartiles(ratios);
        let [_, added, _] = quartiles(added.map(|seconds| seconds * 1e6));
        let [_, waits, _] = quartiles(own.iter().map(|taken| taken.1 as f64));
        let name = watcher.name();
        println!(
            "    {name:<16}{time:>8.3} s{ratio:>8.2} ({low:.2} to {high:.2}){added:>8.2} µs added, {waits} waits"
        );
    }
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
