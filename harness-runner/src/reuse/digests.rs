//! Digests of contents, remembered by the state of the file that has them.

use super::times::is_settled;
use crate::{own_files, sys::Identity};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fmt,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

/// Digests that are remembered; with more of them those of this run stay.
const MOST: usize = 200_000;

/// Bytes that are read at once.
const AT_ONCE: usize = 128 * 1024;

/// The digest of a content (BLAKE3).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from(blake3::hash(bytes))
    }

    /// Returns all of it, as a name for files.
    pub(super) fn whole(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// Returns the digest of bytes that cannot be guessed from it without the key.
    pub(super) fn keyed(key: &[u8; 32], bytes: &[u8]) -> Self {
        Self::from(blake3::keyed_hash(key, bytes))
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

/// Shows the beginning, which is enough to tell two apart.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    state: Identity,
    digest: Digest,
}

/// The digests of files, by device and inode.
#[derive(Clone, Debug, Default)]
pub(super) struct Digests {
    known: HashMap<(u64, u64), Remembered>,
    /// Those that were asked for since they were read.
    used: HashMap<(u64, u64), Remembered>,
    /// The number of files that were read.
    pub(super) read: u64,
}

impl Digests {
    /// Returns the digest of a file that was in this state a moment ago. `now` is the time since 1970.
    pub(super) fn of(&mut self, path: &Path, state: Identity, now: Duration) -> io::Result<Digest> {
        let name = (state.device, state.inode);
        let known = self.used.get(&name).or_else(|| self.known.get(&name));
        if let Some(known) = known.filter(|known| known.state == state) {
            let known = *known;
            self.used.insert(name, known);
            return Ok(known.digest);
        }
        let digest = digest_of(path, &state)?;
        self.read += 1;
        // A file that was changed just now may change again without another time.
        if is_settled(&state, now) {
            self.used.insert(name, Remembered { state, digest });
        }
        Ok(digest)
    }

    pub(super) fn encode(&self) -> Vec<(Identity, Digest)> {
        let mut all = self.used.clone();
        if all.len() + self.known.len() <= MOST {
            for (name, known) in &self.known {
                all.entry(*name).or_insert(*known);
            }
        }
        all.into_values()
            .map(|known| (known.state, known.digest))
            .collect()
    }

    pub(super) fn decode(all: Vec<(Identity, Digest)>) -> Self {
        let known = all.into_iter().map(|(state, digest)| {
            let name = (state.device, state.inode);
            (name, Remembered { state, digest })
        });
        Self {
            known: known.collect(),
            ..Self::default()
        }
    }

    /// Adds those that another process has learned.
    pub(super) fn add(&mut self, other: Self) {
        for (name, known) in other.known {
            self.known.entry(name).or_insert(known);
        }
    }
}

/// Reads a file that is in this state, and still is when it has been read.
fn digest_of(path: &Path, state: &Identity) -> io::Result<Digest> {
    // A named pipe in its place would be waited for.
    let mut file: File = own_files::open(path)?;
    let is_as_before = |file: &File| -> io::Result<()> {
        match identity(&file.metadata()?) == *state {
            true => Ok(()),
            false => Err(io::Error::other("it changes while it is read")),
        }
    };
    is_as_before(&file)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; AT_ONCE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => drop(hasher.update(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    is_as_before(&file)?;
    Ok(hasher.finalize().into())
}

/// Returns the state of a file, as its metadata have it.
pub(super) fn identity(metadata: &Metadata) -> Identity {
    Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}
