//! The bytes of a stream: all of them, or the first and the last if there are too many.

use std::{borrow::Cow, fmt};

/// The most bytes of a stream that are kept: half of them from its beginning, half from its end.
pub const MOST_KEPT: usize = 16 * 1024 * 1024;

/// The bytes that a program wrote to one of its streams.
///
/// Up to [`MOST_KEPT`] bytes are whole. Of a longer stream the first and the last half of that are kept,
/// and [`omitted`](Self::omitted) says how many bytes between them are not.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Output {
    head: Vec<u8>,
    tail: Vec<u8>,
    omitted: u64,
}

impl Output {
    /// Returns the whole stream, or nothing if a part of it was left out.
    #[must_use]
    pub fn whole(&self) -> Option<&[u8]> {
        (self.omitted == 0).then_some(&self.head)
    }

    /// Returns the beginning: the whole stream if nothing was left out.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Returns the end behind the part that was left out; empty if nothing was.
    #[must_use]
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Returns how many bytes were left out between the beginning and the end.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// Returns how many bytes the program wrote.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.head.len() as u64 + self.omitted + self.tail.len() as u64
    }

    /// Returns the stream as text, with a line that says how many bytes were left out.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        let head = String::from_utf8_lossy(&self.head);
        if self.omitted == 0 {
            return head;
        }
        let tail = String::from_utf8_lossy(&self.tail);
        let omitted = self.omitted;
        Cow::Owned(format!("{head}\n[{omitted} bytes left out]\n{tail}"))
    }

    /// Returns the last bytes as text, at most this many, cut between characters.
    #[must_use]
    pub fn last(&self, most: usize) -> String {
        let end = match self.omitted {
            0 => &self.head,
            _ => &self.tail,
        };
        let mut start = end.len().saturating_sub(most);
        // A byte of the form 10xxxxxx continues a character, of four bytes at most.
        let limit = (start + 3).min(end.len());
        while start > 0 && start < limit && end[start] & 0xc0 == 0x80 {
            start += 1;
        }
        String::from_utf8_lossy(&end[start..]).into_owned()
    }

    /// Returns the parts in which metrics are looked for: whole lines, so that no number is cut.
    pub(crate) fn parts(&self) -> Vec<&[u8]> {
        if self.omitted == 0 {
            return vec![&self.head];
        }
        let end = self.head.iter().rposition(|byte| *byte == b'\n');
        let start = self.tail.iter().position(|byte| *byte == b'\n');
        let head = &self.head[..end.map_or(0, |end| end + 1)];
        let tail = &self.tail[start.map_or(self.tail.len(), |start| start + 1)..];
        vec![head, tail]
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Output({} bytes, {} left out: ",
            self.total(),
            self.omitted
        )?;
        write!(f, "{:?})", self.last(1024))
    }
}

/// Takes a stream in.
pub(crate) struct Collector {
    head: Vec<u8>,
    /// A ring, once it is full.
    tail: Vec<u8>,
    /// The place in the ring where the next byte goes.
    next: usize,
    /// The length of each half.
    half: usize,
    total: u64,
}

impl Collector {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            head: Vec::new(),
            tail: Vec::new(),
            next: 0,
            half: most / 2,
            total: 0,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(head);
        // Of more than the ring holds, only the end would stay.
        let mut rest = &rest[rest.len().saturating_sub(self.half)..];
        let room = self.half - self.tail.len();
        let (new, over) = rest.split_at(rest.len().min(room));
        self.tail.extend_from_slice(new);
        rest = over;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.half - self.next));
            self.tail[self.next..self.next + now.len()].copy_from_slice(now);
            self.next = (self.next + now.len()) % self.half;
            rest = later;
        }
    }

    pub(crate) fn finish(mut self) -> Output {
        self.tail.rotate_left(self.next);
        let kept = (self.head.len() + self.tail.len()) as u64;
        if kept == self.total {
            self.head.append(&mut self.tail);
        }
        Output {
            omitted: self.total - kept,
            head: self.head,
            tail: self.tail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(most: usize, pieces: &[&[u8]]) -> Output {
        let mut collector = Collector::new(most);
        pieces.iter().for_each(|piece| collector.push(piece));
        collector.finish()
    }

    #[test]
    fn a_stream_that_just_fits_is_told_from_one_that_is_a_byte_longer() {
        let fits = collected(8, &[b"abc", b"defgh"]);
        assert_eq!((fits.whole(), fits.omitted()), (Some(&b"abcdefgh"[..]), 0));
        let over = collected(8, &[b"abc", b"defghi"]);
        assert_eq!((over.whole(), over.omitted(), over.total()), (None, 1, 9));
        assert_eq!((over.head(), over.tail()), (&b"abcd"[..], &b"fghi"[..]));
        assert_eq!(over.text(), "abcd\n[1 bytes left out]\nfghi");
    }

    #[test]
    fn pieces_of_any_length_make_the_same_stream() {
        let all: Vec<u8> = (0..250).collect();
        for size in 1..250 {
            let pieces: Vec<&[u8]> = all.chunks(size).collect();
            let output = collected(64, &pieces);
            assert_eq!(
                (output.head(), output.tail()),
                (&all[..32], &all[218..]),
                "{size}"
            );
            assert_eq!((output.omitted(), output.total()), (186, 250));
        }
    }

    #[test]
    fn the_end_is_cut_between_characters() {
        let output = collected(1024, &["aäöü".as_bytes()]);
        assert_eq!(
            (output.last(3), output.last(2)),
            ("ü".to_owned(), "ü".to_owned())
        );
        assert_eq!(
            (output.last(4), output.last(99)),
            ("öü".to_owned(), "aäöü".to_owned())
        );
        assert_eq!(collected(8, &[b"\x80\x80\x80\x80"]).last(2), "");
    }

    #[test]
    fn metrics_are_read_from_whole_lines_only() {
        let output = collected(16, &[b"a=1\nb=23", b"456\nxx", b"78\nc=9\n"]);
        assert!(output.omitted() > 0);
        assert_eq!(output.parts(), [&b"a=1\n"[..], b"c=9\n"]);
        assert_eq!(collected(16, &[b"a=1"]).parts(), [b"a=1"]);
    }
}
