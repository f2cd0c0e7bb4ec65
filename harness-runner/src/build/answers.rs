//! Remembers what cargo and rustc said of a workspace, for as long as nothing has changed that
//! their answers could depend on.
//!
//! `cargo metadata` and `rustc --print` take 25 ms each, more than all that this program does
//! before the first test. Their answers depend on manifests, the lock file, configuration, the
//! toolchain, the environment, and on which files lie where targets are discovered. All of these
//! are recorded as witnesses with the state that they had; one that looks different, and the
//! answers are asked for again. The file is only ever a shortcut: whatever is wrong with it, it
//! is ignored and written anew.

use super::{Identity, fork::by_fork, options::shown};
use crate::own_files;
use camino::{Utf8Path, Utf8PathBuf};
use guppy::graph::PackageGraph;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    env, fs, io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus, Output},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Grows with every change of what is stored.
const VERSION: u32 = 1;
const FILE: &str = "harness/answers.cache";

/// A file that is longer is not ours.
const LONGEST: u64 = 256 * 1024 * 1024;

/// A witness that changed this recently may change again without looking different: the clock of
/// file systems ticks every few milliseconds.
const TOO_RECENT: Duration = Duration::from_millis(50);

/// Where cargo looks for targets and for what is below a package (The Cargo Book, "Package
/// Layout").
const DISCOVERED: [&str; 5] = ["src", "src/bin", "tests", "examples", "benches"];

/// Answers that are still good, and those that are new.
#[derive(Debug, Default)]
pub(super) struct Answers {
    file: Option<Utf8PathBuf>,
    asker: Asker,
    known: BTreeMap<String, Vec<u8>>,
    new: Mutex<BTreeMap<String, Vec<u8>>>,
}

/// Who asks: the same question from elsewhere may have another answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Asker {
    cwd: Utf8PathBuf,
    environment: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    asker: Asker,
    witnesses: BTreeMap<Utf8PathBuf, Option<Identity>>,
    answers: BTreeMap<String, Vec<u8>>,
}

impl Answers {
    /// Reads the answers below a target directory, if they are still good.
    pub(super) fn load(target_directory: &Utf8Path, cwd: &Utf8Path) -> Self {
        let file = target_directory.join(FILE);
        let environment = env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            let matters = ["CARGO", "RUST"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
                || ["PATH", "HOME"].contains(&name.as_str());
            matters.then_some((name, value))
        });
        let asker = Asker {
            cwd: cwd.to_owned(),
            environment: environment.collect(),
        };
        let record = own_files::read(&file, LONGEST).ok();
        let record = record.and_then(|bytes| postcard::from_bytes::<Record>(&bytes).ok());
        let good = record.filter(|record| {
            record.version == VERSION
                && record.asker == asker
                && record
                    .witnesses
                    .iter()
                    .all(|(path, state)| Identity::of(path) == *state)
        });
        let known = good.map_or_else(BTreeMap::new, |record| record.answers);
        Self {
            file: Some(file),
            asker,
            known,
            new: Mutex::default(),
        }
    }

    /// Returns the answer to a command: the remembered one, or what `run` brings.
    pub(super) fn ask(
        &self,
        command: &mut Command,
        run: impl FnOnce(&mut Command) -> io::Result<Output>,
    ) -> io::Result<Output> {
        let question = shown(command);
        if let Some(stdout) = self.known.get(&question) {
            let (stdout, stderr) = (stdout.clone(), Vec::new());
            return Ok(Output {
                status: ExitStatus::from_raw(0),
                stdout,
                stderr,
            });
        }
        let output = run(by_fork(command))?;
        if output.status.success() {
            let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
            new.insert(question, output.stdout.clone());
        }
        Ok(output)
    }

    /// Writes the answers if there are new ones. A failure costs time in the next run and nothing
    /// else.
    pub(super) fn save(self, graph: &PackageGraph) {
        let new = self
            .new
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(file) = self.file.filter(|_| !new.is_empty()) else {
            return;
        };
        // A guess that was wrong: cargo puts its things elsewhere.
        if file != graph.workspace().target_directory().join(FILE) {
            return;
        }
        // Before the witnesses are looked at: it may be new in a directory that is one of them.
        if let Some(directory) = file.parent()
            && fs::create_dir_all(directory).is_err()
        {
            return;
        }
        let paths = witnesses(&self.asker, graph).into_iter();
        let witnesses: BTreeMap<_, _> = paths
            .map(|path| (path.clone(), Identity::of(&path)))
            .collect();
        if witnesses.values().flatten().any(is_too_recent) {
            return;
        }
        let answers = self.known.into_iter().chain(new).collect();
        let record = Record {
            version: VERSION,
            asker: self.asker,
            witnesses,
            answers,
        };
        if let Err(error) = write(&file, &record) {
            tracing::debug!("failed to write `{file}`: {error}");
        }
    }
}

fn write(file: &Utf8Path, record: &Record) -> io::Result<()> {
    let bytes = postcard::to_stdvec(record).map_err(io::Error::other)?;
    own_files::replace(file, &bytes)
}

fn is_too_recent(identity: &Identity) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (seconds, nanoseconds) = identity.changed();
    let changed = Duration::from_secs(seconds.unsigned_abs())
        + Duration::from_nanos(nanoseconds.unsigned_abs());
    changed + TOO_RECENT > now
}

