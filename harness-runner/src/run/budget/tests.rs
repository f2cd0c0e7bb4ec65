use super::*;
use crate::config::Place;
use fixture_kit::sample;
use harness_metadata::{
    Metric, Metrics, RawString,
    event::TraceLevel,
    outcome::Exit,
    trace::{Doubt, FileSummary, FileUse, ProcessSummary},
};
use std::time::Duration;

fn limit(name: &str, max: Option<f64>, min: Option<f64>) -> Limit {
    Limit {
        name: name.to_owned(),
        of: match name.parse() {
            Ok(measure) => Quantity::Measured(measure),
            Err(_) => Quantity::Metric(name.to_owned()),
        },
        max,
        min,
        result: BudgetResult::Fail,
        required: false,
        place: Place {
            file: camino::Utf8PathBuf::from("harness.toml").into(),
            line: 7,
            column: 1,
        },
    }
}

fn at_most(name: &str, max: f64) -> Limit {
    limit(name, Some(max), None)
}

fn judged(limit: Limit, attempt: &Attempt) -> Vec<BudgetFinding> {
    judge(&Budget(vec![limit]), attempt)
}

fn metric(name: &str, value: f64) -> Metric {
    let line = format!("{{\"payload\":\"redis\",\"name\":\"{name}\",\"value\":0,\"unit\":\"us\"}}");
    let mut metric: Metric = serde_json::from_str(&line).expect("it is one");
    metric.value = Number(value);
    metric
}

/// An attempt that passed, with so many files opened.
fn traced_attempt(files: usize) -> Attempt {
    let mut attempt = sample::code(1, 0);
    let mut trace = sample::trace();
    trace.files = (0..files)
        .map(|number| FileSummary {
            path: RawString::from(format!("/data/{number}").as_str()),
            uses: vec![FileUse::Read],
        })
        .collect();
    trace.processes.push(ProcessSummary {
        pid: 8,
        creator: Some(7),
        started: Duration::ZERO,
        ended: Some(Duration::from_secs(2)),
        exit: Some(Exit::Code(0)),
        killed_by: None,
        args: vec![RawString::from("git"), RawString::from("gc")],
        execs: 1,
    });
    attempt.trace = Some(Box::new(trace));
    attempt
}

#[test]
fn a_number_within_its_limits_is_nothing_and_the_limit_itself_is_within() {
    let mut attempt = sample::code(1, 0);
    attempt.usage.peak_memory = 100;
    assert!(judged(at_most("rss", 100.0), &attempt).is_empty());
    assert!(judged(limit("rss", Some(100.0), Some(100.0)), &attempt).is_empty());
    let over = judged(at_most("rss", 99.0), &attempt);
    assert_eq!(
        (over[0].value, over[0].fails, over[0].line),
        (Some(Number(100.0)), true, 7)
    );
    assert_eq!(over[0].unit.as_deref(), Some("B"));
    let under = judged(limit("rss", None, Some(101.0)), &attempt);
    assert_eq!(under[0].value, Some(Number(100.0)));
}

#[test]
fn files_and_processes_are_counted_in_the_trace_and_named() {
    let over = judged(at_most("files.opened", 2.0), &traced_attempt(12));
    assert_eq!(over[0].value, Some(Number(12.0)));
    let evidence = &over[0].evidence[0];
    assert!(
        evidence.starts_with("it opened /data/0, /data/1"),
        "{evidence}"
    );
    assert!(evidence.ends_with(" and 4 more"), "{evidence}");
    assert!(judged(at_most("files.opened", 12.0), &traced_attempt(12)).is_empty());
    assert!(judged(at_most("files.written", 0.0), &traced_attempt(12)).is_empty());

    let mut attempt = traced_attempt(0);
    attempt.usage.processes = Some(2);
    let over = judged(at_most("processes", 1.0), &attempt);
    assert!(over[0].evidence[0].contains("pid 8: git gc"), "{over:?}");
    attempt.elapsed = Duration::from_secs(3);
    let over = judged(at_most("time", 1.0), &attempt);
    assert!(
        over[0].evidence[0].contains("pid 8 for 2.000s: git gc"),
        "{over:?}"
    );
}

