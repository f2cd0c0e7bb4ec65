//! The file of a trace: a header, chunks of events, a trailer.
//!
//! Eight bytes of [`MAGIC`], then frames. A frame is a byte that tells what it is, the length of
//! what follows and a checksum of both, each as four bytes, little-endian, and then a value in
//! postcard's format: first the [`Header`], then chunks of items one after the other, compressed with
//! zstd if they are big, last the [`Trailer`]. A file whose writer was killed ends anywhere: it is
//! read up to its last complete frame. In a file with several traces the next one follows with its own
//! [`MAGIC`].
//!
//! An item is a byte that tells what it is, and a value in postcard's format:
//!
//! - a [`TraceEvent`]
//! - what a dynamic loader does: bytes, which are
//!   [`TraceEventKind`](harness_metadata::TraceEventKind)s one after the other. That is no event yet.
//!   The first of these in a file has the number 0, the next one 1, and so on.
//! - a time, a process, and the number of one of these: the process's loader did that, at that time. It
//!   stands for as many events, all of the process's first thread.
//!
//! Until version 2 of the schema, a chunk was [`TraceEvent`]s one after the other.

mod reader;

pub use reader::{Ending, ReadError, Reader};

use super::Loaded;
use crate::own_files;
use harness_metadata::{
    TraceEvent,
    event::TraceLevel,
    trace::{Backend, Doubt, Dropped},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};
use xxhash_rust::xxh64::xxh64;

/// The version of this format and of the events in it. It grows when a reader of the old one would go
/// wrong.
pub const VERSION: u32 = 4;

/// The first bytes of every trace file.
pub const MAGIC: [u8; 8] = *b"HRNSTRC\n";

pub(super) const HEADER: u8 = b'H';
pub(super) const EVENTS: u8 = b'E';
const COMPRESSED: u8 = b'Z';
const TRAILER: u8 = b'T';

const EVENT: u8 = b'e';
pub(super) const LOADS: u8 = b'l';
pub(super) const LOADED: u8 = b'd';

/// Bytes before a frame's contents.
const FRAME: usize = 9;
/// A chunk is written when it has grown to this, before compression.
pub(super) const CHUNK: usize = 256 * 1024;
/// No chunk is larger than this; an event that would make it so is left out.
const LARGEST_CHUNK: usize = 8 * 1024 * 1024;
/// Smaller chunks are not compressed: what an empty test does is not worth the time.
const COMPRESS_FROM: usize = 32 * 1024;
/// An event is written at the latest when another one follows after this much time.
const WRITE_AFTER: Duration = Duration::from_secs(1);
/// Events in a file.
const EVENT_LIMIT: u64 = 1_000_000;
/// Loaders of which it is written once what they do.
pub(super) const LOADERS: usize = 64;
/// Bytes in a file.
const BYTE_LIMIT: u64 = 64 * 1024 * 1024;

/// The header of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub version: u32,
    /// The process of the test itself.
    pub root: i32,
    /// The level.
    pub level: TraceLevel,
    /// The backend.
    pub backend: Backend,
    /// When recording started, since 1970.
    pub started_at: Duration,
}

/// The trailer of a complete file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// The reasons why the trace may be incomplete.
    pub doubts: Vec<Doubt>,
    /// The number of events by the name of their kind.
    pub counts: BTreeMap<String, u64>,
    /// The counts of entries that did not fit into the file or the summary.
    pub dropped: Dropped,
}

/// A reference: the loader of a process did a remembered load.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Repeated {
    pub(super) at: Duration,
    pub(super) pid: i32,
    /// The number of what it did.
    pub(super) number: u32,
}

/// Limits of a file.
#[derive(Copy, Clone, Debug)]
pub(super) struct Limits {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// Writes a file.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    header: Header,
    limits: Limits,
    /// `None` until there is something to write.
    file: Option<File>,
    /// Events that wait to be written.
    pending: Vec<u8>,
    pending_events: u64,
    /// When the oldest of these happened.
    pending_since: Duration,
    /// The loads that are written, or wait to be.
    loaders: Vec<Rc<Loaded>>,
    written_events: u64,
    written_bytes: u64,
    dropped: u64,
    /// Whether the trailer is written, or was to be.
    complete: bool,
    error: Option<io::Error>,
}

impl Writer {
    pub(super) fn new(path: PathBuf, header: Header) -> Self {
        let limits = Limits {
            events: EVENT_LIMIT,
            bytes: BYTE_LIMIT,
        };
        Self::with_limits(path, header, limits)
    }

    pub(super) fn with_limits(path: PathBuf, header: Header, limits: Limits) -> Self {
        Self {
            path,
            header,
            limits,
            file: None,
            pending: Vec::new(),
            pending_events: 0,
            pending_since: Duration::ZERO,
            loaders: Vec::new(),
            written_events: 0,
            written_bytes: 0,
            dropped: 0,
            complete: false,
            error: None,
        }
    }

    /// Puts the start of the trace back by this time. To be called before the first event.
    pub(super) fn put_back(&mut self, by: Duration) {
        self.header.started_at = self.header.started_at.saturating_sub(by);
    }

