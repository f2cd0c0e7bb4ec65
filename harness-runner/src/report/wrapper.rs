//! The words that the standard test harness writes around a test's own output.
//!
//! libtest runs one test in a process here, so all that it writes is known byte for byte: a heading before
//! the test's first byte, and the result after its last. Only a beginning and an end that are exactly that are
//! taken away; a format or a harness that is another one keeps everything.

use super::Excerpt;
use regex::bytes::Regex;
use std::sync::LazyLock;

/// The beginning of the standard output of a test.
const HEADING: &[u8] = b"\nrunning 1 test\n";

/// The line of the counts, and the empty one after it.
static RESULT: LazyLock<Regex> = LazyLock::new(|| {
    let counts = r"(?-u)\ntest result: (?:ok|FAILED)\. \d+ passed; \d+ failed; \d+ ignored; \d+ measured; \d+ filtered out; finished in \d+\.\d\ds\n\n$";
    Regex::new(counts).expect("it is a pattern")
});

/// The standard output of a test without its harness's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unwrapped {
    /// The output of the test itself.
    pub(super) own: Excerpt,
    /// The harness's note on the failure: that a test did not panic, or not as expected.
    pub(super) note: Vec<u8>,
}

/// Returns the standard output of a test by its name without what libtest wrote around it.
pub(super) fn unwrapped(mut stdout: Excerpt, name: &str) -> Unwrapped {
    if !stdout.head.starts_with(HEADING) {
        return Unwrapped {
            own: stdout,
            note: Vec::new(),
        };
    }
    stdout.head.drain(..HEADING.len());
    let end = match stdout.left_out {
        0 => &mut stdout.head,
        _ => &mut stdout.tail,
    };
    let mut note = Vec::new();
    let mut named_first = None;
    if let Some(ending) = ending(end, name) {
        note = ending.note;
        named_first = ending.named_first;
        end.truncate(ending.own);
    }
    if let Some(first) = named_first.filter(|first| stdout.head.starts_with(first)) {
        stdout.head.drain(..first.len());
    }
    Unwrapped { own: stdout, note }
}

/// The harness's end of an output.
struct Ending {
    /// The length of what is before it.
    own: usize,
    note: Vec<u8>,
    /// The words that stand before the test's own output, if the result alone stands behind it: with
    /// one thread, libtest names the test first.
    named_first: Option<Vec<u8>>,
}

fn ending(output: &[u8], name: &str) -> Option<Ending> {
    // The pattern is anchored at the end, and short.
    let from = output.len().saturating_sub(256);
    let counts = RESULT.find(&output[from..])?;
    let passed = counts.as_bytes().starts_with(b"\ntest result: ok");
    let mut rest = &output[..from + counts.start()];
    let mut note = Vec::new();
    if !passed {
        rest = rest.strip_suffix(format!("\nfailures:\n    {name}\n").as_bytes())?;
        rest = match rest.strip_suffix(b"\nfailures:\n") {
            Some(rest) => rest,
            None => {
                let heading = format!("\nfailures:\n\n---- {name} stdout ----\n");
                let at = memchr::memmem::rfind(rest, heading.as_bytes())?;
                note = rest[at + heading.len()..].trim_ascii_end().to_vec();
                &rest[..at]
            }
        };
    }
    let words: &[&[u8]] = match passed {
        true => &[b"ok\n", b"ignored\n"],
        false => &[b"FAILED\n"],
    };
    rest = words.iter().find_map(|word| rest.strip_suffix(*word))?;
    let named = ["", " - should panic"].map(|kind| format!("test {name}{kind} ... ").into_bytes());
    for named in &named {
        // Output without a line's end stands before it.
        if let Some(own) = rest.strip_suffix(&named[..]) {
            return Some(Ending {
                own: own.len(),
                note,
                named_first: None,
            });
        }
    }
    // The beginning may be in the head of the output, and this is its tail: what does not begin so keeps its
    // words.
    Some(Ending {
        own: rest.len(),
        note,
        named_first: Some(named[0].clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Excerpt {
        Excerpt {
            head: text.as_bytes().to_vec(),
            ..Excerpt::default()
        }
    }

    /// Returns the test's own output, and the note.
    fn own(text: &str) -> (String, String) {
        let unwrapped = unwrapped(whole(text), "a::b");
        (
            String::from_utf8(unwrapped.own.head).unwrap(),
            String::from_utf8(unwrapped.note).unwrap(),
        )
    }

    const COUNTS: &str = "\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s\n\n";

    #[test]
    fn what_the_harness_writes_around_a_failed_test_is_known_byte_for_byte() {
        for printed in ["", "one\ntwo\n", "no end", "\nrunning 1 test\n"] {
            let text = format!(
                "\nrunning 1 test\n{printed}test a::b ... FAILED\n\nfailures:\n\nfailures:\n    a::b\n{COUNTS}"
            );
            assert_eq!(own(&text), (printed.to_owned(), String::new()));
            let text = format!(
                "\nrunning 1 test\ntest a::b ... {printed}FAILED\n\nfailures:\n\nfailures:\n    a::b\n{COUNTS}"
            );
            assert_eq!(own(&text), (printed.to_owned(), String::new()));
        }
    }

    #[test]
    fn a_passed_test_has_its_own_output_only() {
        let text = "\nrunning 1 test\nout\ntest a::b ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; \
                    0 measured; 3 filtered out; finished in 12.00s\n\n";
        assert_eq!(own(text).0, "out\n");
    }

    #[test]
    fn the_note_of_a_test_that_should_panic_is_kept() {
        let text = format!(
            "\nrunning 1 test\nout\ntest a::b - should panic ... FAILED\n\nfailures:\n\n---- a::b stdout ----\n\
             note: test did not panic as expected at src/lib.rs:3:4\n\nfailures:\n    a::b\n{COUNTS}"
        );
        let note = "note: test did not panic as expected at src/lib.rs:3:4";
        assert_eq!(own(&text), ("out\n".to_owned(), note.to_owned()));
    }

    #[test]
    fn a_test_that_was_killed_has_a_heading_only() {
        assert_eq!(own("\nrunning 1 test\nout\n").0, "out\n");
    }

    #[test]
    fn anything_that_is_not_exactly_libtests_is_the_tests_own() {
        for text in [
            "running 1 test\nout\n",
            "\nrunning 2 tests\nout\n",
            "out\ntest a::b ... ok\n",
            "{ \"type\": \"suite\" }\n",
        ] {
            assert_eq!(own(text).0, text);
        }
        // Another name, another count, anything behind it: the end stays whole.
        for end in [
            format!("test a::c ... FAILED\n\nfailures:\n\nfailures:\n    a::c\n{COUNTS}"),
            format!("test a::b ... FAILED\n\nfailures:\n\nfailures:\n    a::b\n{COUNTS}late\n"),
            format!("test a::b ... FAILED <0.1s>\n\nfailures:\n\nfailures:\n    a::b\n{COUNTS}"),
        ] {
            assert_eq!(own(&format!("\nrunning 1 test\n{end}")).0, end);
        }
    }

    #[test]
    fn both_ends_of_an_output_that_is_not_whole_are_known() {
        let excerpt = Excerpt {
            head: b"\nrunning 1 test\nfirst".to_vec(),
            left_out: 9,
            tail: format!(
                "last\ntest a::b ... FAILED\n\nfailures:\n\nfailures:\n    a::b\n{COUNTS}"
            )
            .into_bytes(),
        };
        let own = unwrapped(excerpt, "a::b").own;
        assert_eq!(
            (&own.head[..], &own.tail[..]),
            (&b"first"[..], &b"last\n"[..])
        );
    }
}
