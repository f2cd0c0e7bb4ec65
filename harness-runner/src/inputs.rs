//! Finds the files of this machine that a test needs, so that it can run elsewhere. Nothing is declared.
//!
//! What belongs to a test is known from its build: its binary, programs of its package, shared libraries that were
//! built with it. What it reads is known from its last trace. A test without a trace gets the whole folder of its
//! package. Files of the system are not looked for: the machine that runs the test has its own.
//!
//! A run elsewhere that asks for a file which exists here, and was not sent, teaches [`Learnt`] that file.

mod export;
mod learnt;
mod libraries;
mod package;

pub use export::{Format, write};
pub use learnt::Learnt;

use crate::{protocol::Environment, store};
use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use harness_metadata::{
    TestId,
    trace::{FileUse, TraceSummary},
};
use libraries::Libraries;
use package::Packages;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt, io,
    os::unix::ffi::OsStrExt,
};

/// The places of a workspace.
#[derive(Clone, Debug)]
pub struct Places {
    /// Its root.
    pub root: Utf8PathBuf,
    /// The store of its runs.
    pub store: Utf8PathBuf,
    /// The directories of what is built.
    pub built: Vec<Utf8PathBuf>,
    /// The folders of its packages.
    pub packages: BTreeSet<Utf8PathBuf>,
    /// The folder of what is remembered between runs.
    pub kept_in: Utf8PathBuf,
}

impl Places {
    /// Returns whether a path is of the workspace or of what was built: all else is the system's.
    pub fn has(&self, path: &Utf8Path) -> bool {
        let mut folders = self.built.iter().chain([&self.root]);
        let plain = |part| matches!(part, Utf8Component::Normal(_) | Utf8Component::RootDir);
        path.components().all(plain) && folders.any(|folder| path.starts_with(folder))
    }

    fn is_built(&self, path: &Utf8Path) -> bool {
        self.built.iter().any(|built| path.starts_with(built))
    }
}

/// A test binary with its surroundings.
#[derive(Copy, Clone, Debug)]
pub struct Binary<'a> {
    /// Its file.
    pub file: &'a Utf8Path,
    /// The working directory of its tests: the folder of its package.
    pub package: &'a Utf8Path,
    /// The environment of its tests.
    pub environment: &'a Environment,
}

/// All that a test needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The files and folders, by their absolute paths.
    pub inputs: BTreeMap<Utf8PathBuf, Need>,
    /// The basis of what it reads.
    pub basis: Basis,
}

/// A file or folder that a test needs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Whether it is a folder. That its entries are needed, too, is said of each.
    pub folder: bool,
    /// The reason.
    pub why: Why,
}

/// The reason why a test needs something.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is in this binary.
    Binary,
    /// A program of its package, whose path it is given.
    Program,
    /// A library that its binary names, and that was built with it.
    Library,
    /// The build script of its package has made it.
    Generated,
    /// A folder in which it runs, or makes files of its own.
    Place,
    /// Its last trace has it.
    Traced(FileUse),
    /// It is in a folder that the test was seen to list.
    Listed,
    /// It belongs to its package, and there is no trace of the test.
    Package,
    /// A run elsewhere has asked for it in vain.
    Learnt,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Binary => "the test's binary",
            Self::Program => "a program of its package",
            Self::Library => "a library that the binary names",
            Self::Generated => "made by the build script of its package",
            Self::Place => "a folder that it runs or writes in",
            Self::Traced(FileUse::Executed) => "executed in its last trace",
            Self::Traced(FileUse::Read) => "read in its last trace",
            Self::Traced(_) => "asked for in its last trace",
            Self::Listed => "in a folder that its last trace lists",
            Self::Package => "in its package: no trace says what it reads",
            Self::Learnt => "asked for in vain by a run elsewhere",
        })
    }
}

/// The basis of what is known of a test's files.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Its last trace, which is complete.
    Trace,
    /// Its last trace, which may lack files.
    DoubtfulTrace,
    /// There is no trace: the whole folder of its package.
    Package,
    /// There is no trace, and its package has too many files to send them all.
    LargePackage,
}

/// Finds the needs of tests.
#[derive(Debug)]
pub struct Finder {
    places: Places,
    traces: BTreeMap<TestId, Box<TraceSummary>>,
    libraries: RefCell<Libraries>,
    packages: RefCell<Packages>,
    learnt: Learnt,
}

impl Finder {
    /// Reads what is known of these tests.
    ///
    /// # Errors
    ///
    /// When the recordings cannot be read.
    pub fn new(places: Places, tests: &[TestId]) -> io::Result<Self> {
        let traces = store::last_with_files(&places.store, &places.root, tests)?;
        Ok(Self {
            learnt: Learnt::load(&places.kept_in),
            traces,
            libraries: RefCell::default(),
            packages: RefCell::default(),
            places,
        })
    }

    /// Returns the places of the workspace.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Returns what runs elsewhere have taught.
    pub fn into_learnt(self) -> Learnt {
        self.learnt
    }

