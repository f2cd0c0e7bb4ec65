use super::*;
use crate::report::sample::{self, Memory, attempt, code, leaky, signal, test};
use camino::Utf8Path;
use fixture_kit::model::check_document;
use harness_metadata::{
    Attempt, Exit, Interruption, Outcome, Verdict,
    event::{CancelReason, Source},
    outcome::Quarantine,
};
use nextest_metadata::MismatchReason;
use proptest::prelude::*;
use std::fs;

/// The schema of the format (MIT, Matthew Poulton-White).
const SCHEMA: &str = include_str!("schema-0.0.json");

fn written(events: &[Event], outputs: &Memory) -> Value {
    let folder = tempfile::tempdir().expect("there is room");
    let folder = Utf8Path::from_path(folder.path()).expect("it is UTF-8");
    let path = folder.join("deep/ctrf.json");
    let mut sink = Ctrf::new(&path);
    sample::feed(&mut sink, events, outputs);
    sink.close().expect("it can be written");
    let text = fs::read_to_string(path).expect("it is there");
    let report = serde_json::from_str(&text).expect("it is JSON");
    let schema = serde_json::from_str(SCHEMA).expect("it is JSON");
    check_document(schema, &report).unwrap_or_else(|error| panic!("{error}: {text}"));
    report
}

fn only(report: &Value) -> &Value {
    let tests = report["results"]["tests"].as_array().expect("a list");
    assert_eq!(tests.len(), 1, "{report}");
    &tests[0]
}

fn event(kind: EventKind) -> Event {
    let at = Duration::ZERO;
    Event { at, kind }
}

#[test]
fn a_failed_test_has_its_words_its_place_and_its_output() {
    let fails = test("a::fails");
    let mut outputs = Memory::default();
    outputs.put(
        &fails,
        1,
        b"out\tof \xff\x1b[31mred\x1b[0m\x07\nmore\n",
        b"noise\nthread 'a::fails' (7) panicked at src/a.rs:3:5:\n\
          no process with pid 99 at 0x7f0102030405\n",
    );
    let report = written(&sample::run(vec![(fails, vec![code(1, 101)])]), &outputs);
    let expected = json!({
        "testId": "sample a::fails",
        "executionId": only(&report)["executionId"],
        "name": "a::fails",
        "suite": ["sample"],
        "status": "failed",
        "rawStatus": "FAIL",
        "duration": 1234,
        "start": 1_700_000_000_000_u64,
        "stop": 1_700_000_001_234_u64,
        "filePath": "src/lib.rs",
        "line": 7,
        "labels": { "package": "sample", "kind": "lib" },
        "threadId": "0",
        "message": "no process with pid … at 0x…",
        "trace": "no process with pid … at 0x…\nthread 'a::fails' panicked at src/a.rs:3:5:\n\
                  no process with pid 99 at 0x7f0102030405",
        "stdout": ["out     of \\xFFred\\u{7}", "more"],
        "stderr": [
            "noise",
            "thread 'a::fails' (7) panicked at src/a.rs:3:5:",
            "no process with pid 99 at 0x7f0102030405",
        ],
        "extra": {
            "attempts": 1, "slot": 0, "cpu-time": 0.0, "peak-memory": 0, "seconds": 1.234,
            "type": "test failure with exit code 101",
        },
    });
    assert_eq!(only(&report), &expected);
}

