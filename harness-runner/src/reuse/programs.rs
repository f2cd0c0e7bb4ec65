//! The executables of a workspace: their maps, which are kept in the store, and how two of them differ.

use super::{Digest, folder, times::remove_old};
use crate::{
    functions::{Comparison, Difference, Map},
    own_files,
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    rc::Rc,
    time::Duration,
};

/// A map that is longer is not read.
const LONGEST: u64 = 256 * 1024 * 1024;
const COMPRESSION: i32 = 1;

/// Maps that no run has asked for since then are removed.
const KEPT: Duration = Duration::from_secs(60 * 86_400);

/// The maps in a store, each by the content of its executable.
#[derive(Debug)]
pub struct Maps {
    folder: Utf8PathBuf,
    known: HashMap<Digest, Option<Rc<Map>>>,
    compared: HashMap<(Digest, Digest), Option<Rc<Comparison>>>,
}

impl Maps {
    /// Those of this store.
    pub fn of(store: &Utf8Path) -> Self {
        Self {
            folder: folder(store).join("maps"),
            known: HashMap::new(),
            compared: HashMap::new(),
        }
    }

    /// Returns the map of an executable; `None` if there is none of this version.
    pub fn get(&mut self, digest: Digest) -> Option<Rc<Map>> {
        if let Some(known) = self.known.get(&digest) {
            return known.clone();
        }
        let map = self.read(digest).map(Rc::new);
        self.known.insert(digest, map.clone());
        map
    }

    fn read(&self, digest: Digest) -> Option<Map> {
        let bytes = own_files::read(self.path(digest), LONGEST).ok()?;
        let plain = zstd::decode_all(&bytes[..]).ok()?;
        let (version, map): (String, Map) = postcard::from_bytes(&plain).ok()?;
        (version == super::version()).then_some(map)
    }

    /// Keeps the map of an executable.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn keep(&mut self, digest: Digest, map: Map) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let plain = postcard::to_allocvec(&(super::version(), &map)).map_err(io::Error::other)?;
        own_files::replace(
            &self.path(digest),
            &zstd::encode_all(&plain[..], COMPRESSION)?,
        )?;
        self.known.insert(digest, Some(Rc::new(map)));
        Ok(())
    }

    fn path(&self, digest: Digest) -> Utf8PathBuf {
        self.folder.join(digest.whole())
    }

    /// Removes maps that were written long ago.
    pub fn tidy(&self) {
        remove_old(&self.folder, KEPT);
    }

    /// Returns how an executable differs from the one before; `None` if one of them has no map.
    fn compare(&mut self, before: Digest, now: Digest) -> Option<Rc<Comparison>> {
        if let Some(known) = self.compared.get(&(before, now)) {
            return known.clone();
        }
        let maps = self.get(before).zip(self.get(now));
        let compared = maps.map(|(before, now)| Rc::new(Comparison::new(&before, &now)));
        self.compared.insert((before, now), compared.clone());
        compared
    }
}

/// The executables as they are now.
#[derive(Debug)]
pub struct Programs {
    /// Their contents, by their paths.
    pub now: BTreeMap<Utf8PathBuf, Digest>,
    maps: Maps,
}

/// The functions of an executable that a test entered.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entered {
    /// The path that it was executed by.
    pub path: Utf8PathBuf,
    /// Its content.
    pub digest: Digest,
    /// The functions, by their numbers in its map.
    pub functions: Vec<u32>,
}

/// The difference of an executable from the one that a test has entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// By something that the test has entered.
    Differs(Difference),
    /// It is not known in which functions.
    Unknown,
}

impl Programs {
    /// These, whose maps are in the store.
    pub fn new(now: BTreeMap<Utf8PathBuf, Digest>, maps: Maps) -> Self {
        Self { now, maps }
    }

    /// Returns none, as where nothing is known of functions.
    pub fn none(store: &Utf8Path) -> Self {
        Self::new(BTreeMap::new(), Maps::of(store))
    }

    /// Returns the maps.
    pub fn maps(&mut self) -> &mut Maps {
        &mut self.maps
    }

    /// Returns whether an executable is compared by its functions.
    pub(super) fn knows(&mut self, entered: &Entered) -> bool {
        let now = self.now.get(&entered.path).copied();
        now.is_some_and(|now| {
            now == entered.digest || self.maps.compare(entered.digest, now).is_some()
        })
    }

    /// Returns how an executable differs from what a test has entered of it, `None` if it does not. `test` is the name
    /// of the test in it, if it is the test's own binary.
    pub fn difference(&mut self, entered: &Entered, test: Option<&str>) -> Option<Otherwise> {
        let Some(now) = self.now.get(&entered.path).copied() else {
            return Some(Otherwise::Unknown);
        };
        if now == entered.digest {
            return None;
        }
        let Some(compared) = self.maps.compare(entered.digest, now) else {
            return Some(Otherwise::Unknown);
        };
        let first = compared.first(&entered.functions, test);
        first.map(Otherwise::Differs)
    }
}
