//! Ids made of names, so that a report of a recording has those of the run.

use uuid::{Builder, Uuid};
use xxhash_rust::xxh64::xxh64;

/// Returns an id that is the same whenever it is made of the same parts, and another one for others.
pub(super) fn id(parts: &[&str]) -> Uuid {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    let (high, low) = (xxh64(&bytes, 0), xxh64(&bytes, 1));
    let number = (u128::from(high) << 64) | u128::from(low);
    Builder::from_custom_bytes(number.to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_their_parts() {
        assert_eq!(id(&["a", "b"]), id(&["a", "b"]));
        assert_ne!(id(&["a", "b"]), id(&["ab"]));
        assert_ne!(id(&["a", "b"]), id(&["b", "a"]));
        assert_eq!(id(&[]).get_version_num(), 8);
    }
}
