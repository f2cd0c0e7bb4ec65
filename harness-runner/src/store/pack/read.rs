//! Reads a pack, as far as it is whole. It is a file that anybody can write: each length has a limit.

use super::{
    Block, END, END_MAGIC, FRAME, FRAME_MAGIC, Facts, Head, Index, Kind, LARGEST, MAGIC, Piece,
    Place, START, VERSION, is_member, write::last_part,
};
use crate::own_files;
use camino::{Utf8Path, Utf8PathBuf};
use memchr::memmem;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};
use thiserror::Error;
use xxhash_rust::xxh64::xxh64;

/// Facts are near the end; more is read if they are longer.
const TAIL: u64 = 8 * 1024;

/// The number of a block that is missing.
const MISSING: u32 = u32::MAX;

/// A fault of a file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(in super::super) enum Damage {
    #[error("`{path}` is no recording of a run: it does not begin like one")]
    NoPack { path: Utf8PathBuf },
    #[error(
        "`{path}` is a recording of version {version}, and this program reads version {VERSION}; \
         the program that wrote it reads it"
    )]
    Version { path: Utf8PathBuf, version: u32 },
    #[error(
        "`{path}` is damaged at byte {at}: {what}; the rest of it is whole. If it came from \
         elsewhere, copy it again"
    )]
    Damaged {
        path: Utf8PathBuf,
        at: u64,
        what: &'static str,
    },
    #[error(
        "`{path}` is cut off after {length} bytes; what is there is read. If it came from elsewhere, \
         copy it again"
    )]
    CutOff { path: Utf8PathBuf, length: u64 },
    #[error("`{path}` is forged or damaged: {what}")]
    Forged {
        path: Utf8PathBuf,
        what: &'static str,
    },
}

impl From<Damage> for io::Error {
    fn from(damage: Damage) -> Self {
        Self::new(io::ErrorKind::InvalidData, damage)
    }
}

/// A file that is open.
#[derive(Clone, Debug)]
pub(in super::super) struct Pack(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    path: Utf8PathBuf,
    file: File,
    index: Index,
    facts: Option<Facts>,
    damage: Option<Damage>,
    /// The block that was read last.
    last: Mutex<Option<(u32, Arc<Vec<u8>>)>>,
}

impl Pack {
    /// Returns whether a file begins as a pack does.
    pub(in super::super) fn is_one(file: &File) -> bool {
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC
    }

    /// Opens a file.
    pub(in super::super) fn open(path: &Utf8Path) -> io::Result<Self> {
        Self::of(own_files::open(path)?, path)
    }

    /// As [`Self::open`], of a file that is open.
    pub(in super::super) fn of(file: File, path: &Utf8Path) -> io::Result<Self> {
        let raw = Raw::of(&file, path)?;
        let (index, facts, damage) = match raw.index() {
            Ok((index, facts)) => (index, facts, None),
            Err(damage) => {
                let (index, facts) = raw.recovered()?;
                (index, facts, Some(damage))
            }
        };
        let path = path.to_owned();
        if let Some(facts) = &facts
            && index.blocks.is_empty()
            && facts.unpacked > 0
        {
            let what = "it has no contents";
            return Err(Damage::Forged { path, what }.into());
        }
        Ok(Self(Arc::new(Opened {
            path,
            file,
            index,
            facts,
            damage,
            last: Mutex::default(),
        })))
    }

    /// Reads the facts of a file and nothing else.
    pub(in super::super) fn facts_of(path: &Utf8Path) -> io::Result<Facts> {
        let file = own_files::open(path)?;
        let raw = Raw::of(&file, path)?;
        Ok(raw.ends().and_then(|ends| raw.facts(&ends))?)
    }

    /// Returns the facts; `None` if they are damaged.
    pub(in super::super) fn facts(&self) -> Option<&Facts> {
        self.0.facts.as_ref()
    }

    /// Returns what is wrong, if the file could not be read in the usual way.
    pub(in super::super) fn damage(&self) -> Option<&Damage> {
        self.0.damage.as_ref()
    }

    /// Returns its path.
    pub(in super::super) fn path(&self) -> &Utf8Path {
        &self.0.path
    }

    /// Returns a member as a reader; `None` if there is no such member.
    pub(in super::super) fn member(&self, name: &str) -> Option<Section> {
        self.section(name, 0, u64::MAX)
    }

