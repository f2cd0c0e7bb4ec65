//! The file that a run is kept in once it has ended: its recording, output, traces and notes,
//! compressed.
//!
//! [`MAGIC`], the version (four bytes, little-endian), then frames, then an end. A frame is a head of
//! [`FRAME`] bytes and contents that zstd has compressed: blocks first, one after the other, then the
//! index, then the facts. The end says where these two begin, so that a list of runs reads some
//! kilobytes of each, and a trace of a thousand is read without the others.
//!
//! A block is some pieces of members, with a table of them. Each head has a checksum of all that
//! follows it and its own length. So blocks can be found without the index: a file that is cut off, or
//! damaged anywhere, is read as far as its blocks are whole. Blocks of the recording have whole lines,
//! and a damaged one costs those lines.

mod read;
mod write;

pub(super) use read::{Damage, Pack, Section};
pub(super) use write::{Cut, Writer};

use super::{CHAIN, Ending, OUTPUT, PRESENTATION, RECORDING, RunHeader, TRACE, TRACED};
use harness_metadata::event::TraceLevel;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use xxhash_rust::xxh64::xxh64;

/// The version of this format. It grows when a reader of the old one would go wrong.
pub(super) const VERSION: u32 = 1;

/// The first bytes of every such file.
pub(super) const MAGIC: [u8; 8] = *b"HRNSRUN\n";

/// The last bytes of every such file.
const END_MAGIC: [u8; 8] = *b"\nHRNSEND";

/// The first bytes of every frame, by which frames are found after damage.
const FRAME_MAGIC: [u8; 4] = *b"\xf7hf\n";

/// Bytes before the first frame.
const START: u64 = 12;
/// Bytes of a frame's head.
const FRAME: usize = 32;
/// Bytes of the end.
const END: usize = 32;

/// A block is written when it has grown to this, before compression. A small trace is read by
/// unpacking one.
const BLOCK: usize = 256 * 1024;
/// No block is larger, before compression: one that has a line of a recording may be large.
const LARGEST: usize = 66 * 1024 * 1024;

/// The kind of a frame.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Kind {
    Block,
    Index,
    Facts,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Block => b'B',
            Self::Index => b'I',
            Self::Facts => b'F',
        }
    }
}

/// The head of a frame.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Head {
    kind: u8,
    /// Bytes of the contents in the file.
    stored: u32,
    /// Bytes of the contents.
    raw: u32,
    /// The lines of a recording in it.
    lines: u32,
    checksum: u64,
}

impl Head {
    fn bytes(self) -> [u8; FRAME] {
        let mut bytes = [0; FRAME];
        bytes[..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4] = self.kind;
        bytes[8..12].copy_from_slice(&self.stored.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.raw.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.lines.to_le_bytes());
        bytes[24..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    /// Reads a head; `None` if there is none.
    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let head = Self {
            kind: *bytes.get(4)?,
            stored: number(8)?,
            raw: number(12)?,
            lines: number(16)?,
            checksum: u64::from_le_bytes(bytes.get(24..FRAME)?.try_into().ok()?),
        };
        let is_possible = head.stored as usize <= LARGEST && head.raw as usize <= LARGEST;
        (bytes.starts_with(&FRAME_MAGIC) && is_possible).then_some(head)
    }

    /// Returns the checksum of the head's other fields and the contents.
    fn sum(self, contents: &[u8]) -> u64 {
        let fields = Self {
            checksum: 0,
            ..self
        };
        xxh64(contents, xxh64(&fields.bytes(), 0))
    }
}

/// A piece of a member, in the table of its block. The pieces' bytes follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    member: String,
    /// Its offset in the member.
    at: u64,
    length: u32,
}

/// A piece of a member, in the index.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// The number of the block.
    block: u32,
    /// Its offset among the block's bytes.
    at: u32,
    length: u32,
}

/// A block, in the index.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Block {
    /// The offset of its head in the file.
    offset: u64,
    /// The lines of a recording in it.
    lines: u32,
}

/// The blocks, and the pieces of each member in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    blocks: Vec<Block>,
    members: BTreeMap<String, Vec<Place>>,
}

/// Returns whether a run has a member with this name.
fn is_member(name: &str) -> bool {
    let trace = name
        .strip_suffix(TRACE)
        .and_then(|name| name.strip_suffix('.'));
    trace.is_some_and(|number| number.parse::<u64>().is_ok())
        || [RECORDING, OUTPUT, CHAIN, PRESENTATION, TRACED].contains(&name)
}

/// The facts about a run that lists show, so that they need not read its recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// The version of its events.
    pub(super) schema_version: u32,
    #[serde(flatten)]
    pub(super) header: RunHeader,
    pub(super) profile: String,
    pub(super) command_line: Vec<String>,
    pub(super) trace: TraceLevel,
    pub(super) partial: bool,
    /// `None` if its runner was killed.
    pub(super) ending: Option<Ending>,
    /// Bytes of its files before they were packed.
    pub(super) unpacked: u64,
    /// Whether it comes from elsewhere, by `store import`.
    #[serde(default)]
    pub(super) imported: bool,
}
