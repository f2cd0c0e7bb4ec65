//! A compilation of documentation tests that is kept, for as long as everything that it was made of is the
//! same.
//!
//! The key has what is known before rustdoc is called: its arguments and environment, the examples, the
//! compilers, each file that an argument names. That is where the libraries are, which cargo builds again
//! whenever something below them changes. Rustc says which other files it has read, as it says to cargo
//! (`--emit=dep-info`). A compilation that is not understood in full is not kept.

use super::{
    calls::{Call, Programs},
    signs::{OPEN, PROGRAM},
};
use crate::own_files;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};
use xxhash_rust::xxh64::Xxh64;

/// The longest file that is compared.
const LONGEST: u64 = 64 << 20;
/// Errors of rustc that another file may take away, of all those that have a code: a module, a library.
const MISSING: [&str; 4] = ["E0583", "E0584", "E0463", "E0519"];
/// Variables that differ from run to run and have no effect on a compilation: the jobserver's.
const VOLATILE: [&str; 3] = ["CARGO_MAKEFLAGS", "MAKEFLAGS", "MFLAGS"];

/// Two digests with different seeds.
type Digest = (u64, u64);

/// A compilation, in a file beside its programs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    key: Digest,
    /// The digests of files that rustc has read.
    read: BTreeMap<PathBuf, Digest>,
    /// The state of the programs.
    programs: BTreeMap<Utf8PathBuf, State>,
    /// The lines of JSON that rustdoc printed.
    pub(super) stdout: String,
    /// The text that rustdoc printed for people.
    pub(super) stderr: String,
}

/// A state of a file: its inode, its length, and when it was changed.
type State = (u64, u64, i64, i64);

/// A moment by the clock of files, in seconds and nanoseconds.
type Moment = (i64, i64);

/// A place for a compilation.
pub(super) struct Place<'a> {
    /// The folder of the programs.
    pub(super) folder: &'a Utf8Path,
    pub(super) key: Digest,
}

impl Place<'_> {
    /// Returns the compilation that is there, if it is still what another one would come to.
    pub(super) fn kept(&self) -> Option<Kept> {
        let text = own_files::read(self.file(), LONGEST).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        let same = |(path, digest): (&PathBuf, &Digest)| digest_of(path) == Some(*digest);
        let there = |(path, was): (&Utf8PathBuf, &State)| state(path.as_std_path()) == Some(*was);
        (kept.key == self.key && kept.read.iter().all(same) && kept.programs.iter().all(there))
            .then_some(kept)
    }

    /// Makes place for a compilation, and returns the folder for what rustc says of its files, with the present
    /// moment.
    pub(super) fn clear(&self) -> std::io::Result<(Utf8PathBuf, Moment)> {
        let said = self.said();
        for folder in [self.folder, &said] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&said)?;
        let metadata = said.metadata()?;
        Ok((said, (metadata.ctime(), metadata.ctime_nsec())))
    }

    /// Keeps a compilation that began at `started`, unless rustc has not said all of it. `cwd` is the folder
    /// in which rustc was called.
    pub(super) fn keep(&self, output: (&str, &str), cwd: &Path, started: Moment) {
        // Without a record, the next run compiles again.
        let _ = self.keep_if_known(output, cwd, started);
        let _ = fs::remove_dir_all(self.said());
    }

    fn keep_if_known(
        &self,
        (stdout, stderr): (&str, &str),
        cwd: &Path,
        started: Moment,
    ) -> Option<()> {
        let mut read = BTreeMap::new();
        let said = self.said();
        for entry in said.read_dir_utf8().ok()? {
            let file = entry.ok()?.into_path();
            if file.extension() == Some(OPEN) {
                return None;
            }
            for path in dependencies(&fs::read_to_string(file).ok()?) {
                let path = cwd.join(path);
                // Rustdoc has written it for this compilation.
                if path.starts_with(self.folder) || read.contains_key(&path) {
                    continue;
                }
                // A clock that is set does not change when a file was last changed in any way.
                let metadata = path.metadata().ok()?;
                if (metadata.ctime(), metadata.ctime_nsec()) >= started {
                    return None;
                }
                let digest = digest_of(&path)?;
                read.insert(path, digest);
            }
        }
        let mut programs = BTreeMap::new();
        if self.folder.exists() {
            for entry in self.folder.read_dir_utf8().ok()? {
                let program = entry.ok()?.into_path().join(PROGRAM);
                if let Some(state) = state(program.as_std_path()) {
                    programs.insert(program, state);
                }
            }
        }
        let kept = Kept {
            key: self.key,
            read,
            programs,
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        };
        own_files::replace(&self.file(), &serde_json::to_vec(&kept).ok()?).ok()
    }

    fn file(&self) -> Utf8PathBuf {
        self.folder.with_extension("json")
    }

    fn said(&self) -> Utf8PathBuf {
        self.folder.with_extension("said")
    }
}

