//! The parts of a trace that may explain a failure.
//!
//! A trace has thousands of facts; a failure is explained by a few: a child that crashed or gave
//! up, an address that was taken or refused, a file that was not there or not to be touched.

use super::{
    stuck::{self, Pids},
    style::escaped,
    trace_line::{errno_name, errno_words, quoted},
    wording::signal_name,
};
use harness_metadata::{
    Attempt, Exit, Outcome, TestId, TraceSummary, Verdict,
    noise::is_noise,
    trace::{Failure, FileUse, Operation, ProcessSummary, Sender},
};
use std::collections::HashSet;

/// The most facts that are shown.
const MOST: usize = 5;

/// The most of one kind of fact.
const MOST_OF_A_KIND: usize = 2;

/// The most characters of a command line.
const COMMAND: usize = 80;

/// Errors that are an answer rather than a failure.
const ANSWERS: &[i32] = &[
    libc::EEXIST,
    libc::EAGAIN,
    libc::EINTR,
    libc::EINPROGRESS,
    libc::EALREADY,
    libc::EISCONN,
    libc::ENODATA,
    libc::ENOSYS,
];

/// Questions of a process about itself.
const OF_ITSELF: &[u8] = b"/proc/self/";

/// Returns what the processes of a failed attempt waited for if its time was up, what they did that
/// may explain its failure, and a last line that says where there is more. Empty if there is
/// nothing to tell.
pub fn lines(test: &TestId, attempt: &Attempt) -> Vec<String> {
    if attempt.verdict == Verdict::Pass {
        return Vec::new();
    }
    let timed_out = matches!(attempt.outcome, Outcome::TimedOut { .. });
    let mut lines = match timed_out {
        true => stuck::lines(attempt.pid, &attempt.stuck, Pids::Hidden),
        false => Vec::new(),
    };
    let Some(trace) = attempt.trace.as_deref() else {
        return lines;
    };
    let ended_by_us = timed_out || matches!(attempt.outcome, Outcome::Interrupted { .. });
    lines.extend(evidence(trace, ended_by_us));
    if !lines.is_empty() {
        let test = [test.binary.as_str(), test.name.as_str()].map(shell_words::quote);
        lines.push(format!(
            "more: cargo harness trace {}",
            escaped(&test.join(" "))
        ));
    }
    lines
}

/// Returns what is of interest in a trace, the most telling first. `ended_by_us` says that the
/// harness ended the test, which then explains the end of its children.
pub fn evidence(trace: &TraceSummary, ended_by_us: bool) -> Vec<String> {
    let calls = Calls::of(trace);
    let mut facts = Vec::new();
    facts.extend(latest(children(trace, |exit, child| match exit {
        Exit::Signal { signal, .. } => killed_unasked(child) && !(ended_by_us && ends(signal)),
        Exit::Code(_) => false,
    })));
    facts.extend(latest(children(
        trace,
        |exit, _| matches!(exit, Exit::Code(code) if code != 0),
    )));
    facts.extend(latest(calls.network()));
    facts.extend(latest(calls.refused()));
    facts.extend(latest(calls.missing()));
    let left_out = facts.len().saturating_sub(MOST);
    facts.truncate(MOST);
    if left_out > 0
        && let Some(last) = facts.last_mut()
    {
        last.push_str(&format!(", and {left_out} more"));
    }
    facts
}

/// Returns the failed calls that may explain a failure.
pub(super) fn telling(trace: &TraceSummary) -> Vec<&Failure> {
    let calls = Calls::of(trace);
    let missing = calls.chosen_missing();
    let others = calls.failures.iter().filter(|(failure, _)| {
        (is_network(failure) || !is_missing(failure)) && !by_library(failure)
    });
    others.chain(missing).map(|(failure, _)| *failure).collect()
}

/// Returns a failed call, with its target and error.
pub(super) fn call(failure: &Failure) -> String {
    let call = escaped(&failure.call);
    let target = quoted(&failure.target);
    // An address needs no quotes.
    let target = match is_network(failure) && !failure.target.as_bytes().contains(&b'/') {
        true => &target[1..target.len() - 1],
        false => &target,
    };
    let errno = failure.errno;
    format!(
        "{call} {target}: {} ({})",
        errno_words(errno),
        errno_name(errno)
    )
}

