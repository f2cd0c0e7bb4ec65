//! The receiver of metrics: a file that the environment names.
//!
//! A line of JSON is appended for each metric, so all that was written before a crash is kept.
//! If no file is named, nothing is written.

use crate::{Metric, Polarity};
use serde_json::{Map, Value, json};
use std::{
    collections::HashMap,
    env,
    fs::OpenOptions,
    io::{self, Write},
    sync::{LazyLock, Mutex, PoisonError},
};

/// The variable with the path of the file that metrics are appended to.
pub const METRICS_FILE: &str = "HARNESS_METRICS_FILE";

/// Records a metric of the test itself.
///
/// It is appended to the file that [`METRICS_FILE`] names. Without one it is not kept.
///
/// # Errors
///
/// If the file cannot be written.
pub fn record(name: &str, value: f64, unit: &str, polarity: Polarity) -> io::Result<()> {
    let metric = Metric {
        name: name.to_owned(),
        value,
        unit: (!unit.is_empty()).then(|| unit.to_owned()),
        polarity,
        stream: None,
        source: "test",
        invocation: 0,
    };
    write(None, &[metric])
}

/// Appends the metrics of a payload, if there is a file for them.
pub(crate) fn hand_over(payload: &str, metrics: &[Metric]) -> io::Result<()> {
    write(Some(payload), metrics)
}

fn write(payload: Option<&str>, metrics: &[Metric]) -> io::Result<()> {
    let Some(path) = env::var_os(METRICS_FILE).filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let lines: String = metrics.iter().map(|metric| line(payload, metric)).collect();
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(lines.as_bytes())
}

/// Returns a metric as a line of JSON. NaN and infinities, which JSON does not have, are strings.
fn line(payload: Option<&str>, metric: &Metric) -> String {
    let mut object = Map::new();
    let mut add = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    if let Some(payload) = payload {
        add("payload", payload.into());
        add("invocation", metric.invocation.into());
    }
    add("name", metric.name.as_str().into());
    add("value", number(metric.value));
    if let Some(unit) = &metric.unit {
        add("unit", unit.as_str().into());
    }
    let polarity = match metric.polarity {
        Polarity::HigherIsBetter => "higher-is-better".into(),
        Polarity::LowerIsBetter => "lower-is-better".into(),
        Polarity::Target(target) => json!({ "target": number(target) }),
        Polarity::Unknown => "unknown".into(),
    };
    add("polarity", polarity);
    if let Some(stream) = metric.stream {
        add("stream", stream.name().into());
    }
    add("source", metric.source.into());
    format!("{}\n", Value::Object(object))
}

fn number(value: f64) -> Value {
    match value.is_finite() {
        true => value.into(),
        false => value.to_string().into(),
    }
}

/// Returns how many invocations of a payload came before in the same test.
pub(crate) fn next_invocation(payload: &str) -> u32 {
    static COUNTS: LazyLock<Mutex<HashMap<(String, String), u32>>> = LazyLock::new(Mutex::default);
    // libtest names the thread of a test after it, and a test alone in its process has that alone.
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry((test, payload.to_owned())).or_default();
    *count += 1;
    *count - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_a_line_of_json_whatever_its_value() {
        let mut metric = Metric {
            name: "a \"b\"\n".to_owned(),
            value: 1.5,
            unit: Some("ms".to_owned()),
            polarity: Polarity::Target(2.0),
            stream: Some(crate::Stream::Stderr),
            source: "json",
            invocation: 3,
        };
        let text = line(Some("p"), &metric);
        let read: Value = serde_json::from_str(text.trim_end()).expect("it is JSON");
        let expected = json!({
            "payload": "p", "invocation": 3, "name": "a \"b\"\n", "value": 1.5, "unit": "ms",
            "polarity": { "target": 2.0 }, "stream": "stderr", "source": "json",
        });
        assert_eq!(read, expected);
        assert_eq!(text.matches('\n').count(), 1);
        metric.value = f64::NAN;
        assert!(line(None, &metric).contains(r#""value":"NaN""#));
        metric.value = f64::NEG_INFINITY;
        assert!(line(None, &metric).contains(r#""value":"-inf""#));
    }
}