/// Returns the key of a compilation with these further arguments.
pub(super) fn key(call: &Call, programs: &Programs, examples: Digest, args: &[&OsStr]) -> Digest {
    let mut key = Hashed::default();
    key.word(env!("CARGO_PKG_VERSION").as_bytes());
    key.word(format!("{examples:?}").as_bytes());
    for program in programs.all() {
        key.file(&call.cwd.join(program));
    }
    key.word(call.cwd.as_os_str().as_bytes());
    let own = call.args.iter().map(OsString::as_os_str);
    for arg in own.chain(args.iter().copied()) {
        key.word(arg.as_bytes());
        key.file(&call.cwd.join(arg));
        // `--extern NAME=FILE`, `-Clinker=FILE`.
        if let Some((_, value)) = arg.to_str().and_then(|arg| arg.split_once('=')) {
            key.file(&call.cwd.join(value));
        }
    }
    let environment = call.environment();
    let environment: BTreeMap<&OsStr, &OsStr> = environment.iter().collect();
    for (name, value) in environment {
        if !VOLATILE.iter().any(|volatile| name == *volatile) {
            key.word(name.as_bytes());
            key.word(value.as_bytes());
        }
    }
    key.digest()
}

/// Returns the digest of some bytes.
pub(super) fn digest(bytes: &[u8]) -> Digest {
    let mut hashed = Hashed::default();
    hashed.word(bytes);
    hashed.digest()
}

struct Hashed(Xxh64, Xxh64);

impl Default for Hashed {
    fn default() -> Self {
        Self(Xxh64::new(0), Xxh64::new(1))
    }
}

impl Hashed {
    fn word(&mut self, word: &[u8]) {
        for half in [&mut self.0, &mut self.1] {
            half.update(&word.len().to_le_bytes());
            half.update(word);
        }
    }

    /// Adds the state of a file, if there is one of this name.
    fn file(&mut self, path: &Path) {
        if path.is_file() {
            self.word(format!("{:?}", state(path)).as_bytes());
        }
    }

    fn digest(&self) -> Digest {
        (self.0.digest(), self.1.digest())
    }
}

fn digest_of(path: &Path) -> Option<Digest> {
    own_files::read(path, LONGEST)
        .ok()
        .map(|bytes| digest(&bytes))
}

fn state(path: &Path) -> Option<State> {
    let metadata = path.metadata().ok()?;
    let (ino, mtime) = (metadata.ino(), metadata.mtime());
    Some((ino, metadata.len(), mtime, metadata.mtime_nsec()))
}

/// Returns the files in what rustc says of them: rules as make reads them, of which all have the same files.
fn dependencies(text: &str) -> Vec<String> {
    let rule = text.lines().find_map(|line| line.split_once(": "));
    let mut files = vec![String::new()];
    let mut chars = rule.map_or("", |(_, files)| files).chars().peekable();
    while let Some(char) = chars.next() {
        let file = files.last_mut().expect("there is one from the start");
        match char {
            '\\' if chars.peek() == Some(&' ') => file.extend(chars.next()),
            ' ' => files.push(String::new()),
            other => file.push(other),
        }
    }
    files.retain(|file| !file.is_empty());
    files
}

