//! The cost of each report of a large run: time, CPU time and peak memory.
//!
//! ```text
//! cargo bench -p harness-runner --bench sinks -- [NAMES…] [--tests=10000,100000]
//! ```
//!
//! No test runs: the events are made by hand, one after the other, and given to one sink in a process of its own.
//! One test in 50 fails and one in 100 passes at its second attempt, both with output; each has a trace of a process
//! and eight files. `nothing` makes the events and gives them to no sink. A report is linear if the cost of a test is
//! the same in both columns.

#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]

use fixture_kit::sample;
use harness_metadata::{
    Attempt, AttemptId, Event, EventKind, RunId, TestId,
    event::{self, AttemptStarted, OutputPolicy, RunFinished, RunStarted, Source},
    stats::RunStats,
    trace::{FileSummary, FileUse, ProcessSummary},
};
use harness_runner::{
    answers::gathered::Gathered,
    report::{
        Kept, Outputs, Sink, Stream,
        allure::Allure,
        chrome::ChromeTrace,
        ctrf::Ctrf,
        html::Html,
        json::{EmbeddedOutput, JsonLines},
        junit::{Junit, JunitOptions},
        libtest_json::{Form, LibtestJson},
        terminal::{Terminal, TerminalOptions},
    },
    store::{Belongings, KeptTrace, Run, Span},
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use std::{
    env,
    fs::{self, File},
    io::{self, BufWriter},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// The sinks by their names.
const NAMES: [&str; 11] = [
    "nothing",
    "terminal",
    "junit",
    "events",
    "libtest-json",
    "html",
    "chrome",
    "ctrf",
    "allure",
    "recording",
    "findings",
];

/// The numbers of tests.
const TESTS: &str = "10000,100000";

/// The option of a process that measures one sink.
const ONE: &str = "--one";

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [first, name, tests] = args.as_slice()
        && first == ONE
    {
        return one(name, tests.parse().expect("it is a number"));
    }
    let tests = args.iter().find_map(|arg| arg.strip_prefix("--tests="));
    let tests: Vec<u32> = tests
        .unwrap_or(TESTS)
        .split(',')
        .map(|tests| tests.parse().expect("`--tests=` has numbers"))
        .collect();
    let names: Vec<_> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    for name in &names {
        let known = NAMES.contains(&name.as_str());
        assert!(known, "unknown: {name}; known: {NAMES:?}");
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| *wanted == name);
    for name in NAMES.into_iter().filter(|name| wanted(name)) {
        print!("{name:<14}");
        for tests in &tests {
            let own = env::current_exe().expect("it has a path");
            let mut command = Command::new(own);
            let output = command.args([ONE, name, &tests.to_string()]).output();
            let output = output.expect("it starts");
            let said = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {errors}");
            print!("{tests:>8} tests: {:<52}", said.trim());
        }
        println!();
    }
}

/// Measures one sink in this process.
fn one(name: &str, tests: u32) {
    let folder = tempfile::tempdir().expect("there is room");
    let mut sink = sink(name, folder.path());
    let started = Instant::now();
    each_event(tests, &mut |event| {
        sink.handle(&event, &Printed).expect("it can be written");
        if matches!(event.kind, EventKind::TestFinished(_)) {
            sink.flush().expect("it can be written");
        }
    });
    drop(sink);
    let took = started.elapsed();
    // CPU time is much the same beside other work.
    let cpu = cpu_time().as_secs_f64() * 1e6 / f64::from(tests);
    let memory = peak_memory() / 1024;
    let size = size(folder.path()) / 1024;
    let seconds = took.as_secs_f64();
    println!("{seconds:.2} s, CPU {cpu:.1} µs each, {memory} MiB, {size} KiB");
}

fn sink(name: &str, folder: &Path) -> Box<dyn Sink> {
    let path = |file: &str| {
        let path = folder.join(file);
        camino::Utf8PathBuf::from_path_buf(path).expect("it is UTF-8")
    };
    let file = |name: &str| BufWriter::new(File::create(path(name)).expect("there is room"));
    match name {
        "nothing" => Box::new(Nothing),
        "terminal" => Box::new(Terminal::new(file("terminal"), TerminalOptions::default())),
        "junit" => {
            let mut options = JunitOptions::new(path("junit.xml"));
            options.properties = true;
            Box::new(Junit::new(options))
        }
        "events" => {
            let embedded = EmbeddedOutput::Failures { cap: 64 * 1024 };
            Box::new(JsonLines::new(file("events.ndjson"), "a file", embedded))
        }
        "libtest-json" => Box::new(LibtestJson::new(file("messages"), "a file", Form::Plain)),
        "html" => Box::new(Html::new(path("report.html"))),
        "chrome" => Box::new(ChromeTrace::new(path("trace.json"))),
        "ctrf" => Box::new(Ctrf::new(path("ctrf.json"))),
        "allure" => Box::new(Allure::new(path("allure"))),
        "recording" => {
            let run = Run::create(&path(""), RunId::random(), None).expect("there is room");
            Box::new(Recording(Some(run)))
        }
        "findings" => Box::new(Findings(Gathered::new(&path(""), &path("target"), true))),
        _ => unreachable!("it was looked for above"),
    }
}

/// The findings that are gathered while a run goes on. Each trace is one that is kept, and none is read: no two of these
/// tests meet.
struct Findings(Gathered);

impl Sink for Findings {
    fn handle(
        &mut self,
        event: &Event,
        outputs: &dyn Outputs,
    ) -> Result<(), harness_runner::report::SinkError> {
        let kept = KeptTrace {
            file: "1.trace".to_owned(),
            part: Some(Span {
                start: 0,
                end: 4096,
            }),
        };
        self.0.hear(event, Some(&kept), outputs);
        Ok(())
    }
}

/// A sink that does nothing.
struct Nothing;

impl Sink for Nothing {
    fn handle(
        &mut self,
        _: &Event,
        _: &dyn Outputs,
    ) -> Result<(), harness_runner::report::SinkError> {
        Ok(())
    }
}

/// The recording of a run, which is no sink.
struct Recording(Option<Run>);

impl Sink for Recording {
    fn handle(
        &mut self,
        event: &Event,
        _: &dyn Outputs,
    ) -> Result<(), harness_runner::report::SinkError> {
        let run = self.0.as_mut().expect("the run goes on");
        let recorded = run.record(event, Belongings::default());
        recorded.expect("there is room");
        run.flush().expect("there is room");
        if matches!(event.kind, EventKind::RunFinished(_)) {
            let run = self.0.take().expect("the run goes on");
            run.end().expect("there is room");
        }
        Ok(())
    }
}

/// The output of every attempt that failed.
struct Printed;

impl Outputs for Printed {
    fn open(&self, attempt: &AttemptId, stream: Stream) -> io::Result<Option<Kept<'_>>> {
        let text = match stream {
            Stream::Stdout => "loading the order\nloading the lines of the order\n".to_owned(),
            Stream::Stderr => format!(
                "thread '{}' (4711) panicked at src/lib.rs:616:9:\n\
                 assertion `left == right` failed: the order of Ada\n  left: 3\n right: 4\n\
                 note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
                attempt.test.name
            ),
        };
        Ok(Some(Kept {
            head: Box::new(io::Cursor::new(text)),
            dropped: 0,
            tail: Box::new(io::empty()),
        }))
    }
}

