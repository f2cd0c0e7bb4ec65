//! The words for what happened: statuses, closing sentences, counts.

use super::budget;
pub(super) use super::bytes::size;
use harness_metadata::{
    Attempt, Exit, Interruption, LimitHit, NoResultKind, Outcome, Quarantine, RawString, Remote,
    RunStats, RustBinaryId, Verdict,
    event::{CancelReason, RunMode, TestFinished},
    trace::{Backend, Disturbance, EarlierTime},
};
use std::{collections::BTreeMap, time::Duration};

/// The severity of a finished test, worst first.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Failed,
    Interrupted,
    Quarantined,
    Flaky,
    Slow,
    Leaky,
    Passed,
}

impl Class {
    pub(super) fn of(test: &TestFinished) -> Self {
        let last = test.attempts.last();
        match test.verdict {
            Verdict::Fail => Self::Failed,
            Verdict::Interrupted => Self::Interrupted,
            Verdict::Quarantined => Self::Quarantined,
            Verdict::Pass if test.flaky() => Self::Flaky,
            Verdict::Pass if last.is_some_and(|last| last.leaked().is_some()) => Self::Leaky,
            Verdict::Pass if last.is_some_and(|last| last.slow) => Self::Slow,
            Verdict::Pass => Self::Passed,
        }
    }
}

/// Returns what a user can do with a process that is stopped for a debugger, line by line.
pub(super) fn broke(pid: i32, args: &[RawString]) -> [String; 2] {
    let args: Vec<String> = args
        .iter()
        .map(|arg| String::from_utf8_lossy(arg.as_bytes()).into_owned())
        .collect();
    let command = shell_words::join(&args);
    let command = super::style::escaped(&command);
    [
        format!("stopped at its exec: pid {pid} `{command}`"),
        format!(
            "attach: gdb -p {pid}; let it go on: kill -CONT {pid}; this test has no limits now"
        ),
    ]
}

/// Returns the name of a signal, such as `SIGABRT` or `SIGRTMIN+2`.
pub fn signal_name(signal: i32) -> String {
    if let Ok(known) = nix::sys::signal::Signal::try_from(signal) {
        return known.as_str().to_owned();
    }
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    match signal {
        _ if signal == first => "SIGRTMIN".to_owned(),
        _ if signal > first && signal <= last => format!("SIGRTMIN+{}", signal - first),
        _ => format!("SIG {signal}"),
    }
}

/// Returns the status of one attempt, at most twelve columns for all but odd signals.
pub fn attempt_status(attempt: &Attempt) -> String {
    let leaky = attempt.leaked().is_some();
    if let Some(limit) = attempt.limits.first().filter(|_| limits_decide(attempt)) {
        return match limit {
            LimitHit::MemoryMax { .. } => "MEMORY-MAX".to_owned(),
            LimitHit::PidsMax { .. } => "PIDS-MAX".to_owned(),
            LimitHit::LeftCgroup { .. }
            | LimitHit::CgroupOpened { .. }
            | LimitHit::LimitChanged { .. } => "ESCAPED".to_owned(),
        };
    }
    if policy_decides(attempt) {
        return "POLICY".to_owned();
    }
    if budget::decides(attempt) {
        return "BUDGET".to_owned();
    }
    match (&attempt.outcome, attempt.verdict) {
        (Outcome::Exited(exit), Verdict::Pass) => match (exit.success(), attempt.slow, leaky) {
            (true, true, true) => "SLOW + LEAK".to_owned(),
            (true, false, true) => "LEAK".to_owned(),
            _ => "PASS".to_owned(),
        },
        (Outcome::Exited(exit), _) if exit.success() => "LEAK-FAIL".to_owned(),
        (Outcome::Exited(Exit::Code(_)), _) if leaky => "FAIL + LEAK".to_owned(),
        (Outcome::Exited(Exit::Code(_)), _) => "FAIL".to_owned(),
        (Outcome::Exited(Exit::Signal { signal, .. }), _) => signal_name(*signal),
        (Outcome::StartFailed(_), _) => "XFAIL".to_owned(),
        (Outcome::TimedOut { .. }, Verdict::Pass) => "TIMEOUT-PASS".to_owned(),
        (Outcome::TimedOut { .. }, _) => "TIMEOUT".to_owned(),
        (Outcome::Interrupted { by, .. }, _) => interrupted_status(*by),
        (Outcome::HarnessFault(_), _) => "FAULT".to_owned(),
        (Outcome::NoResult(_), Verdict::Pass) if leaky => "LEAK".to_owned(),
        (Outcome::NoResult(_), Verdict::Pass) => "IGNORED".to_owned(),
        (Outcome::NoResult(no), _) if no.kind == NoResultKind::Ignored => "LEAK-FAIL".to_owned(),
        (Outcome::NoResult(_), _) => "NO-RESULT".to_owned(),
        (Outcome::BinaryChanged(_), _) => "CHANGED".to_owned(),
    }
}

