//! The files of a test at the places where it looks for them.
//!
//! A test may have a path of the machine that built it in its binary (`env!("CARGO_MANIFEST_DIR")`). Where the input
//! root is the root of the file system, as in a sandbox, its files are moved to those paths, which no other action has
//! there. Elsewhere the machine may belong to others, so nothing is made outside of the input root: then variables,
//! arguments and the working directory are changed to where the files are.

use crate::run::job::{FILES, Job};
use std::{
    fs, io,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
};

/// The place of a test's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// At the paths of the machine that sent them.
    Same,
    /// Below this folder.
    Below(PathBuf),
}

impl Layout {
    /// Makes the files of a job be where its test looks for them. `root` is the input root.
    pub(super) fn of(root: &Path, job: &Job) -> io::Result<Self> {
        let files = root.join(FILES);
        if root != Path::new("/") {
            return Ok(Self::Below(files));
        }
        for place in &job.roots {
            if let Ok(inside) = place.strip_prefix("/") {
                let from = files.join(inside);
                if from.symlink_metadata().is_ok() {
                    put(&from, place)?;
                }
            }
        }
        Ok(Self::Same)
    }

    /// Changes the paths of a job to where its files are.
    pub(super) fn relocate(&self, job: &mut Job) {
        let Self::Below(files) = self else { return };
        let roots = std::mem::take(&mut job.roots);
        let moved = |text: &[u8]| moved(text, &roots, files);
        job.program = job.program.iter().map(|word| moved(word)).collect();
        job.cwd = moved(&job.cwd);
        for (_, value) in &mut job.environment {
            *value = moved(value);
        }
        job.roots = roots;
    }

    /// Returns the path of the machine that sent a file, of which this is the path here.
    pub(super) fn original(&self, path: &[u8]) -> Option<Vec<u8>> {
        let Self::Below(files) = self else {
            return None;
        };
        let inside = path.strip_prefix(files.as_os_str().as_bytes())?;
        inside.starts_with(b"/").then(|| inside.to_vec())
    }
}

/// Moves a file or folder to a place. A folder that is there takes in what it lacks; a file that is there stays.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    if to.symlink_metadata().is_err() {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        return match fs::rename(from, to) {
            // Another file system, such as a `/tmp` of its own.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => symlink(from, to),
            renamed => renamed,
        };
    }
    if from.is_dir() && to.is_dir() {
        for entry in from.read_dir()? {
            let entry = entry?;
            put(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Returns a text in which each path below one of the roots leads to where that is now. A path begins at the start of
/// the text, or after `:`, `=` or a blank.
fn moved(text: &[u8], roots: &[PathBuf], files: &Path) -> Vec<u8> {
    let mut changed = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let begins = at == 0 || matches!(text[at - 1], b':' | b'=' | b' ');
        let of_root = |root: &&PathBuf| {
            let root = root.as_os_str().as_bytes();
            let rest = text[at..].strip_prefix(root);
            rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b':' | b' ')))
        };
        if begins && roots.iter().any(|root| of_root(&root)) {
            changed.extend(files.as_os_str().as_bytes());
        }
        changed.push(text[at]);
        at += 1;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(given: &str) -> String {
        let roots = [PathBuf::from("/my/space"), PathBuf::from("/target")];
        let moved = moved(given.as_bytes(), &roots, Path::new("/in/files"));
        String::from_utf8(moved).expect("it was UTF-8")
    }

    #[test]
    fn paths_of_the_workspace_are_moved_wherever_they_begin() {
        assert_eq!(text("/my/space"), "/in/files/my/space");
        assert_eq!(
            text("/my/space/a:/usr/lib:/target/b"),
            "/in/files/my/space/a:/usr/lib:/in/files/target/b"
        );
        assert_eq!(text("--dir=/target/x"), "--dir=/in/files/target/x");
        assert_eq!(
            text("/my/spaces /x/my/space /targets"),
            "/my/spaces /x/my/space /targets"
        );
    }

    #[test]
    fn a_folder_takes_in_what_it_lacks_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().expect("there is room");
        let (from, to) = (folder.path().join("from"), folder.path().join("deep/to"));
        fs::create_dir_all(from.join("a/b")).expect("it can be made");
        fs::write(from.join("a/new"), "new").expect("it can be written");
        fs::write(from.join("a/both"), "ours").expect("it can be written");
        fs::create_dir_all(to.join("a")).expect("it can be made");
        fs::write(to.join("a/both"), "theirs").expect("it can be written");
        put(&from, &to).expect("it can be moved");
        assert_eq!(
            fs::read_to_string(to.join("a/new")).expect("it is there"),
            "new"
        );
        assert_eq!(
            fs::read_to_string(to.join("a/both")).expect("it is there"),
            "theirs"
        );
        assert!(to.join("a/b").is_dir());
        put(&to, &folder.path().join("whole")).expect("it can be moved");
        assert!(folder.path().join("whole/a/new").exists() && !to.exists());
    }
}
