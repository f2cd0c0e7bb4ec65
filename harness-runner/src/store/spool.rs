//! Captured output on disk: one file, in which every stream has its place.

use crate::{
    own_files,
    report::{Kept, Stream},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Where the output of an attempt is in the file.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpooledOutput {
    /// Standard output.
    pub stdout: SpooledStream,
    /// Standard error.
    pub stderr: SpooledStream,
}

/// Where a stream is in the file: its head, and right after it its tail.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpooledStream {
    /// Where its head begins.
    pub offset: u64,
    /// Bytes of the head.
    pub head: u64,
    /// Bytes between the two that were not kept.
    pub dropped: u64,
    /// Bytes of the tail.
    pub tail: u64,
}

impl SpooledOutput {
    fn stream(self, stream: Stream) -> SpooledStream {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

/// The file, and how much of it is in use.
#[derive(Debug, Default)]
pub struct Spool {
    /// Where it is made when there is something to write; `None` for a file without a name.
    path: Option<PathBuf>,
    file: Option<File>,
    end: u64,
    limit: Option<u64>,
}

impl Spool {
    /// A spool that is made at `path` when there is something to write, and takes about `limit`
    /// bytes.
    pub(super) fn at(path: PathBuf, limit: u64) -> Self {
        Self {
            path: Some(path),
            limit: Some(limit),
            ..Self::default()
        }
    }

    /// Opens one that was written.
    pub(super) fn open_existing(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: None,
            file: Some(own_files::open(path)?),
            ..Self::default()
        })
    }

    /// Adds the output of an attempt. If that fails, nothing is added.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or the spool has as much as it takes.
    pub fn add(&mut self, stdout: Kept<'_>, stderr: Kept<'_>) -> io::Result<SpooledOutput> {
        if self.limit.is_some_and(|limit| self.end >= limit) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(match &self.path {
                Some(path) => own_files::create(path)?,
                None => tempfile::tempfile()?,
            }),
        };
        file.seek(io::SeekFrom::Start(self.end))?;
        let mut writer = BufWriter::new(&*file);
        let mut end = self.end;
        let stdout = copy(stdout, &mut writer, &mut end)?;
        let stderr = copy(stderr, &mut writer, &mut end)?;
        writer.flush()?;
        drop(writer);
        self.end = end;
        Ok(SpooledOutput { stdout, stderr })
    }

    /// Reads a stream.
    ///
    /// # Errors
    ///
    /// When nothing was written.
    pub fn open(&self, output: SpooledOutput, stream: Stream) -> io::Result<Kept<'_>> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let stream = output.stream(stream);
        // A recording is a file that anybody can write: sums may not overflow.
        let tail = stream.offset.saturating_add(stream.head);
        Ok(Kept {
            head: Box::new(Section {
                file,
                offset: stream.offset,
                end: tail,
            }),
            dropped: stream.dropped,
            tail: Box::new(Section {
                file,
                offset: tail,
                end: tail.saturating_add(stream.tail),
            }),
        })
    }
}

fn copy(mut kept: Kept<'_>, to: &mut impl Write, end: &mut u64) -> io::Result<SpooledStream> {
    let offset = *end;
    let head = io::copy(&mut kept.head, to)?;
    let tail = io::copy(&mut kept.tail, to)?;
    *end += head + tail;
    Ok(SpooledStream {
        offset,
        head,
        dropped: kept.dropped,
        tail,
    })
}

/// A part of the spool as a reader.
struct Section<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.offset);
        let len = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..len], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
