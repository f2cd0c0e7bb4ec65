//! Keeps what a test writes to one stream: byte-exact up to a cap, in bounded memory.
//!
//! The first bytes stay in memory, the following go to an unnamed temporary file. Past the cap
//! the first half and the last half of it are kept, and the gap between them is counted.

mod looks;
mod received;
mod section;

use super::{
    line::LineSearch,
    road::{self, Toll},
    word::Word,
};
use crate::report::Kept;
use harness_metadata::{RawString, event::OutputSoFar, outcome::StreamSize};
use nix::fcntl::{FcntlArg, fcntl};
use section::Section;
use std::{
    fs::File,
    io::{self, Read},
    os::{fd::OwnedFd, unix::fs::FileExt},
};
use tokio::net::unix::pipe::Receiver;

/// The number of bytes of a stream that stay in memory.
const IN_MEMORY: usize = 1024 * 1024;

/// The number of bytes to read at once. A pipe holds 64 KiB unless it was enlarged (pipe(7)).
const CHUNK: usize = 64 * 1024;

/// The number of lines, and the most bytes, to report of a stream that is still being read.
const LAST_LINES: usize = 5;
const LAST: usize = 1024;

/// The number of chunks to read before other tasks get their turn.
const CHUNKS_A_TURN: usize = 32;

/// A pipe that is being read, and what has been kept of it.
#[derive(Debug)]
pub(super) struct Capture {
    pipe: Pipe,
    kept: Captured,
    word: Option<Word>,
    /// The bytes that have been read and not been taken, if they are shown live.
    news: Option<Vec<u8>>,
    line: Option<LineSearch>,
}

#[derive(Debug)]
enum Pipe {
    /// The event loop does not know it.
    Plain(OwnedFd),
    /// The event loop watches it.
    Watched(Receiver),
    /// The stream is at its end.
    Closed,
}

/// Whether there is more to come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The stream is at its end.
    Closed,
    /// Nothing more can be read now.
    Empty,
    /// There is more to read now, but others should get their turn.
    More,
}

impl Capture {
    /// Returns how much was written so far.
    pub(super) fn written(&self) -> u64 {
        self.kept.written
    }

    /// Reads from a pipe's reading end, which must not block. Keeps up to `cap` bytes.
    pub(super) fn new(pipe: OwnedFd, cap: u64) -> Self {
        Self {
            pipe: Pipe::Plain(pipe),
            kept: Captured::new(cap),
            word: None,
            news: None,
            line: None,
        }
    }

    /// Looks for the harness's word in all that is read.
    pub(super) fn listening_for(self, word: Word) -> Self {
        let word = Some(word);
        Self { word, ..self }
    }

    /// Keeps what is read until it is taken, for a live display.
    pub(super) fn live(self, live: bool) -> Self {
        let news = live.then(Vec::new);
        Self { news, ..self }
    }

    /// Takes what has been read since this was last asked.
    pub(super) fn take_news(&mut self) -> Vec<u8> {
        self.news.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Returns what has been found of the harness's word.
    pub(super) fn word(&self) -> Option<&Word> {
        self.word.as_ref()
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.pipe, Pipe::Closed)
    }

    /// Has the event loop watch the pipe, for [`Capture::readable`].
    pub(super) fn watch(&mut self) {
        self.pipe = match std::mem::replace(&mut self.pipe, Pipe::Closed) {
            Pipe::Plain(pipe) => match Receiver::from_owned_fd_unchecked(pipe) {
                Ok(receiver) => Pipe::Watched(receiver),
                // Without a place in the event loop nothing can be read in time, and the test
                // must not be kept waiting: its output ends here.
                Err(_) => Pipe::Closed,
            },
            other => other,
        };
    }

