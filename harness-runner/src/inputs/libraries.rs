//! Shared libraries that were built with a binary, or came with the compiler that built it.

use crate::protocol::Environment;
use camino::{Utf8Path, Utf8PathBuf};
use memchr::memmem;
use std::{collections::BTreeMap, fs};

/// The libraries of binaries, each looked for once.
#[derive(Debug, Default)]
pub(super) struct Libraries {
    /// The libraries of each search path.
    there: BTreeMap<Utf8PathBuf, Vec<Utf8PathBuf>>,
    /// Those that a binary names.
    named: BTreeMap<Utf8PathBuf, Vec<Utf8PathBuf>>,
}

impl Libraries {
    /// Returns the libraries that a binary names, and that those name, in the search path that cargo gives its tests.
    /// A name that is in it by chance costs an upload.
    pub(super) fn of(&mut self, binary: &Utf8Path, environment: &Environment) -> &[Utf8PathBuf] {
        let there = &mut self.there;
        let search = || {
            let path = environment
                .get("LD_LIBRARY_PATH")
                .and_then(|path| path.to_str());
            let mut wanted: Vec<Utf8PathBuf> = Vec::new();
            let mut open = vec![binary.to_owned()];
            while let Some(file) = open.pop() {
                let Ok(bytes) = fs::read(&file) else { continue };
                for folder in path
                    .unwrap_or_default()
                    .split(':')
                    .filter(|part| !part.is_empty())
                {
                    let folder = Utf8PathBuf::from(folder);
                    let libraries = there
                        .entry(folder)
                        .or_insert_with_key(|folder| in_folder(folder));
                    for library in libraries.iter().filter(|library| names(&bytes, library)) {
                        if !wanted.contains(library) && library != binary {
                            wanted.push(library.clone());
                            open.push(library.clone());
                        }
                    }
                }
            }
            wanted
        };
        self.named.entry(binary.to_owned()).or_insert_with(search)
    }
}

fn names(bytes: &[u8], library: &Utf8Path) -> bool {
    let name = library.file_name().unwrap_or_default();
    // As a string of a program: ended by NUL.
    memmem::find(bytes, format!("{name}\0").as_bytes()).is_some()
}

fn in_folder(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let all = folder.read_dir_utf8().into_iter().flatten().flatten();
    let libraries = all.filter(|entry| {
        let name = entry.file_name();
        name.ends_with(".so") || name.contains(".so.")
    });
    libraries.map(|entry| entry.into_path()).collect()
}