    /// Returns what a test needs.
    pub fn needs(&self, test: &TestId, binary: Binary<'_>) -> Needs {
        let mut inputs = Inputs {
            places: &self.places,
            found: BTreeMap::new(),
        };
        inputs.add(binary.file, Why::Binary);
        inputs.add(binary.package, Why::Place);
        inputs.add(&self.places.root, Why::Place);
        for built in &self.places.built {
            // Cargo makes it for what tests write.
            inputs.add(&built.join("tmp"), Why::Place);
        }
        for (name, value) in binary.environment.iter() {
            if let (true, Some(path)) =
                (name.as_bytes().starts_with(b"CARGO_BIN_EXE_"), utf8(value))
            {
                inputs.add(path, Why::Program);
            }
        }
        let mut libraries = self.libraries.borrow_mut();
        for library in libraries.of(binary.file, binary.environment) {
            inputs.add(library, Why::Library);
        }
        let basis = match self.traces.get(test) {
            Some(trace) => inputs.add_traced(trace),
            None => self.add_package(binary, &mut inputs),
        };
        for path in self.learnt.of(test) {
            inputs.add(path, Why::Learnt);
        }
        Needs {
            inputs: inputs.found,
            basis,
        }
    }

    fn add_package(&self, binary: Binary<'_>, inputs: &mut Inputs<'_>) -> Basis {
        let mut packages = self.packages.borrow_mut();
        let out_dir = binary.environment.get("OUT_DIR").and_then(utf8);
        let mut whole = true;
        for (folder, why) in [
            (Some(binary.package), Why::Package),
            (out_dir, Why::Generated),
        ] {
            let Some(folder) = folder else { continue };
            match packages.files(folder, &self.places) {
                Some(files) => files.iter().for_each(|file| inputs.add(file, why)),
                None => whole = false,
            }
        }
        for name in ["Cargo.toml", "Cargo.lock"] {
            inputs.add(&self.places.root.join(name), Why::Package);
        }
        match whole {
            true => Basis::Package,
            false => Basis::LargePackage,
        }
    }
}

fn utf8(value: &OsStr) -> Option<&Utf8Path> {
    value.to_str().map(Utf8Path::new)
}

/// Needs that are being collected.
struct Inputs<'a> {
    places: &'a Places,
    found: BTreeMap<Utf8PathBuf, Need>,
}

impl Inputs<'_> {
    /// Adds what is there. The first reason counts.
    fn add(&mut self, path: &Utf8Path, why: Why) {
        if !self.places.has(path) || self.found.contains_key(path) {
            return;
        }
        if let Ok(found) = path.metadata()
            && (found.is_dir() || found.is_file())
        {
            let folder = found.is_dir();
            self.found.insert(path.to_owned(), Need { folder, why });
        }
    }

    /// Adds the folder in which a test makes a file of its own.
    fn add_folder_of(&mut self, path: &Utf8Path) {
        if let Some(folder) = path.ancestors().skip(1).find(|folder| folder.is_dir()) {
            self.add(folder, Why::Place);
        }
    }

    fn add_traced(&mut self, trace: &TraceSummary) -> Basis {
        for file in &trace.files {
            let (uses, path) = (&file.uses, str::from_utf8(file.path.as_bytes()));
            let wanted = uses.iter().find(|of| {
                matches!(
                    of,
                    FileUse::Executed | FileUse::Read | FileUse::Queried | FileUse::Listed
                )
            });
            let Ok(path) = path.map(Utf8Path::new) else {
                continue;
            };
            if uses.contains(&FileUse::Created) {
                // Its folder has to be there.
                self.add_folder_of(path);
                continue;
            }
            let Some(wanted) = wanted else { continue };
            self.add(path, Why::Traced(*wanted));
            if is_listed(uses) {
                for entry in entries(path, self.places) {
                    self.add(&entry, Why::Listed);
                }
            }
        }
        match trace.complete() && trace.dropped.files == 0 {
            true => Basis::Trace,
            false => Basis::DoubtfulTrace,
        }
    }
}

/// Returns whether the entries of a file that is a folder may have been read. At the level `io` only its opening is
/// seen.
fn is_listed(uses: &[FileUse]) -> bool {
    uses.iter()
        .any(|of| matches!(of, FileUse::Read | FileUse::Listed))
}

/// Returns the entries of a folder, but for what is built and for git's own; none if it is no folder of the workspace.
fn entries(folder: &Utf8Path, places: &Places) -> Vec<Utf8PathBuf> {
    if !places.has(folder) || !folder.is_dir() {
        return Vec::new();
    }
    let all = folder.read_dir_utf8().into_iter().flatten().flatten();
    let paths = all.map(|entry| entry.into_path());
    paths
        .filter(|path| path.file_name() != Some(".git") && !places.is_built(path))
        .collect()
}

/// Returns what a test has asked for elsewhere that exists here and was not sent. `sent` has the paths that were.
pub fn missed(
    trace: &TraceSummary,
    places: &Places,
    sent: &dyn Fn(&Utf8Path) -> bool,
) -> BTreeSet<Utf8PathBuf> {
    let mut missed = BTreeSet::new();
    for file in &trace.files {
        let Ok(path) = str::from_utf8(file.path.as_bytes()) else {
            continue;
        };
        let path = Utf8Path::new(path);
        if !places.has(path) {
            continue;
        }
        if file.uses.contains(&FileUse::Missing) && path.exists() && !sent(path) {
            missed.insert(path.to_owned());
            if path.is_dir() {
                missed.extend(package::below(path, places).unwrap_or_default());
            }
        } else if file.uses.contains(&FileUse::Missing) {
            // A file cannot be made in a folder that is not there.
            let mut above = path.ancestors().skip(1);
            let folder = above.find(|folder| folder.is_dir() && places.has(folder));
            missed.extend(
                folder
                    .filter(|folder| !sent(folder))
                    .map(Utf8Path::to_owned),
            );
        }
        if is_listed(&file.uses) {
            let unsent = entries(path, places).into_iter();
            missed.extend(unsent.filter(|entry| !sent(entry)));
        }
    }
    missed
}

#[cfg(test)]
mod tests;