    /// Returns how many events are not in the file.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns whether there was an event.
    pub(super) fn began(&self) -> bool {
        self.written_events + self.pending_events + self.dropped > 0
    }

    pub(super) fn event(&mut self, event: &TraceEvent) {
        if self.room() == 0 {
            self.dropped += 1;
            return;
        }
        self.begin(event.at);
        let before = self.pending.len();
        self.pending.push(EVENT);
        self.push(event);
        if self.pending.len() > LARGEST_CHUNK {
            self.pending.truncate(before);
            self.dropped += 1;
            return;
        }
        self.added(1, event.at);
    }

    /// Adds what a process's loader did.
    pub(super) fn loaded(&mut self, at: Duration, pid: i32, loaded: &Rc<Loaded>) {
        let events = loaded.len() as u64;
        let room = self.room();
        if room == 0 {
            self.dropped += events;
            return;
        }
        let mut known = self.loaders.iter();
        let known = known.position(|known| Rc::ptr_eq(known, loaded));
        let fits = self.loaders.len() < LOADERS && loaded.serialized().len() <= CHUNK;
        if room < events || known.is_none() && !fits {
            for event in loaded.events(at, pid) {
                self.event(&event);
            }
            return;
        }
        if loaded.is_empty() {
            return;
        }
        self.begin(at);
        let number = known.unwrap_or_else(|| {
            self.pending.push(LOADS);
            self.push(&loaded.serialized().len());
            self.pending.extend_from_slice(loaded.serialized());
            self.loaders.push(Rc::clone(loaded));
            self.loaders.len() - 1
        });
        let number = u32::try_from(number).expect("there are few of them");
        self.pending.push(LOADED);
        self.push(&Repeated { at, pid, number });
        self.added(events, at);
    }

    /// Returns how many events may be added.
    fn room(&self) -> u64 {
        let full = self.written_bytes >= self.limits.bytes;
        if full || self.complete || self.error.is_some() {
            return 0;
        }
        let events = self.written_events + self.pending_events;
        self.limits.events.saturating_sub(events)
    }

    /// Something is about to be added.
    fn begin(&mut self, at: Duration) {
        if self.pending_events == 0 {
            self.pending_since = at;
            if self.pending.capacity() == 0 {
                self.pending.reserve(4 * 1024);
            }
        }
    }

    fn push<T: Serialize>(&mut self, value: &T) {
        let pending = std::mem::take(&mut self.pending);
        let pending = postcard::to_extend(value, pending);
        self.pending = pending.expect("writing to memory does not fail");
    }

    /// Events were added to those that wait.
    fn added(&mut self, events: u64, at: Duration) {
        self.pending_events += events;
        let waited = at.saturating_sub(self.pending_since);
        if self.pending.len() >= CHUNK || waited >= WRITE_AFTER {
            self.flush();
        }
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) {
        if self.pending_events > 0 {
            let mut frames = Vec::with_capacity(self.pending.len() + 256);
            self.push_events(&mut frames);
            self.write(&frames);
        }
    }

    /// Writes what waits, and the trailer, once.
    pub(super) fn complete(&mut self, trailer: &Trailer) -> io::Result<()> {
        if std::mem::replace(&mut self.complete, true) {
            return Ok(());
        }
        let mut frames = Vec::with_capacity(self.pending.len() + 512);
        self.push_events(&mut frames);
        if self.error.is_none() {
            push_frame(&mut frames, TRAILER, &serialized(trailer));
            self.write(&frames);
        }
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Moves the events that wait into frames, and counts them as written.
    fn push_events(&mut self, frames: &mut Vec<u8>) {
        if self.file.is_none() && self.error.is_none() {
            frames.extend_from_slice(&MAGIC);
            push_frame(frames, HEADER, &serialized(&self.header));
        }
        if self.pending.len() >= COMPRESS_FROM
            && let Ok(compressed) = zstd::bulk::compress(&self.pending, 1)
            && compressed.len() < self.pending.len()
        {
            push_frame(frames, COMPRESSED, &compressed);
        } else if !self.pending.is_empty() {
            push_frame(frames, EVENTS, &self.pending);
        }
        self.pending.clear();
    }

    fn write(&mut self, frames: &[u8]) {
        let events = std::mem::take(&mut self.pending_events);
        match self.try_write(frames) {
            Ok(()) => {
                self.written_events += events;
                self.written_bytes += frames.len() as u64;
            }
            Err(error) => {
                self.error.get_or_insert(error);
                self.dropped += events;
            }
        }
    }

    fn try_write(&mut self, frames: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(own_files::append(&self.path)?),
        };
        file.write_all(frames)
    }
}

fn serialized<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).expect("writing to memory does not fail")
}

pub(super) fn push_frame(frames: &mut Vec<u8>, kind: u8, contents: &[u8]) {
    let length = u32::try_from(contents.len()).expect("a chunk has a limit");
    frames.push(kind);
    frames.extend_from_slice(&length.to_le_bytes());
    frames.extend_from_slice(&checksum(kind, contents).to_le_bytes());
    frames.extend_from_slice(contents);
}

fn checksum(kind: u8, contents: &[u8]) -> u32 {
    // Half of it is enough to notice what a crash left.
    xxh64(contents, kind.into()) as u32
}
