//! The file of what passes rest on: `<store>/reuse/ledger`.
//!
//! Paths and states are stored once, whatever number of tests asked for them. The file is read as a whole and
//! replaced as a whole, under a lock: two runs at once add to each other.

use super::{
    digests::{Digest, Digests},
    folder,
    key::{Key, Surroundings},
    programs::Entered,
    settle::{Fact, Settled},
    state::Here,
};
use crate::{own_files, sys::Identity};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{RunId, TestId};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    sync::Arc,
    time::Duration,
};
use thiserror::Error;

const MAGIC: &[u8; 8] = b"HRNSREU\n";
/// Grows when a reader of the old one would go wrong, and when the rules of what is an input change.
pub(super) const VERSION: u32 = 2;
const LEDGER: &str = "ledger";
const LOCK: &str = "lock";
/// A file that is longer is not read.
const LONGEST: u64 = 512 * 1024 * 1024;
const COMPRESSION: i32 = 1;
/// Passes of a test: one for each of the branches between which a person changes, say.
const PASSES: usize = 3;

/// A reason why the ledger cannot be used.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// It cannot be read or written.
    #[error("failed to use `{path}`")]
    File {
        /// Its path.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another version has written it.
    #[error("`{path}` was written by another version of cargo harness")]
    Version {
        /// Its path.
        path: Utf8PathBuf,
    },
    /// It is cut short, or something else.
    #[error("`{path}` is damaged")]
    Damaged {
        /// Its path.
        path: Utf8PathBuf,
    },
}

/// A pass that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The run that had it.
    pub run: RunId,
    /// When the test was started, since 1970.
    pub at: Duration,
    /// Its running time.
    pub elapsed: Duration,
}

/// A stored pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The circumstances that had to be the same before inputs were compared.
    pub key: Key,
    /// Its inputs and outputs.
    pub settled: Settled,
    /// The functions that it entered of the workspace's executables, its own binary first, and read nothing else of them; empty if
    /// that is not known.
    pub entered: Vec<Entered>,
    /// The run.
    pub run: RunId,
    /// When the test was started, since 1970.
    pub at: Duration,
    /// Its running time.
    pub elapsed: Duration,
}

impl Pass {
    /// Returns the facts about it for people.
    pub fn known(&self) -> Known {
        Known {
            run: self.run,
            at: self.at,
            elapsed: self.elapsed,
        }
    }
}

/// A test whose results are not used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distrust {
    /// The reason.
    pub reason: String,
    /// The content of its binary at that time.
    pub binary: Digest,
}

/// All that is stored of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its passes, the latest first.
    pub passes: Vec<Pass>,
    /// The reason why its last result is not used again.
    pub refused: Option<String>,
    /// The reason why none is.
    pub distrust: Option<Distrust>,
    /// The paths that it changed when it ran last.
    pub changes: Vec<Vec<u8>>,
}

impl Stored {
    /// Adds a pass. Others that rest on the same go.
    pub(super) fn add(&mut self, mut pass: Pass) {
        self.refused = None;
        let same = |old: &&Pass| old.key == pass.key && old.settled.inputs == pass.settled.inputs;
        if let Some(old) = self.passes.iter().find(same) {
            // Which functions are entered may depend on chance.
            pass.entered = both(&old.entered, &pass.entered);
        }
        self.passes
            .retain(|old| old.key != pass.key || old.settled.inputs != pass.settled.inputs);
        self.passes.insert(0, pass);
        self.passes.truncate(PASSES);
    }
}

/// Returns what was entered in one of two passes; nothing if it is not known of one.
fn both(old: &[Entered], new: &[Entered]) -> Vec<Entered> {
    if old.is_empty() {
        return new.to_vec();
    }
    let mut all = new.to_vec();
    for entered in &mut all {
        let same = |it: &&Entered| (&it.path, it.digest) == (&entered.path, entered.digest);
        if let Some(before) = old.iter().find(same) {
            entered.functions.extend(&before.functions);
            entered.functions.sort_unstable();
            entered.functions.dedup();
        }
    }
    all
}

/// The passes of all tests, with all that they rest on.
#[derive(Debug)]
pub struct Ledger {
    path: Utf8PathBuf,
    /// The key of digests that may stand for secrets.
    pub(super) secret: [u8; 32],
    /// The tests.
    pub tests: BTreeMap<TestId, Stored>,
    pub(super) digests: Digests,
}

/// The contents of the file.
#[derive(Default, Serialize, Deserialize)]
struct Written {
    secret: [u8; 32],
    facts: Vec<Fact>,
    surroundings: Vec<Surroundings>,
    tests: Vec<WrittenTest>,
    digests: Vec<(Identity, Digest)>,
}