/// Makes the events of a run, one after the other.
fn each_event(tests: u32, hear: &mut dyn FnMut(Event)) {
    let mut at = Duration::ZERO;
    let mut tell = |kind| {
        at += Duration::from_micros(300);
        hear(Event { at, kind });
    };
    tell(EventKind::RunStarted(Box::new(started(tests))));
    let mut stats = RunStats {
        selected: tests as usize,
        ..RunStats::default()
    };
    for number in 0..tests {
        let module = number % 97;
        let name = format!("module_{module}::tests::case_{number}_is_what_it_should_be");
        let test = sample::test(&format!("package-{}", number % 20), &name);
        let attempts = attempts(number);
        let total_attempts = attempts.len() as u32;
        for (nth, attempt) in attempts.iter().enumerate() {
            tell(EventKind::AttemptStarted(began(
                &test,
                attempt,
                total_attempts,
            )));
            if nth + 1 < attempts.len() {
                tell(EventKind::AttemptFailed {
                    test: test.clone(),
                    attempt: Box::new(attempt.clone()),
                    total_attempts,
                    delay: Duration::ZERO,
                    output: POLICY,
                });
            }
        }
        let mut finished = sample::finished(test, attempts);
        finished.total_attempts = total_attempts;
        stats.add(&finished);
        finished.stats = stats;
        tell(EventKind::TestFinished(Box::new(finished)));
    }
    tell(EventKind::RunFinished(Box::new(RunFinished {
        elapsed: Duration::from_secs(60),
        stats,
        cancelled: None,
        not_run: Vec::new(),
        failed_scripts: Vec::new(),
        failed_services: Vec::new(),
        findings: event::Findings::default(),
    })));
}