    /// Waits until a watched pipe can be read.
    pub(super) async fn readable(&self) {
        match &self.pipe {
            Pipe::Watched(receiver) if receiver.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    /// Reads what is there, through `buffer`.
    pub(super) fn read_available(&mut self, buffer: &mut Vec<u8>) -> Progress {
        buffer.resize(CHUNK, 0);
        for _ in 0..CHUNKS_A_TURN {
            let read = match &self.pipe {
                Pipe::Plain(pipe) => nix::unistd::read(pipe, buffer).map_err(io::Error::from),
                Pipe::Watched(receiver) => match receiver.try_read(buffer) {
                    // That is what the event loop knew when it last looked, which a busy one does
                    // late. The pipe itself knows what is in it now.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        nix::unistd::read(receiver, buffer).map_err(io::Error::from)
                    }
                    read => read,
                },
                Pipe::Closed => return Progress::Closed,
            };
            match read {
                Ok(read) if read > 0 => {
                    self.kept.push(&buffer[..read]);
                    if let Some(news) = &mut self.news {
                        news.extend_from_slice(&buffer[..read]);
                    }
                    if let Some(word) = &mut self.word {
                        word.push(&buffer[..read]);
                    }
                    if let Some(line) = &mut self.line {
                        line.push(&buffer[..read]);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Empty,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A pipe has no other errors; if it had, there would be nothing more to come.
                Ok(_) | Err(_) => {
                    self.pipe = Pipe::Closed;
                    return Progress::Closed;
                }
            }
        }
        Progress::More
    }

    /// Reads everything that has been written until now, through `buffer`: after that, the stream
    /// is at its end or another process holds it open.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) {
        let limit = self.written().saturating_add(self.capacity());
        // What is more than a pipe holds has been written meanwhile.
        while self.read_available(buffer) == Progress::More && self.written() <= limit {}
    }

    /// Returns how much the pipe can hold.
    fn capacity(&self) -> u64 {
        let size = match &self.pipe {
            Pipe::Plain(pipe) => fcntl(pipe, FcntlArg::F_GETPIPE_SZ),
            Pipe::Watched(receiver) => fcntl(receiver, FcntlArg::F_GETPIPE_SZ),
            Pipe::Closed => Ok(0),
        };
        size.ok()
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(0)
    }

    /// Returns how much has been read, and its last lines.
    pub(super) fn so_far(&self) -> OutputSoFar {
        let last = self.kept.last(LAST);
        let lines = last.trim_ascii_end();
        let breaks = lines.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
        let start = breaks
            .map(|(at, _)| at + 1)
            .nth(LAST_LINES - 1)
            .unwrap_or(0);
        OutputSoFar {
            written: self.kept.written,
            last: RawString::from(&lines[start..]),
        }
    }

    /// Gives up what has not been read, and returns what has been kept.
    pub(super) fn finish(self) -> Captured {
        self.kept
    }
}

/// The kept part of a stream.
#[derive(Debug)]
pub(super) struct Captured {
    cap: u64,
    written: u64,
    memory: Vec<u8>,
    spill: Option<Spill>,
}

/// The part of a stream that did not stay in memory.
#[derive(Debug)]
struct Spill {
    /// Holds the rest of the head, then a ring of the last bytes. `None` if it could not be
    /// written: then what is not in memory is lost, and counted.
    file: Option<File>,
    /// Bytes of the head in the file.
    head: u64,
    /// Bytes that went to the ring, most of which have been overwritten by later ones.
    ring: u64,
}

impl Captured {
    fn new(cap: u64) -> Self {
        Self {
            cap,
            written: 0,
            memory: Vec::new(),
            spill: None,
        }
    }

    fn memory_limit(&self) -> usize {
        usize::try_from(self.head_limit()).map_or(IN_MEMORY, |head| head.min(IN_MEMORY))
    }

    fn head_limit(&self) -> u64 {
        self.cap.div_ceil(2)
    }

    fn ring_size(&self) -> u64 {
        self.cap / 2
    }

    /// Bytes of the head that belong into the file.
    fn file_head_limit(&self) -> u64 {
        self.head_limit() - self.memory_limit() as u64
    }

    fn push(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        let room = self.memory_limit() - self.memory.len();
        let (to_memory, rest) = bytes.split_at(room.min(bytes.len()));
        self.memory.extend_from_slice(to_memory);
        if !rest.is_empty() {
            self.push_to_file(rest);
        }
    }

    fn push_to_file(&mut self, mut bytes: &[u8]) {
        let (head_limit, ring_size) = (self.file_head_limit(), self.ring_size());
        let spill = self.spill.get_or_insert_with(|| Spill {
            file: tempfile::tempfile().ok(),
            head: 0,
            ring: 0,
        });
        let Some(file) = &spill.file else { return };
        while !bytes.is_empty() {
            let (offset, room) = if spill.head < head_limit {
                (spill.head, head_limit - spill.head)
            } else if ring_size == 0 {
                return;
            } else {
                let position = spill.ring % ring_size;
                (head_limit + position, ring_size - position)
            };
            let len = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
            let (now, rest) = bytes.split_at(len);
            if file.write_all_at(now, offset).is_err() {
                // The disk is full. Only the part in memory is kept.
                spill.file = None;
                return;
            }
            if spill.head < head_limit {
                spill.head += len as u64;
            } else {
                spill.ring += len as u64;
            }
            bytes = rest;
        }
    }

    /// Returns how much was written and how much of it has not been kept.
    pub(super) fn size(&self) -> StreamSize {
        StreamSize {
            written: self.written,
            dropped: self.written - self.kept_bytes(),
            no_room: matches!(self.spill, Some(Spill { file: None, .. })),
        }
    }

    fn kept_bytes(&self) -> u64 {
        let in_file = match &self.spill {
            Some(Spill {
                file: Some(_),
                head,
                ring,
            }) => head + ring.min(&self.ring_size()),
            _ => 0,
        };
        self.memory.len() as u64 + in_file
    }

    /// Returns the last bytes that were written, at most so many.
    pub(super) fn last(&self, count: usize) -> Vec<u8> {
        let from_memory = || self.memory[self.memory.len().saturating_sub(count)..].to_vec();
        let Some(Spill {
            file: Some(file),
            head,
            ring,
        }) = &self.spill
        else {
            return from_memory();
        };
        let in_file = head + ring.min(&self.ring_size());
        let mut last = Vec::new();
        for back in (1..=in_file.min(count as u64)).rev() {
            let offset = match ring.checked_sub(back) {
                Some(at) => self.file_head_limit() + at % self.ring_size(),
                None => head - (back - ring),
            };
            let mut byte = [0];
            if file.read_exact_at(&mut byte, offset).is_err() {
                break;
            }
            last.extend(byte);
        }
        last
    }

    /// Opens what has been kept.
    pub(super) fn open(&self) -> Kept<'_> {
        let dropped = self.size().dropped;
        let memory: &[u8] = &self.memory;
        let Some(Spill {
            file: Some(file),
            head,
            ring,
        }) = &self.spill
        else {
            return Kept {
                head: Box::new(memory),
                dropped,
                tail: Box::new(io::empty()),
            };
        };
        let ring_size = self.ring_size();
        let head = memory.chain(Section {
            file,
            offset: 0,
            left: *head,
        });
        let ring_start = self.file_head_limit();
        if *ring <= ring_size {
            let rest = Section {
                file,
                offset: ring_start,
                left: *ring,
            };
            return Kept {
                head: Box::new(head.chain(rest)),
                dropped,
                tail: Box::new(io::empty()),
            };
        }
        let position = ring % ring_size;
        let older = Section {
            file,
            offset: ring_start + position,
            left: ring_size - position,
        };
        let newer = Section {
            file,
            offset: ring_start,
            left: position,
        };
        Kept {
            head: Box::new(head),
            dropped,
            tail: Box::new(older.chain(newer)),
        }
    }
}

/// The captured output of an attempt.
#[derive(Debug)]
pub struct Output {
    pub(super) stdout: Captured,
    pub(super) stderr: Captured,
    /// As long as it is on its way to where it is kept.
    pub(super) toll: Option<Toll>,
}

impl Output {
    /// Returns what it costs to hold it: its bytes in memory, and as much for a file as says how many
    /// there may be.
    pub fn weight(&self) -> u64 {
        let both = [&self.stdout, &self.stderr];
        let weights = both.map(|captured| {
            let file = captured
                .spill
                .as_ref()
                .and_then(|spill| spill.file.as_ref());
            captured.memory.len() as u64 + file.map_or(0, |_| road::FILE)
        });
        weights.iter().sum()
    }

