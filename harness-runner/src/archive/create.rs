//! Writes an archive.

use super::{BINARIES, Contents, METADATA, contents::Source};
use crate::own_files::{self, Beside};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::unix::fs::PermissionsExt,
};
use tar::{Builder, EntryType, Header};
use thiserror::Error;

/// The moment that all files of an archive are of. Any other would do, but for the beginning of 1970, which
/// some programs take for a mistake.
const MOMENT: u64 = 1_000_000_000;

/// The end of the name of an archive that is being written.
const NEW: &str = ".tar.zst.new";

/// The memory that a reader needs: the most that a reader takes by default is 128 MiB.
const BUFFER: usize = 256 * 1024;

/// An archive to write.
#[derive(Clone, Debug)]
pub struct Creation {
    /// The file.
    pub file: Utf8PathBuf,
    /// The level of compression, −7 to 22; 0 for the default.
    pub level: i32,
    /// The number of threads that compress. The archive is the same with any number of them.
    pub threads: u32,
}

/// An archive that was written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The number of files in it.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// The size of the archive.
    pub compressed: u64,
}

/// An error that kept an archive from being written. What was at its place before is still there.
#[derive(Debug, Error)]
pub enum CreateError {
    /// A file that goes into it could not be read, or changed while it was.
    #[error("failed to read `{path}` for the archive")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The archive could not be written.
    #[error("failed to write the archive `{path}`")]
    Write {
        /// The archive.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Creation {
    /// Writes an archive, and then puts it at its place.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or the archive cannot be written.
    pub fn run(&self, contents: &Contents) -> Result<Created, CreateError> {
        let failed = |source| CreateError::Write {
            path: self.file.clone(),
            source,
        };
        own_files::sweep(&self.file, NEW);
        let beside = Beside::new(&self.file, NEW).map_err(failed)?;
        let file = beside.file.try_clone().map_err(failed)?;
        let bytes = self.write(contents, file)?;
        let file = beside.replace(&self.file).map_err(failed)?;
        let compressed = file.metadata().map_err(failed)?.len();
        Ok(Created {
            files: contents.files.len(),
            bytes,
            compressed,
        })
    }

    fn write(&self, contents: &Contents, file: File) -> Result<u64, CreateError> {
        let failed = |source| CreateError::Write {
            path: self.file.clone(),
            source,
        };
        let mut encoder = zstd::Encoder::new(BufWriter::with_capacity(BUFFER, file), self.level)
            .map_err(failed)?;
        encoder.include_checksum(true).map_err(failed)?;
        encoder.multithread(self.threads.max(1)).map_err(failed)?;
        let mut builder = Builder::new(encoder);
        let mut bytes = 0;
        // The descriptions come first, so that a reader has them at once.
        let first = [BINARIES, METADATA].map(Utf8Path::new);
        let is_first = |path: &Utf8Path| first.contains(&path);
        let leading = first
            .iter()
            .filter_map(|path| contents.files.get_key_value(*path));
        let rest = contents.files.iter().filter(|(path, _)| !is_first(path));
        for (path, source) in leading.chain(rest) {
            bytes += self.append(&mut builder, path, source)?;
        }
        let encoder = builder.into_inner().map_err(failed)?;
        let mut file = encoder.finish().map_err(failed)?;
        file.flush().map_err(failed)?;
        Ok(bytes)
    }

    /// Appends a file. Returns its size.
    fn append(
        &self,
        builder: &mut Builder<impl Write>,
        path: &Utf8Path,
        source: &Source,
    ) -> Result<u64, CreateError> {
        let failed = |source| CreateError::Write {
            path: self.file.clone(),
            source,
        };
        let file = match source {
            Source::Made(contents) => {
                let size = contents.len() as u64;
                let mut header = header(size, false);
                builder
                    .append_data(&mut header, path, contents.as_slice())
                    .map_err(failed)?;
                return Ok(size);
            }
            Source::File(file) => file,
        };
        let unreadable = |source| CreateError::Read {
            path: file.clone(),
            source,
        };
        let mut open = File::open(file).map_err(unreadable)?;
        let metadata = open.metadata().map_err(unreadable)?;
        let size = metadata.len();
        let mut header = header(size, metadata.permissions().mode() & 0o111 != 0);
        let mut read = Whole {
            file: &mut open,
            left: size,
            failed: None,
        };
        let appended = builder.append_data(&mut header, path, &mut read);
        if let Some(error) = read.failed.take() {
            return Err(unreadable(error));
        }
        appended.map_err(failed)?;
        Ok(size)
    }
}

fn header(size: u64, executable: bool) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_mtime(MOMENT);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Reads a file of a known size, and remembers errors: those of the archive are others.
struct Whole<'a> {
    file: &'a mut File,
    left: u64,
    failed: Option<io::Error>,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        let read = match self.file.read(&mut buffer[..most]) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it became shorter while it was read",
            )),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            read => read,
        };
        match read {
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}
