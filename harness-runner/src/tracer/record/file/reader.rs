//! Reads a trace file, as far as it is whole.

use super::{
    CHUNK, COMPRESSED, EVENT, EVENT_LIMIT, EVENTS, FRAME, HEADER, Header, LARGEST_CHUNK, LOADED,
    LOADERS, LOADS, MAGIC, Repeated, TRAILER, Trailer, VERSION, checksum,
};
use crate::own_files;
use harness_metadata::{TraceEvent, TraceEventKind};
use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The oldest version that can be read.
const OLDEST: u32 = 2;
/// The first version whose chunks are items.
const ITEMS: u32 = 3;

/// An error that makes a trace unreadable.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It is something else.
    #[error("`{}` is no trace, or not even its beginning was written", path.display())]
    NoTrace {
        /// The file.
        path: PathBuf,
    },
    /// Another version of this program wrote it.
    #[error(
        "`{}` was written by another version of cargo harness: its version is {found}, \
         and this one reads {OLDEST} to {VERSION}",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// The readable extent of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// To its end.
    Complete(Trailer),
    /// The writer was killed, is still writing, or the file is damaged: what follows is not known.
    Truncated,
}

/// Reads the events of a file, in order.
#[derive(Debug)]
pub struct Reader<R = BufReader<File>> {
    source: R,
    header: Header,
    chunk: Vec<u8>,
    /// The offset of the next item in the chunk.
    next: usize,
    /// The loads, by their number.
    loaders: Vec<Vec<u8>>,
    repeated: Option<Repeating>,
    /// The number of events so far.
    events: u64,
    ending: Option<Ending>,
}

/// A load during its replay.
#[derive(Debug)]
struct Repeating {
    what: Repeated,
    /// The offset of the next event in the load.
    next: usize,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no trace of a version that is known.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Read {
            path: path.to_owned(),
            source,
        };
        let file = own_files::open(path).map_err(failed)?;
        Self::new(BufReader::new(file), path)
    }
}

impl<R: Read> Reader<R> {
    /// Reads from `source`; `path` is its name in errors.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no trace of a version that is known.
    pub fn new(mut source: R, path: &Path) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Read {
            path: path.to_owned(),
            source,
        };
        let no_trace = || ReadError::NoTrace {
            path: path.to_owned(),
        };
        let mut magic = [0; MAGIC.len()];
        match source.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(failed(error)),
            Ok(()) | Err(_) => return Err(no_trace()),
        }
        let first = frame(&mut source).filter(|(kind, _)| *kind == HEADER);
        let (_, contents) = first.ok_or_else(no_trace)?;
        // The version comes first, whatever else there is.
        let (version, _) = postcard::take_from_bytes::<u32>(&contents).map_err(|_| no_trace())?;
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(ReadError::Version {
                path: path.to_owned(),
                found: version,
            });
        }
        let header = postcard::from_bytes(&contents).map_err(|_| no_trace())?;
        Ok(Self {
            source,
            header,
            chunk: Vec::new(),
            next: 0,
            loaders: Vec::new(),
            repeated: None,
            events: 0,
            ending: None,
        })
    }

    /// Returns what the file begins with.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns how far the file could be read; `None` as long as there may be further events.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Gets the next chunk. Returns how the file ends if there is none.
    fn advance(&mut self) -> Result<(), Ending> {
        let (kind, contents) = frame(&mut self.source).ok_or(Ending::Truncated)?;
        self.next = 0;
        match kind {
            EVENTS => self.chunk = contents,
            COMPRESSED => {
                let chunk = zstd::bulk::decompress(&contents, LARGEST_CHUNK);
                self.chunk = chunk.map_err(|_| Ending::Truncated)?;
            }
            TRAILER => {
                let trailer = postcard::from_bytes(&contents);
                return Err(trailer.map_or(Ending::Truncated, Ending::Complete));
            }
            _ => return Err(Ending::Truncated),
        }
        Ok(())
    }

    /// Reads an item, and returns it if it is an event. `None` if it makes no sense.
    fn item(&mut self) -> Option<Option<TraceEvent>> {
        let rest = &self.chunk[self.next..];
        let (kind, rest) = match self.header.version {
            ..ITEMS => (EVENT, rest),
            ITEMS.. => rest.split_first().map(|(kind, rest)| (*kind, rest))?,
        };
        let (event, rest) = match kind {
            EVENT => {
                let (event, rest) = postcard::take_from_bytes(rest).ok()?;
                (Some(event), rest)
            }
            LOADS if self.loaders.len() < LOADERS => {
                let (kinds, rest) = postcard::take_from_bytes::<&[u8]>(rest).ok()?;
                if kinds.len() > CHUNK {
                    return None;
                }
                self.loaders.push(kinds.to_vec());
                (None, rest)
            }
            LOADED => {
                let (what, rest) = postcard::take_from_bytes::<Repeated>(rest).ok()?;
                self.repeated = Some(Repeating { what, next: 0 });
                (None, rest)
            }
            _ => return None,
        };
        self.next = self.chunk.len() - rest.len();
        Some(event)
    }

    /// Returns the next event of what a loader did.
    fn repeat(&mut self) -> Result<Option<TraceEvent>, Ending> {
        let Some(Repeating { what, next }) = &mut self.repeated else {
            return Ok(None);
        };
        let kinds = self.loaders.get(what.number as usize);
        let kinds = kinds.ok_or(Ending::Truncated)?;
        let rest = &kinds[*next..];
        if rest.is_empty() {
            self.repeated = None;
            return Ok(None);
        }
        let (kind, rest) =
            postcard::take_from_bytes::<TraceEventKind>(rest).map_err(|_| Ending::Truncated)?;
        *next = kinds.len() - rest.len();
        Ok(Some(TraceEvent {
            at: what.at,
            pid: what.pid,
            tid: what.pid,
            kind,
        }))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = TraceEvent;

    fn next(&mut self) -> Option<TraceEvent> {
        while self.ending.is_none() {
            let told = match &self.repeated {
                Some(_) => self.repeat(),
                None if self.next == self.chunk.len() => self.advance().map(|()| None),
                None => self.item().ok_or(Ending::Truncated),
            };
            match told {
                // No file has more. One that was tampered with could stand for any number.
                Ok(Some(_)) if self.events == EVENT_LIMIT => self.ending = Some(Ending::Truncated),
                Ok(Some(event)) => {
                    self.events += 1;
                    return Some(event);
                }
                Ok(None) => {}
                Err(ending) => self.ending = Some(ending),
            }
        }
        None
    }
}

/// Reads a frame; `None` if it is not whole.
fn frame(source: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut start = [0; FRAME];
    source.read_exact(&mut start).ok()?;
    let [kind, l0, l1, l2, l3, c0, c1, c2, c3] = start;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length as usize > LARGEST_CHUNK {
        return None;
    }
    // What a damaged length promises need not be there.
    let mut contents = Vec::new();
    let read = source.take(u64::from(length)).read_to_end(&mut contents);
    let whole = read.is_ok() && contents.len() == length as usize;
    (whole && checksum(kind, &contents) == u32::from_le_bytes([c0, c1, c2, c3]))
        .then_some((kind, contents))
}
