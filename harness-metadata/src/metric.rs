//! The numbers that a test or its programs measured.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A number. JSON has no NaN and no infinities, which are the strings `NaN`, `inf` and `-inf` there.
#[derive(Copy, Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(try_from = "Written", into = "Written")]
pub struct Number(pub f64);

/// Two that look the same are the same, NaN as well.
impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
enum Written {
    Finite(f64),
    Other(String),
}

impl TryFrom<Written> for Number {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Finite(value) => Ok(Self(value)),
            Written::Other(text) => match text.as_str() {
                "NaN" => Ok(Self(f64::NAN)),
                "inf" => Ok(Self(f64::INFINITY)),
                "-inf" => Ok(Self(f64::NEG_INFINITY)),
                _ => Err(format!("`{text}` is not a number")),
            },
        }
    }
}

impl From<Number> for Written {
    fn from(number: Number) -> Self {
        match number.0.is_finite() {
            true => Self::Finite(number.0),
            false => Self::Other(number.0.to_string()),
        }
    }
}

/// The direction in which a metric is better.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Polarity {
    /// Throughput, hits.
    HigherIsBetter,
    /// Time, memory, errors.
    LowerIsBetter,
    /// The nearer to this value the better.
    Target(Number),
    /// Not known.
    #[default]
    Unknown,
}

/// A number that a test or one of its programs measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Metric {
    /// The name of the payload that printed it; `None` if the test recorded it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The index of the payload's invocation within the test, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<u32>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Number,
    /// Its unit; `None` for a plain number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The direction in which it is better.
    #[serde(default)]
    pub polarity: Polarity,
    /// The stream that it stood in, `stdout` or `stderr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The name of the format that it was read by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Metric {
    /// Returns its name after that of its program: `redis-benchmark.SET`.
    pub fn full_name(&self) -> String {
        match &self.payload {
            Some(payload) => format!("{payload}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Returns whether it is meant by a name: its own alone, or after that of its program.
    pub fn is_named(&self, name: &str) -> bool {
        let of_payload = self.payload.as_ref().is_some_and(|payload| {
            let rest = name.strip_prefix(payload.as_str());
            rest.and_then(|rest| rest.strip_prefix('.')) == Some(self.name.as_str())
        });
        self.name == name || of_payload
    }
}

/// As people read it: `redis-benchmark[2].SET = 51282.05 1/s`.
impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(payload) = &self.payload {
            f.write_str(payload)?;
            match self.invocation {
                None | Some(0) => f.write_str(".")?,
                Some(invocation) => write!(f, "[{invocation}].")?,
            }
        }
        write!(f, "{} = {}", self.name, self.value)?;
        match &self.unit {
            Some(unit) => write!(f, " {unit}"),
            None => Ok(()),
        }
    }
}

/// The metrics of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Metrics {
    /// In the order in which they were recorded.
    pub found: Vec<Metric>,
    /// The number of lines that are no metric, or are too many.
    #[serde(default)]
    pub unread: u64,
}

impl Metrics {
    /// Returns true if none was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.unread == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_was_written_whatever_it_is() {
        for (value, text) in [
            (1.5, "1.5"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"inf\""),
            (f64::NEG_INFINITY, "\"-inf\""),
        ] {
            let written = serde_json::to_string(&Number(value)).expect("it is JSON");
            assert_eq!(written, text);
            let read: Number = serde_json::from_str(text).expect("it is a number");
            assert_eq!(read, Number(value));
        }
        assert!(serde_json::from_str::<Number>("\"many\"").is_err());
    }

    #[test]
    fn a_line_of_a_test_is_a_metric() {
        let line = r#"{"payload":"p","invocation":2,"name":"a","value":2.5,"unit":"ms","polarity":{"target":1}}"#;
        let metric: Metric = serde_json::from_str(line).expect("it is a metric");
        assert_eq!(metric.polarity, Polarity::Target(Number(1.0)));
        assert_eq!(metric.to_string(), "p[2].a = 2.5 ms");
        let own: Metric = serde_json::from_str(r#"{"name":"a","value":3}"#).expect("it is one");
        assert_eq!(own.to_string(), "a = 3");
    }
}