/// Returns whether the limits of an attempt say why it failed.
pub(super) fn limits_decide(attempt: &Attempt) -> bool {
    has_ended(attempt) && !attempt.limits.is_empty()
}

/// Returns whether an attempt would have passed if it had kept to its policy, which could not deny what it did.
pub(super) fn policy_decides(attempt: &Attempt) -> bool {
    let passed = match &attempt.outcome {
        Outcome::Exited(exit) => exit.success(),
        _ => has_ended(attempt),
    };
    passed && escaped_policy(attempt) && attempt.limits.is_empty()
}

fn escaped_policy(attempt: &Attempt) -> bool {
    let policy = attempt.policy.as_ref();
    policy.is_some_and(|policy| policy.escaped())
}

fn has_ended(attempt: &Attempt) -> bool {
    match &attempt.outcome {
        Outcome::Exited(_) => true,
        Outcome::NoResult(no) => no.kind == NoResultKind::Ignored,
        _ => false,
    }
}

fn interrupted_status(by: Interruption) -> String {
    match by {
        Interruption::Signal(signal) => signal_name(signal),
        Interruption::FailFast => "FAIL-FAST".to_owned(),
        Interruption::GlobalTimeout => "GLOBAL-TMT".to_owned(),
        Interruption::ReportFailed => "STOPPED".to_owned(),
        Interruption::ServiceLost => "SVC-LOST".to_owned(),
        Interruption::NotWanted => "ENDED".to_owned(),
    }
}

/// Returns the status of one of several attempts, such as `TRY 2 FAIL`.
pub(super) fn try_status(attempt: &Attempt) -> String {
    let status = attempt_status(attempt);
    let short = match status.as_str() {
        "TIMEOUT" => "TMT",
        "TIMEOUT-PASS" => "TMPASS",
        "MEMORY-MAX" => "MEMMAX",
        "PIDS-MAX" => "PIDMAX",
        "ESCAPED" => "ESCAPE",
        "LEAK-FAIL" => "LKFAIL",
        "NO-RESULT" => "NO-RES",
        "FAIL + LEAK" => "FL+LK",
        "SLOW + LEAK" => "SL+LK",
        other => other.strip_prefix("SIG").map_or(other, str::trim),
    };
    format!("TRY {} {short}", attempt.number)
}

/// Returns the status of a finished test as its line shows it when it finishes.
pub(super) fn finished_status(test: &TestFinished) -> String {
    match test.attempts.last() {
        _ if test.verdict == Verdict::Quarantined => "QUARANTINED".to_owned(),
        Some(last) if test.attempts.len() > 1 => try_status(last),
        Some(last) => attempt_status(last),
        None => "FAULT".to_owned(),
    }
}

/// Returns the status of a finished test as the list at the end shows it.
pub(super) fn final_status(test: &TestFinished) -> String {
    let (done, of) = (test.attempts.len(), test.total_attempts);
    match test.verdict {
        Verdict::Pass if test.flaky() => format!("FLAKY {done}/{of}"),
        Verdict::Quarantined => "QUARANTINED".to_owned(),
        Verdict::Fail if test.flaky() => format!("FLKY-FL {done}/{of}"),
        _ => match (finished_status(test).as_str(), test.attempts.last()) {
            ("PASS", Some(last)) if last.slow => "SLOW".to_owned(),
            ("TIMEOUT-PASS", _) => "SLOW+TMPASS".to_owned(),
            (status, _) => status.to_owned(),
        },
    }
}

