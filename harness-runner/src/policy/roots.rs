//! Folders that have names in policies.

use super::Right;
use harness_metadata::{Word, words};
use serde::{Deserialize, Serialize};
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// A folder, or a few, with a name.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Root {
    /// The root of the workspace.
    Workspace,
    /// The target folder.
    Target,
    /// The folder for temporary files.
    Tmp,
    /// The home folder.
    Home,
    /// The toolchains of rustup, and the programs and sources of cargo.
    Toolchain,
    /// The system's programs, libraries and settings.
    System,
    /// `/dev/shm`.
    Shm,
}

words!(Root {
    Workspace = "workspace",
    Target = "target",
    Tmp = "tmp",
    Home = "home",
    Toolchain = "toolchain",
    System = "system",
    Shm = "shm",
});

/// The folders of [`Root::System`]. `/dev` is none: what every program may use of it is always allowed.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/nix/store",
    "/gnu/store",
    "/proc",
    "/sys",
    "/run/systemd/resolve",
];

/// The parts of cargo's home that are no secrets.
const OF_CARGO: &[&str] = &["bin", "registry", "git"];

/// The paths of the roots on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    paths: Vec<(Root, PathBuf)>,
}

impl Roots {
    /// Returns those of this process, for a workspace.
    pub fn new(workspace: &Path, target: &Path) -> Self {
        Self::of(workspace, target, &|name| env::var_os(name))
    }

    /// As [`Self::new`], with these variables.
    pub fn of(
        workspace: &Path,
        target: &Path,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Self {
        let folder = |name: &str| {
            variable(name)
                .map(PathBuf::from)
                .filter(|it| it.is_absolute())
        };
        let home = folder("HOME");
        let below_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let rustup = folder("RUSTUP_HOME").or_else(|| below_home(".rustup"));
        let cargo = folder("CARGO_HOME").or_else(|| below_home(".cargo"));
        let of_cargo = OF_CARGO
            .iter()
            .filter_map(|name| Some(cargo.as_ref()?.join(name)));
        let tmp = folder("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
        let mut paths = vec![
            (Root::Workspace, workspace.to_owned()),
            (Root::Target, target.to_owned()),
            (Root::Tmp, tmp),
        ];
        paths.extend(home.clone().map(|home| (Root::Home, home)));
        let toolchain = rustup.into_iter().chain(of_cargo);
        paths.extend(toolchain.map(|path| (Root::Toolchain, path)));
        paths.extend(
            SYSTEM
                .iter()
                .map(|path| (Root::System, PathBuf::from(path))),
        );
        paths.push((Root::Shm, PathBuf::from("/dev/shm")));
        for (_, path) in &mut paths {
            *path = real(path);
        }
        Self { paths }
    }

    /// Returns the paths of a root.
    pub fn paths_of(&self, root: Root) -> impl Iterator<Item = &Path> {
        let paths = self.paths.iter().filter(move |(of, _)| *of == root);
        paths.map(|(_, path)| path.as_path())
    }

    /// Returns the root that a path is in, and the rest of the path. Of several the innermost one counts.
    pub fn root_of<'a>(&self, path: &'a Path) -> Option<(Root, &'a Path)> {
        let around = self.paths.iter().filter_map(|(root, folder)| {
            let below = path.strip_prefix(folder).ok()?;
            Some((folder.as_os_str().len(), *root, below))
        });
        // Of two that are the same the first one counts.
        let around: Vec<_> = around.collect();
        let nearest = around.into_iter().rev().max_by_key(|(length, ..)| *length);
        nearest.map(|(_, root, below)| (root, below))
    }

    /// Returns the entry of a policy that gives a right to a path.
    pub fn written(&self, path: &Path, right: Right) -> String {
        match self.root_of(path) {
            // Names in them are often made by chance.
            Some((root @ (Root::Target | Root::Tmp | Root::Shm), _)) => root.word().to_owned(),
            // They are several folders, and have one name.
            Some((root @ (Root::Toolchain | Root::System), _)) if right != Right::Write => {
                root.word().to_owned()
            }
            Some((Root::Toolchain | Root::System, _)) => path.display().to_string(),
            Some((root, below)) if below.as_os_str().is_empty() => root.word().to_owned(),
            Some((root, below)) => format!("{root}/{}", below.display()),
            None => path.display().to_string(),
        }
    }
}

/// Returns a path without symbolic links, as far as it exists. Below `/proc` links are the process's own, and
/// stay.
pub(super) fn real(path: &Path) -> PathBuf {
    if path.starts_with("/proc") {
        return path.to_owned();
    }
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}
