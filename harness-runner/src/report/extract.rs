//! Finds the text that tells why a test failed in what it printed.

use std::ops::Range;

/// The number of bytes at the end of a stream that are searched.
pub const SEARCHED: usize = 256 * 1024;

/// Finds the failure text in the standard error of a test that runs under libtest's `--nocapture`:
/// a panic with the `Error:` line before it if there is one, to the end; else the first line that starts with
/// `Error: `, to the end. Of several panics it is the last one of the test's own thread, or else
/// the last one. At most the last [`SEARCHED`] bytes are read.
pub fn in_stderr(stderr: &[u8], test: &str) -> Option<Range<usize>> {
    let from = stderr.len().saturating_sub(SEARCHED);
    let window = &stderr[from..];
    let mut panic = None;
    let mut own = None;
    let mut error = None;
    let mut last_error = None;
    for (at, line) in lines(window) {
        if is_panic(line) {
            let start = last_error.take().unwrap_or(at);
            panic = Some(start);
            if is_own(line, test) {
                own = Some(start);
            }
        } else if line.starts_with(b"Error: ") {
            error.get_or_insert(at);
            last_error = Some(at);
        } else if !line.trim_ascii().is_empty() {
            // Only an error directly before the panic belongs to it.
            last_error = None;
        }
    }
    let start = own.or(panic).or(error)?;
    Some(from + start..from + window.trim_ascii_end().len().max(start))
}

/// A panic as it was printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// The name of the thread.
    pub thread: String,
    /// File, line and column.
    pub place: String,
    /// The first line of the message.
    pub message: String,
}

/// Returns the panics of a text, in order.
pub fn panics(text: &str) -> Vec<Panic> {
    let mut lines = text.lines().peekable();
    let mut panics = Vec::new();
    while let Some(line) = lines.next() {
        if !is_panic(line.as_bytes()) {
            continue;
        }
        let Some((thread, place)) = line.split_once(" panicked at ") else {
            continue;
        };
        let thread = without_id(thread)
            .trim_start_matches("thread '")
            .trim_end_matches('\'');
        let message = lines.peek().map_or("", |message| message.trim());
        panics.push(Panic {
            thread: thread.to_owned(),
            place: place.trim_end().trim_end_matches(':').to_owned(),
            message: message.to_owned(),
        });
    }
    panics
}

/// Returns whether the line of a panic is of the test's own thread, which has the name of the test, or runs on
/// the first thread.
fn is_own(line: &[u8], test: &str) -> bool {
    [test, "main"].iter().any(|thread| {
        let rest = line[b"thread '".len()..].strip_prefix(thread.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"'"))
    })
}

/// Finds libtest's note that a test marked `#[should_panic]` did not panic, or not as expected.
pub fn in_stdout(stdout: &[u8]) -> Option<Range<usize>> {
    let from = stdout.len().saturating_sub(SEARCHED);
    let window = &stdout[from..];
    let (at, line) = lines(window).find(|(_, line)| {
        line.starts_with(b"note: test did not panic as expected") || line.starts_with(UNEXPECTED)
    })?;
    let mut end = at + line.trim_ascii_end().len();
    if line.starts_with(UNEXPECTED) {
        // The two messages follow, indented.
        let after = at + line.len();
        for (next, line) in lines(&window[after..]).take(2) {
            if line.starts_with(b" ") {
                end = after + next + line.trim_ascii_end().len();
            }
        }
    }
    Some(from + at..from + end)
}

/// The beginning of libtest's note on a panic that lacks the words it should have.
const UNEXPECTED: &[u8] = b"note: panic did not contain expected string";

/// Returns the place in the source that a panic names: file and line.
pub fn location(text: &str) -> Option<(&str, u32)> {
    let line = text.lines().find(|line| is_panic(line.as_bytes()))?;
    let (_, place) = line.split_once(" panicked at ")?;
    let mut parts = place.trim_end().trim_end_matches(':').rsplitn(3, ':');
    let _column: u32 = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    parts
        .next()
        .filter(|file| !file.is_empty())
        .map(|file| (file, number))
}

