//! The documentation tests of a workspace, a binary of them for each package.

use super::{
    calls::{Call, Programs},
    compiled::{Compilation, Process},
    extracted::{self, Example, Extracted},
    refusal::DoctestError,
};
use crate::{
    cargo::{CargoOptions, Harness, TestBinary, Workspace},
    own_files,
    protocol::Environment,
};
use camino::{Utf8Path, Utf8PathBuf};
use guppy::graph::{BuildTargetId, PackageMetadata};
use nextest_metadata::{BuildPlatform, RustBinaryId, RustTestBinaryKind};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::UNIX_EPOCH,
};
use tempfile::TempDir;

/// The kind of binaries that are documentation.
const KIND: RustTestBinaryKind = RustTestBinaryKind::new_const("doc");

/// The documentation tests of a package.
#[derive(Debug)]
pub struct DoctestBinary {
    /// Their place among the binaries. Its path is that of a description of them.
    pub binary: Arc<TestBinary>,
    /// The environment of the tests.
    pub environment: Arc<Environment>,
    /// The tests; `None` if they were not asked for.
    extracted: Option<Extracted>,
    call: Call,
    programs: Arc<Programs>,
}

/// The description of the tests of a package. Its file changes when they may have changed.
#[derive(Serialize)]
struct Description<'a> {
    rustdoc: Vec<std::borrow::Cow<'a, str>>,
    libraries: Vec<(&'a Utf8Path, u64, u128)>,
    doctests: &'a [Example],
}

impl Workspace {
    /// Finds the documentation tests that `cargo test --doc` would run with these options, of the binaries
    /// for which `wants` says so.
    ///
    /// # Errors
    ///
    /// When cargo or rustdoc fails.
    pub fn find_doctests(
        &self,
        options: &CargoOptions,
        wants: &dyn Fn(&TestBinary) -> bool,
    ) -> Result<Vec<DoctestBinary>, DoctestError> {
        let packages = || self.graph.workspace().iter();
        let expected = packages().filter_map(|package| self.expected(&package, None));
        if !expected.into_iter().any(|binary| wants(&binary)) {
            return Ok(Vec::new());
        }
        let programs = Arc::new(Programs::of(self)?);
        let calls = Call::record(self, options, &programs)?;
        let several = self.platforms.targets.len() > 1;
        let mut found = Vec::new();
        for call in calls {
            let environment = Arc::new(call.environment());
            let manifest = environment.get("CARGO_MANIFEST_DIR").map(Path::new);
            let of_call = |package: &PackageMetadata<'_>| {
                package.manifest_path().parent().map(Utf8Path::as_std_path) == manifest
            };
            let target = call.value("--target").and_then(OsStr::to_str);
            let package = packages().find(of_call);
            let binary = package.and_then(|package| self.expected(&package, target));
            let Some(mut binary) = binary else {
                // A dependency, chosen by `--package`.
                let folder = manifest.unwrap_or(Path::new("")).display().to_string();
                return Err(DoctestError::Stranger { folder });
            };
            if let Some(target) = target.filter(|_| several) {
                binary.id = RustBinaryId::new(&format!("{}@{target}", binary.id));
            }
            binary.path = description(self.kept_in(), &binary.id);
            if let Some(cwd) = call.value("--test-run-directory").and_then(OsStr::to_str) {
                binary.cwd = cwd.into();
            }
            found.push(DoctestBinary {
                binary: Arc::new(binary),
                environment,
                extracted: None,
                call,
                programs: Arc::clone(&programs),
            });
        }
        extract(&mut found, wants)?;
        found.sort_by(|a, b| a.binary.id.cmp(&b.binary.id));
        Ok(found)
    }

    /// Returns what stands for the documentation tests of a package, as far as it is known before cargo
    /// was asked.
    fn expected(&self, package: &PackageMetadata<'_>, target: Option<&str>) -> Option<TestBinary> {
        let mut targets = package.build_targets();
        let library = targets.find(|target| target.id() == BuildTargetId::Library)?;
        if !library.doctest_by_default() {
            return None;
        }
        let manifest = package.manifest_path();
        let id = RustBinaryId::from_parts(package.name(), &KIND, library.name());
        Some(TestBinary {
            path: description(self.kept_in(), &id),
            id,
            package_id: package.id().to_string(),
            package_name: package.name().to_owned(),
            name: library.name().to_owned(),
            kind: KIND,
            cwd: manifest.parent().unwrap_or(manifest).to_owned(),
            platform: BuildPlatform::Target,
            target: target.map(str::to_owned),
            harness: Harness::Libtest,
            source_file: library.path().to_owned(),
            list_environment: Arc::default(),
        })
    }
}

/// The folder of files of documentation tests.
fn folder(kept_in: &Utf8Path) -> Utf8PathBuf {
    kept_in.join("harness/doctests")
}

fn description(kept_in: &Utf8Path, id: &RustBinaryId) -> Utf8PathBuf {
    folder(kept_in).join(format!("{}.json", plain(id)))
}

fn plain(id: &RustBinaryId) -> String {
    id.as_str().replace(['/', ':'], "-")
}

