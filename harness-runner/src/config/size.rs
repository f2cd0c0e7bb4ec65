//! Reads numbers of bytes.

use super::parse::{Noted, Value};

/// A number of bytes: `"64 MiB"` or an integer.
pub(super) fn read(value: Value<'_>) -> Result<u64, Noted> {
    if let Some(number) = value.as_integer() {
        return u64::try_from(number).map_err(|_| value.invalid("must not be negative"));
    }
    let Some(text) = value.as_str() else {
        return Err(value.wrong_type("a size such as `\"64 MiB\"` or a number of bytes", None));
    };
    parse_bytes(text).ok_or_else(|| {
        value.invalid(format!(
            "is not a size: `{text}` should be a whole number followed by B, kB, MB, GB, KiB, MiB \
             or GiB"
        ))
    })
}

fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        assert_eq!(parse_bytes("64 MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("1GB"), Some(1_000_000_000));
        assert_eq!(parse_bytes("500kb"), Some(500_000));
        assert_eq!(parse_bytes(" 12 "), Some(12));
        assert_eq!(parse_bytes("1.5 MiB"), None);
        assert_eq!(parse_bytes("MiB"), None);
        assert_eq!(parse_bytes("99999999999 GiB"), None);
        assert_eq!(parse_bytes("1 parsec"), None);
    }

    proptest! {
        #[test]
        fn any_number_of_bytes_reads_as_itself(bytes: u64) {
            prop_assert_eq!(parse_bytes(&bytes.to_string()), Some(bytes));
        }
    }
}