/// Returns what a test's quarantine says of its failure; `None` if it has not failed or is in none.
pub(super) fn quarantined(test: &TestFinished) -> Option<String> {
    let entry = test.quarantine.as_deref()?;
    let Quarantine {
        reason,
        owner,
        expires,
        ..
    } = entry;
    let until = match test.verdict {
        Verdict::Quarantined => "until",
        Verdict::Fail => "expired after",
        Verdict::Pass | Verdict::Interrupted => return None,
    };
    Some(format!("quarantine {until} {expires}, {owner}: {reason}"))
}

/// Returns how an attempt ended, as the closing line below its output. `None` for an ordinary
/// failure or success that has nothing to add.
pub(super) fn closing(attempt: &Attempt) -> Option<String> {
    let ending = ending(attempt);
    let mut hits: Vec<_> = attempt.limits.iter().map(limit_hit).collect();
    if escaped_policy(attempt) {
        hits.push("did what its policy does not allow and could not deny".to_owned());
    }
    hits.extend(budget::hits(attempt));
    if hits.is_empty() {
        return ending;
    }
    let ending = ending.map_or_else(String::new, |ending| format!("; {ending}"));
    Some(format!("test {}{ending}", hits.join(" and ")))
}

/// Returns which limit was hit or did not hold.
fn limit_hit(limit: &LimitHit) -> String {
    match limit {
        LimitHit::MemoryMax { bytes, killed } => {
            let killed = plural(*killed as usize, "process", "processes");
            let bytes = size(*bytes).replace(".0 ", " ");
            format!("hit its memory-max of {bytes}, which killed {killed}")
        }
        LimitHit::PidsMax { pids, refused } => {
            let refused = plural(*refused as usize, "fork", "forks");
            format!("hit its pids-max of {pids}, which refused {refused}")
        }
        LimitHit::LeftCgroup { found, .. } => {
            format!("left its cgroup, so its limits did not hold: a process was in `{found}`")
        }
        LimitHit::CgroupOpened { file, .. } => {
            format!("opened `{file}` for writing, so its limits may not have held")
        }
        LimitHit::LimitChanged {
            kind,
            file,
            wanted,
            found,
        } => {
            let key = kind.key();
            match found {
                Some(found) => {
                    format!("changed its {key}: `{file}` was {wanted} and is now {found}")
                }
                None => {
                    format!("removed its {key}: `{file}` was {wanted} and is not there any more")
                }
            }
        }
    }
}

fn ending(attempt: &Attempt) -> Option<String> {
    let text = match &attempt.outcome {
        Outcome::Exited(Exit::Code(0)) => match (attempt.leaked(), attempt.verdict) {
            (None, _) => return None,
            (Some(_), Verdict::Pass) => "test passed but left something behind".to_owned(),
            (Some(_), _) => {
                "test exited with code 0, but failed because it left something behind".to_owned()
            }
        },
        // 101 is what libtest exits with when a test panics: nothing that the output did not say.
        Outcome::Exited(Exit::Code(101)) if attempt.leaked().is_none() => return None,
        Outcome::Exited(Exit::Code(101)) => "test failed and left something behind".to_owned(),
        Outcome::Exited(Exit::Code(code)) => format!("test failed with exit code {code}"),
        Outcome::Exited(Exit::Signal {
            signal,
            core_dumped,
        }) => format!(
            "test aborted with signal {signal}: {}{}",
            signal_name(*signal),
            if *core_dumped { ", core dumped" } else { "" },
        ),
        Outcome::StartFailed(failure) => format!("test could not be started: {}", failure.message),
        Outcome::TimedOut { exit: None } => "test timed out and could not be killed".to_owned(),
        Outcome::TimedOut { .. } => "test timed out".to_owned(),
        Outcome::Interrupted { by, .. } => format!("test was ended: {}", interruption(*by)),
        Outcome::HarnessFault(fault) => {
            format!(
                "the harness failed, nothing is known of the test: {}",
                fault.message
            )
        }
        Outcome::NoResult(no) => format!("test {}", no.message),
        Outcome::BinaryChanged(fault) => format!("test did not run: {}", fault.message),
    };
    Some(text)
}

