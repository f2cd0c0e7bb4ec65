//! Keeps facts about files from run to run, in files of its own below the target folder.
//!
//! Such a file is only ever a shortcut, and may be removed at any time. It counts as empty if it is cut
//! short or too long, if another program or another version of this one has written it, or if it holds
//! anything else. The next save replaces it. A fact holds as long as the file that it is about is the
//! same.
//!
//! Facts about loaders are no such facts: a stub checks each of them whenever it uses one, and they end
//! with it, in memory. They know a file by the same [`Identity`].

use crate::{own_files, sys::Identity};
use camino::Utf8Path;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The program and its version, by which it knows its own files.
const PROGRAM: &str = concat!("cargo-harness ", env!("CARGO_PKG_VERSION"));

/// The description of a file of facts.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Memory {
    /// The path below the target folder.
    pub(crate) file: &'static str,
    /// Grows with every change of the type of a fact.
    pub(crate) version: u32,
    /// The form of the contents.
    pub(crate) encoding: Encoding,
    /// The limit of its length in bytes. A longer file is neither read nor written.
    pub(crate) longest: u64,
    /// The time for which a fact holds; `None` for as long as its subject is the same.
    pub(crate) lifetime: Option<Duration>,
    /// The limit of the number of facts.
    pub(crate) most: usize,
}

/// The form of a file of facts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// JSON, for few facts, which a user may want to read.
    Readable,
    /// Postcard, for many facts, which every run reads.
    Compact,
}

/// The contents of a file of facts.
#[derive(Serialize, Deserialize)]
struct Written<'a, E> {
    program: Cow<'a, str>,
    version: u32,
    entries: E,
}

/// A remembered fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry<T, S> {
    value: T,
    /// The state of its subject.
    of: S,
    /// The time at which it was learned, in seconds since 1970.
    at: u64,
}

/// The facts of one file, by names. A fact holds for a state of its subject, which is a file unless the
/// second type says otherwise: `()` for facts that hold whatever happens.
#[derive(Debug)]
pub(crate) struct Cache<T, S = Identity> {
    memory: Memory,
    entries: BTreeMap<String, Entry<T, S>>,
    changed: bool,
    now: u64,
}

impl<T, S> Cache<T, S>
where
    T: Serialize + DeserializeOwned,
    S: Serialize + DeserializeOwned + PartialEq,
{
    /// Reads the facts that are kept below a target folder; none if the file is not usable.
    pub(crate) fn load(memory: Memory, target: &Utf8Path) -> Self {
        let bytes = own_files::read(target.join(memory.file), memory.longest);
        let entries = bytes.ok().and_then(|bytes| memory.decode(&bytes));
        Self {
            entries: entries.unwrap_or_default(),
            ..Self::empty(memory)
        }
    }

    /// Returns a cache without facts.
    pub(crate) fn empty(memory: Memory) -> Self {
        Self {
            memory,
            entries: BTreeMap::new(),
            changed: false,
            now: seconds_since_1970(),
        }
    }

    /// Returns the fact under a name, if it still holds for its subject in this state.
    pub(crate) fn get(&self, name: &str, of: &S) -> Option<&T> {
        let entry = self.entries.get(name)?;
        (entry.of == *of && self.memory.holds(entry.at, self.now)).then_some(&entry.value)
    }

    /// Remembers a fact about a subject in this state.
    pub(crate) fn put(&mut self, name: String, of: S, value: T) {
        let at = self.now;
        self.entries.insert(name, Entry { value, of, at });
        self.changed = true;
    }

    /// Writes the file if a fact is new, without the facts that no longer hold and without the names
    /// that are not wanted. The oldest facts go if they are too many or too long.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn save(
        mut self,
        target: &Utf8Path,
        wanted: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let (memory, now) = (self.memory, self.now);
        self.entries
            .retain(|name, entry| memory.holds(entry.at, now) && wanted(name));
        self.keep_newest(memory.most);
        let mut bytes = memory.encode(&self.entries)?;
        while bytes.len() as u64 > memory.longest && !self.entries.is_empty() {
            self.keep_newest(self.entries.len() / 2);
            bytes = memory.encode(&self.entries)?;
        }
        own_files::replace(&target.join(memory.file), &bytes)
    }

    /// Removes the oldest facts until no more than `most` are left.
    fn keep_newest(&mut self, most: usize) {
        let excess = self.entries.len().saturating_sub(most);
        if excess == 0 {
            return;
        }
        let mut names: Vec<_> = self
            .entries
            .iter()
            .map(|(name, it)| (it.at, name.clone()))
            .collect();
        names.sort_unstable();
        for (_, name) in names.into_iter().take(excess) {
            self.entries.remove(&name);
        }
    }
}