    /// Returns a member as a reader that puts lines which are no events in the place of lost ones.
    pub(in super::super) fn lines(&self, name: &str) -> Option<Section> {
        let section = self.member(name)?;
        Some(Section {
            forgiving: true,
            ..section
        })
    }

    /// Returns a part of a member as a reader.
    pub(in super::super) fn section(&self, name: &str, start: u64, end: u64) -> Option<Section> {
        let places = self.0.index.members.get(name)?;
        let mut chosen = Vec::new();
        let mut at: u64 = 0;
        for place in places {
            let after = at.saturating_add(u64::from(place.length));
            let (from, to) = (start.clamp(at, after), end.clamp(at, after));
            if from < to {
                let within = |to: u64| u32::try_from(to - at).unwrap_or(u32::MAX);
                chosen.push(Place {
                    block: place.block,
                    at: place.at.saturating_add(within(from)),
                    length: within(to) - within(from),
                });
            }
            at = after;
        }
        chosen.reverse();
        Some(Section {
            pack: self.clone(),
            places: chosen,
            bytes: Arc::default(),
            rest: 0..0,
            lost: 0,
            forgiving: false,
        })
    }

    /// Reads all of it, and fails unless its parts are whole and agree.
    pub(in super::super) fn verify(&self) -> io::Result<()> {
        let opened = &self.0;
        if let Some(damage) = &opened.damage {
            return Err(damage.clone().into());
        }
        let raw = Raw::of(&opened.file, &opened.path)?;
        let (mut found, mut lengths) = (Index::default(), BTreeMap::new());
        for block in &opened.index.blocks {
            let (head, contents) = raw.frame(block.offset, Kind::Block)?;
            found.add(block.offset, head, &contents, &mut lengths);
        }
        let listed = opened.index.members.iter();
        let differs = found.blocks != opened.index.blocks
            || !listed
                .filter(|(_, places)| !places.is_empty())
                .eq(found.members.iter());
        if differs {
            return Err(opened.forged("its index and its contents differ").into());
        }
        if let Some(odd) = opened.index.members.keys().find(|name| !is_member(name)) {
            let text = format!("`{}` has a member `{odd}`, which no run has", opened.path);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(())
    }

    /// Writes other facts into a file that this process has made.
    pub(in super::super) fn replace_facts(&self, facts: &Facts) -> io::Result<()> {
        let raw = Raw::of(&self.0.file, &self.0.path)?;
        let ends = raw.ends()?;
        self.0.file.set_len(ends.facts)?;
        let last = last_part(ends.index, ends.facts, facts)?;
        self.0.file.write_all_at(&last, ends.facts)
    }

    fn block(&self, number: u32) -> io::Result<Arc<Vec<u8>>> {
        let last = || self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = last().as_ref().filter(|(last, _)| *last == number) {
            return Ok(Arc::clone(bytes));
        }
        let raw = Raw::of(&self.0.file, &self.0.path)?;
        let block = self.0.index.blocks.get(number as usize);
        let missing = || raw.damaged(0, "a block is missing");
        let block = block.ok_or_else(missing)?;
        let (_, contents) = raw.frame(block.offset, Kind::Block)?;
        let rest = postcard::take_from_bytes::<Vec<Piece>>(&contents);
        let (_, rest) = rest.map_err(|_| raw.damaged(block.offset, "a block has no table"))?;
        let bytes = Arc::new(rest.to_vec());
        *last() = Some((number, Arc::clone(&bytes)));
        Ok(bytes)
    }
}

impl Opened {
    fn forged(&self, what: &'static str) -> Damage {
        let path = self.path.clone();
        Damage::Forged { path, what }
    }
}

/// The offsets of the last frames.
struct Ends {
    index: u64,
    facts: u64,
    /// The last bytes of the file, and their offset.
    tail: Vec<u8>,
    tail_at: u64,
}

/// The bytes of a file.
struct Raw<'a> {
    file: &'a File,
    path: &'a Utf8Path,
    length: u64,
}

