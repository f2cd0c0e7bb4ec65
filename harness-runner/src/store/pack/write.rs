//! Writes a pack.

use super::{
    BLOCK, Block, END, END_MAGIC, Facts, Head, Index, Kind, MAGIC, Piece, Place, START, VERSION,
};
use std::io::{self, BufRead, Read, Write};
use xxhash_rust::xxh64::xxh64;

/// The level of compression: it takes 3 ms for a thousand empty tests, and higher ones save little.
const LEVEL: i32 = 1;

/// The places at which a member may be cut into blocks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Cut {
    /// After lines, into blocks of its own.
    Lines,
    /// Anywhere; small members share a block.
    Anywhere,
}

/// Writes a pack, member by member.
pub(in super::super) struct Writer<W> {
    to: W,
    /// Bytes so far.
    at: u64,
    pending: Vec<u8>,
    pieces: Vec<Piece>,
    lines: u32,
    index: Index,
    compressor: zstd::bulk::Compressor<'static>,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub(in super::super) fn new(mut to: W) -> io::Result<Self> {
        to.write_all(&MAGIC)?;
        to.write_all(&VERSION.to_le_bytes())?;
        Ok(Self {
            to,
            at: START,
            pending: Vec::with_capacity(BLOCK + BLOCK / 4),
            pieces: Vec::new(),
            lines: 0,
            index: Index::default(),
            compressor: zstd::bulk::Compressor::new(LEVEL)?,
        })
    }

    /// Adds a member. A line of a member that is cut after lines has no more than `longest` bytes.
    /// Returns the bytes of the member.
    pub(in super::super) fn add(
        &mut self,
        name: &str,
        from: &mut impl BufRead,
        cut: Cut,
        longest: u64,
    ) -> io::Result<u64> {
        if cut == Cut::Lines {
            self.write_block()?;
        }
        // An empty member is one, too.
        self.index.members.entry(name.to_owned()).or_default();
        let mut at = 0;
        loop {
            let before = self.pending.len();
            match cut {
                Cut::Lines => {
                    while self.pending.len() < BLOCK {
                        let mut line = from.take(longest);
                        match line.read_until(b'\n', &mut self.pending)? {
                            0 => break,
                            _ => self.lines += 1,
                        }
                    }
                }
                Cut::Anywhere => {
                    let room = BLOCK.saturating_sub(before) as u64;
                    from.take(room).read_to_end(&mut self.pending)?;
                }
            }
            let length = self.pending.len() - before;
            if length > 0 {
                self.pieces.push(Piece {
                    member: name.to_owned(),
                    at,
                    length: u32::try_from(length).map_err(io::Error::other)?,
                });
                at += length as u64;
            }
            if self.pending.len() < BLOCK {
                break;
            }
            self.write_block()?;
        }
        if cut == Cut::Lines {
            self.write_block()?;
        }
        Ok(at)
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let number = u32::try_from(self.index.blocks.len()).map_err(io::Error::other)?;
        self.index.blocks.push(Block {
            offset: self.at,
            lines: self.lines,
        });
        let mut at = 0;
        for piece in &self.pieces {
            let place = Place {
                block: number,
                at,
                length: piece.length,
            };
            at += piece.length;
            let member = self.index.members.entry(piece.member.clone());
            member.or_default().push(place);
        }
        let mut raw = postcard::to_stdvec(&self.pieces).map_err(io::Error::other)?;
        raw.append(&mut self.pending);
        let lines = self.lines;
        self.pieces.clear();
        self.lines = 0;
        self.frame(Kind::Block, &raw, lines)
    }

    fn frame(&mut self, kind: Kind, raw: &[u8], lines: u32) -> io::Result<()> {
        let frame = frame(kind, raw, self.compressor.compress(raw)?, lines)?;
        self.to.write_all(&frame)?;
        self.at += frame.len() as u64;
        Ok(())
    }

    /// Writes the index, the facts and the end. Returns the file.
    pub(in super::super) fn finish(mut self, facts: &Facts) -> io::Result<W> {
        self.write_block()?;
        let index_at = self.at;
        let index = postcard::to_stdvec(&self.index).map_err(io::Error::other)?;
        self.frame(Kind::Index, &index, 0)?;
        self.to.write_all(&last_part(index_at, self.at, facts)?)?;
        self.to.flush()?;
        Ok(self.to)
    }
}

/// Returns a frame with these contents, of which `raw` is what they are unpacked.
fn frame(kind: Kind, raw: &[u8], contents: Vec<u8>, lines: u32) -> io::Result<Vec<u8>> {
    let mut head = Head {
        kind: kind.byte(),
        stored: u32::try_from(contents.len()).map_err(io::Error::other)?,
        raw: u32::try_from(raw.len()).map_err(io::Error::other)?,
        lines,
        checksum: 0,
    };
    head.checksum = head.sum(&contents);
    Ok([&head.bytes()[..], &contents].concat())
}

/// Returns the last part of a file: its facts, and where they and the index are.
pub(super) fn last_part(index_at: u64, facts_at: u64, facts: &Facts) -> io::Result<Vec<u8>> {
    let raw = serde_json::to_vec(facts)?;
    let contents = zstd::bulk::compress(&raw, LEVEL)?;
    let mut bytes = frame(Kind::Facts, &raw, contents, 0)?;
    let mut end = [0; END];
    end[..8].copy_from_slice(&index_at.to_le_bytes());
    end[8..16].copy_from_slice(&facts_at.to_le_bytes());
    let checksum = xxh64(&end[..16], 0);
    end[16..24].copy_from_slice(&checksum.to_le_bytes());
    end[24..].copy_from_slice(&END_MAGIC);
    bytes.extend_from_slice(&end);
    Ok(bytes)
}
