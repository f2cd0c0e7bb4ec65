//! Real programs as payloads: their metrics are read, checked and compared over ten runs. Each test skips,
//! with its name, where its program is not installed.

#![cfg(feature = "regex")]
#![allow(
    clippy::print_stdout,
    reason = "that a test skips, and what it measured, is for people"
)]

use harness_payload::{
    Check, Error, Expected, Format, Invocation, Kind, Payload, Polarity, Running, Status,
};
use std::{
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The runs of each program: ten, or as many as `PAYLOAD_RUNS` says, where a runner repeats the whole.
fn runs() -> usize {
    let given = env::var("PAYLOAD_RUNS").ok();
    given.map_or(10, |runs| runs.parse().expect("it is a number"))
}

fn installed(program: impl AsRef<Path>, args: &[&str]) -> bool {
    let mut command = Command::new(program.as_ref());
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn skip(test: &str, reason: &str) {
    println!("skipped: {test}: {reason}");
}

/// A folder that is deleted in the end. Short: the path of a socket has at most 107 bytes.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("it can be made");
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("it is UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn wait_until_ready(server: &mut Running<'_>, is_ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_ready() {
        if let Some(report) = server.try_wait().expect("it was not taken") {
            panic!("it ended: {report}\n{}", report.stderr.text());
        }
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "it is not ready"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs it ten times. Each run has the metric, above zero; prints its lowest, middle and highest value.
fn measure(invocation: &Invocation<'_>, metric: &str) {
    let runs = runs();
    let mut values: Vec<f64> = (0..runs)
        .map(|_| {
            let report = invocation
                .clone()
                .run()
                .unwrap_or_else(|error: Error| panic!("{error}"));
            report.assert_passed();
            assert_eq!(report.status, Status::Exited(0));
            assert!(report.left_behind.is_empty(), "{report}");
            report.metric(metric).expect("it was checked")
        })
        .collect();
    assert!(values.iter().all(|value| *value > 0.0), "{values:?}");
    values.sort_by(f64::total_cmp);
    let (low, middle, high) = (values[0], values[runs / 2], values[runs - 1]);
    println!("{metric}: {low} to {high}, in the middle {middle}, over {runs} runs");
}

#[test]
fn redis_is_measured_by_its_benchmark() {
    const NAME: &str = "redis_is_measured_by_its_benchmark";
    if !installed("redis-server", &["--version"]) || !installed("redis-benchmark", &["--version"]) {
        return skip(NAME, "there is no redis-server with redis-benchmark");
    }
    let folder = Folder::new("rds");
    let socket = folder.path("s");
    let server = Payload::new("redis", "redis-server").kind(Kind::Server);
    let args = [
        "--port",
        "0",
        "--save",
        "",
        "--unixsocket",
        &socket,
        "--dir",
    ];
    let mut server = server
        .invoke()
        .args(args)
        .arg(&folder.0)
        .grace(Duration::from_secs(60))
        .spawn()
        .expect("it starts");
    wait_until_ready(&mut server, || Path::new(&socket).exists());
    // "SET","51282.05","0.562",…
    const RATES: &[Expected<'_>] = &[
        Expected::new("SET", "1/s", Polarity::HigherIsBetter),
        Expected::new("GET", "1/s", Polarity::HigherIsBetter),
    ];
    let benchmark = Payload::new("redis-benchmark", "redis-benchmark")
        .metrics(RATES)
        .args(&["-n", "1000", "-t", "set,get", "--csv"])
        .format(Format::Regex(
            r#"(?m)^"(?<name>SET|GET)","(?<value>[0-9.]+)""#,
        ));
    let checked = benchmark.invoke().args(["-s", &socket]);
    let checked = checked
        .check(Check::min("SET", 1.0))
        .check(Check::min("GET", 1.0));
    measure(&checked, "SET");
    let report = server.stop().expect("it was not taken");
    assert_eq!(report.status, Status::Exited(0), "{}", report.stdout.text());
    assert!(!Path::new(&socket).exists(), "it has cleaned up");
}

#[test]
fn hyperfine_exports_json() {
    if !installed("hyperfine", &["--version"]) {
        return skip("hyperfine_exports_json", "there is no hyperfine");
    }
    const MEAN: &[Expected<'_>] = &[Expected::new(
        "results.0.mean",
        "s",
        Polarity::LowerIsBetter,
    )];
    const PAYLOAD: Payload = Payload::new("hyperfine", "hyperfine")
        .args(&[
            "--style",
            "basic",
            "-N",
            "--runs",
            "3",
            "--export-json",
            "/dev/stdout",
            "sleep 0.01",
        ])
        .format(Format::Json)
        .metrics(MEAN)
        .checks(&[
            Check::min("results.0.mean", 0.01),
            Check::exists("results.0.times.2"),
        ]);
    measure(&PAYLOAD.invoke(), "results.0.mean");
}

#[test]
fn sysbench_counts_events() {
    if !installed("sysbench", &["--version"]) {
        return skip("sysbench_counts_events", "there is no sysbench");
    }
    const RATE: &[Expected<'_>] = &[Expected::new(
        "events_per_second",
        "1/s",
        Polarity::HigherIsBetter,
    )];
    const PAYLOAD: Payload = Payload::new("sysbench", "sysbench")
        .metrics(RATE)
        .args(&["cpu", "--events=20", "--cpu-max-prime=500", "run"])
        .format(Format::Regex(
            r"per second:\s+(?<events_per_second>[0-9.]+)|number of events:\s+(?<events>\d+)",
        ))
        .checks(&[Check::range("events", 20.0, 20.0)]);
    measure(&PAYLOAD.invoke(), "events_per_second");
}

#[test]
fn fio_prints_json() {
    if !installed("fio", &["--version"]) {
        return skip("fio_prints_json", "there is no fio");
    }
    const RATE: &[Expected<'_>] = &[Expected::new(
        "jobs.0.read.iops",
        "1/s",
        Polarity::HigherIsBetter,
    )];
    const PAYLOAD: Payload = Payload::new("fio", "fio")
        .metrics(RATE)
        .args(&[
            "--name=a",
            "--ioengine=null",
            "--size=1M",
            "--thread",
            "--output-format=json",
        ])
        .format(Format::Json)
        .checks(&[Check::range("jobs.0.read.io_bytes", 1048576.0, 1048576.0)]);
    measure(&PAYLOAD.invoke(), "jobs.0.read.iops");
}

