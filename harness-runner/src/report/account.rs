//! The end of an attempt in the words of reports for programs, which two runs share.

use super::{
    Excerpt, Outputs, Stream, budget, evidence, excerpt, extract, failure, injected, leak, service,
    stuck::{self, Pids},
    violations,
    wording::{self, interruption_type},
};
use harness_metadata::{
    Attempt, AttemptId, Exit, NoResultKind, Outcome, TestId, Verdict,
    event::{RunFinished, TestCached, TestFinished},
};
use nextest_metadata::MismatchReason;

/// Whether the test itself is to blame.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The test failed.
    Failure,
    /// The test has no result of its own, or left something behind.
    Error,
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) kind: Kind,
    /// A class of endings, such as `test timeout`.
    pub(super) ty: String,
    /// One line or a few, without ids and addresses.
    pub(super) message: String,
    /// The message first, and then all that is known.
    pub(super) body: String,
}

impl Account {
    /// Returns what the harness knows by itself.
    pub(super) fn ending(attempt: &Attempt) -> Self {
        let (kind, ty) = match wording::limits_decide(attempt) {
            true => (Kind::Failure, "test limit".to_owned()),
            false if wording::policy_decides(attempt) => (Kind::Failure, "test policy".to_owned()),
            false if budget::decides(attempt) => (Kind::Failure, "test budget".to_owned()),
            false => class(attempt),
        };
        let message = wording::closing(attempt).unwrap_or_else(|| ty.clone());
        let message = steady(&message);
        let mut body = message.clone();
        let violations = violations::lines(attempt, Pids::Hidden);
        for line in leak::lines(attempt, Pids::Hidden)
            .into_iter()
            .chain(stuck::slow(attempt, Pids::Hidden))
            .chain(injected::lines(attempt))
            .chain(violations)
            .chain(budget::lines(attempt, Pids::Shown))
        {
            body.push('\n');
            body.push_str(&line);
        }
        Self {
            kind,
            ty,
            message,
            body,
        }
    }

    /// Returns what the harness, the output and the trace say.
    pub(super) fn of(
        test: &TestId,
        attempt: &Attempt,
        stdout: Option<&Excerpt>,
        stderr: Option<&Excerpt>,
    ) -> Self {
        let mut account = Self::ending(attempt);
        if attempt.verdict != Verdict::Pass
            && let Some(text) = failure::text(test, stdout, stderr)
        {
            let text = extract::without_thread_ids(&text);
            let plain = matches!(attempt.outcome, Outcome::Exited(Exit::Code(code)) if code != 0);
            if !plain || !attempt.limits.is_empty() {
                // The end says more than the output: it stays the message.
                account.body = format!("{}\n{text}", account.message);
            } else {
                account.message = steady(extract::message(&text));
                account.body = match text.starts_with(&account.message) {
                    true => text,
                    false => format!("{}\n{text}", account.message),
                };
            }
        }
        for line in evidence::lines(test, attempt) {
            account.body.push_str("\ntrace: ");
            account.body.push_str(&line);
        }
        account
    }

    /// Adds what is known beside the attempts: the test's quarantine and its services.
    pub(super) fn surround(&mut self, finished: &TestFinished) {
        if let Some(line) = wording::quarantined(finished) {
            self.message = format!("{line}: {}", self.message);
            self.body = format!("{line}\n{}", self.body);
        }
        for line in service::lines(finished) {
            self.body = format!("{}\n{line}", self.body);
        }
    }
}

/// Returns the class of an attempt's ending, and its message.
pub(crate) fn ending(test: &TestId, attempt: &Attempt, outputs: &dyn Outputs) -> (String, String) {
    let id = AttemptId {
        test: test.clone(),
        attempt: attempt.number,
    };
    let read = |stream| excerpt(outputs, &id, stream, 2 * extract::SEARCHED);
    let (stdout, stderr) = (read(Stream::Stdout), read(Stream::Stderr));
    let account = Account::of(test, attempt, stdout.as_ref(), stderr.as_ref());
    (account.ty, account.message)
}

/// Returns the class of an ending that no limit decides.
fn class(attempt: &Attempt) -> (Kind, String) {
    let leaked = match attempt.leaked() {
        Some(_) => " (leaked handles)",
        None => "",
    };
    let (kind, ty) = match &attempt.outcome {
        Outcome::Exited(Exit::Code(0)) => (Kind::Error, "test leak"),
        Outcome::Exited(Exit::Code(code)) => {
            let ty = format!("test failure with exit code {code}{leaked}");
            return (Kind::Failure, ty);
        }
        Outcome::Exited(Exit::Signal { .. }) => {
            return (Kind::Failure, format!("test abort{leaked}"));
        }
        Outcome::TimedOut { .. } => (Kind::Failure, "test timeout"),
        Outcome::StartFailed(_) => (Kind::Error, "execution failure"),
        Outcome::Interrupted { by, .. } => (Kind::Error, interruption_type(*by)),
        Outcome::HarnessFault(_) => (Kind::Error, "harness fault"),
        Outcome::NoResult(no) => match no.kind {
            NoResultKind::Unreported => (Kind::Failure, "no result"),
            NoResultKind::RanNothing => (Kind::Failure, "ran no test"),
            NoResultKind::Ignored => (Kind::Error, "test leak"),
        },
        Outcome::BinaryChanged(_) => (Kind::Error, "binary changed"),
    };
    (kind, ty.to_owned())
}

