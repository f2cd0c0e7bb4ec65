//! The first whole JSON document in a stream, with noise around it.

use super::{Findings, Found};
use serde_json::{Deserializer, Value};

/// The deepest level of which numbers are read.
const DEEPEST: usize = 64;
/// The most bytes that are read in vain, over all places where a document might begin, for each byte of
/// the stream: brackets in noise must not take quadratic time.
const MOST_IN_VAIN: usize = 8;

/// Reads the numbers of the first object or array that is whole and has any.
pub(super) fn read<'a>(bytes: &'a [u8], findings: &mut Findings<'a>) {
    let mut at = 0;
    let mut in_vain = 0;
    let mut broken = None;
    while let Some(start) = bytes[at..].iter().position(|byte| b"{[".contains(byte)) {
        let start = at + start;
        if in_vain / MOST_IN_VAIN > bytes.len() {
            let rest = bytes.len() - start;
            findings.note(format_args!(
                "too many brackets that begin no JSON document; the last {rest} bytes were not searched"
            ));
            break;
        }
        let mut documents = Deserializer::from_slice(&bytes[start..]).into_iter::<Value>();
        match documents.next() {
            Some(Ok(document)) => {
                let end = start + documents.byte_offset();
                let before = findings.found.len();
                let mut too_deep = 0;
                flatten(&document, &mut String::new(), 0, findings, &mut too_deep);
                if too_deep > 0 {
                    findings.note(format_args!(
                        "{too_deep} values of the JSON document are deeper than {DEEPEST} levels, and were left out"
                    ));
                }
                if findings.found.len() > before || too_deep > 0 {
                    return;
                }
                at = end;
            }
            Some(Err(error)) => {
                let size = offset(&bytes[start..], &error);
                in_vain += size;
                // A bracket in a line of a log is no document: the longest attempt explains most.
                if broken
                    .as_ref()
                    .is_none_or(|(_, longest, _)| size > *longest)
                {
                    broken = Some((start, size, error));
                }
                at = start + 1;
            }
            None => at = start + 1,
        }
    }
    if let Some((start, _, error)) = broken {
        findings.note(format_args!(
            "no whole JSON document: the one at byte {start}: {error}"
        ));
    }
}

/// Returns how many bytes were read before an error.
fn offset(bytes: &[u8], error: &serde_json::Error) -> usize {
    let mut start = 0;
    for _ in 1..error.line() {
        match bytes[start..].iter().position(|byte| *byte == b'\n') {
            Some(end) => start += end + 1,
            None => break,
        }
    }
    start + error.column()
}

fn flatten<'a>(
    value: &Value,
    path: &mut String,
    depth: usize,
    findings: &mut Findings<'a>,
    too_deep: &mut u64,
) {
    let length = path.len();
    let mut below = |name: &str, value: &Value| {
        if depth >= DEEPEST {
            *too_deep += 1;
            return;
        }
        if length > 0 {
            path.push('.');
        }
        path.push_str(name);
        flatten(value, path, depth + 1, findings, too_deep);
        path.truncate(length);
    };
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| below(name, value)),
        Value::Array(array) => {
            let values = array.iter().enumerate();
            values.for_each(|(at, value)| below(&at.to_string(), value));
        }
        Value::Number(number) => {
            if let Some(value) = number.as_f64() {
                findings.add(Found::new(path.clone(), value));
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