/// The newest PostgreSQL of Debian's packages.
fn postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.flatten().map(|version| version.path().join("bin"));
    programs.filter(|bin| bin.join("initdb").exists()).max()
}

/// PostgreSQL refuses to run as root.
const OTHER: u32 = 65534;

/// An invocation of a program, as another user for root.
fn unprivileged<'a>(payload: &Payload<'a>, program: &Path, is_root: bool) -> Invocation<'a> {
    if !is_root {
        return payload.invoke().program(program);
    }
    let user = [format!("--reuid={OTHER}"), format!("--regid={OTHER}")];
    let invocation = payload.invoke().program("setpriv").args(user);
    invocation.arg("--clear-groups").arg(program)
}

/// Makes a database, and starts its server.
fn start_postgres(folder: &Folder, bin: &Path, is_root: bool) -> Running<'static> {
    const INITDB: Payload = Payload::new("initdb", "initdb");
    const POSTGRES: Payload = Payload::new("postgres", "postgres").kind(Kind::Server);
    const READY: Payload = Payload::new("pg_isready", "pg_isready");
    if is_root {
        chown(&folder.0, Some(OTHER), Some(OTHER)).expect("root may");
    }
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700)).expect("it is ours");
    let data = folder.path("data");
    let init = unprivileged(&INITDB, &bin.join("initdb"), is_root);
    let init = init
        .args(["-D", &data, "-N", "-A", "trust", "-U", "bench"])
        .cwd("/");
    init.run().expect("it starts").assert_passed();
    let server = unprivileged(&POSTGRES, &bin.join("postgres"), is_root).cwd("/");
    let args = [
        "-D",
        &data,
        "-c",
        "listen_addresses=",
        "-c",
        "fsync=off",
        "-k",
    ];
    let server = server
        .args(args)
        .arg(&folder.0)
        .grace(Duration::from_secs(60));
    let mut server = server.spawn().expect("it starts");
    let host = folder.0.to_str().expect("it is UTF-8");
    wait_until_ready(&mut server, || {
        let ask = ["-h", host, "-U", "bench", "-d", "postgres"];
        let asked = READY
            .invoke()
            .program(bin.join("pg_isready"))
            .args(ask)
            .run();
        asked.expect("it starts").passed()
    });
    server
}

#[test]
fn postgresql_is_measured_by_pgbench() {
    const NAME: &str = "postgresql_is_measured_by_pgbench";
    let Some(bin) = postgres().filter(|bin| bin.join("pgbench").exists()) else {
        return skip(
            NAME,
            "PostgreSQL is not installed below /usr/lib/postgresql",
        );
    };
    let folder = Folder::new("pg");
    let is_root = fs::metadata(&folder.0).is_ok_and(|meta| meta.uid() == 0);
    if is_root && !installed("setpriv", &["--version"]) {
        return skip(NAME, "root needs setpriv to run it as another user");
    }
    let mut server = start_postgres(&folder, &bin, is_root);
    let host = folder.0.to_str().expect("it is UTF-8");
    const FIGURES: &[Expected<'_>] = &[
        Expected::new("latency_ms", "ms", Polarity::LowerIsBetter),
        Expected::new("tps", "1/s", Polarity::HigherIsBetter),
    ];
    // To fill the database is another use of the same program, which prints none of them.
    let fill = Payload::new("pgbench -i", "pgbench");
    let pgbench = Payload::new("pgbench", "pgbench")
        .metrics(FIGURES)
        .format(Format::Regex(
            r"(?m)^latency average = (?<latency_ms>[0-9.]+) ms|^tps = (?<tps>[0-9.]+)",
        ));
    let ask = ["-h", host, "-U", "bench", "postgres"];
    let started = |payload: &Payload<'static>, args: &[&str]| {
        let program = payload.invoke().program(bin.join("pgbench"));
        program.args(args).args(ask.map(str::to_owned))
    };
    started(&fill, &["-i", "-q"])
        .run()
        .expect("it starts")
        .assert_passed();
    let select = started(&pgbench, &["-S", "-t", "50"]);
    measure(
        &select
            .check(Check::min("tps", 1.0))
            .check(Check::exists("latency_ms")),
        "tps",
    );
    // SIGTERM is a smart shutdown, which waits for clients, of which there are none.
    let report = server.stop().expect("it was not taken");
    assert_eq!(report.status, Status::Exited(0), "{}", report.stderr.text());
}