/// Returns a line about the tracer's disturbance of an attempt: the first one, and whether and why
/// the attempt was run again. `None` for nearly all attempts.
pub(super) fn disturbed(attempt: &Attempt) -> Option<String> {
    let reasons = |disturbances: &mut dyn Iterator<Item = Disturbance>| {
        let mut all: Vec<String> = Vec::new();
        for disturbance in disturbances {
            let text = disturbance.to_string();
            if !all.contains(&text) {
                all.push(text);
            }
        }
        all.join("; ")
    };
    let still = attempt.disturbances();
    let still = (!still.is_empty()).then(|| reasons(&mut still.iter().copied()));
    if attempt.earlier.is_empty() {
        return still.map(|still| format!("disturbed by the tracer, and not run again: {still}"));
    }
    let first: Vec<_> = attempt
        .earlier
        .iter()
        .enumerate()
        .map(|(index, time)| {
            let order = if index == 0 { " first" } else { "" };
            format!("{}{order} {}", time_status(time), by(Some(time.backend)))
        })
        .collect();
    let because = reasons(
        &mut attempt
            .earlier
            .iter()
            .flat_map(|time| time.disturbances.iter().copied()),
    );
    let again = by(attempt.trace.as_ref().map(|trace| trace.backend));
    let still = still.map_or_else(String::new, |still| format!("; still disturbed: {still}"));
    Some(format!(
        "{}, run again {again}: {because}{still}",
        first.join(", ")
    ))
}

/// Returns where an attempt ran, if that was not on this machine.
pub(super) fn elsewhere(attempt: &Attempt) -> Option<String> {
    let Remote { engine, worker, .. } = attempt.remote.as_deref()?;
    Some(match worker.as_str() {
        "" => engine.clone(),
        worker => format!("{engine}, worker {worker}"),
    })
}

/// Returns how many tests there are of each reason, in a line. `None` if there are none.
pub(super) fn disturbances(counts: &BTreeMap<Disturbance, usize>) -> Option<String> {
    let counts = counts.iter();
    let counts: Vec<_> = counts
        .map(|(why, count)| format!("{count} × {why}"))
        .collect();
    (!counts.is_empty()).then(|| counts.join("; "))
}

fn by(backend: Option<Backend>) -> String {
    match backend {
        None | Some(Backend::None) => "without a trace".to_owned(),
        Some(Backend::Lifecycle) => "at level process".to_owned(),
        Some(backend) => format!("under {}", backend.as_str()),
    }
}

fn time_status(time: &EarlierTime) -> &'static str {
    match (&time.outcome, time.verdict) {
        (Outcome::TimedOut { .. }, _) => "timed out",
        (_, Verdict::Pass) => "passed",
        _ => "failed",
    }
}

/// Returns why a test was ended.
pub(super) fn interruption(by: Interruption) -> String {
    match by {
        Interruption::Signal(signal) => format!("the run received {}", signal_name(signal)),
        Interruption::FailFast => "another test failed".to_owned(),
        Interruption::GlobalTimeout => "the run ran out of time".to_owned(),
        Interruption::ReportFailed => "results could no longer be reported".to_owned(),
        Interruption::ServiceLost => "a service that it uses has ended".to_owned(),
        Interruption::NotWanted => "no test wanted it any more".to_owned(),
    }
}

/// Returns why a run was cancelled.
pub(super) fn cancel_reason(reason: CancelReason) -> String {
    match reason {
        CancelReason::SetupFailed => "setup script failure".to_owned(),
        CancelReason::TestFailure | CancelReason::TestFailureImmediate => "test failure".to_owned(),
        CancelReason::ReportFailed => "error while reporting".to_owned(),
        CancelReason::GlobalTimeout => "global timeout".to_owned(),
        CancelReason::Signal(signal) => format!("signal ({})", signal_name(signal)),
        CancelReason::Interrupt => "interrupt".to_owned(),
    }
}