/// Returns true if a compilation that failed would fail again as long as the files that rustc has read are the
/// same: each error has a code, and none is about a file that is missing.
pub(super) fn fails_by_itself(stderr: &[u8]) -> bool {
    let plain = strip_ansi_escapes::strip(stderr);
    let text = String::from_utf8_lossy(&plain);
    let mut codes = 0;
    for line in text.lines().filter(|line| line.starts_with("error")) {
        let code = line
            .strip_prefix("error[")
            .and_then(|rest| rest.split_once(']'));
        match code {
            Some((code, _)) if !MISSING.contains(&code) => codes += 1,
            None if line.starts_with("error: aborting due to ") => {}
            _ => return false,
        }
    }
    codes > 0
}

/// Returns the crates that an example names with `extern crate`. Rustc searches them in folders.
pub(super) fn searched(code: &str) -> impl Iterator<Item = &str> {
    let parts = code.split("extern crate ").skip(1);
    parts.filter_map(|rest| {
        rest.trim_start()
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_from_what_rustc_says() {
        let text =
            "out: src/a\\ b.txt /c\\d\n\nd.d: src/a\\ b.txt /c\\d\n\nsrc/a\\ b.txt:\n# env-dep:A\n";
        assert_eq!(dependencies(text), ["src/a b.txt", "/c\\d"]);
        assert_eq!(dependencies("out: \n\nd.d: \n"), Vec::<String>::new());
    }

    #[test]
    fn a_failure_is_kept_only_if_no_other_file_can_take_it_away() {
        let aborting = "error: aborting due to 1 previous error\n";
        let fails =
            |first: &str| fails_by_itself(format!("{first}\n  at x\n{aborting}").as_bytes());
        assert!(fails(
            "\u{1b}[1m\u{1b}[91merror[E0308]\u{1b}[0m: mismatched types"
        ));
        assert!(!fails("error[E0583]: file not found for module `a`"));
        assert!(!fails(
            "error: couldn't read `a`: No such file or directory"
        ));
        assert!(!fails(
            "error[E0308]: mismatched types\nerror: from a macro"
        ));
        assert!(!fails("the compiler was killed"));
    }

    #[test]
    fn crates_that_rustc_searches_are_found_in_an_example() {
        let found: Vec<_> =
            searched("extern crate a; #[macro_use] extern crate b_c as d;").collect();
        assert_eq!(found, ["a", "b_c"]);
        assert_eq!(searched("use a::b;").count(), 0);
    }

    #[test]
    fn a_compilation_is_kept_until_a_file_or_a_program_is_another() {
        let made = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(made.path()).unwrap();
        let programs = folder.join("first");
        let place = Place {
            folder: &programs,
            key: (1, 2),
        };
        let data = folder.join("data");
        let compile = |rustc: &[(&str, &str)]| {
            let (said, _) = place.clear().unwrap();
            let program = programs.join("one/rust_out");
            fs::create_dir_all(program.parent().unwrap()).unwrap();
            fs::write(program, "program").unwrap();
            for (name, text) in rustc {
                fs::write(said.join(name), text).unwrap();
            }
            let later = (i64::MAX, 0);
            place.keep(("out", "err"), folder.as_std_path(), later);
            place.kept().map(|kept| (kept.stdout, kept.stderr))
        };
        fs::write(&data, "old").unwrap();
        let good = [("1.d", "out: data\n")];
        let whole = Some(("out".to_owned(), "err".to_owned()));
        assert_eq!(compile(&good), whole);
        let other = Place {
            key: (1, 3),
            folder: &programs,
        };
        assert!(other.kept().is_none());
        fs::write(&data, "new").unwrap();
        assert!(place.kept().is_none());
        fs::write(&data, "old").unwrap();
        assert!(place.kept().is_some(), "it has the same bytes again");
        fs::write(programs.join("one/rust_out"), "another").unwrap();
        assert!(place.kept().is_none());

        assert_eq!(compile(&[good[0], ("2.open", "")]), None);
        assert_eq!(compile(&[("1.d", "out: missing\n")]), None);
        assert_eq!(compile(&good), whole);
        let (said, _) = place.clear().unwrap();
        fs::write(said.join("1.d"), "out: data\n").unwrap();
        // The file was changed while rustc was at work, or after it.
        place.keep(("out", "err"), folder.as_std_path(), (0, 0));
        assert!(place.kept().is_none());
    }
}
