//! The facts that a loader has found and that can be checked again.
//!
//! A fact is what a path leads to. Of a path that leads nowhere the directory that it is in belongs to
//! it, or the one in that which is not there either: the loader's next questions depend on that too. A
//! changed file is another fact.
//!
//! Most of what a loader asks for is not there, and all of that in a few directories. As long as such a
//! directory has not been changed, it has no other names than when they were asked for last.

use crate::sys::{self, Identity, Looked};
use harness_metadata::trace::{CallResult, FileCall};
use nix::errno::Errno;
use std::{
    cell::Cell,
    collections::BTreeMap,
    ffi::{CStr, CString},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The coarsest resolution of file times.
const TICK: Duration = Duration::from_millis(20);

/// The age of a directory's last change after which another change shows for sure: some file
/// systems have times in steps of two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// The facts that a loader has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// The file that a path led to.
    Path { path: CString, answer: Answer },
    /// The names that are not in a directory.
    Missing(Missing),
}

/// Names that are not in a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    directory: CString,
    looked: Looked,
    /// The paths of the names. They are no links that lead nowhere.
    paths: Vec<CString>,
    /// The state of the directory at which they were not there, if another one shows for sure.
    state: Cell<Option<Identity>>,
}

/// Facts that are being collected.
#[derive(Default)]
pub(super) struct Facts(BTreeMap<Vec<u8>, Answer>);

impl Facts {
    /// Adds what a path leads to, and returns it. `None` if that depends on who asks.
    pub(super) fn of(&mut self, path: &[u8]) -> Option<Answer> {
        let own = [b"/proc/".as_slice(), b"/dev/", b"/sys/"];
        if path.first() != Some(&b'/') || own.iter().any(|own| path.starts_with(own)) {
            return None;
        }
        if let Some(answer) = self.0.get(path) {
            return Some(*answer);
        }
        let answer = look(&CString::new(path).ok()?);
        self.0.insert(path.to_vec(), answer);
        if answer.is_err() {
            let _ = self.of(parent(path)?)?;
        }
        Some(answer)
    }

    /// Adds what a call has found. `None` if it is not just what its path leads to.
    pub(super) fn of_call(&mut self, call: &FileCall) -> Option<()> {
        let answer = self.of(call.path.path().as_bytes())?;
        let same = match call.result {
            CallResult::Found | CallResult::Ok(_) => {
                call.file == answer.ok().map(|(looked, _)| looked.file)
            }
            CallResult::Err(errno) => answer.err() == Some(Errno::from_raw(errno)),
            CallResult::Unknown => false,
        };
        same.then_some(())
    }

    /// Returns them, without those that follow from others: nothing is in what is not there.
    pub(super) fn into_vec(self) -> Vec<Fact> {
        let mut directories: BTreeMap<&[u8], Option<Missing>> = BTreeMap::new();
        let mut facts = Vec::new();
        for (path, answer) in &self.0 {
            let directory = parent(path).map(|parent| (parent, self.0.get(parent)));
            if answer.is_err() && matches!(directory, Some((_, Some(Err(_))))) {
                continue;
            }
            let Ok(c_path) = CString::new(path.as_slice()) else {
                continue;
            };
            if let Some((directory, Some(Ok((looked, _))))) = directory
                && *answer == Err(Errno::ENOENT)
                && let Some(missing) = directories
                    .entry(directory)
                    .or_insert_with(|| Missing::new(directory, looked))
                && is_absent(&c_path)
            {
                missing.paths.push(c_path);
                continue;
            }
            let (path, answer) = (c_path, *answer);
            facts.push(Fact::Path { path, answer });
        }
        // That a directory is there is a part of what is not in it.
        let missing = directories.into_values().flatten();
        let missing: Vec<_> = missing
            .filter(|missing| !missing.paths.is_empty())
            .collect();
        facts.retain(|fact| match fact {
            Fact::Path { path, .. } => missing.iter().all(|missing| missing.directory != *path),
            Fact::Missing(_) => true,
        });
        facts.extend(missing.into_iter().map(Fact::Missing));
        facts
    }
}

impl Fact {
    /// Returns whether it still is so, now that it is this long after 1970.
    fn holds(&self, now: Duration) -> bool {
        match self {
            Self::Path { path, answer } => look(path) == *answer,
            Self::Missing(missing) => missing.holds(now),
        }
    }
}

impl Missing {
    /// `None` if a directory's state does not tell whether names have appeared in it.
    fn new(directory: &[u8], looked: &Looked) -> Option<Self> {
        let directory = CString::new(directory).ok()?;
        let is_local = sys::is_local(directory.as_c_str());
        (looked.file.directory && is_local).then(|| Self {
            directory,
            looked: *looked,
            paths: Vec::new(),
            state: Cell::new(None),
        })
    }

