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
    sync::{Arc, OnceLock},
};

/// The position of an attempt's output in the file.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpooledOutput {
    /// Standard output.
    pub stdout: SpooledStream,
    /// Standard error.
    pub stderr: SpooledStream,
}

/// The position of a stream in the file: its head, and right after it its tail.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpooledStream {
    /// The offset of its head.
    pub offset: u64,
    /// Bytes of the head.
    pub head: u64,
    /// Bytes between the two that were not kept.
    pub dropped: u64,
    /// Bytes of the tail.
    pub tail: u64,
}

impl SpooledOutput {
    pub(super) fn stream(self, stream: Stream) -> SpooledStream {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

/// The file, which is made when there is something to write, for those who read it.
#[derive(Clone, Debug, Default)]
pub struct SpoolFile(Arc<OnceLock<File>>);

impl SpoolFile {
    /// Opens one that was written.
    pub(super) fn open_existing(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(OnceLock::from(own_files::open(path)?))))
    }

    /// Reads a stream.
    ///
    /// # Errors
    ///
    /// When nothing was written.
    pub fn open(&self, output: SpooledOutput, stream: Stream) -> io::Result<Kept<'_>> {
        let file = self.0.get().ok_or(io::ErrorKind::NotFound)?;
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

/// The folder of a spool's file.
#[derive(Debug, Default)]
enum Home {
    /// At this path.
    Named(PathBuf),
    /// In this folder, without a name.
    Unnamed(PathBuf),
    /// In the folder for temporary files, without a name.
    #[default]
    Temporary,
}

/// A file for output, and how much of it is in use.
#[derive(Debug, Default)]
pub struct Spool {
    home: Home,
    file: SpoolFile,
    end: u64,
    limit: Option<u64>,
}

impl Spool {
    /// A spool that is made at `path` when there is something to write, and takes about `limit`
    /// bytes.
    pub(super) fn at(path: PathBuf, limit: u64) -> Self {
        Self {
            home: Home::Named(path),
            limit: Some(limit),
            ..Self::default()
        }
    }

    /// A spool without a name in a folder. It is gone when this program is.
    pub(super) fn unnamed_in(folder: PathBuf) -> Self {
        Self {
            home: Home::Unnamed(folder),
            ..Self::default()
        }
    }

    /// Returns the file, for those who read it.
    pub fn file(&self) -> SpoolFile {
        self.file.clone()
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
        let mut file = match self.file.0.get() {
            Some(file) => file,
            None => {
                let file = match &self.home {
                    Home::Named(path) => own_files::create(path)?,
                    Home::Unnamed(folder) => tempfile::tempfile_in(folder)?,
                    Home::Temporary => tempfile::tempfile()?,
                };
                self.file.0.get_or_init(|| file)
            }
        };
        file.seek(io::SeekFrom::Start(self.end))?;
        let mut writer = BufWriter::new(file);
        let mut end = self.end;
        let stdout = copy(stdout, &mut writer, &mut end)?;
        let stderr = copy(stderr, &mut writer, &mut end)?;
        writer.flush()?;
        drop(writer);
        self.end = end;
        Ok(SpooledOutput { stdout, stderr })
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