/// Returns the last facts of a kind, in order.
fn latest(mut facts: Vec<String>) -> Vec<String> {
    let first = facts.len().saturating_sub(MOST_OF_A_KIND);
    facts.split_off(first)
}

/// Says how those descendants ended that ended in this way, in order of their ends.
fn children(trace: &TraceSummary, chosen: impl Fn(Exit, &ProcessSummary) -> bool) -> Vec<String> {
    let mut children: Vec<_> = trace
        .processes
        .iter()
        .skip(1)
        .filter_map(|child| Some((child, child.exit?)))
        .filter(|(child, exit)| chosen(*exit, child))
        .collect();
    children.sort_by_key(|(child, _)| child.ended);
    let told = children.into_iter().map(|(child, exit)| {
        let end = match exit {
            Exit::Code(code) => format!("exited with code {code}"),
            Exit::Signal {
                signal,
                core_dumped,
            } => {
                let core = if core_dumped { ", core dumped" } else { "" };
                let by = match child.killed_by {
                    Some(Sender::Outside(_)) => " from outside",
                    Some(Sender::Kernel | Sender::Tree(_) | Sender::Harness) | None => "",
                };
                format!("was killed by {}{core}{by}", signal_name(signal))
            }
        };
        format!("{} {end}", process(child))
    });
    told.collect()
}

/// Returns whether a process was killed by something else than what the test or the harness meant
/// to do. Who aborts sends itself a signal.
fn killed_unasked(child: &ProcessSummary) -> bool {
    match child.killed_by {
        Some(Sender::Harness) => false,
        Some(Sender::Tree(sender)) => sender == child.pid,
        Some(Sender::Kernel | Sender::Outside(_)) | None => true,
    }
}

/// Returns whether it is a signal by which the harness ends tests.
fn ends(signal: i32) -> bool {
    [
        libc::SIGTERM,
        libc::SIGKILL,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
    ]
    .contains(&signal)
}

/// Names a process by what it executes. Its id would make the text another one in each run.
fn process(process: &ProcessSummary) -> String {
    format!("`{}`", command(process))
}

/// Returns the command line as a shell would take it, shortened and on one line.
fn command(process: &ProcessSummary) -> String {
    let mut text = String::new();
    for arg in &process.args {
        if !text.is_empty() {
            text.push(' ');
        }
        let arg = arg.to_string();
        text.push_str(&escaped(&shell_words::quote(&arg)));
        if text.chars().count() > COMMAND {
            text = text.chars().take(COMMAND - 1).collect();
            text.push('…');
            break;
        }
    }
    text
}

/// The calls that failed, without repetitions.
struct Calls<'a> {
    trace: &'a TraceSummary,
    /// Each with how often it failed in the same way; at the place of its last time.
    failures: Vec<(&'a Failure, usize)>,
}

impl<'a> Calls<'a> {
    fn of(trace: &'a TraceSummary) -> Self {
        let mut failures: Vec<(&Failure, usize)> = Vec::new();
        for failure in &trace.failures {
            let times = failures
                .iter()
                .position(|(other, _)| {
                    other.call == failure.call
                        && other.target == failure.target
                        && other.errno == failure.errno
                        && other.pid == failure.pid
                })
                .map_or(0, |at| failures.remove(at).1);
            failures.push((failure, times + 1));
        }
        failures
            .retain(|(failure, _)| !ANSWERS.contains(&failure.errno) && !failure.target.is_empty());
        Self { trace, failures }
    }

    fn network(&self) -> Vec<String> {
        self.told(|failure| is_network(failure) && !by_library(failure))
    }

    fn refused(&self) -> Vec<String> {
        self.told(|failure| !is_network(failure) && !is_missing(failure) && !by_library(failure))
    }

