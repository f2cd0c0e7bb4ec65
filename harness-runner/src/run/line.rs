//! Looks for a line in output while it is read.

use regex::bytes::Regex;

/// The most bytes of a line to look at.
const LONGEST: usize = 64 * 1024;

/// The search for a line.
#[derive(Debug)]
pub(super) struct LineSearch {
    pattern: Regex,
    /// The line that has no end yet.
    begun: Vec<u8>,
    found: bool,
}

impl LineSearch {
    pub(super) fn new(pattern: Regex) -> Self {
        Self {
            pattern,
            begun: Vec::new(),
            found: false,
        }
    }

    pub(super) fn has_found(&self) -> bool {
        self.found
    }

    /// Looks at further output. A line counts without its end as well: a prompt has none.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for (index, piece) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                self.begun.clear();
            }
            let room = LONGEST - self.begun.len().min(LONGEST);
            self.begun
                .extend_from_slice(&piece[..piece.len().min(room)]);
            let line = self.begun.strip_suffix(b"\r").unwrap_or(&self.begun);
            self.found = self.found || self.pattern.is_match(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn finds(pattern: &str, pieces: &[&str]) -> bool {
        let mut search = LineSearch::new(Regex::new(pattern).expect("it is right"));
        pieces
            .iter()
            .for_each(|piece| search.push(piece.as_bytes()));
        search.has_found()
    }

    #[test]
    fn a_line_is_found_across_reads_and_alone() {
        assert!(finds("^ready$", &["not\nrea", "dy\nmore"]));
        assert!(finds("^ready$", &["x\nready\r\n"]));
        assert!(finds("ready> $", &["ready> "]));
        assert!(!finds("^ready$", &["not ready\n", "ready too\n"]));
        assert!(!finds("a.*b", &["a\nb"]));
    }
}
