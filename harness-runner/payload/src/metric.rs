//! Metrics: numbers with a name, read from what a program wrote.

mod bench;
mod json;
mod lines;
#[cfg(feature = "regex")]
mod pattern;

use crate::{Output, Status};
use std::{borrow::Cow, fmt};

#[cfg(feature = "regex")]
pub(crate) use pattern::check as check_pattern;

/// The most metrics of one invocation.
pub const MOST_METRICS: usize = 10_000;

/// The direction in which a metric is better.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Polarity {
    /// Throughput, hits.
    HigherIsBetter,
    /// Time, memory, errors.
    LowerIsBetter,
    /// The nearer to this value the better.
    Target(f64),
    /// Not known: a change is neither good nor bad.
    #[default]
    Unknown,
}

/// A metric that a program is expected to print. One that it does not print fails the run.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Expected<'a> {
    /// Its name in [`Metric::name`].
    pub name: &'a str,
    /// Its unit, such as `ms`; empty for a plain number.
    pub unit: &'a str,
    /// The direction in which it is better.
    pub polarity: Polarity,
}

impl<'a> Expected<'a> {
    /// A metric of this name and unit.
    #[must_use]
    pub const fn new(name: &'a str, unit: &'a str, polarity: Polarity) -> Self {
        Self {
            name,
            unit,
            polarity,
        }
    }
}

/// A stream of a program.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Returns `stdout` or `stderr`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A number that a program printed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name: the path in a JSON document (`results.0.mean`), the key of a line, the name of a group.
    pub name: String,
    /// Its value, which may be NaN or infinite. A check of such a value fails.
    pub value: f64,
    /// Its unit: as expected, or as printed.
    pub unit: Option<String>,
    /// The direction in which it is better.
    pub polarity: Polarity,
    /// The stream that it stood in; nothing for an exit code.
    pub stream: Option<Stream>,
    /// The name of the format that it was read by.
    pub source: &'static str,
    /// The index of the invocation within its test, from 0, among those of the same payload.
    pub invocation: u32,
}

/// A function that reads metrics from a stream: names and values.
pub type Reader = fn(&[u8]) -> Vec<(String, f64)>;

/// The format in which a program prints its metrics.
#[derive(Copy, Clone, Debug, Default)]
#[non_exhaustive]
pub enum Format<'a> {
    /// It prints none. Its exit code is one, by the name `exit_code`.
    #[default]
    ExitCode,
    /// The first whole JSON object or array that has a number in it, with whatever stands around it. Each
    /// number has the path to it as its name: `results.0.mean`. Levels deeper than 64 are left out.
    Json,
    /// Lines `key=value` or `key = value`, or several `key=value` in a line.
    KeyValue,
    /// `cargo bench` with the standard harness: `test NAME ... bench: 1,234.5 ns/iter (+/- 67)`.
    /// `NAME` and `NAME.deviation` in the printed unit.
    Libtest,
    /// criterion: `NAME time: [1.0 µs 1.1 µs 1.2 µs]`. `NAME.time` in nanoseconds, with `.low` and
    /// `.high`, and `NAME.thrpt` in the printed unit.
    Criterion,
    /// divan's table: `NAME.fastest`, `NAME.slowest`, `NAME.median` and `NAME.mean` in nanoseconds. `NAME` is as in its
    /// list, with the crate and the modules: `benches::group::name`.
    Divan,
    /// The text format of Prometheus: `name{label="value"} 1.5`. The labels belong to the name.
    Prometheus,
    /// A regular expression. A match with groups `name` and `value` is the metric of that name; of any
    /// other, each named group is one.
    #[cfg(feature = "regex")]
    Regex(&'a str),
    /// A function of the author's.
    Function(Reader),
    /// Not used; holds the lifetime where there are no regular expressions.
    #[doc(hidden)]
    #[cfg(not(feature = "regex"))]
    Never(std::marker::PhantomData<&'a str>),
}

impl Format<'_> {
    /// Returns the name by which [`Metric::source`] knows the format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ExitCode => "exit-code",
            Self::Json => "json",
            Self::KeyValue => "key-value",
            Self::Libtest => "libtest",
            Self::Criterion => "criterion",
            Self::Divan => "divan",
            Self::Prometheus => "prometheus",
            #[cfg(feature = "regex")]
            Self::Regex(_) => "regex",
            Self::Function(_) => "function",
            #[cfg(not(feature = "regex"))]
            Self::Never(_) => "never",
        }
    }
}

/// A number, as a reader found it.
#[derive(Clone, Debug, PartialEq)]
struct Found<'a> {
    name: Cow<'a, str>,
    value: f64,
    unit: Option<&'a str>,
}

impl<'a> Found<'a> {
    fn new(name: impl Into<Cow<'a, str>>, value: f64) -> Self {
        Self {
            name: name.into(),
            value,
            unit: None,
        }
    }

    fn in_unit(mut self, unit: &'a str) -> Self {
        self.unit = (!unit.is_empty()).then_some(unit);
        self
    }
}

/// The numbers that a reader found, and remarks about what it could not read.
#[derive(Default)]
struct Findings<'a> {
    found: Vec<Found<'a>>,
    notes: Vec<String>,
    left_out: u64,
}

impl<'a> Findings<'a> {
    /// Adds a number. Of several with one name the last counts: programs print progress.
    fn add(&mut self, found: Found<'a>) {
        if self.found.len() < 2 * MOST_METRICS {
            self.found.push(found);
        } else {
            self.left_out += 1;
        }
    }

    fn note(&mut self, note: impl fmt::Display) {
        const MOST_NOTES: usize = 20;
        if self.notes.len() < MOST_NOTES {
            self.notes.push(note.to_string());
        }
    }

