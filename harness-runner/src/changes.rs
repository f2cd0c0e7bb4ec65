//! Says which packages of a workspace a change of files can affect.
//!
//! `git` finds the files that differ from a revision; the kernel names them to `watch`. One
//! table, [`Places::effect`], says for each file what it can affect, and [`Places::select`] adds the
//! packages that depend on those. Nothing here looks into sources.

mod export;
mod git;
mod lock;
mod past;
#[cfg(test)]
mod tests;
mod watched;

pub use export::{ExportError, Exported, export};
pub use git::{GitError, Since, Tree};
pub use notify::Event as FileEvent;
pub use past::{Checkout, CheckoutError, Commit, OF_ANOTHER_REPOSITORY, Past, Span};
pub use watched::{WatchError, Watched};

use camino::{Utf8Path, Utf8PathBuf};
use guppy::{
    PackageId,
    graph::{PackageGraph, PackageLink},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The effect of a change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// No test, for this reason.
    Nothing(&'static str),
    /// The tests of these packages, and of those that depend on them.
    Packages(BTreeSet<PackageId>),
    /// The packages whose dependencies differ in `Cargo.lock`.
    Lock,
    /// All tests, for this reason.
    All(&'static str),
}

/// Files and folders of the workspace's root that no test can depend on. A `/` at the end is for a folder.
const HARMLESS: &[&str] = &[
    ".circleci/",
    ".clippy.toml",
    ".editorconfig",
    ".git-blame-ignore-revs",
    ".gitattributes",
    ".github/",
    ".gitignore",
    ".gitlab-ci.yml",
    ".idea/",
    ".mailmap",
    ".rustfmt.toml",
    ".vscode/",
    "CODEOWNERS",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "clippy.toml",
    "rustfmt.toml",
];

/// Files of the runner's own settings.
const SETTINGS: &[&str] = &[".config/harness.toml", ".config/nextest.toml"];

/// The reason why a package is selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A file of it changed; this is the first, and the number of all.
    Changed(PathBuf, usize),
    /// A dependency of it changed in `Cargo.lock`.
    Locked,
    /// It depends on this package.
    DependsOn(String),
    /// A file can affect every package.
    All,
}

/// The packages that a change can affect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// The packages of the workspace, each with its name and the reason.
    pub packages: BTreeMap<PackageId, (String, Option<Why>)>,
    /// A file that can affect every package, and the reason.
    pub all: Option<(PathBuf, &'static str)>,
    /// The number of files that changed.
    pub files: usize,
    /// The number of files that no test can depend on.
    pub harmless: usize,
}

impl Affected {
    /// Returns the ids of the selected packages.
    pub fn selected(&self) -> BTreeSet<String> {
        let selected = self.packages.iter().filter(|(_, (_, why))| why.is_some());
        selected.map(|(id, _)| id.repr().to_owned()).collect()
    }

    /// Returns the names of the selected packages.
    pub fn names(&self) -> BTreeSet<String> {
        let packages = self.packages.values();
        let selected = packages.filter(|(_, why)| why.is_some());
        selected.map(|(name, _)| name.clone()).collect()
    }

    /// Returns how many packages have changed files of their own.
    pub fn changed(&self) -> usize {
        let why = self.packages.values().filter_map(|(_, why)| why.as_ref());
        why.filter(|why| matches!(why, Why::Changed(..))).count()
    }
}

/// The places of a workspace's packages.
pub struct Places<'a> {
    graph: &'a PackageGraph,
    root: Utf8PathBuf,
    /// The folders of packages that come from paths, members or not.
    folders: BTreeMap<Utf8PathBuf, &'a PackageId>,
    /// Another file of the runner's settings.
    settings: Option<Utf8PathBuf>,
}