#[derive(Serialize, Deserialize)]
struct WrittenTest {
    test: (String, String),
    passes: Vec<WrittenPass>,
    refused: Option<String>,
    distrust: Option<Distrust>,
    changes: Vec<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct WrittenPass {
    harness: String,
    binary: Digest,
    command: Digest,
    surroundings: u32,
    inputs: Vec<u32>,
    outputs: Vec<u32>,
    entered: Vec<Entered>,
    run: RunId,
    at: Duration,
    elapsed: Duration,
}

impl Ledger {
    /// Reads the ledger of a store; an empty one if there is none.
    ///
    /// # Errors
    ///
    /// When there is one that cannot be read.
    pub fn load(store: &Utf8Path) -> Result<Self, LedgerError> {
        let path = folder(store).join(LEDGER);
        let bytes = match own_files::read(&path, LONGEST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::empty(store));
            }
            Err(source) => return Err(LedgerError::File { path, source }),
        };
        let damaged = || LedgerError::Damaged { path: path.clone() };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(LedgerError::Version { path });
        }
        let plain = zstd::decode_all(rest).map_err(|_| damaged())?;
        let written: Written = postcard::from_bytes(&plain).map_err(|_| damaged())?;
        let tests = written.tests().ok_or_else(damaged)?;
        Ok(Self {
            path,
            secret: written.secret,
            tests,
            digests: Digests::decode(written.digests),
        })
    }

    /// Returns one without tests.
    pub fn empty(store: &Utf8Path) -> Self {
        let mut secret = [0; 32];
        for part in secret.chunks_mut(16) {
            part.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        }
        Self {
            path: folder(store).join(LEDGER),
            secret,
            tests: BTreeMap::new(),
            digests: Digests::default(),
        }
    }

    /// Changes the ledger of a store, which another process may have changed since it was read. One that cannot be
    /// read is replaced.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn update(store: &Utf8Path, change: impl FnOnce(&mut Self)) -> Result<(), LedgerError> {
        let folder = folder(store);
        let failed = |path: &Utf8Path| {
            let path = path.to_owned();
            move |source| LedgerError::File { path, source }
        };
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let lock = folder.join(LOCK);
        let held: File = own_files::private(&lock).map_err(failed(&lock))?;
        held.lock().map_err(failed(&lock))?;
        let mut ledger = Self::load(store).unwrap_or_else(|_| Self::empty(store));
        change(&mut ledger);
        let bytes = ledger.encode();
        own_files::replace(&ledger.path, &bytes).map_err(failed(&ledger.path))
    }

    /// Tells the digests that it remembers.
    pub fn teach(&self, here: &mut Here) {
        here.digests.add(self.digests.clone());
    }

    /// Returns the key of digests that may stand for secrets.
    pub fn secret(&self) -> [u8; 32] {
        self.secret
    }

    /// Returns a digest that stands for a value that may be a secret.
    pub fn hidden(&self, value: &[u8]) -> Digest {
        Digest::keyed(&self.secret, value)
    }

    fn encode(&self) -> Vec<u8> {
        let mut facts = Numbers::default();
        let mut surroundings = Numbers::default();
        let tests = self.tests.iter().map(|(test, stored)| WrittenTest {
            test: (test.binary.to_string(), test.name.as_str().to_owned()),
            passes: stored
                .passes
                .iter()
                .map(|pass| WrittenPass {
                    harness: pass.key.harness.clone(),
                    binary: pass.key.binary,
                    command: pass.key.command,
                    surroundings: surroundings.of(&*pass.key.surroundings),
                    inputs: pass.settled.inputs.iter().map(|it| facts.of(it)).collect(),
                    outputs: pass.settled.outputs.iter().map(|it| facts.of(it)).collect(),
                    entered: pass.entered.clone(),
                    run: pass.run,
                    at: pass.at,
                    elapsed: pass.elapsed,
                })
                .collect(),
            refused: stored.refused.clone(),
            distrust: stored.distrust.clone(),
            changes: stored.changes.clone(),
        });
        let tests = tests.collect();
        let written = Written {
            secret: self.secret,
            facts: facts.all.into_iter().cloned().collect(),
            surroundings: surroundings.all.into_iter().cloned().collect(),
            tests,
            digests: self.digests.encode(),
        };
        let plain = postcard::to_allocvec(&written).expect("it is plain data, in memory");
        let packed = zstd::encode_all(&plain[..], COMPRESSION).expect("it is written to memory");
        [&MAGIC[..], &VERSION.to_le_bytes(), &packed].concat()
    }
}

impl Written {
    /// `None` if a number is out of range.
    fn tests(&self) -> Option<BTreeMap<TestId, Stored>> {
        let around: Vec<_> = self.surroundings.iter().cloned().map(Arc::new).collect();
        let facts = |numbers: &[u32]| -> Option<Vec<Fact>> {
            let fact = |number: &u32| self.facts.get(usize::try_from(*number).ok()?).cloned();
            numbers.iter().map(fact).collect()
        };
        let pass = |pass: &WrittenPass| {
            let surroundings = around.get(usize::try_from(pass.surroundings).ok()?)?;
            Some(Pass {
                key: Key {
                    harness: pass.harness.clone(),
                    binary: pass.binary,
                    command: pass.command,
                    surroundings: Arc::clone(surroundings),
                },
                settled: Settled {
                    inputs: facts(&pass.inputs)?,
                    outputs: facts(&pass.outputs)?,
                },
                entered: pass.entered.clone(),
                run: pass.run,
                at: pass.at,
                elapsed: pass.elapsed,
            })
        };
        let tests = self.tests.iter().map(|written| {
            let (binary, name) = &written.test;
            let test = TestId {
                binary: nextest_metadata::RustBinaryId::new(binary),
                name: nextest_metadata::TestCaseName::new(name),
            };
            let passes: Option<Vec<Pass>> = written.passes.iter().map(pass).collect();
            let stored = Stored {
                passes: passes?,
                refused: written.refused.clone(),
                distrust: written.distrust.clone(),
                changes: written.changes.clone(),
            };
            Some((test, stored))
        });
        tests.collect()
    }
}

/// Values with numbers in the order in which they came first.
struct Numbers<'a, T> {
    all: Vec<&'a T>,
    of: HashMap<&'a T, u32>,
}

impl<T> Default for Numbers<'_, T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            of: HashMap::new(),
        }
    }
}

impl<'a, T: Eq + std::hash::Hash> Numbers<'a, T> {
    fn of(&mut self, value: &'a T) -> u32 {
        let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        *self.of.entry(value).or_insert_with(|| {
            self.all.push(value);
            next
        })
    }
}
