use super::*;
use crate::metric::Polarity;
use std::time::Duration;

fn metric(name: &str, value: f64) -> Metric {
    Metric {
        name: name.to_owned(),
        value,
        unit: Some("ms".to_owned()),
        polarity: Polarity::Unknown,
        stream: None,
        source: "json",
        invocation: 0,
    }
}

fn found(checks: &[Check<'_>], status: Status, metrics: &[Metric]) -> Vec<String> {
    let mut stderr = crate::output::Collector::new(4096);
    stderr.push(&[b"x".repeat(2000), b"the end\n".to_vec()].concat());
    let judged = Judged {
        checks,
        wanted: Wanted::Success,
        status,
        was_asked: false,
        metrics,
        stderr: &stderr.finish(),
        notes: &["no metrics in the format `json`".to_owned()],
    };
    judge(&judged).iter().map(Failure::to_string).collect()
}

const DONE: Status = Status::Exited(0);

#[test]
fn bounds_are_included() {
    let checks = [
        Check::min("a", 2.0),
        Check::max("a", 2.0),
        Check::range("a", 2.0, 2.0),
    ];
    assert!(found(&checks, DONE, &[metric("a", 2.0)]).is_empty());
    let low = found(&checks, DONE, &[metric("a", 1.5)]);
    let expected = [
        "not so: `a` is at least 2: it is 1.5 ms",
        "not so: `a` is from 2 to 2: it is 1.5 ms",
    ];
    assert_eq!(low, expected);
}

#[test]
fn all_checks_that_fail_are_reported_and_duplicates_as_well() {
    let checks = [
        Check::max("a", 1.0),
        Check::max("a", 1.0),
        Check::exists("b"),
    ];
    let found = found(&checks, DONE, &[metric("a", 2.0)]);
    assert_eq!(found.len(), 3);
    assert_eq!(found[0], found[1]);
}

#[test]
fn a_metric_that_is_missing_fails_and_the_reason_is_there() {
    let none = found(&[Check::exists("a")], DONE, &[]);
    let expected = "not so: `a` is there: there are no metrics (no metrics in the format `json`)";
    assert_eq!(none, [expected]);
    let others = found(&[Check::min("a", 0.0)], DONE, &[metric("b", 1.0)]);
    assert!(others[0].contains("there are `b`"), "{others:?}");
    let many: Vec<Metric> = (0..30).map(|at| metric(&format!("m{at}"), 0.0)).collect();
    assert!(found(&[Check::exists("a")], DONE, &many)[0].contains("`m9` and 20 more"));
}

#[test]
fn nan_and_infinities_fail_with_a_message_of_their_own() {
    let checks = [Check::min("a", 0.0), Check::exists("a")];
    let nan = found(&checks, DONE, &[metric("a", f64::NAN)]);
    assert_eq!(
        nan,
        ["not so: `a` is at least 0: it is NaN, which no bound holds for"]
    );
    let infinite = found(&checks, DONE, &[metric("a", f64::INFINITY)]);
    assert!(
        infinite[0].contains("infinite, or too large"),
        "{infinite:?}"
    );
    let negative = found(
        &[Check::max("a", 0.0)],
        DONE,
        &[metric("a", f64::NEG_INFINITY)],
    );
    assert!(negative[0].contains("minus infinite"), "{negative:?}");
}

#[test]
fn a_wrong_exit_code_ends_the_judging_with_the_end_of_stderr() {
    let checks = [Check::exists("a"), Check::exists("b")];
    let found = found(&checks, Status::Exited(3), &[]);
    assert_eq!(found.len(), 1);
    let text = &found[0];
    assert!(text.starts_with("not so: the exit code is 0: it ended with exit code 3; the end"));
    assert!(text.ends_with("the end"), "{text}");
    assert_eq!(
        text.matches('x').count(),
        1024 - 8 + "exit exit".matches('x').count()
    );
}

#[test]
fn the_exit_code_can_be_another_one_and_a_signal_is_none() {
    let three = [Check::exit_code(3)];
    assert!(found(&three, Status::Exited(3), &[]).is_empty());
    assert_eq!(found(&three, DONE, &[]).len(), 1);
    let signalled = found(&[], Status::Signalled { signal: 11 }, &[]);
    assert!(
        signalled[0].contains("it was ended by signal 11 (SIGSEGV)"),
        "{signalled:?}"
    );
    assert_eq!(
        found(
            &[Check::exit_code(11)],
            Status::Signalled { signal: 11 },
            &[]
        )
        .len(),
        1
    );
}

#[test]
fn a_time_out_is_judged_by_its_metrics_unless_an_exit_code_is_checked() {
    let status = Status::TimedOut {
        after: Duration::from_secs(5),
        killed_by: libc::SIGTERM,
    };
    assert!(found(&[Check::min("a", 1.0)], status, &[metric("a", 1.0)]).is_empty());
    let code = found(&[Check::exit_code(0)], status, &[]);
    assert!(code[0].contains("it ran for longer than 5s, and was ended by signal 15 (SIGTERM)"));
}

#[test]
fn a_check_that_can_never_be_right_has_a_fault() {
    let fault = |check: Check<'_>| check.fault().unwrap_or_default();
    assert!(
        fault(Check::range("a", 5.0, 3.0)).contains("from 5 to 3: write the lower bound first")
    );
    assert!(fault(Check::max("a", f64::NAN)).contains("the bound of `a` is not a number"));
    assert!(fault(Check::exists("")).contains("the name of the metric is empty"));
    assert!(fault(Check::exit_code(256)).contains("no program has the exit code 256"));
    assert_eq!(Check::range("a", 3.0, 3.0).fault(), None);
}