const POLICY: OutputPolicy = sample::POLICY;

fn started(tests: u32) -> RunStarted {
    let sources = (0..20).map(|number| {
        let name = format!("package-{number}");
        let source = Source {
            package: name.clone(),
            file: format!("{name}/src/lib.rs"),
            binary: name.clone(),
            kind: "lib".to_owned(),
            tests: tests as usize / 20,
        };
        (name.as_str().into(), source)
    });
    RunStarted {
        tests: tests as usize,
        binaries: 20,
        sources: sources.collect(),
        ..sample::started()
    }
}

fn began(test: &TestId, attempt: &Attempt, total_attempts: u32) -> AttemptStarted {
    AttemptStarted {
        test: test.clone(),
        attempt: attempt.number,
        total_attempts,
        slot: 0,
        running: 1,
        command: vec![format!(
            "target/debug/deps/{}-7b38ac87bbe2ca76",
            test.binary
        )],
    }
}

fn attempts(number: u32) -> Vec<Attempt> {
    let codes: &[i32] = match number {
        _ if number.is_multiple_of(50) => &[101],
        _ if number % 100 == 1 => &[101, 0],
        _ => &[0],
    };
    let attempts = (1..).zip(codes).map(|(nth, code)| {
        let mut attempt = sample::code(nth, *code);
        let micros = 500 + u64::from(number) * 7919 % 30_011;
        attempt.elapsed = Duration::from_micros(micros);
        attempt.usage.user = Duration::from_micros(micros / 2);
        attempt.trace = Some(Box::new(trace(number)));
        attempt
    });
    attempts.collect()
}

fn trace(number: u32) -> harness_metadata::TraceSummary {
    let mut trace = sample::trace();
    trace.processes.push(ProcessSummary {
        pid: 4711,
        creator: None,
        started: Duration::ZERO,
        ended: Some(Duration::from_micros(400)),
        exit: None,
        killed_by: None,
        args: vec!["target/debug/deps/case".into(), "--exact".into()],
        execs: 1,
    });
    let libraries = (0..7).map(|number| format!("/usr/lib/lib{number}.so"));
    let files = libraries.chain([format!("/tmp/run-{number}/input")]);
    let files = files.map(|path| FileSummary {
        path: path.as_str().into(),
        uses: vec![FileUse::Read],
    });
    trace.files = files.collect();
    trace
}

/// Returns the CPU time of this process.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("it takes no other argument");
    let micros = |time: TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let sum = micros(usage.user_time()) + micros(usage.system_time());
    Duration::from_micros(sum.unsigned_abs())
}

/// Returns the peak of the memory of this process, in KiB (proc(5)).
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("there is one");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let digits = line.and_then(|line| line.trim().strip_suffix(" kB"));
    digits
        .expect("the kernel says it")
        .trim()
        .parse()
        .expect("it is a number")
}

/// Returns the bytes of all files of a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("it is there").flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size(&entry.path()),
            _ => entry.metadata().map_or(0, |it| it.len()),
        })
        .sum()
}