/// Returns the text without the thread ids of its panics, which differ from run to run.
pub fn without_thread_ids(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match line.split_once(" panicked at ") {
            Some((thread, rest)) if line.starts_with("thread '") => {
                plain.push_str(without_id(thread));
                plain.push_str(" panicked at ");
                plain.push_str(rest);
            }
            _ => plain.push_str(line),
        }
    }
    plain
}

/// Returns the most telling line of a failure text: what was panicked with rather than where.
pub fn message(text: &str) -> &str {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    if is_panic(first.as_bytes()) {
        match lines.next() {
            Some(second) if second != "stack backtrace:" && !second.starts_with("note: ") => {
                return second;
            }
            _ => {}
        }
    }
    first
}

fn without_id(thread: &str) -> &str {
    match thread.rsplit_once(" (") {
        Some((name, id))
            if id
                .strip_suffix(')')
                .is_some_and(|id| id.bytes().all(|b| b.is_ascii_digit())) =>
        {
            name
        }
        _ => thread,
    }
}

fn is_panic(line: &[u8]) -> bool {
    line.starts_with(b"thread '") && line.windows(13).any(|part| part == b" panicked at ")
}

fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    text.split_inclusive(|&byte| byte == b'\n')
        .map(move |line| {
            let start = at;
            at += line.len();
            (start, line)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(stderr: &str) -> Option<&str> {
        in_stderr(stderr.as_bytes(), "t").map(|range| &stderr[range])
    }

    #[test]
    fn the_last_panic_is_taken_to_the_end() {
        let text = "x\nthread 'a' (7) panicked at a.rs:1:2:\none\nthread 'b' panicked at b.rs:3:4:\ntwo\n\n";
        assert_eq!(found(text), Some("thread 'b' panicked at b.rs:3:4:\ntwo"));
    }

    #[test]
    fn an_error_line_before_the_panic_belongs_to_it() {
        let text = "Error: no\n\nthread 'b' panicked at b.rs:3:4:\ntwo";
        assert_eq!(found(text), Some(text));
    }

    #[test]
    fn without_a_panic_the_first_error_line_counts() {
        assert_eq!(
            found("x\nError: \"bad\"\nmore\n"),
            Some("Error: \"bad\"\nmore")
        );
        assert_eq!(found("nothing\n"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn a_missing_panic_is_found_in_stdout() {
        let text = "---- t stdout ----\nnote: test did not panic as expected at a.rs:1:2\n\n";
        let range = in_stdout(text.as_bytes()).expect("the note is there");
        assert_eq!(
            &text[range],
            "note: test did not panic as expected at a.rs:1:2"
        );
    }

    #[test]
    fn a_panic_of_the_tests_own_thread_counts_more_than_that_of_another() {
        let text = "thread 'w' (8) panicked at a.rs:1:2:\none\nthread 't' (7) panicked at b.rs:3:4:\ntwo\n\
                    thread 'w' (9) panicked at c.rs:5:6:\nthree";
        let found = found(text).expect("there are panics");
        assert!(
            found.starts_with("thread 't' (7)") && found.ends_with("three"),
            "{found}"
        );
        let panics = panics(text);
        assert_eq!(panics.len(), 3);
        let expected = Panic {
            thread: "w".into(),
            place: "a.rs:1:2".into(),
            message: "one".into(),
        };
        assert_eq!(panics[0], expected);
    }

    #[test]
    fn a_panic_without_the_expected_words_is_found_in_stdout() {
        let note = "note: panic did not contain expected string\n      panic message: `\"x\"`,\n \
                    expected substring: `\"y\"`";
        let text = format!("---- t stdout ----\n{note}\n\nfailures:\n");
        let range = in_stdout(text.as_bytes()).expect("the note is there");
        assert_eq!(&text[range], note);
    }

    #[test]
    fn a_panic_tells_its_place_and_message() {
        let text = "thread 'a' (123) panicked at src/lib.rs:3:57:\nboom\n";
        assert_eq!(location(text), Some(("src/lib.rs", 3)));
        assert_eq!(message(text), "boom");
        assert_eq!(
            without_thread_ids(text),
            "thread 'a' panicked at src/lib.rs:3:57:\nboom\n"
        );
        assert_eq!(location("thread 'a' panicked at nowhere"), None);
    }
}
