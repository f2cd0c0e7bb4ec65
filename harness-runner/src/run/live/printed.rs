//! Cuts the output of an attempt into lines while it runs.

use super::{Passage, Road};
use harness_metadata::{RawString, event::OutputStream};
use std::mem;

/// The most bytes on the way to the sinks, of all tests together.
const ON_THE_WAY: usize = 8 * 1024 * 1024;

/// A line that is longer is cut.
const LONGEST_LINE: usize = 64 * 1024;

/// Some lines, on their way.
#[derive(Debug)]
pub(in crate::run) struct Lines {
    pub(in crate::run) stream: OutputStream,
    pub(in crate::run) lines: Vec<RawString>,
    pub(in crate::run) unfinished: bool,
    /// The number of lines before these that did not fit.
    pub(in crate::run) dropped: u64,
    pub(in crate::run) passage: Passage,
}

/// A stream that is cut into lines.
#[derive(Debug)]
struct Cutter {
    stream: OutputStream,
    /// The beginning of a line.
    rest: Vec<u8>,
    dropped: u64,
}

/// The live output of one attempt.
#[derive(Debug)]
pub(in crate::run) struct Printed {
    road: Road,
    cutters: [Cutter; 2],
}

impl Printed {
    pub(in crate::run) fn new(road: &Road) -> Self {
        let cutter = |stream| Cutter {
            stream,
            rest: Vec::new(),
            dropped: 0,
        };
        Self {
            road: road.clone(),
            cutters: [cutter(OutputStream::Stdout), cutter(OutputStream::Stderr)],
        }
    }

    /// Returns the lines that these bytes of standard output and of standard error end.
    pub(in crate::run) fn pass(&mut self, read: [Vec<u8>; 2]) -> Vec<Lines> {
        let both = self.cutters.iter_mut().zip(read);
        let lines = both.filter_map(|(cutter, bytes)| cutter.pass(&bytes, &self.road));
        lines.collect()
    }

    /// Returns what is left when the streams are at their end.
    pub(in crate::run) fn end(&mut self) -> Vec<Lines> {
        let both = self.cutters.iter_mut();
        both.filter_map(|cutter| cutter.end(&self.road)).collect()
    }
}

impl Cutter {
    fn pass(&mut self, bytes: &[u8], road: &Road) -> Option<Lines> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if self.rest.ends_with(b"\n") {
                self.rest.pop();
                lines.push(RawString::from(mem::take(&mut self.rest)));
            }
            while self.rest.len() > LONGEST_LINE {
                let after = self.rest.split_off(LONGEST_LINE);
                lines.push(RawString::from(mem::replace(&mut self.rest, after)));
            }
        }
        match lines.is_empty() {
            true => None,
            false => self.send(lines, false, road),
        }
    }

    fn end(&mut self, road: &Road) -> Option<Lines> {
        let rest = mem::take(&mut self.rest);
        let unfinished = !rest.is_empty();
        let lines: Vec<_> = unfinished
            .then(|| RawString::from(rest))
            .into_iter()
            .collect();
        match unfinished || self.dropped > 0 {
            true => self.send(lines, unfinished, road),
            false => None,
        }
    }

    fn send(&mut self, lines: Vec<RawString>, unfinished: bool, road: &Road) -> Option<Lines> {
        let bytes = lines.iter().map(|line| line.as_bytes().len() + 1).sum();
        let Some(passage) = road.enter(bytes, ON_THE_WAY) else {
            self.dropped += lines.len() as u64;
            return None;
        };
        Some(Lines {
            stream: self.stream,
            lines,
            unfinished,
            dropped: mem::take(&mut self.dropped),
            passage,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Lines]) -> Vec<(String, bool)> {
        let all = lines.iter().flat_map(|batch| {
            let last = batch.lines.len().saturating_sub(1);
            let lines = batch.lines.iter().enumerate();
            lines.map(move |(at, line)| (line.to_string(), batch.unfinished && at == last))
        });
        all.collect()
    }

    #[test]
    fn lines_are_told_when_they_end_and_the_last_one_at_the_end() {
        let mut printed = Printed::new(&Road::default());
        let read = |out: &str, err: &str| [out.as_bytes().to_vec(), err.as_bytes().to_vec()];
        assert_eq!(texts(&printed.pass(read("on", "x"))), []);
        let told = printed.pass(read("e\ntwo\nthr", ""));
        assert_eq!(told[0].stream, OutputStream::Stdout);
        assert_eq!(
            texts(&told),
            [("one".to_owned(), false), ("two".to_owned(), false)]
        );
        let told = printed.pass(read("", "y\n\n"));
        assert_eq!(told[0].stream, OutputStream::Stderr);
        assert_eq!(
            texts(&told),
            [("xy".to_owned(), false), (String::new(), false)]
        );
        assert_eq!(texts(&printed.end()), [("thr".to_owned(), true)]);
        assert!(printed.end().is_empty());
    }

    #[test]
    fn lines_that_do_not_fit_are_counted_and_a_long_one_is_cut() {
        let road = Road::default();
        let mut printed = Printed::new(&road);
        let long = vec![b'x'; ON_THE_WAY + 1];
        let first = printed.pass([long, Vec::new()]);
        assert_eq!(first[0].lines.len(), ON_THE_WAY / LONGEST_LINE);
        assert!(printed.pass([b"a\nb\n".to_vec(), Vec::new()]).is_empty());
        drop(first);
        let next = printed.pass([b"c\n".to_vec(), Vec::new()]);
        assert_eq!(
            (next[0].dropped, texts(&next)),
            (2, vec![("c".to_owned(), false)])
        );
    }
}
