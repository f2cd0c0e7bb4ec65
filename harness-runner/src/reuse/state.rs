//! The state of a path, as far as a test can depend on it.

use super::{
    digests::{Digest, Digests, identity},
    times::now,
};
use crate::{own_files, sys::Identity};
use harness_metadata::trace::FileId;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsStr,
    fmt,
    fs::{self, Metadata},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

/// Bytes of a file of the kernel's that are read.
const OF_THE_KERNEL: u64 = 64 * 1024;

/// The state of a path. Times, inodes and owners are no part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// Nothing is there. A call that creates something depends on the folder that would have it.
    Absent {
        /// The nearest folder above that is there.
        nearest: Vec<u8>,
    },
    /// Looking at it is refused with this `errno(3)`.
    Refused(i32),
    /// A file.
    File {
        /// The text of the symbolic link by which it is found.
        link: Option<Vec<u8>>,
        /// Its permissions.
        mode: u32,
        /// Its bytes.
        size: u64,
        /// The digest of its content; `None` if it may not be read.
        digest: Option<Digest>,
    },
    /// A folder.
    Folder {
        /// The text of the symbolic link by which it is found.
        link: Option<Vec<u8>>,
        /// Its permissions.
        mode: u32,
    },
    /// A socket, a named pipe, a device.
    Other {
        /// Its kind and permissions.
        mode: u32,
    },
    /// A symbolic link that leads nowhere.
    Dangling {
        /// Its text.
        link: Vec<u8>,
    },
    /// The names in a folder, and their kinds.
    Names(Digest),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { .. } => f.write_str("absent"),
            Self::Refused(errno) => {
                let error = io::Error::from_raw_os_error(*errno);
                write!(f, "refused ({error})")
            }
            Self::File {
                link,
                mode,
                size,
                digest,
            } => {
                write!(f, "a file of {size} bytes")?;
                if let Some(digest) = digest {
                    write!(f, " with the content {digest}")?;
                }
                write!(f, ", mode {:o}", mode & 0o7777)?;
                through(f, link.as_deref())
            }
            Self::Folder { link, mode } => {
                write!(f, "a folder, mode {:o}", mode & 0o7777)?;
                through(f, link.as_deref())
            }
            Self::Other { mode } => write!(f, "a special file, mode {mode:o}"),
            Self::Dangling { link } => {
                let link = String::from_utf8_lossy(link);
                write!(f, "a symbolic link to `{link}`, which is not there")
            }
            Self::Names(digest) => write!(f, "the names {digest}"),
        }
    }
}

fn through(f: &mut fmt::Formatter<'_>, link: Option<&[u8]>) -> fmt::Result {
    match link {
        Some(link) => write!(f, ", by a link to `{}`", String::from_utf8_lossy(link)),
        None => Ok(()),
    }
}

/// A moment's look at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its state.
    pub state: State,
    /// The file that it leads to, and the symbolic link on the way, each as it is now.
    pub(super) files: Vec<Identity>,
    /// Whether a change of these files shows in their times at once: not so on a server, for example.
    pub(super) prompt: bool,
}

impl Look {
    pub(super) fn nothing(state: State) -> Self {
        Self {
            state,
            files: Vec::new(),
            prompt: true,
        }
    }

    /// Returns whether one of the files is this one.
    pub(super) fn is_of(&self, file: FileId) -> bool {
        let is = |it: &Identity| (it.device, it.inode) == (file.device, file.inode);
        self.files.iter().any(is)
    }
}

/// The machine, or what a test makes of it.
pub trait World {
    /// Looks at a path.
    fn look(&mut self, path: &[u8]) -> Look;
    /// Looks at the names in a folder.
    fn list(&mut self, path: &[u8]) -> Look;
}

/// This machine.
#[derive(Debug, Default)]
pub struct Here {
    pub(super) digests: Digests,
    /// Devices, and whether their file systems show a change at once.
    prompt: Vec<(u64, bool)>,
}

impl World for Here {
    fn look(&mut self, path: &[u8]) -> Look {
        let place = Path::new(OsStr::from_bytes(path));
        if path.starts_with(b"/proc/") || path.starts_with(b"/sys/") {
            return of_the_kernel(place, path);
        }
        let own = match place.symlink_metadata() {
            Ok(own) => own,
            Err(error) => return Look::nothing(absent_or(path, &error)),
        };
        if !own.file_type().is_symlink() {
            return self.at(place, None, vec![own]);
        }
        let link = match fs::read_link(place) {
            Ok(link) => link.into_os_string().as_bytes().to_vec(),
            Err(error) => return Look::nothing(refused(&error)),
        };
        match place.metadata() {
            Ok(target) => self.at(place, Some(link), vec![target, own]),
            Err(error) if is_absence(&error) => Look {
                state: State::Dangling { link },
                prompt: self.prompt(place, &own),
                files: vec![identity(&own)],
            },
            Err(error) => Look::nothing(refused(&error)),
        }
    }

