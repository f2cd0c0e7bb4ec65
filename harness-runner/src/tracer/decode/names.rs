//! Questions to name servers (RFC 1035).

use harness_metadata::RawString;

/// The port of name servers.
pub(super) const PORT: u16 = 53;

/// The shortest question there is, for the root, and the longest that is looked at: a name has up
/// to 255 bytes, and options follow. What is sent without an address is looked at if its length is
/// between these.
pub(in crate::tracer) const QUESTION: std::ops::RangeInclusive<usize> = 17..=512;

const HEADER: usize = 12;
const NAME: usize = 255;

/// Returns the name that a message asks for; `None` if it is no question.
///
/// Names in questions may be compressed in theory. A pointer has to go backwards, so this ends.
pub(super) fn question(message: &[u8]) -> Option<RawString> {
    let header = message.get(..HEADER)?;
    let word = |index: usize| u16::from_be_bytes([header[2 * index], header[2 * index + 1]]);
    // A standard query, neither an answer nor truncated, with one question and no answers.
    if word(1) & 0xfa00 != 0 || word(2) != 1 || word(3) != 0 {
        return None;
    }
    let mut name: Vec<u8> = Vec::new();
    let mut at = HEADER;
    // Where the question goes on after the name.
    let mut rest = None;
    let mut limit = message.len();
    loop {
        let length = usize::from(*message.get(at).filter(|_| at < limit)?);
        match length {
            0 => break,
            1..=63 => {
                let label = message.get(at + 1..at + 1 + length)?;
                if !name.is_empty() {
                    name.push(b'.');
                }
                name.extend_from_slice(label);
                if name.len() > NAME {
                    return None;
                }
                at += 1 + length;
            }
            192..=255 => {
                let low = usize::from(*message.get(at + 1)?);
                let target = (length & 63) << 8 | low;
                rest.get_or_insert(at + 2);
                if target < HEADER {
                    return None;
                }
                // Nothing from here on is looked at again.
                limit = at;
                at = target;
            }
            _ => return None,
        }
    }
    let rest = rest.unwrap_or(at + 1);
    // Its type and class. The class is the internet's, perhaps with mDNS's bit.
    let kind = message.get(rest..rest + 4)?;
    if kind[2] & 0x7f != 0 || kind[3] != 1 {
        return None;
    }
    if name.is_empty() {
        name.push(b'.');
    }
    Some(name.into())
}

/// Returns the name that a message over a stream asks for: it starts with its length.
pub(super) fn stream_question(message: &[u8]) -> Option<RawString> {
    let (length, message) = message.split_at_checked(2)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    (length == message.len()).then(|| question(message))?
}