/// Returns why a test that passed at last counts as failed, if it does.
pub(super) fn flaky_failure(finished: &TestFinished) -> Option<String> {
    let last = finished.attempts.last()?;
    (finished.verdict == Verdict::Fail && finished.flaky()).then(|| {
        format!(
            "test passed on attempt {}/{} but is configured to fail when flaky",
            last.number, finished.total_attempts,
        )
    })
}

/// Returns the words for a test that does not run because nothing has changed.
pub(super) fn cached(cached: &TestCached) -> String {
    let date = cached.started_at.format("%Y-%m-%d %H:%M:%S %:z");
    format!("cached: it passed in run {} at {date}", cached.run)
}

/// Returns why a test did not run.
pub(super) fn skipped(ignore_reason: Option<&str>, reason: MismatchReason) -> String {
    match ignore_reason {
        Some(why) => format!("ignored: {why}"),
        None => format!("skipped: {reason}"),
    }
}

/// Returns why tests of a run were never started.
pub(super) fn not_run(finished: &RunFinished) -> String {
    match finished.cancelled {
        Some(reason) => format!("not run: {}", wording::cancel_reason(reason)),
        None => "not run: the run ended".to_owned(),
    }
}

/// The stand-in for a number that differs from run to run.
const LEFT_OUT: char = '…';

/// Returns a message without numbers that differ from run to run: ids of processes and threads, and addresses
/// in memory.
pub(super) fn steady(message: &str) -> String {
    let mut steady = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(from) = rest.find(|c: char| c.is_ascii_alphanumeric() || c == '\'') {
        steady.push_str(&rest[..from]);
        rest = &rest[from..];
        if let Some(after) = thread_id(rest) {
            steady.push('\'');
            rest = after;
            continue;
        }
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        let end = rest.find(|c| !in_word(c)).unwrap_or(rest.len()).max(1);
        let (word, after) = rest.split_at(end);
        rest = after;
        if is_address(word) {
            steady.push_str("0x");
            steady.push(LEFT_OUT);
            continue;
        }
        steady.push_str(word);
        if ["pid", "tid"]
            .iter()
            .any(|id| word.eq_ignore_ascii_case(id))
            && let Some((between, after)) = number(rest)
        {
            steady.push_str(between);
            steady.push(LEFT_OUT);
            rest = after;
        }
    }
    steady + rest
}

/// Returns what follows the id in `' (123) panicked`.
fn thread_id(text: &str) -> Option<&str> {
    let after = text.strip_prefix("' (")?;
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    let after = after.strip_prefix(')')?;
    after.starts_with(" panicked").then_some(after)
}

/// Returns whether a word is an address in user space: Linux maps executables and stacks of 64-bit programs where
/// addresses have 12 digits.
fn is_address(word: &str) -> bool {
    word.strip_prefix("0x").is_some_and(|digits| {
        digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            && digits.trim_start_matches('0').len() == 12
            && matches!(digits.len(), 12 | 16)
    })
}

/// Returns what is between a word and the number that it announces, and what follows the number.
fn number(text: &str) -> Option<(&str, &str)> {
    let from = text.find(|c: char| c.is_ascii_digit())?;
    let (between, number) = text.split_at(from);
    if !matches!(
        between,
        " " | "=" | ": " | ":" | " = " | "(" | " is " | " #"
    ) {
        return None;
    }
    let after = number.trim_start_matches(|c: char| c.is_ascii_digit());
    (!after.starts_with(|c: char| c.is_alphanumeric() || c == '_')).then_some((between, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_differ_from_run_to_run_are_left_out_of_messages() {
        for (message, expected) in [
            (
                "a child said: thread 'x' (16514) panicked at a.rs:1:2",
                "a child said: thread 'x' panicked at a.rs:1:2",
            ),
            ("at 0x7f3a12345678, not 0x55d0c0ffee10", "at 0x…, not 0x…"),
            ("null is 0x00007ffe12345678", "null is 0x…"),
            ("pid 4711 is gone, Pid(12)", "pid … is gone, Pid(…)"),
            (
                "no process with pid=12, tid: 13",
                "no process with pid=…, tid: …",
            ),
        ] {
            assert_eq!(steady(message), expected);
        }
    }

    #[test]
    fn numbers_that_a_test_is_about_stay() {
        for message in [
            "left: 0xdeadbeef, right: 0x1f",
            "hash 0x0123456789abcdef, mask 0xffffffffffffffff",
            "0x7f3a1234567g and x0x7f3a12345678",
            "rapid 12, pid_max 32768, pid of 3, pid 3rd, stupid 4",
            "it's ('a' (12) or 'b') – ünï 'x' (7)",
            "",
        ] {
            assert_eq!(steady(message), message);
        }
    }
}
