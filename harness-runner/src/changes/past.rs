//! The commits of a repository, and a clone in which one after the other is checked out.

use super::git::{self, GitError};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;
use thiserror::Error;

/// Variables by which git would work on another repository than the one it is started in.
pub const OF_ANOTHER_REPOSITORY: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its whole id.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
}

/// A part of a history.
#[derive(Clone, Debug)]
pub struct Span {
    /// The number of commits at most, the latest ones.
    pub most: usize,
    /// The commits after this revision; `None` for no bound.
    pub base: Option<String>,
    /// The revision that is the last commit.
    pub head: String,
}

/// The commits of a span, along first parents.
#[derive(Clone, Debug)]
pub struct Past {
    /// The root of the working tree.
    pub top: PathBuf,
    /// The commit before the span, then those of the span, the oldest first.
    pub commits: Vec<Commit>,
    /// Whether a part of the history is missing.
    pub shallow: bool,
    /// Whether files of the working tree are not committed.
    pub dirty: bool,
}

impl Past {
    /// Returns the commits of a span in the repository that a folder is in.
    ///
    /// # Errors
    ///
    /// When git is missing, fails, or does not know a revision.
    pub fn of(folder: &Utf8Path, span: &Span) -> Result<Self, GitError> {
        let top = git::top(folder)?;
        let git = git::Git { top };
        if !git.succeeds(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])? {
            return Err(GitError::NoCommit { top: git.top });
        }
        let head = git::commit(&git.top, &span.head)?;
        let range = match &span.base {
            None => head,
            Some(base) => format!("{}..{head}", git::commit(&git.top, base)?),
        };
        let count = span.most.to_string();
        let mut commits = list(&git, &["--max-count", &count, &range])?;
        if let Some(oldest) = commits.last().map(|oldest| format!("{}^", oldest.id))
            && git.succeeds(&["rev-parse", "--verify", "--quiet", &oldest])?
        {
            commits.extend(list(&git, &["--max-count", "1", &oldest])?);
        }
        commits.reverse();
        Ok(Self {
            commits,
            shallow: git.is_shallow(),
            dirty: !git.output(&["status", "--porcelain"])?.is_empty(),
            top: git.top,
        })
    }
}

fn list(git: &git::Git, args: &[&str]) -> Result<Vec<Commit>, GitError> {
    let log = ["log", "--first-parent", "--format=%H %s"];
    let output = git.output(&[&log[..], args, &["--"]].concat())?;
    let text = String::from_utf8_lossy(&output).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let commits = lines.map(|(id, subject)| Commit {
        id: id.to_owned(),
        subject: subject.to_owned(),
    });
    Ok(commits.collect())
}

/// An error in making the clone.
#[derive(Debug, Error)]
pub enum CheckoutError {
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// There is no place for it.
    #[error("failed to make a folder for the clone in `{folder}`")]
    Folder {
        /// The folder around it.
        folder: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A clone in a temporary folder, which goes when this is dropped. The repository, its working tree and its list of
/// worktrees stay as they are.
#[derive(Debug)]
pub struct Checkout {
    // Dropped with all that is in it.
    _folder: TempDir,
    around: Utf8PathBuf,
}

impl Checkout {
    /// Clones a repository, with its objects shared, and checks nothing out.
    ///
    /// # Errors
    ///
    /// When git fails, or there is no place for temporary files.
    pub fn new(top: &Path) -> Result<Self, CheckoutError> {
        let temporary = std::env::temp_dir();
        let failed = |source| CheckoutError::Folder {
            folder: temporary.clone(),
            source,
        };
        let folder = tempfile::Builder::new()
            .prefix("harness-simulate-")
            .tempdir_in(&temporary)
            .map_err(failed)?;
        let around = folder.path().canonicalize().map_err(failed)?;
        let around = Utf8PathBuf::from_path_buf(around)
            .map_err(|_| failed(io::Error::other("its name is not UTF-8")))?;
        let checkout = Self {
            _folder: folder,
            around,
        };
        let tree = checkout.tree();
        let mut clone = git();
        clone
            .args(["clone", "--quiet", "--shared", "--no-checkout", "--"])
            .args([top.as_os_str(), tree.as_std_path().as_os_str()]);
        done(clone, "git clone")?;
        // Without one in the repository, the versions of the first commit stay.
        let exclude = tree.join(".git/info/exclude");
        let written = fs::create_dir_all(tree.join(".git/info"));
        let written = written.and_then(|()| fs::write(&exclude, "Cargo.lock\n"));
        written.map_err(failed)?;
        Ok(checkout)
    }

    /// Returns the folder of the files.
    pub fn tree(&self) -> Utf8PathBuf {
        self.around.join("checkout")
    }

    /// Returns a path beside it, which goes with it.
    pub fn beside(&self, name: &str) -> Utf8PathBuf {
        self.around.join(name)
    }

    /// Checks a commit out. Files that are neither committed nor ignored go.
    ///
    /// # Errors
    ///
    /// When git fails.
    pub fn to(&self, commit: &str) -> Result<(), GitError> {
        self.git(&["checkout", "--quiet", "--force", "--detach", commit])?;
        self.git(&["clean", "-ffdq"]).map(drop)
    }

    /// Returns the files that differ between two commits, as paths from the root.
    ///
    /// # Errors
    ///
    /// When git fails.
    pub fn changed(&self, from: &str, to: &str) -> Result<Vec<String>, GitError> {
        let diff = ["diff", "--name-only", "-z", "--no-renames", from, to, "--"];
        let output = self.git(&diff)?;
        let paths = output.split(|byte| *byte == 0).filter(|it| !it.is_empty());
        Ok(paths
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect())
    }

    /// Returns the committed files, as paths from the root.
    ///
    /// # Errors
    ///
    /// When git fails.
    pub fn files(&self) -> Result<Vec<String>, GitError> {
        let output = self.git(&["ls-files", "-z"])?;
        let paths = output.split(|byte| *byte == 0).filter(|it| !it.is_empty());
        Ok(paths
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect())
    }

    fn git(&self, args: &[&str]) -> Result<Vec<u8>, GitError> {
        let mut command = git();
        command.args(args).current_dir(self.tree());
        done(command, &format!("git {}", args[0]))
    }
}

/// Returns git without hooks, and without what leads it to another repository.
fn git() -> Command {
    let mut command = Command::new("git");
    command.args([
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fsmonitor=false",
    ]);
    for name in OF_ANOTHER_REPOSITORY {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn done(mut command: Command, name: &str) -> Result<Vec<u8>, GitError> {
    let output = command.output().map_err(git::not_started)?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(GitError::Failed {
            command: name.to_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}