impl Memory {
    fn decode<E: DeserializeOwned>(&self, bytes: &[u8]) -> Option<E> {
        let written: Written<'_, E> = match self.encoding {
            Encoding::Readable => serde_json::from_slice(bytes).ok()?,
            Encoding::Compact => {
                // What follows it is not ours.
                let (written, rest) = postcard::take_from_bytes(bytes).ok()?;
                rest.is_empty().then_some(written)?
            }
        };
        let is_own = written.program == PROGRAM && written.version == self.version;
        is_own.then_some(written.entries)
    }

    fn encode<E: Serialize>(&self, entries: &E) -> io::Result<Vec<u8>> {
        let written = Written {
            program: Cow::Borrowed(PROGRAM),
            version: self.version,
            entries,
        };
        match self.encoding {
            Encoding::Readable => Ok(serde_json::to_vec_pretty(&written)?),
            Encoding::Compact => postcard::to_stdvec(&written).map_err(io::Error::other),
        }
    }

    /// Returns true if a fact that was learned at this time holds now. One from the future was learned
    /// by another clock.
    fn holds(&self, at: u64, now: u64) -> bool {
        self.lifetime.is_none_or(|lifetime| {
            let age = now.checked_sub(at);
            age.is_some_and(|age| age < lifetime.as_secs())
        })
    }
}

