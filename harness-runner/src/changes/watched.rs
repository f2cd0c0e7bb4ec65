//! Watches the files of a workspace, but for those that git ignores.
//!
//! Each folder is watched by itself: a target folder has thousands, and none of them counts. An event is
//! a change if the file has other bytes than before, so that a test that writes the same file in each run
//! does not keep the runs going.

use ignore::WalkBuilder;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The most bytes of a file that are compared. A longer one changes with each event.
const LONGEST: u64 = 64 * 1024 * 1024;

/// The most bytes of a file that are read before there is an event: sources are shorter, and data may be
/// much.
const LONGEST_AT_FIRST: u64 = 256 * 1024;

/// An error in watching.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The kernel has no room for so many.
    #[error("the user has no inotify watches left after {folders} folders")]
    TooMany {
        /// The number of folders that are watched by now.
        folders: usize,
    },
    /// Something else.
    #[error("failed to watch `{path}`")]
    Watch {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: notify::Error,
    },
    /// The kernel refuses it altogether.
    #[error("failed to watch files")]
    Start(#[source] notify::Error),
}

/// Files that are watched.
pub struct Watched {
    watcher: RecommendedWatcher,
    roots: Vec<PathBuf>,
    /// Files and folders that are left out, with all below them.
    except: BTreeSet<PathBuf>,
    folders: HashSet<PathBuf>,
    /// The files, each with the hash of its bytes if it has been read.
    files: HashMap<PathBuf, Option<u64>>,
    state: RandomState,
}

impl Watched {
    /// Watches everything below these folders but `except`. `tell` is called in another thread.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it.
    pub fn new(
        roots: Vec<PathBuf>,
        except: BTreeSet<PathBuf>,
        mut tell: impl FnMut(Event) + Send + 'static,
    ) -> Result<Self, WatchError> {
        let heard = move |event: notify::Result<Event>| {
            if let Ok(event) = event
                && is_change(&event)
            {
                tell(event);
            }
        };
        let watcher = notify::recommended_watcher(heard).map_err(WatchError::Start)?;
        let mut watched = Self {
            watcher,
            roots: roots.clone(),
            except,
            folders: HashSet::new(),
            files: HashMap::new(),
            state: RandomState::new(),
        };
        for root in roots {
            watched.add(&root)?;
        }
        Ok(watched)
    }

    /// Watches what is below a folder and not ignored. Returns the files that are new.
    fn add(&mut self, root: &Path) -> Result<Vec<PathBuf>, WatchError> {
        let mut new = Vec::new();
        for entry in self.walk(root).build().flatten() {
            let Some(kind) = entry.file_type() else {
                continue;
            };
            let path = entry.into_path();
            if !kind.is_dir() {
                if !self.files.contains_key(&path) {
                    let hash = self.hash(&path, LONGEST_AT_FIRST);
                    self.files.insert(path.clone(), hash);
                    new.push(path);
                }
            } else if self.folders.insert(path.clone()) {
                // Before its entries are read: none can appear unseen.
                let watched = self.watcher.watch(&path, RecursiveMode::NonRecursive);
                watched.map_err(|source| self.refused(path, source))?;
            }
        }
        Ok(new)
    }

    fn refused(&self, path: PathBuf, source: notify::Error) -> WatchError {
        match source.kind {
            notify::ErrorKind::MaxFilesWatch => WatchError::TooMany {
                folders: self.folders.len(),
            },
            _ => WatchError::Watch { path, source },
        }
    }

    fn walk(&self, root: &Path) -> WalkBuilder {
        let except = self.except.clone();
        let mut walk = WalkBuilder::new(root);
        walk.hidden(false)
            .require_git(false)
            .filter_entry(move |entry| {
                entry.file_name() != ".git"
                    && !except.contains(entry.path())
                    && !is_of_an_editor(entry.path())
            });
        walk
    }

