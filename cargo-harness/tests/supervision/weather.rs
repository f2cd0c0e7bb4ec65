//! Tests of known outcome, of known length and of known output, for storms to pass over.

mod sys;

use std::{
    env, fs,
    io::Write,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};
use sys::*;

/// The number of each kind.
const ENDS: usize = 60;
const TICKS: usize = 150;
const WRITES: usize = 100;

/// The end of a test of unhappy storms, by the end of its name.
const OUTCOMES: [&str; 6] = [
    "code_0",
    "code_0",
    "code_7",
    "code_0_leaving",
    "signal_15",
    "code_0_joining",
];

/// The beat of those that tick.
const TICK: Duration = Duration::from_millis(2);
const TICKS_EACH: u32 = 25;

fn main() -> ExitCode {
    limit_life();
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        if !has("--ignored") {
            let ends = (0..ENDS).map(|n| format!("ends_{n:03}_{}", OUTCOMES[n % OUTCOMES.len()]));
            let ticks = (0..TICKS).map(|n| format!("ticks_{n:03}"));
            let writes = (0..WRITES).map(|n| format!("writes_{n:03}"));
            for name in ends.chain(ticks).chain(writes).chain(["bomb".to_owned()]) {
                println!("{name}: test");
            }
        }
        return ExitCode::SUCCESS;
    }
    let name = args.iter().find(|arg| !arg.starts_with('-'));
    let name = name.expect("one test at a time");
    let (kind, rest) = name.split_once('_').unwrap_or((name, ""));
    match kind {
        "ends" => return ends(rest),
        "ticks" => (0..TICKS_EACH).for_each(|_| thread::sleep(TICK)),
        "writes" => writes(),
        "bomb" => bomb(),
        other => panic!("no test is called {other}"),
    }
    ExitCode::SUCCESS
}

/// Ends as the name tells, after a time that depends on it.
fn ends(name: &str) -> ExitCode {
    let (number, how) = name.split_once('_').expect("there are two parts");
    let number: u64 = number.parse().expect("it is a number");
    if how.ends_with("_leaving") {
        child(|| {
            // SAFETY: no memory is involved.
            unsafe { setsid() };
            hang();
        });
    }
    if how.ends_with("_joining") {
        join_the_runner();
    }
    thread::sleep(Duration::from_millis(number * 7919 % 40));
    let parts: Vec<&str> = how.split('_').collect();
    let value: c_int = parts[1].parse().expect("it is a number");
    if parts[0] == "signal" {
        send(std::process::id().cast_signed(), value);
    }
    ExitCode::from(value as u8)
}

/// Writes lines of eight bytes that each tell their number.
fn writes() {
    let bytes: u64 = env::var("WEATHER_BYTES").expect("it is set").parse().expect("a number");
    let mut stdout = std::io::stdout().lock();
    let mut block = Vec::with_capacity(1 << 16);
    for line in 0..bytes / 8 {
        block.extend_from_slice(format!("{line:07x}\n").as_bytes());
        if block.len() == 1 << 16 {
            stdout.write_all(&block).expect("it has a reader");
            block.clear();
        }
    }
    stdout.write_all(&block).expect("it has a reader");
}

/// Every process forks without end. Only where their number is limited.
fn bomb() {
    let own = fs::read_to_string("/proc/self/cgroup").expect("/proc is mounted");
    // Version 2, or version 1 where the controller is mounted there.
    let limit = own.lines().find_map(|line| {
        let folders = match line.split_once("0::") {
            Some(("", path)) => [format!("/sys/fs/cgroup{path}"), format!("/sys/fs/cgroup/unified{path}")],
            _ => [format!("/sys/fs/cgroup/pids{}", line.split_once(":pids:")?.1), String::new()],
        };
        let read = |folder: &String| fs::read_to_string(format!("{folder}/pids.max")).ok();
        folders.iter().find_map(read)?.trim().parse::<u32>().ok()
    });
    let limit = limit.expect("the number of processes is limited by a cgroup");
    assert!(limit < 10_000, "a limit of {limit} is too high");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(u64::from(LONGEST_LIFE)) {
        // SAFETY: both go on in the same loop.
        if unsafe { fork() } < 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
