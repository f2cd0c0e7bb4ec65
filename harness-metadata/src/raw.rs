//! Bytes from the kernel: paths, arguments and names need not be UTF-8.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};
use std::{fmt, str};

/// A string of bytes. Lossy only on display.
///
/// In formats for people (JSON) it is a string if it is UTF-8, and else an array of numbers; in
/// compact formats it is bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawString(Vec<u8>);

#[cfg(test)]
impl schemars::JsonSchema for RawString {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RawString".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A string of bytes: text if it is UTF-8, else an array of bytes.",
            "anyOf": [
                generator.subschema_for::<String>(),
                generator.subschema_for::<Vec<u8>>(),
            ],
        })
    }
}

impl RawString {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for RawString {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for RawString {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<&str> for RawString {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// Shows bytes that are not UTF-8 as U+FFFD.
impl fmt::Display for RawString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for RawString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Serialize for RawString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(&self.0);
        }
        match str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for RawString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Bytes)
        } else {
            deserializer.deserialize_byte_buf(Bytes)
        }
    }
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = RawString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or an array of bytes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawString, E> {
        Ok(text.into())
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<RawString, E> {
        Ok(bytes.into())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<RawString, E> {
        Ok(bytes.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawString, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_text_where_it_is_text_and_loses_nothing_where_it_is_not() {
        for (bytes, json) in [
            (&b"/tmp/\xc3\xa4"[..], "\"/tmp/ä\""),
            (b"\xff/a", "[255,47,97]"),
            (b"", "\"\""),
        ] {
            let string = RawString::from(bytes);
            assert_eq!(serde_json::to_string(&string).unwrap(), json);
            assert_eq!(serde_json::from_str::<RawString>(json).unwrap(), string);
        }
    }
}