/// Asks rustdoc for the tests of each binary that is wanted, some at a time.
fn extract(
    found: &mut [DoctestBinary],
    wants: &dyn Fn(&TestBinary) -> bool,
) -> Result<(), DoctestError> {
    let wanted = found.iter_mut().filter(|found| wants(&found.binary));
    let queue: Mutex<Vec<&mut DoctestBinary>> = Mutex::new(wanted.collect());
    let failed = Mutex::new(None);
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(next) = next else {
                return;
            };
            if let Err(error) = next.extract() {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
        }
    };
    thread::scope(|scope| {
        let others = thread::available_parallelism().map_or(1, usize::from) - 1;
        for _ in 0..others {
            // Without a thread to be had, this one does it all.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

impl DoctestBinary {
    fn extract(&mut self) -> Result<(), DoctestError> {
        let extracted = extracted::extract(&self.call, &self.programs)?;
        self.describe(&extracted.examples)
            .map_err(DoctestError::Records)?;
        self.extracted = Some(extracted);
        Ok(())
    }

    fn describe(&self, examples: &[Example]) -> io::Result<()> {
        let state = |library: &Utf8Path| {
            let metadata = library.metadata().ok()?;
            let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some((metadata.len(), since.as_nanos()))
        };
        let libraries = self.call.libraries().map(|library| {
            let (length, modified) = state(library).unwrap_or_default();
            (library, length, modified)
        });
        let description = Description {
            rustdoc: self
                .call
                .args
                .iter()
                .map(|arg| arg.to_string_lossy())
                .collect(),
            libraries: libraries.collect(),
            doctests: examples,
        };
        let text = serde_json::to_vec(&description)?;
        let path = &self.binary.path;
        if std::fs::read(path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        std::fs::create_dir_all(own_files::directory(path))?;
        own_files::replace(path, &text)
    }

    /// Returns the tests; `None` if they were not asked for.
    pub fn examples(&self) -> Option<&[Example]> {
        Some(&self.extracted.as_ref()?.examples)
    }

    /// Compiles the tests of the package, unless an earlier run has compiled the same, and returns the
    /// processes of those that are wanted, by name. Calls `starts` before it compiles.
    ///
    /// # Errors
    ///
    /// When rustdoc cannot be started, or its files not be read.
    pub fn compile(
        &self,
        wanted: &dyn Fn(&Example) -> bool,
        workspace: &Workspace,
        compiled: &mut CompiledDoctests,
        starts: &dyn Fn(),
    ) -> Result<BTreeMap<String, Process>, DoctestError> {
        let Some(extracted) = &self.extracted else {
            return Ok(BTreeMap::new());
        };
        let examples = || extracted.examples.iter();
        let wanted: Vec<&Example> = examples().filter(|example| wanted(example)).collect();
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let place = compiled.place(workspace.kept_in(), &plain(&self.binary.id));
        let place = place.map_err(DoctestError::Records)?;
        let runner = workspace.runners.get(self.binary.target.as_deref());
        let runner = runner.map_or_else(Vec::new, |runner| {
            let mut words = vec![runner.program.clone().into_os_string()];
            words.extend(runner.args.iter().cloned());
            words
        });
        let not_linked = examples().filter(|example| example.no_run);
        let not_linked: Vec<String> = not_linked.map(Example::folder).collect();
        let compilation = Compilation {
            call: &self.call,
            programs: &self.programs,
            extracted,
            folder: &place,
            not_linked: &not_linked.join("/"),
            runner: &runner,
            starts,
        };
        compilation.processes(&wanted)
    }
}

/// The folders of compiled documentation tests, which belong to one run until this is dropped.
#[derive(Debug, Default)]
pub struct CompiledDoctests {
    locks: Vec<File>,
    temporary: Vec<TempDir>,
}

impl CompiledDoctests {
    /// Returns a folder, which is the same in each run. If another run uses it, it is an empty one.
    fn place(&mut self, kept_in: &Utf8Path, name: &str) -> io::Result<Utf8PathBuf> {
        let all = folder(kept_in);
        std::fs::create_dir_all(&all)?;
        let lock = all.join(format!("{name}.lock"));
        let lock = match own_files::create_new(&lock) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => own_files::open(&lock)?,
            created => created?,
        };
        if lock.try_lock().is_err() {
            let temporary = TempDir::with_prefix_in(format!("{name}-"), &all)?;
            let path =
                Utf8PathBuf::try_from(temporary.path().to_owned()).map_err(io::Error::other)?;
            self.temporary.push(temporary);
            return Ok(path);
        }
        self.locks.push(lock);
        let place = all.join(name);
        std::fs::create_dir_all(&place)?;
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_the_folder_of_the_last_one_unless_that_still_goes_on() {
        let made = tempfile::tempdir().unwrap();
        let kept_in = Utf8Path::from_path(made.path()).unwrap();
        let mut first = CompiledDoctests::default();
        let own = first.place(kept_in, "a").unwrap();
        std::fs::write(own.join("left"), "").unwrap();
        let mut second = CompiledDoctests::default();
        let other = second.place(kept_in, "a").unwrap();
        assert_ne!(own, other);
        assert!(own.join("left").exists());
        drop((first, second));
        assert!(!other.exists());
        let mut third = CompiledDoctests::default();
        assert_eq!(third.place(kept_in, "a").unwrap(), own);
        assert!(own.join("left").exists());
    }
}