    /// Returns the files that these events have changed.
    ///
    /// # Errors
    ///
    /// When a new folder cannot be watched.
    pub fn changed(&mut self, events: Vec<Event>) -> Result<BTreeSet<PathBuf>, WatchError> {
        if events.iter().any(Event::need_rescan) {
            return self.compare_all();
        }
        let paths: BTreeSet<PathBuf> = events.into_iter().flat_map(|event| event.paths).collect();
        let mut changed = BTreeSet::new();
        let mut listed = BTreeMap::new();
        for path in paths {
            if !path.exists() {
                self.forget(&path, &mut changed);
            } else if !self.is_listed(&path, &mut listed) {
                // Git ignores it.
            } else if path.is_dir() {
                changed.extend(self.add(&path)?);
            } else {
                self.compare(path, &mut changed);
            }
        }
        Ok(changed)
    }

    /// Looks at all files: the kernel had no room for all events.
    fn compare_all(&mut self) -> Result<BTreeSet<PathBuf>, WatchError> {
        let mut changed = BTreeSet::new();
        let known: Vec<PathBuf> = self.files.keys().cloned().collect();
        for path in known {
            match path.exists() {
                true => self.compare(path, &mut changed),
                false => self.forget(&path, &mut changed),
            }
        }
        self.folders.retain(|folder| folder.is_dir());
        for root in self.roots.clone() {
            changed.extend(self.add(&root)?);
        }
        Ok(changed)
    }

    fn compare(&mut self, path: PathBuf, changed: &mut BTreeSet<PathBuf>) {
        let now = self.hash(&path, LONGEST);
        let before = self.files.insert(path.clone(), now).flatten();
        if now.is_none() || before != now {
            changed.insert(path);
        }
    }

    /// Forgets a file or a folder that is gone.
    fn forget(&mut self, path: &Path, changed: &mut BTreeSet<PathBuf>) {
        if self.files.remove(path).is_some() {
            changed.insert(path.to_owned());
        }
        if !self.folders.remove(path) {
            return;
        }
        self.folders.retain(|folder| !folder.starts_with(path));
        self.files.retain(|file, _| {
            let gone = file.starts_with(path);
            if gone {
                changed.insert(file.clone());
            }
            !gone
        });
    }

    /// Returns whether its folder has it among those that are not ignored. `listed` has the folders that
    /// have been read for these events.
    fn is_listed(&self, path: &Path, listed: &mut BTreeMap<PathBuf, BTreeSet<PathBuf>>) -> bool {
        let Some(folder) = path.parent() else {
            return false;
        };
        if !self.folders.contains(folder) {
            return self.roots.iter().any(|root| root == path);
        }
        let entries = listed.entry(folder.to_owned()).or_insert_with(|| {
            let entries = self.walk(folder).max_depth(Some(1)).build().flatten();
            entries.map(ignore::DirEntry::into_path).collect()
        });
        entries.contains(path)
    }

    fn hash(&self, path: &Path, longest: u64) -> Option<u64> {
        let short = fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() <= longest);
        let bytes = short.then(|| fs::read(path).ok()).flatten()?;
        Some(self.state.hash_one(bytes))
    }
}

/// Returns whether an event may be a change. A file that is opened or read is none.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
        EventKind::Any | EventKind::Access(_) | EventKind::Other => event.need_rescan(),
    }
}