    /// Missing files: those that were opened or executed, else those that were only looked up.
    fn missing(&self) -> Vec<String> {
        let missing = self.chosen_missing().into_iter();
        missing
            .map(|(failure, times)| self.tell(failure, *times))
            .collect()
    }

    fn chosen_missing(&self) -> Vec<&(&'a Failure, usize)> {
        let found = self.found();
        let missing = |failure: &Failure| {
            !is_network(failure)
                && is_missing(failure)
                && !by_library(failure)
                && !found.contains(failure.target.as_bytes())
                && !self.found_elsewhere(failure)
                && !self.succeeded(failure)
        };
        let all = || self.failures.iter().filter(|(failure, _)| missing(failure));
        let needed: Vec<_> = all().filter(|(failure, _)| !only_asks(failure)).collect();
        match needed.is_empty() {
            true => all().collect(),
            false => needed,
        }
    }

    /// Returns whether a child that lacked something ended well all the same.
    fn succeeded(&self, failure: &Failure) -> bool {
        let mut children = self.trace.processes.iter().skip(1);
        children.any(|child| child.pid == failure.pid && child.exit == Some(Exit::Code(0)))
    }

    /// The files that were there at another time.
    fn found(&self) -> HashSet<&'a [u8]> {
        let there = |usage: &FileUse| !matches!(usage, FileUse::Missing | FileUse::Refused);
        self.trace
            .files
            .iter()
            .filter(|file| file.uses.iter().any(there))
            .map(|file| file.path.as_bytes())
            .collect()
    }

    /// Returns whether a program was looked for in one directory and executed from another.
    fn found_elsewhere(&self, failure: &Failure) -> bool {
        let name = |path: &'a [u8]| path.rsplit(|&byte| byte == b'/').next();
        if failure.operation != Some(Operation::Execute) && !only_asks(failure) {
            return false;
        }
        let wanted = failure
            .target
            .as_bytes()
            .rsplit(|&byte| byte == b'/')
            .next();
        self.trace.files.iter().any(|file| {
            file.uses.contains(&FileUse::Executed) && name(file.path.as_bytes()) == wanted
        })
    }

    fn told(&self, chosen: impl Fn(&Failure) -> bool) -> Vec<String> {
        self.failures
            .iter()
            .filter(|(failure, _)| chosen(failure))
            .map(|(failure, times)| self.tell(failure, *times))
            .collect()
    }

    fn tell(&self, failure: &Failure, times: usize) -> String {
        let processes = &self.trace.processes;
        let who = match processes.iter().position(|p| p.pid == failure.pid) {
            Some(0) => "the test".to_owned(),
            Some(at) => process(&processes[at]),
            None => "another process".to_owned(),
        };
        let times = match times {
            1 => String::new(),
            times => format!(", {times} times"),
        };
        format!("{who}: {}{times}{}", call(failure), hint(failure))
    }
}

/// Returns what to do about a failure that the harness has its part in.
fn hint(failure: &Failure) -> &'static str {
    match (failure.target.as_bytes(), failure.errno) {
        (b"/dev/tty", libc::ENXIO) => NO_TERMINAL,
        _ => "",
    }
}

const NO_TERMINAL: &str = "; a test whose output is captured has no terminal: `--no-capture` gives it \
                           that of the run";

pub(super) fn is_network(failure: &Failure) -> bool {
    matches!(failure.operation, Some(Operation::Network(_)))
}

fn is_missing(failure: &Failure) -> bool {
    matches!(failure.errno, libc::ENOENT | libc::ENOTDIR)
}

/// Returns whether a call only asks about a file.
fn only_asks(failure: &Failure) -> bool {
    failure.operation.is_some_and(Operation::only_asks)
}

