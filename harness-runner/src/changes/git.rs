//! Asks git for the files that differ from a revision.

use camino::{Utf8Path, Utf8PathBuf};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use thiserror::Error;

/// The revision to compare with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Since {
    /// The main branch: of the remote if there is one.
    #[default]
    Main,
    /// This revision.
    Revision(String),
}

/// The branches that are taken for the main one, in this order.
const MAIN: &[&str] = &[
    "refs/remotes/upstream/HEAD",
    "refs/remotes/origin/HEAD",
    "refs/remotes/upstream/main",
    "refs/remotes/upstream/master",
    "refs/remotes/origin/main",
    "refs/remotes/origin/master",
    "refs/heads/main",
    "refs/heads/master",
];

/// An error in finding what has changed.
#[derive(Debug, Error)]
pub enum GitError {
    /// There is no git.
    #[error("`git` was not found, and is needed to know what has changed")]
    Missing,
    /// It cannot be started.
    #[error("failed to start `git`")]
    Start(#[source] io::Error),
    /// The workspace is not in a repository.
    #[error("`{root}` is in no working tree of git{}", said(.stderr))]
    NoRepository {
        /// The root of the workspace.
        root: Utf8PathBuf,
        /// The words of git.
        stderr: String,
    },
    /// Nothing has been committed.
    #[error("the repository `{top}` has no commit yet")]
    NoCommit {
        /// The root of the repository.
        top: PathBuf,
    },
    /// There is no branch to compare with.
    #[error("no branch `main` or `master` is known, of this repository or of a remote")]
    NoMain,
    /// There is no such revision.
    #[error("`{base}` is no revision of the repository `{top}`{}", of_shallow(*.shallow))]
    NoRevision {
        /// The request.
        base: String,
        /// The root of the repository.
        top: PathBuf,
        /// Whether a part of the history is missing.
        shallow: bool,
    },
    /// The branches have no commit in common.
    #[error("`HEAD` and `{base}` have no commit in common{}", of_shallow(*.shallow))]
    NoMergeBase {
        /// The request.
        base: String,
        /// Whether a part of the history is missing.
        shallow: bool,
    },
    /// Git failed.
    #[error("`{command}` failed{}", said(.stderr))]
    Failed {
        /// The command.
        command: String,
        /// The words of git.
        stderr: String,
    },
}

fn said(stderr: &str) -> String {
    match stderr.lines().next() {
        Some(line) => format!(": {line}"),
        None => String::new(),
    }
}

fn of_shallow(shallow: bool) -> &'static str {
    match shallow {
        true => "; this is a shallow clone, which lacks a part of the history",
        false => "",
    }
}

impl GitError {
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRevision { shallow: true, .. } | Self::NoMergeBase { shallow: true, .. } => {
                Some("`git fetch --unshallow` fetches the rest; in CI clone with the whole history")
            }
            Self::NoMain => Some("`--changed=BASE` names a revision"),
            _ => None,
        }
    }
}

/// The files that differ from a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The commit that they differ from.
    pub base: String,
    /// The name of the branch or revision by which it was found.
    pub name: String,
    /// The files, as absolute paths without links; also those that are gone or not added.
    pub paths: BTreeSet<PathBuf>,
    /// `Cargo.lock` as it was.
    pub lock: Option<String>,
}

impl Tree {
    /// Compares the working tree, with everything that is not committed, with where it left the given
    /// revision.
    ///
    /// # Errors
    ///
    /// When git is missing, fails, or does not know such a revision.
    pub fn since(root: &Utf8Path, since: &Since) -> Result<Self, GitError> {
        let top = top(root)?;
        let git = Git { top };
        if !git.succeeds(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])? {
            return Err(GitError::NoCommit { top: git.top });
        }
        let name = match since {
            Since::Revision(name) => name.clone(),
            Since::Main => git.main()?,
        };
        let base = git.merge_base(&name)?;
        let mut paths = BTreeSet::new();
        // A rename is two changes: both places count.
        let diff = [
            "diff",
            "--name-only",
            "-z",
            "--no-renames",
            "--ignore-submodules=none",
        ];
        let committed = git.output(&[&diff[..], &[&base, "--"]].concat())?;
        let new = git.output(&["ls-files", "--others", "--exclude-standard", "-z"])?;
        for path in committed
            .split(|byte| *byte == 0)
            .chain(new.split(|byte| *byte == 0))
        {
            if !path.is_empty() {
                paths.insert(git.top.join(OsStr::from_bytes(path)));
            }
        }
        let lock = git.lock(root, &base);
        let name = name.strip_prefix("refs/heads/").unwrap_or(&name);
        let name = name.strip_prefix("refs/remotes/").unwrap_or(name);
        Ok(Self {
            base,
            name: name.to_owned(),
            paths,
            lock,
        })
    }
}