#[test]
fn a_number_that_was_not_measured_is_a_doubt_and_fails_only_if_it_is_required() {
    let attempt = sample::code(1, 0);
    for (name, why) in [
        ("files.opened", "the test was not traced"),
        ("processes", "no tracer counted the processes of the test"),
        ("memory", "the test had no cgroup that counts its memory"),
        ("p99_us", "the test recorded no metric `p99_us`"),
    ] {
        let doubt = judged(at_most(name, 1.0), &attempt);
        let found = (
            doubt[0].value,
            doubt[0].unmeasured.as_deref(),
            doubt[0].fails,
        );
        assert_eq!(found, (None, Some(why), false));
        let required = Limit {
            required: true,
            ..at_most(name, 1.0)
        };
        let required = judged(required, &attempt);
        assert!(required[0].fails);
        assert_eq!(verdict(Verdict::Pass, &required), Verdict::Fail);
        assert_eq!(verdict(Verdict::Pass, &doubt), Verdict::Pass);
    }
    let mut low = traced_attempt(1);
    low.trace.as_mut().expect("it is traced").level = TraceLevel::Process;
    let doubt = judged(at_most("files.opened", 5.0), &low);
    assert!(
        doubt[0]
            .unmeasured
            .as_deref()
            .is_some_and(|why| why.contains("level `process`")),
        "{doubt:?}"
    );
}

#[test]
fn an_incomplete_trace_gives_a_lower_bound_that_can_be_too_high_and_never_low_enough() {
    let mut attempt = traced_attempt(3);
    attempt.trace.as_mut().expect("it is traced").doubts = vec![Doubt::IoUring];
    let over = judged(at_most("files.opened", 2.0), &attempt);
    assert_eq!((over[0].value, over[0].fails), (Some(Number(3.0)), true));
    let doubt = judged(at_most("files.opened", 3.0), &attempt);
    assert_eq!((doubt[0].value, doubt[0].fails), (None, false));
    assert!(judged(limit("files.opened", None, Some(3.0)), &attempt).is_empty());
    let doubt = judged(limit("files.opened", None, Some(4.0)), &attempt);
    assert_eq!(doubt[0].value, None);

    let mut attempt = traced_attempt(3);
    attempt.trace.as_mut().expect("it is traced").dropped.files = 1;
    let doubt = judged(at_most("files.opened", 3.0), &attempt);
    assert!(
        doubt[0]
            .unmeasured
            .as_deref()
            .is_some_and(|why| why.contains("room")),
        "{doubt:?}"
    );
}

#[test]
fn each_value_of_a_metric_counts_and_the_worst_is_told() {
    let mut attempt = sample::code(1, 0);
    attempt.metrics.found = vec![
        metric("p99", 1400.0),
        metric("p99", 1900.0),
        metric("p99", 1600.0),
    ];
    let over = judged(at_most("p99", 1500.0), &attempt);
    assert_eq!((over[0].value, over[0].values), (Some(Number(1900.0)), 2));
    assert_eq!(over[0].unit.as_deref(), Some("us"));
    assert_eq!(judged(at_most("redis.p99", 1500.0), &attempt).len(), 1);
    assert!(judged(at_most("redis.p99", 1900.0), &attempt).is_empty());
    let missing = judged(at_most("postgres.p99", 1500.0), &attempt);
    assert_eq!(missing[0].value, None);

    attempt.metrics.found.push(metric("p99", f64::NAN));
    assert!(
        judged(at_most("p99", 1e9), &attempt)[0]
            .value
            .is_some_and(|value| value.0.is_nan())
    );
    attempt.metrics.found[0].unit = Some("ms".to_owned());
    let mixed = judged(at_most("p99", 1e9), &attempt);
    assert!(
        mixed[0]
            .unmeasured
            .as_deref()
            .is_some_and(|why| why.contains("more than one unit")),
        "{mixed:?}"
    );
}

#[test]
fn an_attempt_that_failed_is_told_of_what_is_too_high_and_of_nothing_that_it_did_not_reach() {
    let mut attempt = sample::code(1, 101);
    attempt.metrics = Metrics::default();
    attempt.usage.peak_memory = 100;
    assert!(judged(limit("p99", None, Some(1.0)), &attempt).is_empty());
    assert!(judged(limit("rss", None, Some(200.0)), &attempt).is_empty());
    assert_eq!(judged(at_most("rss", 99.0), &attempt).len(), 1);
    assert_eq!(verdict(Verdict::Interrupted, &[]), Verdict::Interrupted);
}

#[test]
fn a_budget_can_warn() {
    let mut attempt = sample::code(1, 0);
    attempt.usage.disk_written = 5;
    let warned = Limit {
        result: BudgetResult::Warn,
        ..at_most("disk.written", 4.0)
    };
    let warned = judged(warned, &attempt);
    assert_eq!(
        (warned[0].value, warned[0].fails),
        (Some(Number(5.0)), false)
    );
    assert_eq!(verdict(Verdict::Pass, &warned), Verdict::Pass);
}