impl<'a> Raw<'a> {
    fn of(file: &'a File, path: &'a Utf8Path) -> io::Result<Self> {
        let mut start = [0; START as usize];
        let no_pack = || Damage::NoPack {
            path: path.to_owned(),
        };
        match file.read_exact_at(&mut start, 0) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            Ok(()) if start.starts_with(&MAGIC) => {}
            _ => return Err(no_pack().into()),
        }
        let version = start[8..].try_into().map_err(|_| no_pack())?;
        let version = u32::from_le_bytes(version);
        if version != VERSION {
            let path = path.to_owned();
            return Err(Damage::Version { path, version }.into());
        }
        let length = file.metadata()?.len();
        Ok(Self { file, path, length })
    }

    fn damaged(&self, at: u64, what: &'static str) -> Damage {
        let path = self.path.to_owned();
        Damage::Damaged { path, at, what }
    }

    fn ends(&self) -> Result<Ends, Damage> {
        let cut_off = || Damage::CutOff {
            path: self.path.to_owned(),
            length: self.length,
        };
        let tail_at = self.length.saturating_sub(TAIL);
        let mut tail = vec![0; usize::try_from(self.length - tail_at).unwrap_or(0)];
        let read = self.file.read_exact_at(&mut tail, tail_at);
        let end = tail.len().checked_sub(END).map(|from| &tail[from..]);
        let (Ok(()), Some(end)) = (read, end) else {
            return Err(cut_off());
        };
        if end[24..] != END_MAGIC {
            return Err(cut_off());
        }
        let number = |at: usize| {
            let bytes = end[at..at + 8].try_into();
            u64::from_le_bytes(bytes.expect("it has eight bytes"))
        };
        if number(16) != xxh64(&end[..16], 0) {
            return Err(self.damaged(self.length - END as u64, "its end has another checksum"));
        }
        Ok(Ends {
            index: number(0),
            facts: number(8),
            tail,
            tail_at,
        })
    }

    fn facts(&self, ends: &Ends) -> Result<Facts, Damage> {
        let within = ends.facts.checked_sub(ends.tail_at);
        let within = within.and_then(|at| ends.tail.get(usize::try_from(at).ok()?..));
        let (_, contents) = match within {
            Some(bytes) => self.frame_in(bytes, ends.facts, Kind::Facts)?,
            None => self.frame(ends.facts, Kind::Facts)?,
        };
        serde_json::from_slice(&contents).map_err(|_| Damage::Forged {
            path: self.path.to_owned(),
            what: "its facts are none",
        })
    }

    fn index(&self) -> Result<(Index, Option<Facts>), Damage> {
        let ends = self.ends()?;
        let facts = self.facts(&ends)?;
        let (_, contents) = self.frame(ends.index, Kind::Index)?;
        let index: Result<Index, _> = postcard::from_bytes(&contents);
        let index = index.map_err(|_| self.damaged(ends.index, "its index is none"))?;
        Ok((index, Some(facts)))
    }

    /// Reads the frame at an offset: its head and its contents.
    fn frame(&self, at: u64, kind: Kind) -> Result<(Head, Vec<u8>), Damage> {
        let none = || self.damaged(at, "nothing begins there");
        let mut head = [0; FRAME];
        let read = self.file.read_exact_at(&mut head, at);
        read.map_err(|_| none())?;
        let stored = Head::read(&head).ok_or_else(none)?.stored;
        let room = self.length.saturating_sub(at);
        if u64::from(stored) > room {
            return Err(self.damaged(at, "it ends within a block"));
        }
        let mut bytes = vec![0; FRAME + stored as usize];
        let read = self.file.read_exact_at(&mut bytes, at);
        read.map_err(|_| self.damaged(at, "it ends within a block"))?;
        self.frame_in(&bytes, at, kind)
    }

    /// As [`Self::frame`], of bytes that begin with one.
    fn frame_in(&self, bytes: &[u8], at: u64, kind: Kind) -> Result<(Head, Vec<u8>), Damage> {
        let head = Head::read(bytes).ok_or_else(|| self.damaged(at, "nothing begins there"))?;
        let contents = bytes[FRAME..].get(..head.stored as usize);
        let contents = contents.ok_or_else(|| self.damaged(at, "it ends within a block"))?;
        if head.checksum != head.sum(contents) {
            return Err(self.damaged(at, "a block has another checksum"));
        }
        if head.kind != kind.byte() {
            return Err(self.damaged(at, "a block is of another kind"));
        }
        let raw = zstd::bulk::decompress(contents, (head.raw as usize).min(LARGEST));
        let raw = raw.ok().filter(|raw| raw.len() == head.raw as usize);
        let raw = raw.ok_or_else(|| self.damaged(at, "a block cannot be unpacked"))?;
        Ok((head, raw))
    }

    /// Makes the index anew, from the blocks that are whole.
    fn recovered(&self) -> io::Result<(Index, Option<Facts>)> {
        let (mut index, mut facts) = (Index::default(), None);
        let mut lengths = BTreeMap::new();
        let mut at = Some(START);
        while let Some(here) = at {
            let next = match self.any_frame(here) {
                Some((head, contents)) => {
                    if head.kind == Kind::Facts.byte() {
                        facts = serde_json::from_slice(&contents).ok();
                    } else if head.kind == Kind::Block.byte() {
                        index.add(here, head, &contents, &mut lengths);
                    }
                    here + (FRAME + head.stored as usize) as u64
                }
                None => here + 1,
            };
            at = self.find_frame(next)?;
        }
        Ok((index, facts))
    }

    fn any_frame(&self, at: u64) -> Option<(Head, Vec<u8>)> {
        let kinds = [Kind::Block, Kind::Facts];
        kinds.into_iter().find_map(|kind| self.frame(at, kind).ok())
    }

    /// Returns where the next frame may begin.
    fn find_frame(&self, from: u64) -> io::Result<Option<u64>> {
        const CHUNK: usize = 256 * 1024;
        let mut chunk = vec![0; CHUNK];
        let mut at = from;
        while at < self.length {
            let mut read = 0;
            while read < CHUNK {
                match self.file.read_at(&mut chunk[read..], at + read as u64)? {
                    0 => break,
                    bytes => read += bytes,
                }
            }
            if let Some(found) = memmem::find(&chunk[..read], &FRAME_MAGIC) {
                return Ok(Some(at + found as u64));
            }
            if read < CHUNK {
                return Ok(None);
            }
            at += (read - FRAME_MAGIC.len() + 1) as u64;
        }
        Ok(None)
    }
}

