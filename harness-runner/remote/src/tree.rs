//! The input root of an action: folders as messages, each named by its digest.

use crate::{api::execution, digest::Digest};
use prost::Message;
use std::collections::BTreeMap;

/// A folder on its way to a message. Names are sorted, as the API wants them.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, (Digest, bool)>,
    folders: BTreeMap<String, Tree>,
}

impl Tree {
    /// Adds a file. One that is there already is replaced.
    pub(crate) fn add_file(&mut self, path: &str, digest: Digest, executable: bool) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.add_folder(folder);
        folder.files.insert(name.to_owned(), (digest, executable));
    }

    /// Adds a folder, and those above it.
    pub(crate) fn add_folder(&mut self, path: &str) -> &mut Self {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.fold(self, |folder, part| {
            folder.folders.entry(part.to_owned()).or_default()
        })
    }

    /// Returns the digest of this folder. Its message, and those of all below it, are added to `blobs`.
    pub(crate) fn encode(&self, blobs: &mut BTreeMap<Digest, Vec<u8>>) -> Digest {
        let folders = self.folders.iter().map(|(name, folder)| {
            let digest = Some(folder.encode(blobs).to_api());
            let name = name.clone();
            execution::DirectoryNode { name, digest }
        });
        let directory = execution::Directory {
            directories: folders.collect(),
            files: (self.files.iter())
                .map(|(name, (digest, executable))| execution::FileNode {
                    name: name.clone(),
                    digest: Some(digest.to_api()),
                    is_executable: *executable,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let bytes = directory.encode_to_vec();
        let digest = Digest::of(&bytes);
        blobs.insert(digest.clone(), bytes);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_sorted_and_the_same_tree_has_the_same_digest_in_any_order() {
        let file = Digest::of(b"x");
        let (mut one, mut other) = (Tree::default(), Tree::default());
        for path in ["b/file", "a/deep/file", "c"] {
            one.add_file(path, file.clone(), false);
        }
        for path in ["c", "a/deep/file", "b/file"] {
            other.add_file(path, file.clone(), false);
        }
        one.add_folder("empty");
        let (mut blobs, mut others) = (BTreeMap::new(), BTreeMap::new());
        assert_ne!(one.encode(&mut blobs), other.encode(&mut others));
        other.add_folder("empty");
        let root = one.encode(&mut blobs);
        assert_eq!(root, other.encode(&mut others));
        let decoded = execution::Directory::decode(blobs[&root].as_slice()).expect("it is one");
        let names: Vec<_> = decoded.directories.iter().map(|d| &d.name).collect();
        assert_eq!(names, ["a", "b", "empty"]);
        assert_eq!(decoded.files[0].name, "c");
    }
}
