//! Hand-made runs for tests.

use super::{Kept, Outputs, Sink, Stream};
use harness_metadata::{
    Attempt, AttemptId, Event, EventKind, Exit, Leak, Outcome, RunId, RunStats, Survivor, TestId,
    TraceSummary, Usage, Verdict,
    event::{
        AttemptStarted, OutputPolicy, OutputWhen, RunFinished, RunStarted, SCHEMA_VERSION, Source,
        TestFinished, TraceInForce, TraceLevel,
    },
    outcome::StreamSize,
    trace::{Backend, Dropped},
};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    time::Duration,
};

/// Captured output in memory.
#[derive(Default)]
pub(crate) struct Memory(pub(crate) HashMap<(AttemptId, bool), Vec<u8>>);

impl Memory {
    pub(crate) fn put(&mut self, test: &TestId, attempt: u32, stdout: &[u8], stderr: &[u8]) {
        let id = AttemptId {
            test: test.clone(),
            attempt,
        };
        self.0.insert((id.clone(), true), stdout.to_vec());
        self.0.insert((id, false), stderr.to_vec());
    }
}

impl Outputs for Memory {
    fn open(&self, attempt: &AttemptId, stream: Stream) -> io::Result<Option<Kept<'_>>> {
        let bytes = self.0.get(&(attempt.clone(), stream == Stream::Stdout));
        Ok(bytes.map(|bytes| Kept {
            head: Box::new(&bytes[..]),
            dropped: 0,
            tail: Box::new(io::empty()),
        }))
    }
}

pub(crate) fn test(name: &str) -> TestId {
    TestId {
        binary: "sample".into(),
        name: harness_metadata::TestCaseName::new(name),
    }
}

pub(crate) fn attempt(number: u32, outcome: Outcome, verdict: Verdict) -> Attempt {
    Attempt {
        number,
        outcome,
        leak: None,
        limits: Vec::new(),
        verdict,
        slow: false,
        started_at: "2026-01-02T03:04:05+00:00".parse().expect("a valid time"),
        elapsed: Duration::from_millis(1234),
        usage: Usage::default(),
        stdout: StreamSize::default(),
        stderr: StreamSize::default(),
        pid: Some(42),
        stuck: Vec::new(),
        earlier: Vec::new(),
        trace: None,
    }
}

/// A complete trace of nothing.
pub(crate) fn trace() -> TraceSummary {
    TraceSummary {
        level: TraceLevel::Io,
        backend: Backend::Ptrace,
        doubts: Vec::new(),
        processes: Vec::new(),
        files: Vec::new(),
        peers: Vec::new(),
        failures: Vec::new(),
        counts: BTreeMap::new(),
        dropped: Dropped::default(),
    }
}

pub(crate) fn code(number: u32, code: i32) -> Attempt {
    let verdict = if code == 0 {
        Verdict::Pass
    } else {
        Verdict::Fail
    };
    attempt(number, Outcome::Exited(Exit::Code(code)), verdict)
}

pub(crate) fn signal(signal: i32) -> Attempt {
    let exit = Exit::Signal {
        signal,
        core_dumped: false,
    };
    attempt(1, Outcome::Exited(exit), Verdict::Fail)
}

pub(crate) fn leaky() -> Attempt {
    let survivor = Survivor {
        pid: 77,
        parent: 1,
        command: "sleep 30".to_owned(),
        outlived: Duration::from_millis(200),
        killed: true,
        age: None,
        ancestry: Vec::new(),
        holds: Vec::new(),
    };
    Attempt {
        leak: Some(Leak {
            output_open: true,
            survivors: vec![survivor],
            ..Leak::default()
        }),
        ..code(1, 0)
    }
}

pub(crate) const POLICY: OutputPolicy = OutputPolicy {
    success: OutputWhen::Never,
    failure: OutputWhen::Immediate,
    junit_success: false,
    junit_failure: true,
    junit_flaky_fail_as_failure: true,
};

/// A run in which each test has the given attempts, one test after the other.
pub(crate) fn run(tests: Vec<(TestId, Vec<Attempt>)>) -> Vec<Event> {
    let started = RunStarted {
        schema_version: SCHEMA_VERSION,
        harness_version: "0.1.0".to_owned(),
        run_id: RunId(
            "6f1ed002-ab59-4f6f-b8a1-6d2f3e1d9c11"
                .parse()
                .expect("a valid id"),
        ),
        profile: "default".to_owned(),
        command_line: Vec::new(),
        started_at: "2026-01-02T03:04:05+00:00".parse().expect("a valid time"),
        workspace_root: "/w".to_owned(),
        slots: 2,
        tests: tests.len(),
        binaries: 1,
        skipped_tests: 0,
        skipped_by_default_filter: 0,
        skipped_binaries: 0,
        skipped_binaries_by_default_filter: 0,
        partial: false,
        shuffle_seed: None,
        limits_missing: None,
        silent_binaries: Vec::new(),
        trace: TraceInForce {
            level: TraceLevel::Process,
            backend: Backend::Lifecycle,
            degraded: None,
        },
        machine: None,
        sources: [(
            "sample".into(),
            Source {
                package: "sample".to_owned(),
                file: "src/lib.rs".to_owned(),
            },
        )]
        .into(),
    };
    let mut stats = RunStats {
        selected: tests.len(),
        ..RunStats::default()
    };
    let mut kinds = vec![EventKind::RunStarted(Box::new(started))];
    for (test, attempts) in tests {
        let total_attempts = attempts.len() as u32;
        for (nth, attempt) in attempts.iter().enumerate() {
            kinds.push(EventKind::AttemptStarted(AttemptStarted {
                test: test.clone(),
                attempt: attempt.number,
                total_attempts,
                slot: 0,
                running: 1,
                command: vec!["bin".to_owned(), "--exact".to_owned(), "a b".to_owned()],
            }));
            if nth + 1 < attempts.len() {
                kinds.push(EventKind::AttemptFailed {
                    test: test.clone(),
                    attempt: Box::new(attempt.clone()),
                    total_attempts,
                    delay: Duration::ZERO,
                    output: POLICY,
                });
            }
        }
        let verdict = attempts.last().map_or(Verdict::Fail, |last| last.verdict);
        let mut finished = TestFinished {
            test,
            attempts,
            total_attempts,
            verdict,
            slot: 0,
            output: POLICY,
            stats,
            running: 0,
        };
        stats.add(&finished);
        finished.stats = stats;
        kinds.push(EventKind::TestFinished(Box::new(finished)));
    }
    kinds.push(EventKind::RunFinished(Box::new(RunFinished {
        elapsed: Duration::from_secs(5),
        stats,
        cancelled: None,
        not_run: Vec::new(),
    })));
    let at = |(nth, kind)| Event {
        at: Duration::from_millis(100 * nth as u64),
        kind,
    };
    kinds.into_iter().enumerate().map(at).collect()
}

pub(crate) fn feed(sink: &mut dyn Sink, events: &[Event], outputs: &dyn Outputs) {
    for event in events {
        sink.handle(event, outputs)
            .expect("the writer takes everything");
        sink.flush().expect("the writer takes everything");
    }
}