    fn list(&mut self, path: &[u8]) -> Look {
        let place = Path::new(OsStr::from_bytes(path));
        let listed = place.metadata().and_then(|folder| {
            let mut names = Vec::new();
            for entry in fs::read_dir(place)? {
                let entry = entry?;
                let kind = entry.file_type().map_or('?', kind_of);
                names.push((entry.file_name(), kind));
            }
            names.sort();
            let mut text = Vec::new();
            for (name, kind) in names {
                text.extend_from_slice(name.as_bytes());
                text.extend_from_slice(&[0, kind as u8, 0]);
            }
            Ok((folder, Digest::of(&text)))
        });
        match listed {
            Ok((folder, digest)) => Look {
                state: State::Names(digest),
                prompt: self.prompt(place, &folder),
                files: vec![identity(&folder)],
            },
            Err(error) => Look::nothing(absent_or(path, &error)),
        }
    }
}

impl Here {
    /// Returns one that knows the same digests, for another thread.
    pub fn with_digests_only(&self) -> Self {
        Self {
            digests: self.digests.clone(),
            prompt: Vec::new(),
        }
    }

    /// `files` begins with what the path leads to.
    fn at(&mut self, place: &Path, link: Option<Vec<u8>>, files: Vec<Metadata>) -> Look {
        let found = &files[0];
        let (kind, mode) = (found.file_type(), found.mode());
        let prompt = files.iter().all(|file| self.prompt(place, file));
        let state = if kind.is_file() {
            let digest = self.digests.of(place, identity(found), now()).ok();
            State::File {
                link,
                mode,
                size: found.size(),
                digest,
            }
        } else if kind.is_dir() {
            State::Folder { link, mode }
        } else {
            State::Other { mode }
        };
        Look {
            state,
            files: files.iter().map(identity).collect(),
            prompt,
        }
    }

    fn prompt(&mut self, place: &Path, file: &Metadata) -> bool {
        let device = file.dev();
        if let Some((_, prompt)) = self.prompt.iter().find(|(known, _)| *known == device) {
            return *prompt;
        }
        let prompt = crate::sys::is_local(place);
        self.prompt.push((device, prompt));
        prompt
    }
}

/// Looks at a file that the kernel makes at each look: it has a content, and no times.
fn of_the_kernel(place: &Path, path: &[u8]) -> Look {
    let looked = place.metadata().and_then(|metadata| {
        if !metadata.is_file() {
            return Ok(State::Folder {
                link: None,
                mode: metadata.mode(),
            });
        }
        let mut content = Vec::new();
        let file = own_files::open(place)?;
        file.take(OF_THE_KERNEL).read_to_end(&mut content)?;
        Ok(State::File {
            link: None,
            mode: metadata.mode(),
            size: content.len() as u64,
            digest: Some(Digest::of(&content)),
        })
    });
    Look::nothing(looked.unwrap_or_else(|error| absent_or(path, &error)))
}

fn kind_of(kind: fs::FileType) -> char {
    if kind.is_dir() {
        'd'
    } else if kind.is_symlink() {
        'l'
    } else if kind.is_file() {
        'f'
    } else if kind.is_socket() {
        's'
    } else {
        'o'
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

fn refused(error: &io::Error) -> State {
    State::Refused(error.raw_os_error().unwrap_or(libc::EIO))
}

fn absent_or(path: &[u8], error: &io::Error) -> State {
    match is_absence(error) {
        true => State::Absent {
            nearest: nearest(path, &|folder| {
                Path::new(OsStr::from_bytes(folder))
                    .symlink_metadata()
                    .is_ok()
            }),
        },
        false => refused(error),
    }
}

/// Returns the nearest folder above a path that is there.
pub(super) fn nearest(path: &[u8], is_there: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut at = parent(path);
    while at.len() > 1 && !is_there(at) {
        at = parent(at);
    }
    at.to_vec()
}

/// Returns the folder that a path is in.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        None | Some(0) => b"/",
        Some(slash) => &path[..slash],
    }
}