/// Returns whether a library asks for this by itself, whatever the program does.
fn by_library(failure: &Failure) -> bool {
    let target = failure.target.as_bytes();
    is_noise(target) || target.starts_with(OF_ITSELF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{code, test, trace};
    use harness_metadata::trace::{FileOperation, FileSummary, NetworkOperation};
    use std::time::Duration;

    fn process(pid: i32, args: &[&str], exit: Exit) -> ProcessSummary {
        ProcessSummary {
            pid,
            creator: (pid > 1).then_some(1),
            started: Duration::ZERO,
            ended: Some(Duration::from_secs(pid.unsigned_abs().into())),
            exit: Some(exit),
            killed_by: None,
            args: args.iter().map(|&arg| arg.into()).collect(),
            execs: 1,
        }
    }

    fn failure(call: &str, target: &str, errno: i32) -> Failure {
        Failure {
            at: Duration::ZERO,
            pid: 1,
            call: call.to_owned(),
            operation: Some(match call {
                "execve" => Operation::Execute,
                "connect" => Operation::Network(NetworkOperation::Connect),
                "bind" => Operation::Network(NetworkOperation::Bind),
                "stat" | "newfstatat" | "statx" => Operation::File(FileOperation::Stat),
                "access" | "faccessat" | "faccessat2" => Operation::File(FileOperation::Access),
                "readlink" | "readlinkat" => Operation::File(FileOperation::ReadLink),
                "mkdir" => Operation::File(FileOperation::MakeDirectory),
                "openat" => Operation::File(FileOperation::Open),
                call => panic!("{call}"),
            }),
            target: target.into(),
            errno,
        }
    }

    fn failing(failures: Vec<Failure>) -> TraceSummary {
        TraceSummary {
            processes: vec![process(1, &["test"], Exit::Code(101))],
            failures,
            ..trace()
        }
    }

    const SEGFAULT: Exit = Exit::Signal {
        signal: libc::SIGSEGV,
        core_dumped: true,
    };
    const TERMINATED: Exit = Exit::Signal {
        signal: libc::SIGTERM,
        core_dumped: false,
    };

    #[test]
    fn a_child_that_crashed_stands_before_one_that_gave_up() {
        let mut summary = failing(Vec::new());
        summary.processes.extend([
            process(2, &["cc", "-o", "a b"], Exit::Code(1)),
            process(3, &["true"], Exit::Code(0)),
            process(4, &["server\n"], SEGFAULT),
        ]);
        assert_eq!(
            evidence(&summary, false),
            [
                r"`'server\n'` was killed by SIGSEGV, core dumped",
                "`cc -o 'a b'` exited with code 1",
            ]
        );
    }

    #[test]
    fn what_the_test_or_the_harness_killed_explains_nothing() {
        let mut summary = failing(Vec::new());
        let by = |pid, sender| ProcessSummary {
            killed_by: Some(sender),
            ..process(pid, &["child"], TERMINATED)
        };
        summary.processes.extend([
            by(2, Sender::Tree(1)),
            by(3, Sender::Harness),
            by(4, Sender::Tree(4)),
            by(5, Sender::Outside(9)),
        ]);
        assert_eq!(
            evidence(&summary, false),
            [
                "`child` was killed by SIGTERM",
                "`child` was killed by SIGTERM from outside",
            ]
        );
        assert_eq!(evidence(&summary, true), Vec::<String>::new());
    }

    #[test]
    fn a_port_that_is_taken_and_a_file_that_is_missing_are_named() {
        let summary = failing(vec![
            failure("openat", "/work/data.txt", libc::ENOENT),
            failure("bind", "127.0.0.1:80", libc::EADDRINUSE),
            failure("connect", "127.0.0.1:81", libc::ECONNREFUSED),
            failure("connect", "127.0.0.1:81", libc::ECONNREFUSED),
            failure("openat", "/root/x", libc::EACCES),
        ]);
        assert_eq!(
            evidence(&summary, false),
            [
                "the test: bind 127.0.0.1:80: Address already in use (EADDRINUSE)",
                "the test: connect 127.0.0.1:81: Connection refused (ECONNREFUSED), 2 times",
                r#"the test: openat "/root/x": Permission denied (EACCES)"#,
                r#"the test: openat "/work/data.txt": No such file or directory (ENOENT)"#,
            ]
        );
    }

    #[test]
    fn a_test_that_asks_for_a_terminal_reads_how_to_have_one() {
        let summary = failing(vec![failure("openat", "/dev/tty", libc::ENXIO)]);
        assert_eq!(
            evidence(&summary, false),
            [
                "the test: openat \"/dev/tty\": No such device or address (ENXIO); a test whose output \
                 is captured has no terminal: `--no-capture` gives it that of the run"
            ]
        );
    }

    #[test]
    fn what_was_found_in_the_end_or_asked_by_a_library_is_left_out() {
        let mut summary = failing(vec![
            failure("execve", "/usr/local/bin/cc", libc::ENOENT),
            failure("openat", "/work/made-later", libc::ENOENT),
            failure("openat", "/usr/lib/debug/.build-id/a.debug", libc::ENOENT),
            failure("connect", "/var/run/nscd/socket", libc::ENOENT),
            failure("statx", "/etc/terminfo/x/xterm", libc::ENOENT),
            failure("statx", "/root/.terminfo", libc::ENOENT),
            failure("mkdir", "/work", libc::EEXIST),
        ]);
        let file = |path: &str, uses: &[FileUse]| FileSummary {
            path: path.into(),
            uses: uses.to_vec(),
        };
        summary.files = vec![
            file("/usr/bin/cc", &[FileUse::Executed]),
            file("/work/made-later", &[FileUse::Created, FileUse::Missing]),
        ];
        assert_eq!(evidence(&summary, false), Vec::<String>::new());
    }

    #[test]
    fn what_a_child_lacked_that_ended_well_is_left_out() {
        let mut summary = failing(
            [2, 3]
                .map(|pid| Failure {
                    pid,
                    ..failure("openat", &format!("/of/{pid}"), libc::ENOENT)
                })
                .into(),
        );
        summary.processes.extend([
            process(2, &["fine"], Exit::Code(0)),
            process(3, &["lacks"], Exit::Code(2)),
        ]);
        assert_eq!(
            evidence(&summary, false),
            [
                "`lacks` exited with code 2",
                r#"`lacks`: openat "/of/3": No such file or directory (ENOENT)"#,
            ]
        );
    }

    #[test]
    fn a_question_counts_only_where_nothing_needed_was_missing() {
        let asked = failure("newfstatat", "/asked", libc::ENOENT);
        let opened = failure("openat", "/opened", libc::ENOENT);
        let both = evidence(&failing(vec![opened, asked.clone()]), false);
        assert_eq!(
            both,
            [r#"the test: openat "/opened": No such file or directory (ENOENT)"#]
        );
        assert_eq!(evidence(&failing(vec![asked]), false).len(), 1);
    }

    #[test]
    fn there_is_little_of_it_however_much_happened() {
        let mut summary = failing(
            ["bind", "connect", "openat", "openat", "execve"]
                .iter()
                .zip([
                    libc::EADDRINUSE,
                    libc::ECONNREFUSED,
                    libc::EACCES,
                    libc::ENOENT,
                    libc::ENOENT,
                ])
                .enumerate()
                .map(|(nth, (call, errno))| failure(call, &format!("/{nth}"), errno))
                .collect(),
        );
        for pid in 2..9 {
            let long = "x".repeat(500);
            summary
                .processes
                .push(process(pid, &[&long], Exit::Code(1)));
            summary
                .processes
                .push(process(pid + 10, &[&long], SEGFAULT));
        }
        let facts = evidence(&summary, false);
        assert_eq!(facts.len(), MOST);
        assert!(
            facts.iter().all(|fact| fact.chars().count() < 200),
            "{facts:?}"
        );
        assert!(facts[MOST - 1].ends_with(", and 4 more"), "{facts:?}");
    }

    #[test]
    fn a_test_that_passed_has_nothing_to_explain() {
        let summary = failing(vec![failure("openat", "/gone", libc::ENOENT)]);
        let mut attempt = code(1, 0);
        attempt.trace = Some(Box::new(summary));
        assert_eq!(lines(&test("a"), &attempt), Vec::<String>::new());
        attempt.verdict = Verdict::Fail;
        let told = lines(&test("a b"), &attempt);
        assert_eq!(told.len(), 2);
        assert_eq!(told[1], "more: cargo harness trace sample 'a b'");
    }
}