/// Returns how a run ended that did not come to its end, as a word and a sentence. `None` if
/// failures explain it.
pub(super) fn cut_off(reason: CancelReason) -> Option<(&'static str, String)> {
    let told = match reason {
        CancelReason::SetupFailed
        | CancelReason::TestFailure
        | CancelReason::TestFailureImmediate => return None,
        CancelReason::ReportFailed => ("Cut off", "results could not be reported".to_owned()),
        CancelReason::GlobalTimeout => (
            "Out of time",
            "the run took longer than its `global-timeout`".to_owned(),
        ),
        CancelReason::Signal(_) | CancelReason::Interrupt => {
            let signal = reason.signal().map(signal_name).unwrap_or_default();
            ("Interrupted", format!("the run received {signal}"))
        }
    };
    Some(told)
}

/// Returns the type under which reports file a test that was ended.
pub(super) fn interruption_type(by: Interruption) -> &'static str {
    match by {
        Interruption::Signal(_) => "interrupted",
        Interruption::FailFast => "fail-fast",
        Interruption::GlobalTimeout => "global-timeout",
        Interruption::ReportFailed => "report-failed",
        Interruption::ServiceLost => "service-lost",
        Interruption::NotWanted => "not-wanted",
    }
}

/// Returns what is said of a binary with `harness = false` that lists no tests.
pub fn silent_binary(binary: &RustBinaryId) -> String {
    let binary = super::style::escaped(binary.as_str());
    format!(
        "`{binary}` has `harness = false` and lists no tests: nothing of it runs here, while `cargo \
         test` runs it; let it answer `--list --format terse` with `NAME: test`, or set `test = false` \
         for it in `Cargo.toml`"
    )
}

/// Returns for how long the system is waited for, and why, after the word `Waiting`.
pub fn awaits_system(because: &str, limit: Duration) -> String {
    let limit = humantime::format_duration(limit);
    format!("for the system, for {limit} at most: {because}")
}

/// Returns `1 test`, `2 tests`.
pub fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Returns the words for one of the items of a run and for several.
pub(super) fn items(mode: RunMode) -> (&'static str, &'static str) {
    match mode {
        RunMode::Benchmark => ("benchmark", "benchmarks"),
        _ => ("test", "tests"),
    }
}

/// Returns the word for so many items of a run.
pub(super) fn item(mode: RunMode, count: usize) -> &'static str {
    let (one, many) = items(mode);
    if count == 1 { one } else { many }
}

/// Returns a duration in seconds with three decimals.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.3}s", duration.as_secs_f64())
}

/// The counts of a summary: text, and whether it is bad news (`Some(false)`), good news
/// (`Some(true)`) or neither.
pub(super) fn counts(stats: &RunStats) -> Vec<(usize, String, Option<bool>)> {
    let details = |parts: &[(usize, &str)]| {
        let parts: Vec<_> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if parts.is_empty() {
            String::new()
        } else {
            format!(" ({})", parts.join(", "))
        }
    };
    let passed = details(&[
        (stats.passed_slow, "slow"),
        (stats.flaky, "flaky"),
        (stats.passed_leaky, "leaky"),
        (stats.passed_ignored, "ignored by themselves"),
    ]);
    let failed = details(&[
        (stats.failed_flaky, "due to being flaky"),
        (stats.failed_leaky, "due to being leaky"),
    ]);
    let mut counts = vec![(stats.passed, format!("passed{passed}"), Some(true))];
    let mut add = |count: usize, text: String, good| {
        if count > 0 {
            counts.push((count, text, good));
        }
    };
    add(stats.failed, format!("failed{failed}"), Some(false));
    add(stats.no_result, "without a result".to_owned(), Some(false));
    add(stats.start_failed, "exec failed".to_owned(), Some(false));
    add(stats.timed_out, "timed out".to_owned(), Some(false));
    add(stats.quarantined, "failed in quarantine".to_owned(), None);
    add(stats.interrupted, "interrupted".to_owned(), Some(false));
    add(
        stats.faults,
        "lost to harness faults".to_owned(),
        Some(false),
    );
    add(
        stats.binary_changed,
        "not run as their binary changed".to_owned(),
        Some(false),
    );
    // The one count that is there even if it is zero, as readers of such lines expect.
    counts.push((stats.skipped, "skipped".to_owned(), None));
    counts
}