/// Returns the commit of a revision.
pub(super) fn commit(top: &Path, revision: &str) -> Result<String, GitError> {
    let git = Git {
        top: top.to_owned(),
    };
    let commit = format!("{revision}^{{commit}}");
    // A name that begins with a dash would be taken for a flag.
    let asked = [
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &commit,
    ];
    match git.output(&asked) {
        Ok(output) => Ok(String::from_utf8_lossy(&output).trim().to_owned()),
        Err(GitError::Failed { .. }) => Err(GitError::NoRevision {
            base: revision.to_owned(),
            shallow: git.is_shallow(),
            top: git.top,
        }),
        Err(error) => Err(error),
    }
}

/// Returns the root of the working tree.
pub(super) fn top(root: &Utf8Path) -> Result<PathBuf, GitError> {
    let output = run(root.as_std_path(), &["rev-parse", "--show-toplevel"])?;
    let line = output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout);
    if !output.status.success() || line.is_empty() {
        return Err(GitError::NoRepository {
            root: root.to_owned(),
            stderr: words(&output),
        });
    }
    Ok(PathBuf::from(OsStr::from_bytes(line)))
}

pub(super) struct Git {
    pub(super) top: PathBuf,
}

impl Git {
    fn main(&self) -> Result<String, GitError> {
        for name in MAIN {
            let commit = format!("{name}^{{commit}}");
            if self.succeeds(&["rev-parse", "--verify", "--quiet", &commit])? {
                // The name of the branch that `HEAD` of a remote is.
                let output = run(&self.top, &["symbolic-ref", "--quiet", name])?;
                let branch = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                return Ok(match output.status.success() && !branch.is_empty() {
                    true => branch,
                    false => (*name).to_owned(),
                });
            }
        }
        Err(GitError::NoMain)
    }

    fn merge_base(&self, name: &str) -> Result<String, GitError> {
        let commit = format!("{name}^{{commit}}");
        // A name that begins with a dash would be taken for a flag.
        let known = self.succeeds(&[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &commit,
        ])?;
        if !known {
            return Err(GitError::NoRevision {
                base: name.to_owned(),
                top: self.top.clone(),
                shallow: self.is_shallow(),
            });
        }
        let output = run(&self.top, &["merge-base", "HEAD", name])?;
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            Some(1) => Err(GitError::NoMergeBase {
                base: name.to_owned(),
                shallow: self.is_shallow(),
            }),
            _ => Err(GitError::Failed {
                command: format!("git merge-base HEAD {name}"),
                stderr: words(&output),
            }),
        }
    }

    pub(super) fn is_shallow(&self) -> bool {
        let output = run(&self.top, &["rev-parse", "--is-shallow-repository"]);
        output.is_ok_and(|output| output.stdout == b"true\n")
    }

    fn lock(&self, root: &Utf8Path, base: &str) -> Option<String> {
        let root = root.canonicalize_utf8().ok()?;
        let below = root.as_std_path().strip_prefix(&self.top).ok()?;
        let place = format!("{base}:{}", below.join("Cargo.lock").to_str()?);
        String::from_utf8(self.output(&["show", &place]).ok()?).ok()
    }

    pub(super) fn succeeds(&self, args: &[&str]) -> Result<bool, GitError> {
        Ok(run(&self.top, args)?.status.success())
    }

    pub(super) fn output(&self, args: &[&str]) -> Result<Vec<u8>, GitError> {
        let output = run(&self.top, args)?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(GitError::Failed {
                command: format!("git {}", shell_words::join(args)),
                stderr: words(&output),
            }),
        }
    }
}

fn run(folder: &Path, args: &[&str]) -> Result<Output, GitError> {
    let mut command = Command::new("git");
    command
        .args(["-c", "diff.relative=false", "-c", "core.fsmonitor=false"])
        .args(args)
        .current_dir(folder)
        .env("LC_ALL", "C")
        // It is a look, and no one else's index is to be refreshed by it.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null());
    command.output().map_err(not_started)
}

pub(super) fn not_started(source: io::Error) -> GitError {
    match source.kind() {
        io::ErrorKind::NotFound => GitError::Missing,
        _ => GitError::Start(source),
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