#[test]
fn the_document_has_the_run_and_its_counts() {
    let mut events = sample::run(vec![
        (test("passes"), vec![code(1, 0)]),
        (test("flaky"), vec![code(1, 1), code(2, 0)]),
        (test("aborts"), vec![signal(6)]),
    ]);
    let ignored = EventKind::TestSkipped {
        test: test("ignored"),
        reason: MismatchReason::Ignored,
        reported: false,
        ignore_reason: Some("slow".to_owned()),
        location: None,
    };
    let filtered = |name, reported| EventKind::TestSkipped {
        test: test(name),
        reason: MismatchReason::String,
        reported,
        ignore_reason: None,
        location: None,
    };
    let skipped = [ignored, filtered("told", true), filtered("untold", false)];
    events.splice(1..1, skipped.map(event));
    if let Some(EventKind::RunFinished(run)) = events.last_mut().map(|event| &mut event.kind) {
        run.cancelled = Some(CancelReason::TestFailure);
        run.not_run = vec![test("never")];
    }
    let report = written(&events, &Memory::default());
    assert_eq!(report["reportFormat"], "CTRF");
    assert_eq!(report["runId"], "6f1ed002-ab59-4f6f-b8a1-6d2f3e1d9c11");
    assert_eq!(report["timestamp"], "2023-11-14T22:13:25+00:00");
    assert_eq!(report["generatedBy"], "cargo-harness 0.1.0");
    let results = &report["results"];
    let tool = json!({ "name": "cargo-harness", "version": "0.1.0" });
    assert_eq!(results["tool"], tool);
    let summary = json!({
        "tests": 6, "passed": 2, "failed": 1, "skipped": 2, "pending": 1, "other": 0, "flaky": 1,
        "suites": 1, "start": 1_700_000_000_000_u64, "stop": 1_700_000_005_000_u64, "duration": 5000,
    });
    assert_eq!(results["summary"], summary);
    assert_eq!(results["environment"]["healthy"], false);
    assert_eq!(results["extra"]["cancelled"], "test failure");
    assert_eq!(results["extra"]["profile"], "default");
    let message = |name: &str| {
        let tests = results["tests"].as_array().expect("a list");
        let test = tests.iter().find(|test| test["name"] == name);
        test.expect("it is there")["message"].clone()
    };
    assert_eq!(message("ignored"), "ignored: slow");
    assert_eq!(message("never"), "not run: test failure");
    assert_eq!(message("aborts"), "test aborted with signal 6: SIGABRT");
    assert_eq!(message("passes"), Value::Null);
}

#[test]
fn a_retried_test_has_each_attempt() {
    let flaky = test("flaky");
    let mut outputs = Memory::default();
    outputs.put(&flaky, 1, b"one\n", b"Error: first\n");
    outputs.put(&flaky, 2, b"two\n", b"");
    let report = written(
        &sample::run(vec![(flaky, vec![code(1, 1), code(2, 0)])]),
        &outputs,
    );
    let test = only(&report);
    assert_eq!(
        (&test["status"], &test["flaky"], &test["retries"]),
        (&json!("passed"), &json!(true), &json!(1))
    );
    assert_eq!(test["rawStatus"], "FLAKY 2/2");
    assert_eq!(test["stdout"], json!(["two"]));
    let first = json!([{
        "attempt": 1, "status": "failed", "duration": 1234,
        "start": 1_700_000_000_000_u64, "stop": 1_700_000_001_234_u64,
        "message": "Error: first", "trace": "Error: first",
        "stdout": ["one"], "stderr": ["Error: first"],
        "extra": { "type": "test failure with exit code 1" },
    }]);
    assert_eq!(test["retryAttempts"], first);
}

#[test]
fn every_verdict_has_its_status() {
    let interrupted = Outcome::Interrupted {
        by: Interruption::Signal(2),
        exit: None,
    };
    let exited = || Outcome::Exited(Exit::Code(101));
    for (attempt, verdict, status) in [
        (code(1, 0), Verdict::Pass, "passed"),
        (leaky(), Verdict::Pass, "passed"),
        (code(1, 101), Verdict::Fail, "failed"),
        (
            attempt(1, interrupted, Verdict::Interrupted),
            Verdict::Interrupted,
            "other",
        ),
        (
            attempt(1, exited(), Verdict::Fail),
            Verdict::Quarantined,
            "skipped",
        ),
    ] {
        let mut events = sample::run(vec![(test("t"), vec![attempt])]);
        for event in &mut events {
            if let EventKind::TestFinished(finished) = &mut event.kind {
                finished.verdict = verdict;
                finished.quarantine = (verdict == Verdict::Quarantined).then(|| {
                    Box::new(Quarantine {
                        reason: "it is known".to_owned(),
                        owner: "ada".to_owned(),
                        expires: sample_day(),
                        expired: false,
                    })
                });
            }
        }
        let report = written(&events, &Memory::default());
        let test = only(&report);
        assert_eq!(test["status"], status);
        if verdict == Verdict::Quarantined {
            let message = test["message"].as_str().expect("it has one");
            assert!(message.starts_with("quarantine until"), "{message}");
        }
    }
}