/// Returns everything that an answer can depend on.
fn witnesses(asker: &Asker, graph: &PackageGraph) -> Vec<Utf8PathBuf> {
    let variable = |name: &str| asker.environment.get(name).map(String::as_str);
    let home = variable("HOME").unwrap_or("/");
    let cargo_home = variable("CARGO_HOME")
        .map_or_else(|| Utf8Path::new(home).join(".cargo"), Utf8PathBuf::from);
    let rustup_home = variable("RUSTUP_HOME")
        .map_or_else(|| Utf8Path::new(home).join(".rustup"), Utf8PathBuf::from);
    let mut paths = vec![
        rustup_home.join("settings.toml"),
        graph.workspace().root().join("Cargo.lock"),
    ];
    for name in ["config", "config.toml"] {
        paths.push(cargo_home.join(name));
    }
    for (variable_name, program) in [("CARGO", "cargo"), ("RUSTC", "rustc")] {
        let given = Utf8Path::new(variable(variable_name).unwrap_or(program));
        if given.components().count() > 1 {
            paths.push(asker.cwd.join(given));
        } else {
            // All of them, up to the one that is found: another may appear before it.
            for directory in variable("PATH").unwrap_or_default().split(':') {
                let candidate = Utf8Path::new(directory).join(given);
                let found = candidate.is_file();
                paths.push(candidate);
                if found {
                    break;
                }
            }
        }
    }
    for directory in asker
        .cwd
        .ancestors()
        .chain(graph.workspace().root().ancestors())
    {
        for name in [
            "Cargo.toml",
            "rust-toolchain",
            "rust-toolchain.toml",
            ".cargo/config",
            ".cargo/config.toml",
        ] {
            paths.push(directory.join(name));
        }
    }
    let packages = graph
        .packages()
        .filter(|package| package.source().is_local());
    for package in packages {
        paths.push(package.manifest_path().to_owned());
        let Some(directory) = package.manifest_path().parent() else {
            continue;
        };
        // Members can be given by pattern: a new sibling is a new member.
        paths.extend(directory.parent().map(Utf8Path::to_owned));
        paths.push(directory.to_owned());
        for name in DISCOVERED {
            let place = directory.join(name);
            paths.extend(subdirectories(&place));
            paths.push(place);
        }
    }
    paths
}

/// A target can be a directory with a `main.rs`.
fn subdirectories(place: &Utf8Path) -> Vec<Utf8PathBuf> {
    let Ok(entries) = place.read_dir_utf8() else {
        return Vec::new();
    };
    let entries = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    entries.map(camino::Utf8DirEntry::into_path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{CargoOptions, Workspace};
    use std::path::Path;

    struct Sample(tempfile::TempDir);

    impl Sample {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let sample = Self(folder);
            sample.write(
                "Cargo.toml",
                "[package]\nname = \"sample\"\nedition = \"2021\"\n[workspace]\n",
            );
            sample.write("src/lib.rs", "");
            sample
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A folder in one that is nobody else's: a new sibling could be a new member.
        fn root(&self) -> Utf8PathBuf {
            let folder = self.0.path().canonicalize().unwrap();
            Utf8PathBuf::from_path_buf(folder).unwrap().join("package")
        }

        /// Loads until the answers are old enough to be remembered, then returns their file.
        fn load(&self) -> (usize, Option<Vec<u8>>) {
            let options = CargoOptions {
                target_dir: Some(self.root().join("target")),
                ..Default::default()
            };
            let workspace = Workspace::load(&options, &self.root()).unwrap();
            let targets = workspace
                .graph
                .packages()
                .map(|p| p.build_targets().count())
                .sum();
            (
                targets,
                fs::read(Path::new(&self.root().join("target").join(FILE))).ok(),
            )
        }

        fn load_until_remembered(&self) -> Vec<u8> {
            let deadline = std::time::Instant::now() + Duration::from_secs(60);
            loop {
                if let (_, Some(bytes)) = self.load() {
                    return bytes;
                }
                assert!(
                    std::time::Instant::now() < deadline,
                    "the answers are never remembered"
                );
            }
        }

        fn is_good(&self) -> bool {
            !Answers::load(&self.root().join("target"), &self.root())
                .known
                .is_empty()
        }
    }

    #[test]
    fn answers_are_good_until_something_changes_that_they_depend_on() {
        let sample = Sample::new();
        sample.load_until_remembered();
        assert!(sample.is_good());
        sample.write("src/lib.rs", "// an edit of code changes no answer");
        assert!(sample.is_good());
        sample.write("tests/new.rs", "");
        assert!(!sample.is_good(), "a new target was not noticed");
        assert_eq!(sample.load().0, 2);
        sample.load_until_remembered();
        sample.write(
            "Cargo.toml",
            "[package]\nname = \"other\"\nedition = \"2021\"\n[workspace]\n",
        );
        assert!(!sample.is_good(), "a new manifest was not noticed");
        sample.load_until_remembered();
        sample.write(".cargo/config.toml", "[build]\n");
        assert!(!sample.is_good(), "a new configuration was not noticed");
    }

    #[test]
    fn a_damaged_file_is_ignored() {
        let sample = Sample::new();
        let bytes = sample.load_until_remembered();
        for cut in [0, 1, bytes.len() / 2] {
            sample.write(&format!("target/{FILE}"), "");
            fs::write(sample.root().join("target").join(FILE), &bytes[..cut]).unwrap();
            assert!(!sample.is_good());
            assert_eq!(sample.load().0, 1);
        }
    }
}
