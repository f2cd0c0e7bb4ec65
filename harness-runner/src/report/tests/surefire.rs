//! The JUnit report by the schema of Maven's reports.

use super::*;
use crate::report::Outputs;
use fixture_kit::model::check_surefire;
use harness_metadata::outcome::StartFailure;

fn valid(report: &str) {
    check_surefire(report).unwrap_or_else(|error| panic!("{error}\n{report}"));
}

fn surefire(events: &[Event], outputs: &Memory) -> String {
    junit(events, outputs, |options| {
        options.schema = Schema::Surefire;
        options.properties = true;
    })
}

fn unstarted(number: u32) -> Attempt {
    let failure = StartFailure {
        message: "no memory".to_owned(),
        errno: 12,
    };
    attempt(number, Outcome::StartFailed(failure), Verdict::Fail)
}

#[test]
fn a_report_by_the_schema_of_maven_is_valid_at_every_moment() {
    let (mut events, outputs) = mixed();
    for event in &mut events {
        if let EventKind::TestFinished(test) = &mut event.kind
            && test.test.name.as_str() == "a::fails"
        {
            test.test.binary = "other".into();
        }
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("junit.xml");
    let mut options = JunitOptions::new(path.to_str().expect("a UTF-8 path"));
    options.schema = Schema::Surefire;
    let mut sink = Junit::new(options);
    let outputs: &dyn Outputs = &outputs;
    for event in &events {
        sink.handle(event, outputs).expect("there is room");
        sink.flush().expect("there is room");
        let report = std::fs::read_to_string(&path).expect("it is there at every moment");
        valid(&report);
        let ended = matches!(event.kind, EventKind::RunFinished(_));
        assert_eq!(report.contains("(incomplete)"), !ended, "{report}");
        assert_eq!(report.contains("the run did not end"), !ended, "{report}");
    }
    let report = std::fs::read_to_string(&path).expect("it is there");
    assert_eq!(report.matches("<testcase ").count(), 6, "{report}");
    assert!(report.contains("classname=\"other\""), "{report}");
}

#[test]
fn failures_come_before_errors_in_a_report_by_the_schema_of_maven() {
    let events = run(vec![
        (
            test("fails"),
            vec![unstarted(1), code(2, 1), unstarted(3), code(4, 2)],
        ),
        (test("never"), vec![unstarted(1), unstarted(2)]),
        (test("flaky"), vec![unstarted(1), code(2, 1), code(3, 0)]),
    ]);
    let report = surefire(&events, &Memory::default());
    valid(&report);
    let counted = |tag: &str| report.matches(&format!("<{tag} ")).count();
    let counts = [
        "failure",
        "error",
        "rerunFailure",
        "rerunError",
        "flakyFailure",
        "flakyError",
    ]
    .map(counted);
    assert_eq!(counts, [1, 1, 1, 3, 1, 1], "{report}");
    assert!(
        report.contains("<failure message=\"test failed with exit code 1\""),
        "{report}"
    );
}

#[test]
fn what_did_not_run_or_is_in_quarantine_is_skipped_by_the_schema_of_maven() {
    let (mut events, outputs) = mixed();
    for event in &mut events {
        if let EventKind::TestFinished(test) = &mut event.kind
            && test.verdict == Verdict::Fail
        {
            test.verdict = Verdict::Quarantined;
        }
    }
    if let Some(EventKind::RunFinished(run)) = events.last_mut().map(|event| &mut event.kind) {
        run.cancelled = Some(CancelReason::Interrupt);
        run.not_run = vec![test("z")];
    }
    let cancelled = EventKind::Cancelled {
        reason: CancelReason::Interrupt,
        running: 0,
        killing: false,
    };
    let at = Duration::ZERO;
    let end = events.len() - 1;
    events.insert(
        end,
        Event {
            at,
            kind: cancelled,
        },
    );
    let report = surefire(&events, &outputs);
    valid(&report);
    assert_eq!(report.matches("<skipped ").count(), 4, "{report}");
    assert!(report.contains("name=\"run-cut-off\""), "{report}");
}

#[test]
fn a_run_without_tests_has_a_suite_by_the_schema_of_maven() {
    let report = surefire(&run(Vec::new()), &Memory::default());
    valid(&report);
    assert!(report.contains("tests=\"0\""), "{report}");
}
