//! The time that `regressions` takes by the number of recorded runs and of numbers in them.

use crate::{environment::command, workload::write_package};
use std::{
    fmt::Write,
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

pub(crate) const NAME: &str = "regressions";

/// The numbers of tests, each of which records one metric.
const TESTS: [usize; 3] = [250, 500, 1_000];

/// The numbers of recorded runs at which is asked.
const RUNS: [usize; 3] = [15, 30, 60];

/// Records runs, and prints how long the question takes at each size.
pub(crate) fn compare() {
    println!("{NAME}: seconds by the number of tests, with one metric each, and of runs");
    let head: String = RUNS.iter().map(|runs| format!("{runs:>8} runs")).collect();
    println!("  {:<16}{head}", "");
    for tests in TESTS {
        let name = format!("measured-{tests}");
        let folder = write_package(&name, &[(name.replace('-', "_"), source(tests))]);
        let runs = folder.join("target/runs");
        let _ = fs::remove_dir_all(&runs);
        let mut row = String::new();
        let mut recorded = 0;
        for wanted in RUNS {
            while recorded < wanted {
                harness(
                    &folder,
                    &runs,
                    &["run", "--trace", "off", "--status-level", "none"],
                );
                recorded += 1;
            }
            let mut times: Vec<_> = (0..5)
                .map(|_| harness(&folder, &runs, &["regressions"]))
                .collect();
            times.sort();
            let _ = write!(row, "{:>11.3} s", times[2].as_secs_f64());
        }
        println!("  {tests:>10} tests{row}");
        let _ = fs::remove_dir_all(&runs);
    }
    println!();
}

/// Tests with a number that differs from run to run.
fn source(tests: usize) -> String {
    let mut source = String::from(
        "use std::{env, fs::File, io::Write, time::SystemTime};\n\
         fn record() {\n\
         \x20   let path = env::var_os(\"HARNESS_METRICS_FILE\").unwrap();\n\
         \x20   let mut file = File::options().create(true).append(true).open(path).unwrap();\n\
         \x20   let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();\n\
         \x20   writeln!(file, \"{{\\\"name\\\":\\\"latency\\\",\\\"value\\\":{now}}}\").unwrap();\n\
         }\n",
    );
    for number in 0..tests {
        let _ = writeln!(source, "#[test]\nfn test_{number}() {{ record() }}");
    }
    source
}

fn harness(folder: &Path, runs: &Path, args: &[&str]) -> Duration {
    let mut command = command(env!("CARGO_BIN_EXE_cargo-harness"));
    command.arg("--runs-dir").arg(runs).args(args);
    command.current_dir(folder).stdin(Stdio::null());
    let begun = Instant::now();
    let output = command.output().expect("it starts");
    let passed = begun.elapsed();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    passed
}