    /// Returns how many bytes were written to standard output.
    pub fn stdout_written(&self) -> u64 {
        self.stdout.written
    }

    /// Returns how many bytes were written to standard error.
    pub fn stderr_written(&self) -> u64 {
        self.stderr.written
    }

    /// Has arrived where it is kept: others can follow.
    pub fn leave_road(&mut self) {
        self.toll = None;
    }

    /// Output on standard output, for tests.
    #[cfg(test)]
    pub(crate) fn of(stdout: &[u8]) -> Self {
        let mut output = Self {
            stdout: Captured::new(64 << 20),
            stderr: Captured::new(64 << 20),
            toll: None,
        };
        output.stdout.push(stdout);
        output
    }

    /// Opens standard output.
    pub fn stdout(&self) -> Kept<'_> {
        self.stdout.open()
    }

    /// Opens standard error.
    pub fn stderr(&self) -> Kept<'_> {
        self.stderr.open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(reader: &mut dyn Read) -> Vec<u8> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn captured(cap: u64, pieces: &[Vec<u8>]) -> (Vec<u8>, u64, Vec<u8>) {
        let mut captured = Captured::new(cap);
        for piece in pieces {
            captured.push(piece);
        }
        let mut kept = captured.open();
        (read(&mut kept.head), kept.dropped, read(&mut kept.tail))
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn output_larger_than_memory_is_kept_byte_for_byte() {
        let all = pattern(3 * IN_MEMORY + 17);
        let pieces: Vec<_> = all.chunks(70_001).map(<[u8]>::to_vec).collect();
        let (head, dropped, tail) = captured(64 << 20, &pieces);
        assert!(head == all, "the head differs");
        assert_eq!((dropped, tail.len()), (0, 0));
    }

    #[test]
    fn past_the_cap_head_and_tail_are_kept_and_the_gap_is_counted() {
        let all = pattern(9 * IN_MEMORY);
        let pieces: Vec<_> = all.chunks(65_536).map(<[u8]>::to_vec).collect();
        let cap = 4 * IN_MEMORY;
        let (head, dropped, tail) = captured(cap as u64, &pieces);
        assert!(head == all[..cap / 2], "the head differs");
        assert!(tail == all[all.len() - cap / 2..], "the tail differs");
        assert_eq!(dropped, (all.len() - cap) as u64);
    }

    /// A capture that the event loop watches, the writing end, and the loop, which has looked once.
    fn watched() -> (Capture, OwnedFd, tokio::runtime::Runtime) {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        fcntl(&reader, FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut capture = Capture::new(reader, 1 << 30);
        runtime.block_on(async {
            capture.watch();
            tokio::task::yield_now().await;
        });
        assert_eq!(capture.read_available(&mut Vec::new()), Progress::Empty);
        (capture, writer, runtime)
    }

    #[test]
    fn a_stream_is_at_its_end_before_the_event_loop_has_looked() {
        let (mut capture, writer, _runtime) = watched();
        nix::unistd::write(&writer, b"last words").unwrap();
        drop(writer);
        capture.drain(&mut Vec::new());
        assert!(!capture.is_open());
        assert_eq!(capture.finish().memory, b"last words");
    }

    #[test]
    fn a_full_pipe_is_drained_and_stays_open_as_long_as_somebody_holds_it() {
        let (mut capture, writer, _runtime) = watched();
        let size = 1 << 20;
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size)).unwrap();
        let all = vec![b'x'; 1 << 20];
        assert_eq!(nix::unistd::write(&writer, &all).unwrap(), all.len());
        capture.drain(&mut Vec::new());
        assert_eq!(capture.written(), all.len() as u64);
        assert!(capture.is_open());
        drop(writer);
        capture.drain(&mut Vec::new());
        assert!(!capture.is_open());
    }