    fn holds(&self, now: Duration) -> bool {
        let Ok((looked, state)) = sys::look_closely(&self.directory) else {
            return false;
        };
        if looked != self.looked {
            return false;
        }
        if self.state.get() == Some(state) {
            return true;
        }
        if !self.paths.iter().all(|path| is_absent(path)) {
            return false;
        }
        // A name that appears from here on gives the directory another state, since this one was not
        // new any more before it was asked for. One that did so before has just been looked for.
        let settled = changed(&state).is_some_and(|changed| changed + SETTLED <= now);
        self.state.set(settled.then_some(state));
        true
    }
}

/// Returns whether there is nothing at a path, nor a link that leads nowhere.
fn is_absent(path: &CStr) -> bool {
    sys::look(libc::AT_FDCWD, path, false) == Err(Errno::ENOENT)
}

/// Returns when a file was changed last, since 1970.
fn changed(state: &Identity) -> Option<Duration> {
    let (seconds, nanoseconds) = state.changed;
    let (seconds, nanoseconds) = (seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
    Some(Duration::new(seconds, nanoseconds))
}

/// Returns the time since 1970.
fn now() -> Option<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok()
}

/// The file that a path leads to, with its state unless it is a directory: what is in one is not its
/// own business.
pub(super) type Answer = Result<(Looked, Option<Identity>), Errno>;

/// Asks what a path leads to.
pub(super) fn look(path: &CStr) -> Answer {
    let (looked, state) = sys::look_closely(path)?;
    Ok((looked, (!looked.file.directory).then_some(state)))
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    match slash {
        0 => Some(b"/"),
        slash => Some(&path[..slash]),
    }
}

/// Returns whether a file has been changed so recently that another change might not show.
pub(super) fn is_fresh(facts: &[Fact]) -> bool {
    let Some(now) = now() else {
        return true;
    };
    let mut changed = facts.iter().filter_map(|fact| match fact {
        Fact::Path { answer, .. } => changed(&answer.ok()?.1?),
        Fact::Missing(_) => None,
    });
    changed.any(|changed| changed + TICK > now)
}