    /// Reads a number, with a remark if no number of 64 bits is as large.
    fn number(&mut self, name: &str, text: &str) -> Option<f64> {
        let value: f64 = text.parse().ok()?;
        if value.is_infinite() && text.contains(|c: char| c.is_ascii_digit()) {
            self.note(format_args!(
                "`{name}`: `{text}` is too large for a number of 64 bits, and counts as infinite"
            ));
        }
        Some(value)
    }
}

/// The metrics of a program, and remarks about what could not be read.
pub(crate) struct Metrics {
    pub(crate) metrics: Vec<Metric>,
    pub(crate) notes: Vec<String>,
}

impl Format<'_> {
    /// Returns the direction in which a metric is better, where the format alone says so: benchmarks print times and
    /// throughputs.
    fn polarity(self, name: &str) -> Polarity {
        match self {
            Self::Libtest | Self::Criterion | Self::Divan => {
                let last = name
                    .rsplit('.')
                    .find(|part| !["low", "high"].contains(part));
                match last {
                    Some("thrpt") => Polarity::HigherIsBetter,
                    _ => Polarity::LowerIsBetter,
                }
            }
            _ => Polarity::Unknown,
        }
    }

    /// Reads the metrics in a text that a program printed, and has no remarks. The exit code is in no text.
    #[must_use]
    pub fn read(self, text: &[u8]) -> Vec<Metric> {
        let mut findings = Findings::default();
        read_part(self, text, &mut findings);
        let mut all = Metrics {
            metrics: Vec::new(),
            notes: Vec::new(),
        };
        all.take(findings.found, self, Some(Stream::Stdout), 0);
        all.metrics
    }
}

/// Reads the metrics of a program: standard output first, and standard error only if that has none.
pub(crate) fn read(
    format: Format<'_>,
    stdout: &Output,
    stderr: &Output,
    status: Status,
    invocation: u32,
) -> Metrics {
    let mut all = Metrics {
        metrics: Vec::new(),
        notes: Vec::new(),
    };
    if let Format::ExitCode = format {
        if let Status::Exited(code) = status {
            let found = vec![Found::new("exit_code", f64::from(code))];
            all.take(found, format, None, invocation);
        }
        for (stream, output) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
            if let Some(note) = left_out(stream, output) {
                all.notes.push(note);
            }
        }
        return all;
    }
    for (stream, output) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
        let mut findings = Findings::default();
        for part in output.parts() {
            read_part(format, part, &mut findings);
        }
        let name = stream.name();
        let notes = findings.notes.into_iter();
        all.notes
            .extend(notes.map(|note| format!("{name}: {note}")));
        if let Some(note) = left_out(stream, output) {
            all.notes
                .push(format!("{note}, and metrics among them are not known"));
        }
        let left_out = all.take(findings.found, format, Some(stream), invocation);
        if left_out + findings.left_out > 0 {
            let left_out = left_out + findings.left_out;
            all.notes.push(format!(
                "{name}: {left_out} numbers beyond the first {MOST_METRICS} metrics were left out"
            ));
        }
        if !all.metrics.is_empty() {
            return all;
        }
    }
    let name = format.name();
    all.notes.push(format!(
        "no metrics in the format `{name}` in stdout or stderr"
    ));
    all
}

/// Says that a part of a stream was not kept, if so.
fn left_out(stream: Stream, output: &Output) -> Option<String> {
    let name = stream.name();
    match output.omitted() {
        0 => None,
        1 => Some(format!("{name}: 1 byte was left out")),
        omitted => Some(format!("{name}: {omitted} bytes were left out")),
    }
}

impl Metrics {
    /// Takes what was found, the last of each name, in the order of their first appearance. Returns how
    /// many were too many.
    fn take(
        &mut self,
        found: Vec<Found<'_>>,
        format: Format<'_>,
        stream: Option<Stream>,
        invocation: u32,
    ) -> u64 {
        let mut places = std::collections::HashMap::new();
        let mut left_out = 0;
        for found in found {
            let metric = Metric {
                polarity: format.polarity(&found.name),
                name: found.name.into_owned(),
                value: found.value,
                unit: found.unit.map(str::to_owned),
                stream,
                source: format.name(),
                invocation,
            };
            match places.get(&metric.name) {
                Some(at) => self.metrics[*at] = metric,
                None if self.metrics.len() >= MOST_METRICS => left_out += 1,
                None => {
                    places.insert(metric.name.clone(), self.metrics.len());
                    self.metrics.push(metric);
                }
            }
        }
        left_out
    }
}

fn read_part<'a>(format: Format<'_>, part: &'a [u8], findings: &mut Findings<'a>) {
    if let Format::Json = format {
        // A part that comes later is looked at only if no earlier one had a document.
        if findings.found.is_empty() {
            json::read(part, findings);
        }
        return;
    }
    if let Format::Function(reader) = format {
        for (name, value) in reader(part) {
            findings.add(Found::new(name, value));
        }
        return;
    }
    // Lines that are not text have no metrics, and do not hide those of others.
    for line in part.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let line = line.trim_end_matches('\r');
        match format {
            Format::KeyValue => lines::key_value(line, findings),
            Format::Prometheus => lines::prometheus(line, findings),
            Format::Libtest => bench::libtest(line, findings),
            _ => {}
        }
    }
    match format {
        Format::Criterion => bench::criterion(part, findings),
        Format::Divan => bench::divan(part, findings),
        #[cfg(feature = "regex")]
        Format::Regex(pattern) => pattern::read(pattern, part, findings),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
