//! Writes the files of a revision to a folder, beside the working tree.

use super::git::{self, GitError};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
};
use thiserror::Error;

/// An error in writing the files of a revision.
#[derive(Debug, Error)]
pub enum ExportError {
    /// Git does not have it.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The files cannot be written.
    #[error("failed to write the files of `{revision}` to `{folder}`: {source}")]
    Write {
        /// The revision.
        revision: String,
        /// The folder.
        folder: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// The files of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The commit.
    pub commit: String,
    /// The folder of the workspace among them.
    pub workspace: Utf8PathBuf,
}

/// Writes the files of a revision to a folder of its own in `into`, where those of other revisions go. The working
/// tree, the index and the list of worktrees stay as they are.
///
/// # Errors
///
/// When git is missing or does not know the revision, or the files cannot be written.
pub fn export(root: &Utf8Path, revision: &str, into: &Utf8Path) -> Result<Exported, ExportError> {
    let top = git::top(root)?;
    let commit = git::commit(&top, revision)?;
    let folder = into.join(&commit);
    let failed = |source| ExportError::Write {
        revision: revision.to_owned(),
        folder: folder.clone(),
        source,
    };
    write(&top, &commit, into, &folder).map_err(failed)?;
    let root = root.canonicalize_utf8().map_err(failed)?;
    let below = root
        .as_std_path()
        .strip_prefix(&top)
        .ok()
        .and_then(Utf8Path::from_path);
    Ok(Exported {
        workspace: folder.join(below.unwrap_or(Utf8Path::new(""))),
        commit,
    })
}

fn write(top: &Path, commit: &str, into: &Utf8Path, folder: &Utf8Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    for entry in into.read_dir_utf8()?.flatten() {
        if is_commit(entry.file_name()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    fs::create_dir(folder)?;
    let mut archive = Command::new("git")
        .args(["archive", "--format=tar", commit])
        .current_dir(top)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let files = archive.stdout.take().expect("it is piped");
    // The times are that of the commit, so cargo builds what it has built before no second time.
    let unpacked = tar::Archive::new(files).unpack(folder);
    let status = archive.wait()?;
    unpacked?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "`git archive` ended with {status}"
        ))),
    }
}

/// Returns whether a name is that of a folder with the files of a commit.
fn is_commit(name: &str) -> bool {
    name.len() >= 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_revision_are_written_beside_the_working_tree() {
        let place = tempfile::tempdir().expect("it is made");
        let root = Utf8Path::from_path(place.path()).expect("it is UTF-8");
        let root = root.canonicalize_utf8().expect("it is there");
        let repository = root.join("repository");
        let package = repository.join("sub/package");
        fs::create_dir_all(&package).expect("it is made");
        let git = |args: &[&str]| {
            let status = Command::new("git")
                .args([
                    "-c",
                    "user.name=a",
                    "-c",
                    "user.email=a@b",
                    "-c",
                    "init.defaultBranch=main",
                ])
                .args(args)
                .current_dir(&repository)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert!(status.expect("git is there").success(), "{args:?}");
        };
        git(&["init"]);
        for text in ["first", "second"] {
            fs::write(package.join("file"), text).expect("it is written");
            git(&["add", "."]);
            git(&["commit", "-m", text]);
        }
        fs::write(package.join("file"), "changed").expect("it is written");
        let into = root.join("into");
        let of = |revision: &str| {
            let exported = export(&package, revision, &into).expect("it is a revision");
            fs::read_to_string(exported.workspace.join("file")).expect("it is there")
        };
        assert_eq!(of("HEAD~1"), "first");
        assert_eq!(of("main"), "second");
        assert_eq!(
            fs::read_dir(&into).expect("it is there").count(),
            1,
            "others go"
        );
        let changed = fs::read_to_string(package.join("file")).expect("it is there");
        assert_eq!(changed, "changed");
        let unknown = export(&package, "no-such", &into).expect_err("there is none");
        assert!(
            unknown.to_string().contains("`no-such` is no revision"),
            "{unknown}"
        );
        let flag = export(&package, "--output=x", &into).expect_err("it is no flag");
        assert!(flag.to_string().contains("is no revision"), "{flag}");
    }
}
