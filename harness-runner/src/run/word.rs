//! Finds the word of a test's harness in its standard output: that the test ran, and passed.
//!
//! Exit code 0 alone is no pass: a test may end its process, and a harness that finds no test of that
//! name exits with 0 as well. All output is looked at while it is read, whatever is kept of it.

use harness_metadata::{Exit, Fault, NoResult, NoResultKind, Outcome};
use memchr::memmem::Finder;
use serde::Deserialize;
use std::sync::LazyLock;

/// The number of bytes to search at the beginning and at the end if no particular text is expected.
const EDGE: usize = 4096;

/// The test harness that an output is from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// The standard test harness.
    Libtest,
    /// Another one, which may imitate the standard one or say nothing.
    Other {
        /// Whether the name had to be passed in a way that such harnesses need not know.
        escaped: bool,
    },
    /// None: all output is that of the test.
    None,
}

/// The search for the word.
#[derive(Debug)]
pub(super) struct Word {
    speaker: Speaker,
    pieces: Pieces,
    found: usize,
    /// The end of what was searched, in which the next piece may begin.
    carry: Vec<u8>,
    head: Vec<u8>,
    tail: Vec<u8>,
    length: u64,
}

impl Word {
    /// Starts a search. The arguments tell in which format libtest reports.
    pub(super) fn new(speaker: Speaker, name: &str, extra_args: &[String]) -> Self {
        let pieces = match speaker {
            Speaker::Libtest => Pieces::new(name, Format::of(extra_args)),
            Speaker::Other { .. } | Speaker::None => Pieces::default(),
        };
        Self {
            speaker,
            pieces,
            found: 0,
            carry: Vec::new(),
            head: Vec::new(),
            tail: Vec::new(),
            length: 0,
        }
    }

    /// Looks at further output.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let room = (EDGE - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        let last = &bytes[bytes.len().saturating_sub(EDGE)..];
        let old = (self.tail.len() + last.len()).saturating_sub(EDGE);
        self.tail.drain(..old);
        self.tail.extend_from_slice(last);
        if self.found_all() {
            return;
        }
        self.carry.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(either) = self.pieces.get(self.found) {
            let end = |finder: &Finder<'_>| {
                let start = finder.find(&self.carry[at..])?;
                Some(at + start + finder.needle().len())
            };
            let Some(end) = either.iter().filter_map(end).min() else {
                break;
            };
            at = end;
            self.found += 1;
        }
        let longest = self.pieces.get(self.found).map_or(0, |either| {
            let lengths = either.iter().map(|finder| finder.needle().len());
            lengths.max().unwrap_or(0).saturating_sub(1)
        });
        let searched = at.max(self.carry.len().saturating_sub(longest));
        self.carry.drain(..searched);
    }

    fn found_all(&self) -> bool {
        self.pieces.get(self.found).is_none()
    }

    /// Returns why exit code 0 is no pass, if so.
    pub(super) fn missing(&self) -> Option<NoResult> {
        // Escape sequences are taken out byte by byte, which would cost more than all the rest.
        let said = || Said::new(&self.head, &self.tail, self.length);
        match self.speaker {
            Speaker::Libtest if self.found_all() => None,
            Speaker::Libtest => Some(if said().ran_nothing() {
                no_result(NoResultKind::RanNothing, RAN_NONE)
            } else {
                no_result(NoResultKind::Unreported, UNREPORTED)
            }),
            Speaker::Other { escaped } => said().no_pass(escaped),
            Speaker::None => None,
        }
    }
}

const RAN_NONE: &str = "exited with code 0, but ran no test: its harness has no test of this name when \
                        it is asked to run it";
const UNREPORTED: &str = "exited with code 0 before its harness reported a result: the test or what it \
                          calls exits or executes another program, or its standard output was \
                          closed or redirected";
const LISTED: &str = "exited with code 0, but ran no test: it printed a list of tests";
const HELPED: &str = "exited with code 0, but ran no test: it printed how it is used";
const FAILED: &str = "exited with code 0, but its harness reported a failure";
const IGNORED: &str = "ran and reported itself as ignored";
const ESCAPED: &str = "exited with code 0, but its harness did not say that it ran: the name of the test \
                       starts with `-`, so it was given after `--`, which not every harness knows";

fn no_result(kind: NoResultKind, message: &str) -> NoResult {
    NoResult {
        kind,
        message: message.to_owned(),
    }
}

/// The formats in which libtest reports.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Format {
    Pretty,
    Terse,
    Json,
    Junit,
}

