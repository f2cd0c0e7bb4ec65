//! The figures that a benchmark prints: each benchmark harness has a form of its own.
//!
//! A benchmark is one test, so its name is left out of those of its figures: `median` of `parse::large`.

use super::{Output, metrics, work::Test};
use harness_metadata::{Metric, Metrics, Polarity, TestId, metric::Number};
use harness_payload::Format;
use std::{io::Read, path::Path};

/// The forms, and the name of the figure that has none beside that of its benchmark.
const FORMS: [(Format<'static>, &str); 3] = [
    (Format::Divan, "iteration"),
    (Format::Criterion, "iteration"),
    (Format::Libtest, "iteration"),
];

/// The most bytes that are read. A benchmark that runs alone prints a few lines.
const MOST_BYTES: u64 = 1024 * 1024;

/// Returns the metrics that a test recorded, and the figures that it printed if it is a benchmark.
pub(super) fn measured(test: &Test, file: Option<&Path>, output: Option<&Output>) -> Metrics {
    let mut metrics = metrics::of(file);
    if let Some(output) = output.filter(|_| test.measured) {
        add(&mut metrics, &test.id, output);
    }
    metrics
}

fn add(metrics: &mut Metrics, test: &TestId, output: &Output) {
    let mut text = Vec::new();
    // If it cannot be read back there are none.
    if output
        .stdout()
        .head
        .take(MOST_BYTES)
        .read_to_end(&mut text)
        .is_ok()
    {
        metrics.found.extend(figures(test, &text));
    }
}

fn figures(test: &TestId, text: &[u8]) -> Vec<Metric> {
    let found = FORMS.iter().map(|(format, alone)| {
        let found = format.read(text).into_iter();
        found
            .map(|metric| figure(metric, test.name.as_str(), alone))
            .collect()
    });
    found.max_by_key(Vec::len).unwrap_or_default()
}

fn figure(read: harness_payload::Metric, test: &str, alone: &str) -> Metric {
    let own = read.name.strip_prefix(test);
    // criterion's `time` is that of an iteration; that of the process is measured by the runner.
    let own = own.map(|own| own.trim_start_matches(['.', ':']));
    let name = match own {
        Some("" | "time" | "median") => alone.to_owned(),
        Some(own) => match own.strip_prefix("time.") {
            Some(bound) => format!("{alone}.{bound}"),
            None => own.to_owned(),
        },
        None => read.name.clone(),
    };
    let throughput = read.polarity == harness_payload::Polarity::HigherIsBetter;
    Metric {
        payload: None,
        invocation: None,
        name,
        value: Number(read.value),
        // `ns/iter` of the standard harness is the same as `ns` of the others.
        unit: read
            .unit
            .map(|unit| unit.trim_end_matches("/iter").to_owned()),
        polarity: match throughput {
            true => Polarity::HigherIsBetter,
            false => Polarity::LowerIsBetter,
        },
        stream: Some("stdout".to_owned()),
        source: Some(read.source.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_metadata::{RustBinaryId, TestCaseName};

    fn of(test: &str, text: &str) -> Vec<String> {
        let test = TestId {
            binary: RustBinaryId::new("krate::bench/b"),
            name: TestCaseName::new(test),
        };
        let figures = figures(&test, text.as_bytes()).into_iter();
        figures
            .map(|metric| format!("{metric} {:?}", metric.polarity))
            .collect()
    }

    #[test]
    fn the_figures_of_each_harness_are_read_without_the_name_of_the_benchmark() {
        let libtest = "\nrunning 1 test\ntest adds ... bench:       1,234.5 ns/iter (+/- 67.5)\n\n";
        assert_eq!(
            of("adds", libtest),
            [
                "iteration = 1234.5 ns LowerIsBetter",
                "deviation = 67.5 ns LowerIsBetter"
            ]
        );
        let criterion = "parse/large            time:   [1.0 µs 1.5 µs 2.0 µs]\n                        thrpt:  [5.0 MiB/s 6.0 MiB/s 7.0 MiB/s]\n";
        assert_eq!(
            of("parse/large", criterion),
            [
                "iteration.low = 1000 ns LowerIsBetter",
                "iteration = 1500 ns LowerIsBetter",
                "iteration.high = 2000 ns LowerIsBetter",
                "thrpt.low = 5 MiB/s HigherIsBetter",
                "thrpt = 6 MiB/s HigherIsBetter",
                "thrpt.high = 7 MiB/s HigherIsBetter",
            ]
        );
        let divan = "b          fastest │ slowest │ median │ mean │ samples │ iters\n╰─ inner   1 ns    │ 4 ns    │ 2 ns   │ 3 ns │ 100     │ 9\n";
        assert_eq!(
            of("b::inner", divan),
            [
                "fastest = 1 ns LowerIsBetter",
                "slowest = 4 ns LowerIsBetter",
                "iteration = 2 ns LowerIsBetter",
                "mean = 3 ns LowerIsBetter",
            ]
        );
        assert!(of("zebra", "called with --exact zebra\n").is_empty());
    }
}
