//! The numbers that tests measured, run by run: those of the runner, and metrics.

use super::{PastRun, recording};
use harness_metadata::{
    Attempt, Event, EventKind, Machine, Measure, Measured, Metric, Polarity, TestId, Verdict,
    event::{RunMode, RunStarted, TraceLevel},
};
use std::{collections::BTreeMap, io};

/// The prefix of a metric whose name is also one of the runner's.
const METRIC: &str = "metric.";

/// A kind of number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// One that the runner measures.
    Measured(Measure),
    /// The metrics of one name, of any program or of one.
    Metric(String),
    /// All metrics.
    AllMetrics,
}

impl Quantity {
    /// Returns the kind that a user names: `time`, `p99_us`, `redis.p99_us`, `metric.time`.
    pub fn of(name: &str) -> Self {
        match name.parse() {
            Ok(measure) => Self::Measured(measure),
            Err(_) => Self::Metric(name.strip_prefix(METRIC).unwrap_or(name).to_owned()),
        }
    }
}

/// The circumstances in which two runs can be compared by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    mode: RunMode,
    profile: String,
    trace: TraceLevel,
    slots: usize,
    /// Host, processors and memory; `None` if they are not known.
    machine: Option<(Option<String>, Option<String>, Option<u64>)>,
}

impl Setting {
    fn of(started: &RunStarted) -> Self {
        let machine = |it: &Machine| (it.host.clone(), it.processors.clone(), it.memory);
        Self {
            mode: started.mode,
            profile: started.profile.clone(),
            trace: started.trace.level,
            slots: started.slots,
            machine: started.machine.as_ref().map(machine),
        }
    }
}

/// The values of one number of a test in one run, those of the last attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The test; an iteration of a stress run counts as the test itself.
    pub test: TestId,
    /// The verdict on the test.
    pub verdict: Verdict,
    /// The name: `time`, or that of a metric after that of its program.
    pub name: String,
    /// Its unit.
    pub unit: Option<String>,
    /// The direction in which it is better.
    pub polarity: Polarity,
    /// The values, in the order in which they were measured: at least one.
    pub values: Vec<f64>,
}

/// The numbers of a run.
#[derive(Clone, Debug)]
pub struct Measurements {
    /// The circumstances.
    pub setting: Setting,
    /// The numbers, in the order in which tests finished.
    pub samples: Vec<Sample>,
}

/// Reads the numbers of a run, of the tests and kinds that are wanted. A number that is not known exactly is
/// left out.
///
/// # Errors
///
/// When the recording cannot be read, or has no beginning.
pub fn measurements(
    run: &PastRun,
    wanted: impl Fn(&TestId) -> bool,
    quantities: &[Quantity],
) -> io::Result<Measurements> {
    let started = run.open_recording().map_err(io::Error::other)?.started;
    let mut samples = Vec::new();
    for line in recording::lines(&run.recording())? {
        if recording::kind(&line) != Some(b"test-finished") {
            continue;
        }
        let Ok(event) = serde_json::from_slice::<Event>(&line) else {
            continue;
        };
        let EventKind::TestFinished(finished) = event.kind else {
            continue;
        };
        let test = finished.test.without_iteration().0;
        let Some(last) = finished.attempts.last().filter(|_| wanted(&test)) else {
            continue;
        };
        for (name, unit, polarity, values) in numbers(last, quantities) {
            samples.push(Sample {
                test: test.clone(),
                verdict: finished.verdict,
                name,
                unit,
                polarity,
                values,
            });
        }
    }
    Ok(Measurements {
        setting: Setting::of(&started),
        samples,
    })
}

type Number = (String, Option<String>, Polarity, Vec<f64>);

/// A name, and its unit.
type Name<'a> = (String, Option<&'a str>);

/// Returns the numbers of an attempt: the same name with another unit is another number.
fn numbers(attempt: &Attempt, quantities: &[Quantity]) -> Vec<Number> {
    let mut numbers = Vec::new();
    let mut metrics: BTreeMap<Name<'_>, (Polarity, Vec<f64>)> = BTreeMap::new();
    for quantity in quantities {
        if let Quantity::Measured(measure) = quantity
            && let Measured::Exactly(value) = measure.of(attempt)
        {
            let unit = measure.unit().symbol().map(str::to_owned);
            numbers.push((
                measure.to_string(),
                unit,
                Polarity::LowerIsBetter,
                vec![value],
            ));
        }
    }
    let is_wanted = |metric: &&Metric| {
        quantities.iter().any(|quantity| match quantity {
            Quantity::AllMetrics => true,
            Quantity::Metric(name) => metric.is_named(name),
            Quantity::Measured(_) => false,
        })
    };
    for metric in attempt.metrics.found.iter().filter(is_wanted) {
        let key = (metric.full_name(), metric.unit.as_deref());
        let (_, values) = metrics.entry(key).or_insert((metric.polarity, Vec::new()));
        values.push(metric.value.0);
    }
    let metrics = metrics.into_iter();
    numbers.extend(metrics.map(|((name, unit), (polarity, values))| {
        (name, unit.map(str::to_owned), polarity, values)
    }));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture_kit::sample;

    fn metric(line: &str) -> Metric {
        serde_json::from_str(line).expect("it is one")
    }

    #[test]
    fn numbers_of_the_runner_and_metrics_are_found_by_name() {
        let mut attempt = sample::code(1, 0);
        attempt.usage.peak_memory = 5;
        attempt.metrics.found = vec![
            metric(r#"{"payload":"redis","invocation":0,"name":"p99","value":1,"unit":"us"}"#),
            metric(r#"{"payload":"redis","invocation":1,"name":"p99","value":3,"unit":"us"}"#),
            metric(r#"{"payload":"redis","name":"p99","value":4,"unit":"ms"}"#),
            metric(r#"{"name":"time","value":7,"polarity":"higher-is-better"}"#),
        ];
        let of = |names: &[&str]| -> Vec<String> {
            let quantities: Vec<_> = names.iter().map(|name| Quantity::of(name)).collect();
            let found = numbers(&attempt, &quantities).into_iter();
            found
                .map(|(name, unit, _, values)| {
                    format!("{name} {values:?} {}", unit.unwrap_or_default())
                })
                .collect()
        };
        assert_eq!(of(&["rss"]), ["rss [5.0] B"]);
        assert_eq!(
            of(&["p99"]),
            ["redis.p99 [4.0] ms", "redis.p99 [1.0, 3.0] us"]
        );
        assert_eq!(of(&["redis.p99"]), of(&["p99"]));
        assert_eq!(of(&["metric.time"]), ["time [7.0] "]);
        assert_eq!(of(&["time"]), ["time [1.234] s"]);
        // No trace counted them.
        assert_eq!(of(&["processes", "files.opened", "other"]), [""; 0]);
        assert_eq!(numbers(&attempt, &[Quantity::AllMetrics]).len(), 3);
    }
}