    proptest! {
        #[test]
        fn kept_output_is_a_prefix_and_a_suffix(
            cap in 0u64..200,
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..12),
        ) {
            let all = pieces.concat();
            let (head, dropped, tail) = captured(cap, &pieces);
            prop_assert!(all.starts_with(&head));
            prop_assert!(all.ends_with(&tail));
            prop_assert_eq!(head.len() + tail.len() + dropped as usize, all.len());
            prop_assert!(dropped == 0 || head.len() + tail.len() == cap as usize);
            prop_assert!(dropped > 0 || tail.is_empty());
        }

        #[test]
        fn the_last_bytes_are_those_that_were_written_last(
            sizes in prop::collection::vec(0usize..IN_MEMORY, 0..6),
            cap in 2 * IN_MEMORY as u64..4 * IN_MEMORY as u64,
        ) {
            let all = pattern(sizes.iter().sum());
            let mut captured = Captured::new(cap);
            let mut rest = &all[..];
            for size in sizes {
                let (now, later) = rest.split_at(size);
                captured.push(now);
                rest = later;
            }
            let last = captured.last(100);
            prop_assert!(all.ends_with(&last));
            let in_memory = captured.spill.is_none();
            prop_assert!(!in_memory || last.len() == all.len().min(100));
        }
    }
}
