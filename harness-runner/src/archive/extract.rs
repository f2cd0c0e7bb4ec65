//! Reads an archive, which may be from anywhere: nothing in it is believed before it is checked, and
//! nothing is written outside the folder that it is extracted to.

use super::{BINARIES, Format, LIBDIRS, METADATA, SOURCES, TOP, UnknownFormat};
use crate::cargo::Libdirs;
use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use nextest_metadata::BinaryListSummary;
use rustix::fs::statvfs;
use serde::de::DeserializeOwned;
use std::{
    cell::Cell,
    fs::{self, File},
    io::{self, BufReader, Read},
    rc::Rc,
};
use tar::{Archive, Entry, EntryType};
use tempfile::TempDir;
use thiserror::Error;

/// The longest description that is read.
const LONGEST: u64 = 1 << 30;

/// An archive to extract.
#[derive(Clone, Debug)]
pub struct Extraction {
    /// The archive.
    pub file: Utf8PathBuf,
    /// Its form.
    pub format: Format,
    /// The folder to extract it to.
    pub to: To,
}

/// The folder that an archive is extracted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// A new one.
    Temporary {
        /// Whether it stays after the run.
        stays: bool,
    },
    /// This one, which exists.
    Folder {
        /// The folder.
        path: Utf8PathBuf,
        /// Whether `target` in it may be there already.
        overwrite: bool,
    },
}

/// An archive that was extracted.
#[derive(Debug)]
pub struct Extracted {
    /// The folder that it is in.
    pub folder: Utf8PathBuf,
    /// The number of files.
    pub files: usize,
    /// The answer of `cargo metadata`.
    pub metadata: serde_json::Value,
    /// The binaries.
    pub summary: BinaryListSummary,
    /// The standard libraries that came along.
    pub libdirs: Libdirs,
    /// The workspace, if files of it came along.
    pub sources: Option<Utf8PathBuf>,
    /// The folder, if it goes when this is dropped.
    pub temporary: Option<TempDir>,
}

