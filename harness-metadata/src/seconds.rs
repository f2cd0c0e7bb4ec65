//! Durations as numbers of seconds, for `#[serde(with = "…")]`.
//!
//! A number with a fraction holds each nanosecond of 50 days. Readers of JSON also take `{"secs", "nanos"}`, as
//! events of schema 1 have it. Formats that are no text keep seconds and nanoseconds apart.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
};
use std::{fmt, time::Duration};

/// Writes a duration.
///
/// # Errors
///
/// Those of the format.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    match serializer.is_human_readable() {
        true => serializer.serialize_f64(duration.as_secs_f64()),
        false => duration.serialize(serializer),
    }
}

/// Reads a duration. One that is too long is the longest.
///
/// # Errors
///
/// Those of the format, and for a number below zero.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match deserializer.is_human_readable() {
        true => deserializer.deserialize_any(Seconds),
        false => Duration::deserialize(deserializer),
    }
}

/// As the module around it, for a duration that may be absent.
pub mod optional {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    /// A duration in the form of the module around this one.
    #[derive(Serialize, Deserialize)]
    struct Number(#[serde(with = "super")] Duration);

    /// Writes a duration, or null.
    ///
    /// # Errors
    ///
    /// Those of the format.
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(Number).serialize(serializer)
    }

    /// Reads a duration, or null.
    ///
    /// # Errors
    ///
    /// As [`super::deserialize`].
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let number = Option::<Number>::deserialize(deserializer)?;
        Ok(number.map(|Number(duration)| duration))
    }
}

/// Reads seconds.
struct Seconds;

impl<'de> Visitor<'de> for Seconds {
    type Value = Duration;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number of seconds")
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
        match Duration::try_from_secs_f64(seconds) {
            Ok(duration) => Ok(duration),
            Err(_) if seconds > 0.0 => Ok(Duration::MAX),
            Err(_) => Err(E::custom(format_args!("{seconds} is no duration"))),
        }
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
        let seconds = u64::try_from(seconds);
        let seconds = seconds.map_err(|_| E::custom("a duration is not below zero"))?;
        self.visit_u64(seconds)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Duration, A::Error> {
        let (mut secs, mut nanos) = (None, None);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "secs" => secs = Some(map.next_value::<u64>()?),
                "nanos" => nanos = Some(map.next_value::<u32>()?),
                other => return Err(A::Error::unknown_field(other, &["secs", "nanos"])),
            }
        }
        let secs = secs.ok_or_else(|| A::Error::missing_field("secs"))?;
        let nanos = nanos.ok_or_else(|| A::Error::missing_field("nanos"))?;
        match nanos {
            ..1_000_000_000 => Ok(Duration::new(secs, nanos)),
            _ => Err(A::Error::custom("`nanos` is a second or more")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Times {
        #[serde(with = "super")]
        at: Duration,
        #[serde(default, with = "super::optional")]
        left: Option<Duration>,
    }

    fn read(text: &str) -> Result<Times, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_duration_is_a_number_and_comes_back_to_the_nanosecond() {
        let days = 50 * 24 * 60 * 60;
        let mut nanos: u32 = 1;
        for secs in (0..days).step_by(7_919) {
            nanos = nanos.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = Duration::new(secs, nanos % 1_000_000_000);
            let left = Some(Duration::from_nanos(u64::from(nanos)));
            let text = serde_json::to_string(&Times { at, left }).unwrap();
            assert_eq!(read(&text), Ok(Times { at, left }), "{text}");
        }
        let text = serde_json::to_string(&Times {
            at: Duration::from_millis(1500),
            left: None,
        });
        assert_eq!(text.unwrap(), r#"{"at":1.5,"left":null}"#);
    }

    #[test]
    fn the_form_of_schema_1_and_whole_numbers_are_read() {
        for text in [
            r#"{"at":{"secs":2,"nanos":0},"left":{"nanos":500000000,"secs":0}}"#,
            r#"{"at":2,"left":0.5}"#,
        ] {
            let times = Times {
                at: Duration::from_secs(2),
                left: Some(Duration::from_millis(500)),
            };
            assert_eq!(read(text), Ok(times), "{text}");
        }
        let longest = read(r#"{"at":1e300}"#).unwrap();
        assert_eq!((longest.at, longest.left), (Duration::MAX, None));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_reason() {
        for (text, reason) in [
            (r#"{"at":-1}"#, "a duration is not below zero"),
            (r#"{"at":-0.5}"#, "-0.5 is no duration"),
            (r#"{"at":"1"}"#, "a number of seconds"),
            (r#"{"at":{"secs":1}}"#, "missing field `nanos`"),
            (
                r#"{"at":{"secs":1,"nanos":1000000000}}"#,
                "`nanos` is a second or more",
            ),
            (r#"{"at":{"ms":1}}"#, "unknown field `ms`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