fn seconds_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8PathBuf;
    use std::fs;

    const READABLE: Memory = Memory {
        file: "harness/things.json",
        version: 3,
        encoding: Encoding::Readable,
        longest: 64 * 1024,
        lifetime: Some(Duration::from_secs(60)),
        most: 5,
    };

    const COMPACT: Memory = Memory {
        file: "harness/things.cache",
        encoding: Encoding::Compact,
        lifetime: None,
        ..READABLE
    };

    /// A target folder with a file that is the subject of facts.
    struct Scene {
        _folder: tempfile::TempDir,
        target: Utf8PathBuf,
        identity: Identity,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let target = Utf8Path::from_path(folder.path()).unwrap().to_owned();
            fs::write(target.join("binary"), "1").unwrap();
            Self {
                identity: Identity::of(&target.join("binary")).unwrap(),
                _folder: folder,
                target,
            }
        }

        fn remember(&self, memory: Memory, names: &[&str]) {
            let mut cache = Cache::load(memory, &self.target);
            for name in names {
                cache.put((*name).to_owned(), self.identity, name.len());
            }
            cache.save(&self.target, |_| true).unwrap();
        }

        fn known(&self, memory: Memory, name: &str) -> Option<usize> {
            let cache = Cache::load(memory, &self.target);
            cache.get(name, &self.identity).copied()
        }
    }

    #[test]
    fn what_one_run_has_learned_the_next_one_knows_until_the_file_changes() {
        for memory in [READABLE, COMPACT] {
            let mut scene = Scene::new();
            assert_eq!(scene.known(memory, "one"), None);
            scene.remember(memory, &["one"]);
            scene.remember(memory, &["three"]);
            assert_eq!(scene.known(memory, "one"), Some(3));
            assert_eq!(scene.known(memory, "three"), Some(5));
            let beside = fs::read_dir(scene.target.join("harness")).unwrap().count();
            assert_eq!(beside, 1, "nothing is left of writing");

            fs::write(scene.target.join("binary"), "another one").unwrap();
            scene.identity = Identity::of(&scene.target.join("binary")).unwrap();
            assert_eq!(scene.known(memory, "one"), None);
        }
    }

    #[test]
    fn a_file_that_is_not_ours_counts_as_empty_and_is_replaced() {
        for memory in [READABLE, COMPACT] {
            let scene = Scene::new();
            scene.remember(memory, &["one"]);
            let path = scene.target.join(memory.file);
            let own = fs::read(&path).unwrap();
            let other_program = replaced(&own, b"cargo-harness", b"cargo-nothing");
            let other = env!("CARGO_PKG_VERSION").replace(char::is_numeric, "9");
            let other_release =
                replaced(&own, env!("CARGO_PKG_VERSION").as_bytes(), other.as_bytes());
            let mut wrong = vec![
                Vec::new(),
                b"[1]".to_vec(),
                b"\xff\xff\xff\xff\xff\xff".to_vec(),
                [own.as_slice(), b"x"].concat(),
                other_program,
                other_release,
            ];
            wrong.extend((1..own.len()).map(|length| own[..length].to_vec()));
            for bytes in wrong {
                fs::write(&path, &bytes).unwrap();
                assert_eq!(scene.known(memory, "one"), None, "{bytes:?}");
            }
            scene.remember(memory, &["two"]);
            assert_eq!(scene.known(memory, "two"), Some(3));
        }
    }

    #[test]
    fn a_file_of_a_newer_or_an_older_version_counts_as_empty() {
        for memory in [READABLE, COMPACT] {
            for version in [memory.version - 1, memory.version + 1] {
                let scene = Scene::new();
                scene.remember(Memory { version, ..memory }, &["one"]);
                assert_eq!(scene.known(memory, "one"), None);
            }
        }
    }

    #[test]
    fn whatever_is_in_the_place_of_the_file_does_no_harm() {
        let scene = Scene::new();
        let path = scene.target.join(READABLE.file);
        fs::create_dir_all(&path).unwrap();
        assert_eq!(scene.known(READABLE, "one"), None);
        let mut cache = Cache::load(READABLE, &scene.target);
        cache.put("one".to_owned(), scene.identity, 1);
        assert!(cache.save(&scene.target, |_| true).is_err());
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(scene.known(READABLE, "one"), None);
        scene.remember(READABLE, &["one"]);
        assert_eq!(scene.known(READABLE, "one"), Some(3));
    }

    #[test]
    fn what_is_old_or_learned_in_the_future_does_not_hold() {
        let lifetime = READABLE.lifetime.unwrap().as_secs();
        assert!(READABLE.holds(100, 100 + lifetime - 1));
        assert!(!READABLE.holds(100, 100 + lifetime));
        assert!(!READABLE.holds(100, 99));
        assert!(COMPACT.holds(100, u64::MAX));
    }

    #[test]
    fn a_longer_file_than_the_limit_counts_as_empty_and_is_replaced() {
        for memory in [READABLE, COMPACT] {
            let scene = Scene::new();
            scene.remember(memory, &["one"]);
            let length = fs::metadata(scene.target.join(memory.file)).unwrap().len();
            let just_enough = Memory {
                longest: length,
                ..memory
            };
            assert_eq!(scene.known(just_enough, "one"), Some(3));
            let too_short = Memory {
                longest: length - 1,
                ..memory
            };
            assert_eq!(scene.known(too_short, "one"), None);
            scene.remember(just_enough, &["two"]);
            assert_eq!(scene.known(just_enough, "two"), Some(3));
        }
    }

    #[test]
    fn no_file_is_written_that_is_longer_than_the_limit() {
        for memory in [READABLE, COMPACT] {
            let scene = Scene::new();
            scene.remember(memory, &["a", "b"]);
            let path = scene.target.join(memory.file);
            let limit = fs::metadata(&path).unwrap().len();
            let limited = Memory {
                longest: limit,
                ..memory
            };
            scene.remember(limited, &["c", "d", "e"]);
            assert!(fs::metadata(&path).unwrap().len() <= limit);
            let cache = Cache::<usize>::load(limited, &scene.target);
            assert_eq!(cache.entries.keys().collect::<Vec<_>>(), ["d", "e"]);
        }
    }

    #[test]
    fn the_oldest_facts_go_first_and_the_unwanted_ones_always() {
        let scene = Scene::new();
        let mut cache = Cache::load(READABLE, &scene.target);
        for (age, name) in ["g", "f", "e", "d", "c", "b", "a"].into_iter().enumerate() {
            cache.put(name.to_owned(), scene.identity, name.len());
            cache.entries.get_mut(name).unwrap().at -= age as u64;
        }
        cache.save(&scene.target, |_| true).unwrap();
        let mut cache = Cache::load(READABLE, &scene.target);
        let names: Vec<_> = cache.entries.keys().collect();
        assert_eq!(names, ["c", "d", "e", "f", "g"]);
        assert_eq!(names.len(), READABLE.most);
        cache.put("new".to_owned(), scene.identity, 3);
        cache.save(&scene.target, |name| name == "new").unwrap();
        let cache = Cache::<usize>::load(READABLE, &scene.target);
        assert_eq!(cache.entries.keys().collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn nothing_is_written_if_nothing_is_new() {
        let scene = Scene::new();
        let cache = Cache::<usize>::load(READABLE, &scene.target);
        cache.save(&scene.target, |_| true).unwrap();
        assert!(!scene.target.join(READABLE.file).exists());
    }

    fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|it| it == from).unwrap();
        [&bytes[..at], to, &bytes[at + from.len()..]].concat()
    }
}