impl Format {
    fn of(args: &[String]) -> Self {
        let mut format = Self::Pretty;
        let mut named = false;
        for arg in args {
            let value = arg.strip_prefix("--format=");
            let value = value.or_else(|| named.then_some(arg.as_str()));
            named = arg == "--format";
            match (value, arg.as_str()) {
                (Some("json"), _) => format = Self::Json,
                (Some("junit"), _) => format = Self::Junit,
                (Some("terse"), _) | (None, "-q" | "--quiet") => format = Self::Terse,
                (Some(_), _) => format = Self::Pretty,
                (None, _) => {}
            }
        }
        format
    }
}

/// The output of libtest for a test that passes, piece by piece, with alternatives. A measured
/// benchmark counts as measured.
///
/// Each piece is one write of libtest's to its buffer, so what other threads and processes print may
/// come between two pieces, but not into one.
#[derive(Debug, Default)]
struct Pieces {
    /// The first piece, if it names the test.
    name: Option<Finder<'static>>,
    /// Those that are the same for all tests: to prepare a search costs more than the search.
    rest: &'static [Vec<Finder<'static>>],
}

impl Pieces {
    fn new(name: &str, format: Format) -> Self {
        let named = || Some(Finder::new(&format!("test {name}")).into_owned());
        let (name, rest) = match format {
            Format::Pretty => (named(), &RESULT[..]),
            Format::Terse => (None, &RESULT[1..]),
            Format::Json => (None, &JSON[..]),
            Format::Junit => (None, &JUNIT[..]),
        };
        Self { name, rest }
    }

    fn get(&self, at: usize) -> Option<&[Finder<'static>]> {
        match (&self.name, at) {
            (Some(name), 0) => Some(std::slice::from_ref(name)),
            (Some(_), at) => self.rest.get(at - 1).map(Vec::as_slice),
            (None, at) => self.rest.get(at).map(Vec::as_slice),
        }
    }
}

/// After the name of the test, which only the pretty format has.
static RESULT: LazyLock<[Vec<Finder<'static>>; 4]> = LazyLock::new(|| {
    [
        either(&[" ... "]),
        either(&["test result: "]),
        either(&["ok"]),
        either(&[
            ". 1 passed; 0 failed; 0 ignored; 0 measured",
            ". 0 passed; 0 failed; 0 ignored; 1 measured",
        ]),
    ]
});

static JSON: LazyLock<[Vec<Finder<'static>>; 1]> = LazyLock::new(|| {
    [either(&[
        r#"{ "type": "suite", "event": "ok", "passed": 1, "failed": 0, "ignored": 0, "measured": 0"#,
        r#"{ "type": "suite", "event": "ok", "passed": 0, "failed": 0, "ignored": 0, "measured": 1"#,
    ])]
});

static JUNIT: LazyLock<[Vec<Finder<'static>>; 1]> = LazyLock::new(|| {
    [either(&[
        r#"<testsuite name="test" package="test" id="0" errors="0" failures="0" tests="1" skipped="0""#,
    ])]
});