impl<'a> Places<'a> {
    /// Looks at a graph with dependencies. `settings` is the file that `--config-file` names.
    pub fn new(graph: &'a PackageGraph, settings: Option<&Utf8Path>) -> Self {
        let from_paths = graph.packages().filter(|it| !it.source().is_external());
        let folder = |package: guppy::graph::PackageMetadata<'a>| {
            let folder = package.manifest_path().parent()?;
            Some((real(folder), package.id()))
        };
        Self {
            graph,
            root: real(graph.workspace().root()),
            folders: from_paths.filter_map(folder).collect(),
            settings: settings.map(real),
        }
    }

    /// Returns the folders of packages that come from paths.
    pub fn folders(&self) -> impl Iterator<Item = &Utf8Path> {
        self.folders.keys().map(|folder| &**folder)
    }

    /// Returns what a change of this file can affect. The path is absolute and has no links.
    pub fn effect(&self, path: &Path) -> Effect {
        let below_root = path.strip_prefix(&self.root).ok();
        if let Some(folder) = folder_of_rules(path) {
            // Cargo and rustup look for them from the workspace upward, and a person may start from
            // any folder in it.
            return match self.root.as_std_path().starts_with(folder) || below_root.is_some() {
                true => Effect::All("it is a rule of the build"),
                false => Effect::Nothing("it is outside of the workspace"),
            };
        }
        let is = |name: &str| below_root == Some(Path::new(name));
        if is("Cargo.toml") {
            return Effect::All("it is the manifest of the workspace");
        }
        if is("Cargo.lock") {
            return Effect::Lock;
        }
        let settings = self.settings.as_deref().map(Utf8Path::as_std_path);
        if SETTINGS.iter().any(|name| is(name)) || settings == Some(path) {
            return Effect::All("it has the settings of the tests");
        }
        if below_root.is_some_and(is_harmless) {
            return Effect::Nothing("no test can depend on it");
        }
        let packages = self.packages_at(path);
        match (packages.is_empty(), below_root) {
            (false, _) => Effect::Packages(packages),
            (true, Some(_)) => Effect::All("it is in no package"),
            (true, None) => Effect::Nothing("it is outside of the workspace"),
        }
    }

    /// Returns the package that a file is in, and those that are in it, if it is the folder of a
    /// submodule.
    fn packages_at(&self, path: &Path) -> BTreeSet<PackageId> {
        let owners = self
            .folders
            .iter()
            .filter(|(folder, _)| path.starts_with(folder));
        let owner = owners.max_by_key(|(folder, _)| folder.as_str().len());
        let inside = self.folders.iter();
        let inside = inside.filter(|(folder, _)| folder.as_std_path().starts_with(path));
        let found = owner.into_iter().chain(inside);
        found.map(|(_, id)| (*id).clone()).collect()
    }

    /// Returns the packages that changes of these files can affect. `lock_before` is `Cargo.lock` as it
    /// was; `None` if that is not known.
    pub fn select<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p Path>,
        lock_before: Option<&str>,
    ) -> Affected {
        let mut affected = Affected::default();
        let mut reasons: BTreeMap<PackageId, Why> = BTreeMap::new();
        for path in paths {
            affected.files += 1;
            match self.effect(path) {
                Effect::Nothing(_) => affected.harmless += 1,
                Effect::All(why) => drop(affected.all.get_or_insert((path.to_owned(), why))),
                Effect::Packages(packages) => {
                    for package in packages {
                        let why = reasons.entry(package);
                        let why = why.or_insert_with(|| Why::Changed(path.to_owned(), 0));
                        if let Why::Changed(_, count) = why {
                            *count += 1;
                        }
                    }
                }
                Effect::Lock => match self.locked(lock_before) {
                    Some(packages) => {
                        for package in packages {
                            reasons.entry(package).or_insert(Why::Locked);
                        }
                    }
                    None => {
                        let why = "what it was before is not known";
                        affected.all.get_or_insert((path.to_owned(), why));
                    }
                },
            }
        }
        self.add_dependents(&mut reasons);
        let members = self.graph.workspace().iter();
        affected.packages = members
            .map(|member| {
                let why = reasons.remove(member.id());
                let why = why.or_else(|| affected.all.as_ref().map(|_| Why::All));
                (member.id().clone(), (member.name().to_owned(), why))
            })
            .collect();
        affected
    }

    /// Returns the packages that are not locked as they were.
    fn locked(&self, before: Option<&str>) -> Option<BTreeSet<PackageId>> {
        let now = std::fs::read_to_string(self.root.join("Cargo.lock")).ok()?;
        let differing = lock::differing(before?, &now)?;
        let differs = |package: &guppy::graph::PackageMetadata<'_>| {
            differing.contains(&(package.name().to_owned(), package.version().to_string()))
        };
        let packages = self.graph.packages().filter(differs);
        Some(packages.map(|package| package.id().clone()).collect())
    }

    /// Adds the packages that depend on those, directly or not. A dependency of tests only counts for
    /// the package itself: it is not part of what others depend on.
    fn add_dependents(&self, reasons: &mut BTreeMap<PackageId, Why>) {
        let mut next: Vec<PackageId> = reasons.keys().cloned().collect();
        let mut built = Vec::new();
        let mut for_tests = Vec::new();
        while let Some(id) = next.pop() {
            let Ok(package) = self.graph.metadata(&id) else {
                continue;
            };
            for link in package.reverse_direct_links() {
                let why = Why::DependsOn(package.name().to_owned());
                let from = link.from().id().clone();
                if is_for_tests(&link) {
                    for_tests.push((from, why));
                } else if !reasons.contains_key(&from) {
                    reasons.insert(from.clone(), why);
                    next.push(from);
                }
            }
            built.push(id);
        }
        for (package, why) in for_tests {
            reasons.entry(package).or_insert(why);
        }
    }
}

fn is_for_tests(link: &PackageLink<'_>) -> bool {
    link.dev_only()
}

/// Returns why any test may depend on a file, if so: it is a rule of the build, or has the settings of the tests.
pub fn rule_of_all(root: &Utf8Path, path: &Path) -> Option<&'static str> {
    let below_root = path.strip_prefix(real(root)).ok();
    if SETTINGS
        .iter()
        .any(|name| below_root == Some(Path::new(name)))
    {
        return Some("it has the settings of the tests");
    }
    folder_of_rules(path).map(|_| "it is a rule of the build")
}

/// Returns the folder that a configuration of cargo, or the choice of a toolchain, is for.
fn folder_of_rules(path: &Path) -> Option<&Path> {
    let (name, folder) = (path.file_name()?.to_str()?, path.parent()?);
    match name {
        "rust-toolchain" | "rust-toolchain.toml" => Some(folder),
        "config" | "config.toml" if folder.ends_with(".cargo") => folder.parent(),
        _ => None,
    }
}

fn is_harmless(below_root: &Path) -> bool {
    let is = |name: &&str| match name.strip_suffix('/') {
        Some(folder) => below_root.starts_with(folder),
        None => below_root == Path::new(name),
    };
    HARMLESS.iter().any(is)
}

/// Returns a path without links, as git and the kernel name it.
fn real(path: &Utf8Path) -> Utf8PathBuf {
    path.canonicalize_utf8().unwrap_or_else(|_| path.to_owned())
}
