//! Records the functions of an executable that a process enters.
//!
//! The text of the executable is replaced before any of its code runs: by a copy in which each function of interest
//! begins with a call. The code that is called notes the entry in memory that all processes of the test share, puts
//! the first bytes of the function back, and begins it again. So each function costs once in a process, and nothing
//! stops. The tracer makes a process map all that where it stands anyway, behind its execution.
//!
//! - `encoding` has all that depends on the machine: it makes the [`Copy`] that is mapped;
//! - `remote` makes a stopped process do system calls;
//! - `EntryRecord` is what a stub does with both.
//!
//! What goes wrong is written down, and the process runs as it is: nothing is known then of what it entered.

mod encoding;
#[cfg(target_arch = "x86_64")]
mod remote;

use crate::{
    proc::{self, maps::MappedFile},
    sys::{Identity, Tgid},
};
use camino::{Utf8Path, Utf8PathBuf};
pub use encoding::{Shape, Unpatchable, copy};
use harness_metadata::TestId;
use serde::{Deserialize, Serialize};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

/// An executable whose entries are recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The executable.
    pub executable: Identity,
    /// The file that is mapped instead of its text: see [`copy`].
    pub copy: Utf8PathBuf,
    /// The places of its parts.
    pub shape: Shape,
}

/// The executables of a run, in an order that their files of entries are numbered by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executables(pub Vec<Recorded>);

impl Executables {
    /// Reads the file that a run has written for its stubs.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn load(path: &str) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        postcard::from_bytes(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Returns it as the contents of that file.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("it is plain data, in memory")
    }
}

/// The files of a run.
#[derive(Clone, Debug)]
pub struct EntryFiles {
    folder: Utf8PathBuf,
}

impl EntryFiles {
    /// They are in this folder.
    pub fn new(folder: &Utf8Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Returns the file that lists the executables.
    pub fn executables(&self) -> String {
        self.folder.join("executables").into_string()
    }

    /// Returns the beginning of the names of the files of a test.
    pub fn prefix(&self, test: &TestId) -> String {
        let digest = blake3::hash(test.to_string().as_bytes()).to_hex();
        self.folder.join(&digest[..32]).into_string()
    }
}

/// Returns the file of the entries of an executable, which has a bit for each sixteen bytes of its text.
pub fn file_of(prefix: &str, executable: usize) -> String {
    format!("{prefix}.{executable}")
}

/// Returns the file that has a line for each execution of one of the executables.
pub fn log_of(prefix: &str) -> String {
    format!("{prefix}.log")
}

/// A line of that file: the executable, and why its entries are not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Its number.
    pub executable: usize,
    /// `None` if they are.
    pub failed: Option<String>,
}

/// The recording of an attempt.
#[derive(Debug)]
pub(crate) struct EntryRecord {
    executables: std::rc::Rc<Executables>,
    /// The beginning of the names of its files.
    prefix: String,
    log: RefCell<Option<File>>,
    /// The files that processes have been made to map.
    mapped: RefCell<BTreeSet<MappedFile>>,
}

impl EntryRecord {
    pub(crate) fn new(executables: std::rc::Rc<Executables>, prefix: String) -> Self {
        Self {
            executables,
            prefix,
            log: RefCell::new(None),
            mapped: RefCell::default(),
        }
    }

    /// A process has executed a program, and stands in front of its first instruction, or of its loader's. Returns
    /// whether it still does.
    pub(crate) fn executed(&self, process: Tgid) -> bool {
        let program = Utf8PathBuf::from(proc::path(process, "exe"));
        let Some(program) = Identity::of(&program) else {
            return true;
        };
        let mut all = self.executables.0.iter();
        let Some(number) = all.position(|it| it.executable.is_same_content(&program)) else {
            return true;
        };
        let recorded = &self.executables.0[number];
        let file = file_of(&self.prefix, number);
        let done = self
            .make(&file, recorded.shape.bitmap)
            .map_err(|error| Failure::Refused(format!("no file for its entries: {error}")))
            .and_then(|()| record(process, recorded, &file));
        let files = [recorded.copy.as_str(), &file];
        let files = files.into_iter().filter_map(MappedFile::at);
        self.mapped.borrow_mut().extend(files);
        let (failed, there) = match done {
            Ok(()) => (None, true),
            Err(Failure::Refused(reason)) => (Some(reason), true),
            Err(Failure::Gone) => (Some("it was killed".to_owned()), false),
        };
        // Without its line nothing is known of the execution, which is one that the trace has.
        let _ = self.say(&Execution {
            executable: number,
            failed,
        });
        there
    }

    /// Returns the files that processes have been made to map.
    pub(crate) fn mapped(&self) -> BTreeSet<MappedFile> {
        self.mapped.borrow().clone()
    }

    fn make(&self, file: &str, size: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let made = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(file)?;
        made.set_len(size)
    }

    fn say(&self, execution: &Execution) -> io::Result<()> {
        let mut log = self.log.borrow_mut();
        let file = match log.as_mut() {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let options = options.append(true).create(true).mode(0o600);
                log.insert(options.open(log_of(&self.prefix))?)
            }
        };
        let line = serde_json::to_string(execution).map_err(io::Error::other)?;
        file.write_all(format!("{line}\n").as_bytes())
    }
}

/// A reason why nothing is recorded of a process.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// For this reason. It goes on as it was.
    Refused(String),
    /// It is not there any more, or about to end.
    Gone,
}

#[cfg(target_arch = "x86_64")]
fn record(process: Tgid, recorded: &Recorded, file: &str) -> Result<(), Failure> {
    remote::record(process, recorded, file)
}

#[cfg(not(target_arch = "x86_64"))]
fn record(_: Tgid, _: &Recorded, _: &str) -> Result<(), Failure> {
    Err(Failure::Refused("this machine has no encodings".to_owned()))
}