fn either(texts: &[&'static str]) -> Vec<Finder<'static>> {
    texts.iter().map(|text| Finder::new(*text)).collect()
}

/// The recognisable parts at the beginning and the end of an output.
struct Said {
    head: String,
    tail: String,
    /// Whether the head is all.
    whole: bool,
}

/// A line of `--format json` that speaks of all tests.
#[derive(Deserialize)]
struct Suite {
    #[serde(rename = "type")]
    kind: String,
    test_count: Option<u64>,
    #[serde(flatten)]
    counts: Option<Counts>,
}

impl Suite {
    fn parse(line: &str) -> Option<Self> {
        let parsed: Self = serde_json::from_str(line).ok()?;
        (parsed.kind == "suite").then_some(parsed)
    }
}

/// The counts of a line `test result: ok. 1 passed; 0 failed; …`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
    measured: u64,
}

impl Said {
    fn new(head: &[u8], tail: &[u8], length: u64) -> Self {
        let text = |bytes: &[u8]| strip_ansi_escapes::strip_str(String::from_utf8_lossy(bytes));
        Self {
            head: text(head),
            tail: text(tail),
            whole: length <= EDGE as u64,
        }
    }

    /// Returns the number in the line `running 1 test` if the output begins with it.
    fn running(&self) -> Option<u64> {
        let mut lines = self.head.lines().filter(|line| !line.trim().is_empty());
        let first = lines.next()?.trim();
        if let Some(suite) = Suite::parse(first) {
            return suite.test_count;
        }
        let count = first.strip_prefix("running ")?;
        let (count, rest) = count.split_once(' ')?;
        matches!(rest, "test" | "tests")
            .then(|| count.parse().ok())
            .flatten()
    }

    /// Returns the counts of the last result, and whether it is the last line.
    fn result(&self) -> Option<(Counts, bool)> {
        let line = self.tail.lines().rfind(|line| !line.trim().is_empty());
        if let Some(counts) = line.and_then(Suite::parse).and_then(|suite| suite.counts) {
            return Some((counts, true));
        }
        let (_, last) = self.tail.rsplit_once("test result: ")?;
        let (line, after) = last.split_once('\n').unwrap_or((last, ""));
        let (_, counts) = line.split_once(". ")?;
        let mut found = Counts::default();
        for count in counts.split(';') {
            let Some((number, what)) = count.trim().split_once(' ') else {
                continue;
            };
            let (Ok(number), word) = (number.parse(), what.split(' ').next()) else {
                continue;
            };
            match word {
                Some("passed") => found.passed = number,
                Some("failed") => found.failed = number,
                Some("ignored") => found.ignored = number,
                Some("measured") => found.measured = number,
                _ => {}
            }
        }
        Some((found, after.trim().is_empty()))
    }

    /// Returns true if libtest says that it ran nothing.
    fn ran_nothing(&self) -> bool {
        self.running() == Some(0)
            || self
                .result()
                .is_some_and(|(counts, last)| last && counts == Counts::default())
    }

    /// Returns why exit code 0 is no pass for a harness that may say anything.
    fn no_pass(&self, escaped: bool) -> Option<NoResult> {
        let running = self.running();
        if let Some((counts, last)) = self.result()
            && (last || running.is_some())
        {
            return match counts {
                Counts { failed: 1.., .. } => Some(no_result(NoResultKind::Unreported, FAILED)),
                Counts { passed: 1.., .. } | Counts { measured: 1.., .. } => None,
                Counts { ignored: 1.., .. } => Some(no_result(NoResultKind::Ignored, IGNORED)),
                _ => Some(no_result(NoResultKind::RanNothing, RAN_NONE)),
            };
        }
        let said_ok = |line: &str| line.starts_with("test ") && line.ends_with(" ... ok");
        match running {
            Some(0) => return Some(no_result(NoResultKind::RanNothing, RAN_NONE)),
            Some(_) if self.lines().any(said_ok) => return None,
            Some(_) => return Some(no_result(NoResultKind::Unreported, UNREPORTED)),
            None => {}
        }
        if self.is_list() {
            return Some(no_result(NoResultKind::RanNothing, LISTED));
        }
        if self.is_help() {
            return Some(no_result(NoResultKind::RanNothing, HELPED));
        }
        escaped.then(|| no_result(NoResultKind::Unreported, ESCAPED))
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.head.lines().chain(self.tail.lines())
    }

    /// Returns true if the output is what is printed for `--list --format terse`.
    fn is_list(&self) -> bool {
        let complete = match self.head.rfind('\n') {
            Some(end) if !self.whole => &self.head[..end],
            _ => &self.head,
        };
        let is_test = |line: &str| line.ends_with(": test") || line.ends_with(": benchmark");
        !complete.is_empty() && complete.lines().all(is_test)
    }

    /// Returns true if the output is what is printed for `--help`.
    fn is_help(&self) -> bool {
        let first = self.head.trim_start();
        let usage = first
            .get(..6)
            .is_some_and(|s| s.eq_ignore_ascii_case("usage:"))
            || self.head.lines().any(|line| line.starts_with("Usage:"));
        let options = ["--list", "--help", "--exact"];
        usage && options.iter().any(|option| self.head.contains(option))
    }
}

/// Returns an outcome as the harness's word and the identity of the binary make it.
pub(super) fn judged(outcome: Outcome, word: Option<&Word>, required: bool) -> Outcome {
    match outcome {
        Outcome::Exited(Exit::Code(0)) => match word.and_then(Word::missing) {
            Some(no) if required || no.kind != NoResultKind::Unreported => Outcome::NoResult(no),
            _ => outcome,
        },
        // The stub says this of a binary that is not in its known state; so does execve(2) of a file
        // that was replaced on its server.
        Outcome::StartFailed(failure) if failure.errno == libc::ESTALE => {
            Outcome::BinaryChanged(Fault {
                message: failure.message,
            })
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
