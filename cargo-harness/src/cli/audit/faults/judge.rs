//! Judges what a test made of a call that failed.

use super::super::rounds::{Ran, Rounds};
use harness_metadata::{Attempt, Exit, Interruption, Outcome, Verdict};
use harness_runner::{
    answers::{
        audit::{Comparison, Departure, Observation, compare},
        faults::{Fault, left},
    },
    report::{Stream, attempt_status, signal_name},
};
use nix::errno::Errno;
use std::{collections::BTreeSet, io, time::Duration};

/// A test as usual.
pub(super) struct Usual {
    pub(super) elapsed: Duration,
    observation: Observation,
    /// The files that stay.
    left: BTreeSet<String>,
}

impl Usual {
    pub(super) fn of(rounds: &Rounds<'_>, ran: &Ran) -> Result<Self, String> {
        Ok(Self {
            elapsed: ran.attempt.elapsed,
            observation: rounds.observed(ran)?,
            left: files_left(rounds, ran)?,
        })
    }
}

fn files_left(rounds: &Rounds<'_>, ran: &Ran) -> Result<BTreeSet<String>, String> {
    match &ran.found {
        Some(found) => left(found, rounds.roots, rounds.places).map_err(|error| error.to_string()),
        None => Ok(BTreeSet::new()),
    }
}

/// The result of one failure, the worst first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Came {
    /// It did not end within its time.
    Hangs,
    /// A signal ended it.
    Killed(String),
    /// It failed, and its output does not say that the call failed.
    Silent(String),
    /// It passed, and did the same as without the failure.
    Unnoticed,
    /// It passed, and did something else.
    Passes(usize),
    /// It failed, and says why.
    Says,
    /// It ended in another way.
    Otherwise,
    /// The call was not made this time.
    NotMade,
}

/// All that is known of one failure.
pub(super) struct Findings {
    /// The status of the attempt.
    pub(super) status: String,
    pub(super) result: Came,
    /// The processes that it left behind, and does not as usual.
    pub(super) processes: Vec<String>,
    /// The files that it left behind, and does not as usual.
    pub(super) files: Vec<String>,
}

impl Findings {
    pub(super) fn of(
        rounds: &Rounds<'_>,
        usual: &Usual,
        ran: &Ran,
        fault: &Fault,
    ) -> Result<Self, String> {
        let attempt = &ran.attempt;
        let observation = rounds.observed(ran)?;
        let compared = compare(std::slice::from_ref(&usual.observation), &[observation]);
        let made = injected(attempt) > 0;
        let left = files_left(rounds, ran)?;
        let survivors = attempt.leaked().map(|leak| &leak.survivors);
        let processes = survivors.into_iter().flatten();
        let files = left.difference(&usual.left).filter(|_| made);
        Ok(Self {
            status: attempt_status(attempt),
            result: match made {
                true => result(ran, &compared, fault),
                false => Came::NotMade,
            },
            processes: processes.map(|it| it.command.clone()).collect(),
            files: files.cloned().collect(),
        })
    }

    /// Returns whether it is unwanted for certain: a hang, a crash, or something that is left behind.
    pub(super) fn is_fault(&self) -> bool {
        let bad = matches!(self.result, Came::Hangs | Came::Killed(_));
        bad || !self.processes.is_empty() || !self.files.is_empty()
    }
}

/// Returns the number of calls that failed because that was asked for.
fn injected(attempt: &Attempt) -> u64 {
    let trace = attempt.trace.as_deref();
    let count = trace.and_then(|trace| trace.counts.get("injected"));
    count.copied().unwrap_or_default()
}

fn result(ran: &Ran, compared: &Comparison, fault: &Fault) -> Came {
    let attempt = &ran.attempt;
    match (&attempt.outcome, attempt.verdict) {
        (Outcome::TimedOut { .. }, _) => Came::Hangs,
        (
            Outcome::Interrupted {
                by: Interruption::Signal(_),
                ..
            },
            _,
        ) => Came::Hangs,
        (Outcome::Exited(Exit::Signal { signal, .. }), _) => Came::Killed(signal_name(*signal)),
        (_, Verdict::Pass) => match otherwise(compared, fault) {
            0 => Came::Unnoticed,
            count => Came::Passes(count),
        },
        (Outcome::Exited(Exit::Code(_)), _) => {
            let output = output(ran);
            match names(&output, fault.errno) {
                true => Came::Says,
                false => Came::Silent(message(&output)),
            }
        }
        _ => Came::Otherwise,
    }
}

/// Returns how many questions a test asked otherwise than as usual, beside the one that failed.
fn otherwise(compared: &Comparison, fault: &Fault) -> usize {
    let own = |it: &&Departure| match it {
        Departure::Answers { asked, .. } | Departure::Times { asked, .. } => {
            asked.name != fault.name && asked.to.as_ref() != Some(&fault.name)
        }
        Departure::Order { .. } => false,
        Departure::Started { .. } | Departure::Ending { .. } => true,
    };
    compared.departures.iter().filter(own).count()
}

/// Returns all that an attempt printed.
fn output(ran: &Ran) -> String {
    let Some(found) = &ran.found else {
        return String::new();
    };
    let Some(kept) = found.record.output else {
        return String::new();
    };
    let streams = [Stream::Stderr, Stream::Stdout];
    let read = |stream| found.run.output(kept, stream).unwrap_or_default();
    let texts = streams.map(|stream| String::from_utf8_lossy(&read(stream)).into_owned());
    texts.join("\n")
}

/// Returns whether an output names the error in one of its forms: `strerror(3)`, its name or number, or its kind in
/// Rust.
fn names(output: &str, errno: i32) -> bool {
    let error = io::Error::from_raw_os_error(errno);
    let text = error.to_string();
    let spoken = text.split(" (os error").next().unwrap_or(&text);
    let forms = [
        spoken.to_owned(),
        format!("{:?}", Errno::from_raw(errno)),
        format!("os error {errno})"),
        format!("{:?}", error.kind()),
    ];
    let output = output.to_lowercase();
    forms
        .iter()
        .any(|form| output.contains(&form.to_lowercase()))
}

/// Returns the line with which a test says that it failed.
fn message(output: &str) -> String {
    let mut lines = output.lines();
    let panic = lines.find(|line| line.contains("panicked at"));
    let line = panic.and_then(|_| lines.next());
    let first = output.lines().find(|line| !line.trim().is_empty());
    line.or(first).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_names_the_error_in_any_form_says_why() {
        for output in [
            "Error: No space left on device",
            "Os { code: 28, kind: StorageFull, message: \"…\" }",
            "failed: ENOSPC",
            "disk trouble (os error 28)",
        ] {
            assert!(names(output, Errno::ENOSPC as i32), "{output}");
        }
        for output in ["assertion failed: result.is_ok()", "", "code 28"] {
            assert!(!names(output, Errno::ENOSPC as i32), "{output}");
        }
    }

    #[test]
    fn the_message_of_a_failure_is_the_line_below_the_panic() {
        let output = "noise\nthread 'a' panicked at src/lib.rs:1:1:\nit broke\nnote: …\n";
        assert_eq!(message(output), "it broke");
        assert_eq!(message("\nerror: it broke\n"), "error: it broke");
        assert_eq!(message(""), "");
    }
}