fn sample_day() -> chrono::NaiveDate {
    chrono::NaiveDate::from_ymd_opt(2030, 1, 2).expect("it is a day")
}

#[test]
fn a_flaky_test_that_counts_as_failed_says_why() {
    let mut events = sample::run(vec![(test("t"), vec![code(1, 1), code(2, 0)])]);
    for event in &mut events {
        if let EventKind::TestFinished(finished) = &mut event.kind {
            finished.verdict = Verdict::Fail;
        }
    }
    let report = written(&events, &Memory::default());
    let test = only(&report);
    assert_eq!(test["status"], "failed");
    assert_eq!(test["flaky"], true);
    let why = "test passed on attempt 2/2 but is configured to fail when flaky";
    assert_eq!(test["message"], why);
}

#[test]
fn an_iteration_of_a_stress_run_is_a_parameter_of_its_test() {
    let mut events = sample::run(vec![(test("t").of_iteration(3), vec![code(1, 0)])]);
    if let EventKind::RunStarted(run) = &mut events[0].kind {
        run.profile = "\"tests\":null".to_owned();
        run.sources.insert("other".into(), source());
    }
    let report = written(&events, &Memory::default());
    let test = only(&report);
    assert_eq!(test["testId"], "sample t");
    assert_eq!(test["parameters"], json!({ "iteration": 3 }));
    assert_eq!(test["labels"]["package"], "sample");
    assert_eq!(report["results"]["extra"]["profile"], "\"tests\":null");
}

fn source() -> Source {
    Source {
        package: "other".to_owned(),
        file: "src/lib.rs".to_owned(),
        binary: "other".to_owned(),
        kind: "lib".to_owned(),
        tests: 0,
    }
}

#[test]
fn a_run_that_did_not_end_has_what_was_known_and_says_so() {
    let mut events = sample::run(vec![
        (test("one"), vec![code(1, 0)]),
        (test("two"), vec![code(1, 0)]),
    ]);
    events.truncate(4);
    let report = written(&events, &Memory::default());
    assert_eq!(only(&report)["name"], "one");
    assert_eq!(report["results"]["extra"]["incomplete"], true);
    assert_eq!(report["results"]["environment"]["healthy"], false);
}

#[test]
fn a_path_that_is_a_folder_is_an_error_at_the_end() {
    let folder = tempfile::tempdir().expect("there is room");
    let folder = Utf8Path::from_path(folder.path()).expect("it is UTF-8");
    let events = sample::run(vec![(test("t"), vec![code(1, 0)])]);
    let (end, rest) = events.split_last().expect("there are some");
    let mut sink = Ctrf::new(folder);
    sample::feed(&mut sink, rest, &Memory::default());
    let error = sink.handle(end, &Memory::default()).expect_err("a folder");
    assert_eq!(
        error.to_string(),
        format!("failed to write the CTRF report to `{folder}`")
    );
    sink.close().expect("it has been said");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_was_printed_the_report_is_valid(
        name in any::<String>(),
        stdout in proptest::collection::vec(any::<u8>(), 0..200),
        stderr in any::<String>(),
    ) {
        let stderr = format!("{stderr}\u{1b}[3\nthread 'x' panicked at {name}:1:2:\n\u{fffe}\0");
        let test = test(&name);
        let mut outputs = Memory::default();
        outputs.put(&test, 1, &stdout, stderr.as_bytes());
        outputs.put(&test, 2, stderr.as_bytes(), &stdout);
        let attempts: Vec<Attempt> = vec![code(1, 101), code(2, 3)];
        let report = written(&sample::run(vec![(test, attempts)]), &outputs);
        let shown = only(&report).to_string();
        prop_assert!(!shown.contains("\\u001b") && !shown.contains("\\u0000"), "{}", shown);
    }
}
