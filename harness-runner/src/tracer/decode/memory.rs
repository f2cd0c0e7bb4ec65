//! Reads a task's memory in pieces that lie within a page, and remembers a few of them: strings of
//! an argument vector lie next to each other.

use super::{ReadError, Task};
use std::cell::{Cell, RefCell};

/// No page of any architecture is smaller, so what starts in one ends in it.
const PAGE: u64 = 4096;

/// The initial length of a piece. Nearly all paths are shorter, and memory for more than 1,032
/// bytes is not at hand in glibc's malloc(3). A piece that continues another one reaches to the
/// page's end.
const PIECE: u64 = 512;

/// The number of remembered pieces.
const PIECES: usize = 16;

/// A task's memory at one stop.
pub(super) struct Memory<'a> {
    task: &'a dyn Task,
    pieces: RefCell<Pieces>,
    /// The address of the last fault.
    fault: Cell<u64>,
}

#[derive(Default)]
struct Pieces {
    kept: Vec<(u64, Vec<u8>)>,
    /// The piece that is replaced next.
    next: usize,
}

/// A string.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// Without its NUL.
    pub(super) bytes: Vec<u8>,
    /// False if it is longer than was asked for.
    pub(super) whole: bool,
}

impl<'a> Memory<'a> {
    pub(super) fn new(task: &'a dyn Task) -> Self {
        Self {
            task,
            pieces: RefCell::default(),
            fault: Cell::default(),
        }
    }

    /// Calls `take` with what is at an address, up to the end of its page at the most.
    fn piece<T>(&self, address: u64, take: impl FnOnce(&[u8]) -> T) -> Result<T, ReadError> {
        let mut pieces = self.pieces.borrow_mut();
        let known = pieces.kept.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(offset..).filter(|rest| !rest.is_empty())
        });
        if let Some(bytes) = known {
            return Ok(take(bytes));
        }
        let goes_on = |(start, bytes): &(u64, Vec<u8>)| start + bytes.len() as u64 == address;
        let length = match pieces.kept.iter().any(goes_on) {
            true => PAGE,
            false => PIECE,
        };
        let mut bytes = vec![0; length.min(PAGE - address % PAGE) as usize];
        let length = self.task.read(address, &mut bytes).inspect_err(|error| {
            if *error == ReadError::Fault {
                self.fault.set(address);
            }
        })?;
        bytes.truncate(length);
        if bytes.is_empty() {
            return Err(ReadError::Fault);
        }
        let taken = take(&bytes);
        let next = pieces.next;
        match pieces.kept.get_mut(next) {
            Some(old) => *old = (address, bytes),
            None => pieces.kept.push((address, bytes)),
        }
        pieces.next = (next + 1) % PIECES;
        Ok(taken)
    }

    /// Returns the address at which there was nothing to read last.
    pub(super) fn fault(&self) -> u64 {
        self.fault.get()
    }

    /// Fills a buffer.
    pub(super) fn fill(&self, address: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let mut done = 0;
        while done < buffer.len() {
            let at = address.checked_add(done as u64).ok_or(ReadError::Fault)?;
            let rest = &mut buffer[done..];
            done += self.piece(at, |bytes| {
                let length = bytes.len().min(rest.len());
                rest[..length].copy_from_slice(&bytes[..length]);
                length
            })?;
        }
        Ok(())
    }

    /// Reads a string that ends with NUL, up to `limit` bytes of it.
    pub(super) fn string(&self, address: u64, limit: usize) -> Result<Text, ReadError> {
        let mut text = Text {
            bytes: Vec::new(),
            whole: false,
        };
        loop {
            let at = address
                .checked_add(text.bytes.len() as u64)
                .ok_or(ReadError::Fault)?;
            let full = self.piece(at, |bytes| {
                let room = limit - text.bytes.len();
                // One byte more than there is room for tells whether it ends here.
                let bytes = &bytes[..bytes.len().min(room + 1)];
                let end = bytes.iter().position(|byte| *byte == 0);
                text.whole = end.is_some();
                text.bytes
                    .extend_from_slice(&bytes[..end.unwrap_or(bytes.len().min(room))]);
                end.is_some() || bytes.len() > room
            })?;
            if full {
                return Ok(text);
            }
        }
    }

    pub(super) fn u64(&self, address: u64) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        self.fill(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}