impl Index {
    /// Adds a block that was found. What is missing between two pieces of a member is a place without a
    /// block.
    fn add(
        &mut self,
        offset: u64,
        head: Head,
        contents: &[u8],
        lengths: &mut BTreeMap<String, u64>,
    ) {
        let Ok((pieces, bytes)) = postcard::take_from_bytes::<Vec<Piece>>(contents) else {
            return;
        };
        let number = u32::try_from(self.blocks.len()).unwrap_or(MISSING);
        let lines = head.lines;
        self.blocks.push(Block { offset, lines });
        let mut at: u32 = 0;
        for piece in pieces {
            let so_far = lengths.entry(piece.member.clone()).or_default();
            let hole = piece.at.saturating_sub(*so_far);
            let places = self.members.entry(piece.member).or_default();
            if let Ok(length @ 1..) = u32::try_from(hole) {
                places.push(Place {
                    block: MISSING,
                    at: 0,
                    length,
                });
            }
            *so_far = piece.at.saturating_add(u64::from(piece.length));
            places.push(Place {
                block: number,
                at,
                length: piece.length,
            });
            at = at.saturating_add(piece.length);
            if at as usize > bytes.len() {
                return;
            }
        }
    }
}

/// A part of a member as a reader.
#[derive(Debug)]
pub(in super::super) struct Section {
    pack: Pack,
    /// The places that are still to be read, the next one last.
    places: Vec<Place>,
    bytes: Arc<Vec<u8>>,
    rest: std::ops::Range<usize>,
    /// Lines that are to be put in the place of lost ones.
    lost: u32,
    forgiving: bool,
}

impl Section {
    fn advance(&mut self, place: Place) -> io::Result<()> {
        let from = place.at as usize;
        let to = from.saturating_add(place.length as usize);
        let bytes = self.pack.block(place.block);
        let bytes = bytes.and_then(|bytes| match bytes.len() >= to {
            true => Ok(bytes),
            false => Err(self
                .pack
                .0
                .forged("its index and its contents differ")
                .into()),
        });
        match bytes {
            Ok(bytes) => (self.bytes, self.rest) = (bytes, from..to),
            Err(_) if self.forgiving => {
                let block = self.pack.0.index.blocks.get(place.block as usize);
                self.lost = block.map_or(1, |block| block.lines.min(place.length));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        /// A line that is no event.
        const LOST: &[u8] = b"?\n";
        loop {
            if !self.rest.is_empty() {
                let length = self.rest.len().min(buffer.len());
                let from = self.rest.start;
                buffer[..length].copy_from_slice(&self.bytes[from..from + length]);
                self.rest.start += length;
                return Ok(length);
            }
            if self.lost > 0 {
                self.lost -= 1;
                self.bytes = Arc::new(LOST.to_vec());
                self.rest = 0..LOST.len();
                continue;
            }
            match self.places.pop() {
                Some(place) => self.advance(place)?,
                None => return Ok(0),
            }
        }
    }
}