/// Returns whether a file is an editor's own: it comes and goes while another is saved.
fn is_of_an_editor(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let hidden = name.starts_with('.')
        && [".swp", ".swx", ".swo"]
            .iter()
            .any(|end| name.ends_with(end));
    hidden || name.ends_with('~') || name.starts_with(".#") || name == "4913"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::mpsc::{self, Receiver},
        time::Duration,
    };

    struct Folder {
        at: tempfile::TempDir,
        watched: Watched,
        events: Receiver<Event>,
        rounds: u32,
    }

    impl Folder {
        fn new() -> Self {
            let at = tempfile::tempdir().expect("a folder can be made");
            let root = at.path().canonicalize().expect("it is there");
            fs::create_dir_all(root.join("src")).expect("it can be made");
            fs::create_dir_all(root.join("target/debug")).expect("it can be made");
            fs::write(root.join("src/lib.rs"), "1").expect("it can be written");
            fs::write(root.join(".gitignore"), "*.log\nout/\n").expect("it can be written");
            let (tell, events) = mpsc::channel();
            let except = BTreeSet::from([root.join("target"), root.join("junit.xml")]);
            let heard = move |event| drop(tell.send(event));
            let watched = Watched::new(vec![root], except, heard).expect("it can be watched");
            Self {
                at,
                watched,
                events,
                rounds: 0,
            }
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.at.path().join(file);
            fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
            fs::write(path, text).expect("it can be written");
        }

        /// Returns the changed files, up to one that is written now.
        fn changed(&mut self) -> Vec<String> {
            let root = self.at.path().canonicalize().expect("it is there");
            self.rounds += 1;
            // Another one each time: an event of the one before may still come.
            let last = format!("last-{}", self.rounds);
            self.write(&last, "");
            let mut events: Vec<Event> = Vec::new();
            while !events
                .iter()
                .any(|event| event.paths.contains(&root.join(&last)))
            {
                let next = self.events.recv_timeout(Duration::from_secs(60));
                events.push(next.expect("the last file is noticed"));
            }
            let changed = self.watched.changed(events).expect("it can be watched");
            let below = |path: &PathBuf| path.strip_prefix(&root).ok()?.to_str().map(str::to_owned);
            let names = changed.iter().filter_map(below);
            names.filter(|name| !name.starts_with("last-")).collect()
        }
    }

    #[test]
    fn only_other_bytes_in_files_that_are_not_ignored_are_a_change() {
        let mut folder = Folder::new();
        folder.write("src/lib.rs", "1");
        folder.write("src/a.log", "x");
        folder.write("out/x", "x");
        folder.write("target/debug/x", "x");
        folder.write("junit.xml", "x");
        folder.write("src/.lib.rs.swp", "x");
        folder.write("src/4913", "x");
        folder.write(".git/HEAD", "x");
        assert_eq!(folder.changed(), [""; 0]);
        folder.write("src/lib.rs", "2");
        assert_eq!(folder.changed(), ["src/lib.rs"]);
        folder.write("src/lib.rs", "2");
        assert_eq!(folder.changed(), [""; 0]);
    }

    #[test]
    fn new_folders_renamed_files_and_files_that_are_gone_are_changes() {
        let mut folder = Folder::new();
        folder.write("new/deep/a.rs", "1");
        assert_eq!(folder.changed(), ["new/deep/a.rs"]);
        folder.write("new/deep/b.rs", "1");
        assert_eq!(folder.changed(), ["new/deep/b.rs"]);
        let root = folder.at.path().to_owned();
        // As editors save.
        folder.write("src/lib.rs.new", "3");
        fs::rename(root.join("src/lib.rs.new"), root.join("src/lib.rs")).expect("it is there");
        assert_eq!(folder.changed(), ["src/lib.rs"]);
        fs::remove_dir_all(root.join("new")).expect("it is there");
        assert_eq!(folder.changed(), ["new/deep/a.rs", "new/deep/b.rs"]);
        folder.write("new/deep/a.rs", "1");
        assert_eq!(folder.changed(), ["new/deep/a.rs"]);
    }

    #[test]
    fn after_lost_events_all_files_are_compared() {
        let mut folder = Folder::new();
        folder.write("src/lib.rs", "2");
        folder.write("src/new.rs", "2");
        let lost = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert!(is_change(&lost));
        let changed = folder
            .watched
            .changed(vec![lost])
            .expect("it can be watched");
        let names: Vec<_> = changed.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["lib.rs", "new.rs"]);
    }
}
