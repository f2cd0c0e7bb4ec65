//! Digests of bytes and of files.

use crate::api;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fmt::Write,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// The digest of some bytes, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Digest {
    pub(crate) hash: String,
    pub(crate) size: u64,
}

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            hash: hex(&Sha256::digest(bytes)),
            size: bytes.len() as u64,
        }
    }

    fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            size += read as u64;
            hasher.update(&buffer[..read]);
        }
        let hash = hex(&hasher.finalize());
        Ok(Self { hash, size })
    }

    pub(crate) fn to_api(&self) -> api::Digest {
        api::Digest {
            hash: self.hash.clone(),
            size_bytes: i64::try_from(self.size).unwrap_or(i64::MAX),
        }
    }

    pub(crate) fn from_api(digest: &api::Digest) -> Self {
        Self {
            hash: digest.hash.clone(),
            size: u64::try_from(digest.size_bytes).unwrap_or(0),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A file in a known state.
type Identity = (u64, u64, u64, i64, i64, i64, i64);

/// The digests of files that have been read. One that has changed since is read again.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<HashMap<Identity, Digest>>);

impl Files {
    /// Returns the digest of a file. It blocks, also while another file is read: actions that start together need
    /// the same large ones, and each of those is read once.
    pub(crate) fn digest(&self, path: &Path) -> io::Result<Digest> {
        let found = path.metadata()?;
        let identity = (
            found.dev(),
            found.ino(),
            found.len(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        );
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = known.get(&identity) {
            return Ok(digest.clone());
        }
        let digest = Digest::of_file(path)?;
        known.insert(identity, digest.clone());
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_has_the_digest_of_its_bytes_and_is_read_again_once_it_has_changed() {
        let folder = tempfile::tempdir().expect("there is room");
        let file = folder.path().join("file");
        let files = Files::default();
        fs::write(&file, "abc").expect("it can be written");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = files.digest(&file).expect("it can be read");
        assert_eq!((digest.hash.as_str(), digest.size), (abc, 3));
        assert_eq!(digest, Digest::of(b"abc"));
        fs::write(&file, "abcd").expect("it can be written");
        assert_eq!(
            files.digest(&file).expect("it can be read"),
            Digest::of(b"abcd")
        );
    }
}