/// Returns whether all facts are the same.
pub(super) fn hold(facts: &[Fact]) -> bool {
    // Asked for before any file is.
    let now = now().unwrap_or_default();
    facts.iter().all(|fact| fact.holds(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::{ffi::OsStrExt, fs::symlink},
        path::Path,
    };

    #[test]
    fn what_is_not_there_is_asked_for_once() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().to_str().expect("it is known to be UTF-8");
        let mut facts = Facts::default();
        for name in ["missing/a/x.so", "missing/b/x.so", "y.so"] {
            let answer = facts.of(format!("{path}/{name}").as_bytes());
            assert_eq!(answer, Some(Err(Errno::ENOENT)));
        }
        let facts = facts.into_vec();
        let asked: Vec<_> = missing(&facts)
            .paths
            .iter()
            .map(|path| path.to_str())
            .collect();
        let expected = ["missing", "y.so"].map(|name| format!("{path}/{name}"));
        assert_eq!(asked, expected.each_ref().map(|path| Ok(path.as_str())));
        assert_eq!(facts.len(), 1, "that it is a directory is not asked twice");

        assert!(hold(&facts));
        std::fs::create_dir_all(folder.path().join("missing/a")).expect("a folder can be made");
        assert!(!hold(&facts));
    }

    /// Facts about a directory in which these are missing, and nothing else.
    fn without(directory: &Path, names: &[&str]) -> Vec<Fact> {
        let mut facts = Facts::default();
        for name in names {
            let path = directory.join(name);
            assert_eq!(
                facts.of(path.as_os_str().as_bytes()),
                Some(Err(Errno::ENOENT))
            );
        }
        facts.into_vec()
    }

    fn missing(facts: &[Fact]) -> &Missing {
        let mut missing = facts.iter().filter_map(|fact| match fact {
            Fact::Missing(missing) => Some(missing),
            Fact::Path { .. } => None,
        });
        missing.next().expect("something is missing")
    }

    /// When a directory that has just been made is no longer new.
    fn later() -> Duration {
        now().expect("it is after 1970") + 2 * SETTLED
    }

    /// Waits until a change of the directory in which something is missing gives it another time.
    fn wait_for_another_time(facts: &[Fact]) {
        let changed = |path: &CStr| sys::look_closely(path).map(|(_, state)| state.changed);
        let before = changed(&missing(facts).directory).expect("it is there");
        loop {
            let folder = tempfile::tempdir().expect("a folder can be made");
            let other = CString::new(folder.path().as_os_str().as_bytes()).expect("it has no NUL");
            if changed(&other).is_ok_and(|now| now > before) {
                return;
            }
        }
    }

    fn hold_at(facts: &[Fact], now: Duration) -> bool {
        facts.iter().all(|fact| fact.holds(now))
    }

    #[test]
    fn names_are_asked_for_again_only_once_their_directory_has_changed() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path();
        let facts = without(path, &["a.so", "b.so"]);
        let directory = missing(&facts);
        assert_eq!(directory.state.get(), None);
        wait_for_another_time(&facts);
        assert!(hold_at(&facts, later()));
        let known = directory.state.get();
        assert!(known.is_some());

        // It is believed without a look at names: here is one that the state does not tell of.
        fs::write(path.join("b.so"), "").expect("a file can be made");
        let (_, state) = sys::look_closely(&directory.directory).expect("it is there");
        directory.state.set(Some(state));
        assert!(hold_at(&facts, later()));
        directory.state.set(known);
        assert!(!hold_at(&facts, later()));
        fs::remove_file(path.join("b.so")).expect("it is there");

        fs::write(path.join("unrelated"), "").expect("a file can be made");
        assert!(hold_at(&facts, later()));
        let again = directory.state.get();
        assert!(again.is_some() && again != known);
    }

    #[test]
    fn a_name_that_appears_is_noticed_whatever_it_is() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("a.so");
        let facts = without(folder.path(), &["a.so"]);
        let appear: [fn(&Path); 3] = [
            |path| fs::write(path, "").expect("a file can be made"),
            |path| fs::create_dir(path).expect("a folder can be made"),
            |path| symlink("nowhere", path).expect("a link can be made"),
        ];
        for appear in appear {
            wait_for_another_time(&facts);
            assert!(hold_at(&facts, later()));
            appear(&path);
            assert!(!hold_at(&facts, later()));
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
    }

    #[test]
    fn a_directory_that_has_just_been_changed_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let facts = without(folder.path(), &["a.so"]);
        let now = now().expect("it is after 1970");
        assert!(hold_at(&facts, now));
        assert_eq!(missing(&facts).state.get(), None);
        assert!(hold_at(&facts, later()));
        assert!(missing(&facts).state.get().is_some());
    }

    #[test]
    fn another_directory_in_its_place_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir(&path).expect("a folder can be made");
        fs::create_dir(&other).expect("a folder can be made");
        let facts = without(&path, &["x.so"]);
        assert!(hold_at(&facts, later()));
        fs::remove_dir(&path).expect("it is empty");
        assert!(!hold_at(&facts, later()));
        fs::rename(&other, &path).expect("it can be renamed");
        assert!(!hold_at(&facts, later()));
    }

    #[test]
    fn where_a_link_leads_is_not_its_directorys_business() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (link, target) = (folder.path().join("links/a.so"), folder.path().join("a.so"));
        fs::create_dir(folder.path().join("links")).expect("a folder can be made");
        symlink(&target, &link).expect("a link can be made");
        let facts = without(&folder.path().join("links"), &["a.so", "b.so"]);
        assert!(hold_at(&facts, later()));
        fs::write(&target, "").expect("a file can be made");
        assert!(!hold_at(&facts, later()));
    }

    #[test]
    fn of_a_file_system_that_is_not_known_names_are_asked_each_time() {
        let (looked, _) = look(c"/proc").expect("it is there");
        assert_eq!(Missing::new(b"/proc", &looked), None);
    }

    /// Measures: `cargo test --release -p harness-runner --lib -- --ignored --nocapture the_cost_of`.
    #[test]
    #[ignore = "it measures"]
    fn the_cost_of_names_that_are_not_there() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let facts = without(folder.path(), &["a.so", "b.so", "c.so", "d.so", "e.so"]);
        for (what, now) in [("each name", Duration::ZERO), ("the directory", later())] {
            let start = std::time::Instant::now();
            for _ in 0..10_000 {
                assert!(hold_at(&facts, now));
            }
            eprintln!("{what}: {:?}", start.elapsed() / 10_000);
        }
    }

    #[test]
    fn what_is_somebody_elses_for_everybody_is_no_fact() {
        let mut facts = Facts::default();
        for path in [b"/proc/self/exe".as_slice(), b"/dev/fd/3", b"relative"] {
            assert_eq!(facts.of(path), None);
        }
    }
}
