//! Streams that were captured elsewhere.

use super::Captured;

impl Captured {
    /// The kept part of a stream elsewhere, under the same cap: `written` bytes, of which `head` and `tail` are
    /// left.
    pub(in crate::run) fn received(cap: u64, written: u64, head: &[u8], tail: &[u8]) -> Self {
        let mut captured = Self::new(cap);
        captured.push(head);
        captured.push(tail);
        let all = (head.len() + tail.len()) as u64;
        if written > all
            && let Some(spill) = &mut captured.spill
        {
            // The ring has been round: what is left of it begins at its start.
            spill.ring += captured.cap / 2;
        }
        captured.written = written.max(all);
        captured
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Captures bytes there, and takes them in here. Returns head, gap and tail of both.
    fn both(cap: u64, bytes: &[u8]) -> [(Vec<u8>, u64, Vec<u8>); 2] {
        let mut there = Captured::new(cap);
        bytes.chunks(7).for_each(|part| there.push(part));
        let parts = |captured: &Captured| {
            let (mut kept, mut head, mut tail) = (captured.open(), Vec::new(), Vec::new());
            kept.head.read_to_end(&mut head).expect("it can be read");
            kept.tail.read_to_end(&mut tail).expect("it can be read");
            (head, kept.dropped, tail)
        };
        let (head, dropped, tail) = parts(&there);
        let here = Captured::received(cap, there.size().written, &head, &tail);
        assert_eq!(here.size(), there.size());
        [(head, dropped, tail), parts(&here)]
    }

    #[test]
    fn a_stream_from_elsewhere_is_kept_as_it_was_there_with_its_gap() {
        let bytes: Vec<u8> = (0..5000_u32).map(|at| (at % 251) as u8).collect();
        for (cap, length) in [
            (100, 0),
            (100, 60),
            (100, 100),
            (100, 101),
            (101, 5000),
            (1, 3),
            (5000, 4999),
        ] {
            let [there, here] = both(cap, &bytes[..length]);
            assert_eq!(here.1, there.1, "cap {cap}, {length} bytes");
            let whole = |(head, _, tail): (Vec<u8>, u64, Vec<u8>)| match length as u64 > cap {
                true => (head, tail),
                false => ([head, tail].concat(), Vec::new()),
            };
            assert_eq!(whole(here), whole(there), "cap {cap}, {length} bytes");
        }
    }
}