/// An error that kept an archive from being extracted.
#[derive(Debug, Error)]
pub enum ExtractError {
    /// Its form is not known.
    #[error(transparent)]
    Format(#[from] UnknownFormat),
    /// It could not be opened.
    #[error("failed to open the archive `{file}`")]
    Open {
        /// The archive.
        file: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It could not be read: it is cut off, damaged, or something else.
    #[error("failed to read the archive `{file}`; it is incomplete, damaged, or no archive")]
    Read {
        /// The archive.
        file: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A path in it is not allowed.
    #[error("the archive `{file}` has an entry `{path}`, which {problem}")]
    Path {
        /// The archive.
        file: Utf8PathBuf,
        /// The path.
        path: String,
        /// The sentence's end.
        problem: &'static str,
    },
    /// A file that has to be in it is missing.
    #[error("the archive `{file}` has no `{path}`, so it is not one of test binaries")]
    Lacks {
        /// The archive.
        file: Utf8PathBuf,
        /// The file.
        path: &'static str,
    },
    /// A description in it is no description.
    #[error("`{path}` in the archive `{file}` is not understood")]
    Json {
        /// The archive.
        file: Utf8PathBuf,
        /// The file.
        path: &'static str,
        /// The reason.
        source: serde_json::Error,
    },
    /// There is no folder to extract it to.
    #[error("failed to use the folder `{path}` to extract an archive to")]
    Folder {
        /// The folder.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The folder has a build already.
    #[error("`{path}` exists already; write `--extract-overwrite` to replace its files")]
    Exists {
        /// The folder.
        path: Utf8PathBuf,
    },
    /// There is no room.
    #[error("`{path}` in the archive has {size} bytes, and `{folder}` has room for {room}")]
    NoRoom {
        /// The file.
        path: Utf8PathBuf,
        /// Its size.
        size: u64,
        /// The folder.
        folder: Utf8PathBuf,
        /// The free space.
        room: u64,
    },
    /// A file could not be written.
    #[error("failed to extract `{path}`")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Extraction {
    /// Extracts the archive.
    ///
    /// # Errors
    ///
    /// When it is no archive of a build, or cannot be extracted.
    pub fn run(&self) -> Result<Extracted, ExtractError> {
        self.format.check(&self.file)?;
        let opened = File::open(&self.file).map_err(|source| ExtractError::Open {
            file: self.file.clone(),
            source,
        })?;
        let (folder, temporary) = self.folder()?;
        let decoder = zstd::Decoder::new(BufReader::new(opened));
        let decoder = decoder.map_err(|source| self.unreadable(source))?;
        let failed = Rc::new(Cell::new(false));
        let mut archive = Archive::new(Watched {
            reader: decoder,
            failed: Rc::clone(&failed),
        });
        let mut files = 0;
        let mut libdirs = Libdirs::default();
        let entries = archive
            .entries()
            .map_err(|source| self.unreadable(source))?;
        for entry in entries {
            let mut entry = entry.map_err(|source| self.unreadable(source))?;
            let path = self.checked(&entry)?;
            self.write(&mut entry, &path, &folder, &failed)?;
            note_library(&mut libdirs, &path, &folder);
            files += 1;
        }
        // The decoder compares the checksum at the end of the data.
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(|source| self.unreadable(source))?;
        let stays = self.to == To::Temporary { stays: true };
        let temporary = match temporary {
            Some(made) if stays => {
                let _ = made.keep();
                None
            }
            other => other,
        };
        let sources = folder.join(SOURCES);
        Ok(Extracted {
            sources: sources.join("Cargo.toml").is_file().then_some(sources),
            metadata: self.description(&folder, METADATA)?,
            summary: self.description(&folder, BINARIES)?,
            folder,
            files,
            libdirs,
            temporary,
        })
    }

    /// Returns the folder, and whether it is removed in the end.
    fn folder(&self) -> Result<(Utf8PathBuf, Option<TempDir>), ExtractError> {
        let unusable = |path: &Utf8Path, source| ExtractError::Folder {
            path: path.to_owned(),
            source,
        };
        match &self.to {
            To::Temporary { .. } => {
                let place = std::env::temp_dir();
                let place = Utf8PathBuf::from(place.to_string_lossy().into_owned());
                let made = tempfile::Builder::new()
                    .prefix("harness-archive-")
                    .tempdir();
                let made = made.map_err(|source| unusable(&place, source))?;
                let path = made
                    .path()
                    .canonicalize()
                    .and_then(|path| Utf8PathBuf::try_from(path).map_err(io::Error::other));
                let path = path.map_err(|source| unusable(&place, source))?;
                Ok((path, Some(made)))
            }
            To::Folder { path, overwrite } => {
                let found = path.canonicalize_utf8();
                let found = found.map_err(|source| unusable(path, source))?;
                let target = found.join(TOP);
                match target.symlink_metadata() {
                    Ok(_) if !overwrite => Err(ExtractError::Exists { path: target }),
                    _ => Ok((found, None)),
                }
            }
        }
    }

    /// Returns the path of an entry, if it is one that an archive of a build has.
    fn checked(&self, entry: &Entry<'_, impl Read>) -> Result<Utf8PathBuf, ExtractError> {
        let bytes = entry.path_bytes();
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let wrong = |problem| ExtractError::Path {
            file: self.file.clone(),
            path: shown.clone(),
            problem,
        };
        let path = str::from_utf8(&bytes).map_err(|_| wrong("is not UTF-8"))?;
        let path = Utf8Path::new(path);
        if path.is_absolute() {
            return Err(wrong("is an absolute path"));
        }
        let mut clean = Utf8PathBuf::new();
        for component in path.components() {
            match component {
                Utf8Component::Normal(name) => clean.push(name),
                _ => return Err(wrong("leads out of the folder that it is extracted to")),
            }
        }
        if !clean.starts_with(TOP) {
            return Err(wrong("is not below `target`"));
        }
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::Directory => Ok(clean),
            EntryType::Symlink | EntryType::Link => Err(wrong("is a link")),
            _ => Err(wrong("is neither a file nor a folder")),
        }
    }

    fn write(
        &self,
        entry: &mut Entry<'_, impl Read>,
        path: &Utf8Path,
        folder: &Utf8Path,
        unreadable: &Cell<bool>,
    ) -> Result<(), ExtractError> {
        let size = entry.size();
        // A little is left for others.
        let room = statvfs(folder.as_std_path()).map(|at| at.f_bavail.saturating_mul(at.f_frsize));
        if let Ok(room) = room
            && size > room
        {
            return Err(ExtractError::NoRoom {
                path: path.to_owned(),
                size,
                folder: folder.to_owned(),
                room,
            });
        }
        entry.set_preserve_mtime(false);
        let failed = |source| ExtractError::Write {
            path: path.to_owned(),
            source,
        };
        match entry.unpack_in(folder) {
            Ok(true) => {}
            Ok(false) => return Err(failed(io::Error::other("it leads out of the folder"))),
            Err(error) if unreadable.get() => return Err(self.unreadable(error)),
            Err(error) => return Err(failed(error)),
        }
        // An archive that ends in the middle of a file.
        let written = folder.join(path);
        match fs::symlink_metadata(&written) {
            Ok(metadata) if metadata.is_file() && metadata.len() != size => {
                let ended = "it ends in the middle of a file";
                Err(self.unreadable(io::Error::new(io::ErrorKind::UnexpectedEof, ended)))
            }
            _ => Ok(()),
        }
    }

    fn description<T: DeserializeOwned>(
        &self,
        folder: &Utf8Path,
        path: &'static str,
    ) -> Result<T, ExtractError> {
        let read = File::open(folder.join(path)).and_then(|file| {
            let mut text = Vec::new();
            file.take(LONGEST).read_to_end(&mut text)?;
            Ok(text)
        });
        let text = read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ExtractError::Lacks {
                file: self.file.clone(),
                path,
            },
            _ => self.unreadable(error),
        })?;
        serde_json::from_slice(&text).map_err(|source| ExtractError::Json {
            file: self.file.clone(),
            path,
            source,
        })
    }

    fn unreadable(&self, source: io::Error) -> ExtractError {
        ExtractError::Read {
            file: self.file.clone(),
            source,
        }
    }
}

/// Remembers whether reading has failed: an error of writing looks the same to who extracts.
struct Watched<R> {
    reader: R,
    failed: Rc<Cell<bool>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer);
        self.failed.set(self.failed.get() || read.is_err());
        read
    }
}

fn note_library(libdirs: &mut Libdirs, path: &Utf8Path, folder: &Utf8Path) {
    let Ok(inside) = path.strip_prefix(LIBDIRS) else {
        return;
    };
    let parent = path.parent().map(|parent| folder.join(parent));
    let mut parts = inside.components().map(|part| part.as_str());
    match (parts.next(), parts.next().map(str::parse)) {
        (Some("host"), _) => libdirs.host = parent,
        (Some("target"), Some(Ok(index))) => {
            libdirs.targets.extend(parent.map(|path| (index, path)));
        }
        _ => {}
    }
}
