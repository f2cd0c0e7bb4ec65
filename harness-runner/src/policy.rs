//! The files, programs and means of communication that a test may use.
//!
//! [`Policy`] is as the configuration has it, with names of folders. [`Bounds`] is the same with the paths of
//! this machine, as it travels to a stub, which makes a Landlock ruleset of it. [`Judge`] finds
//! violations among events. Nothing is denied here.

mod bounds;
mod entry;
mod judge;
mod net;
mod roots;
mod uses;

pub use bounds::Bounds;
pub use entry::{Entries, Entry, EntryError};
pub use judge::{Judge, Look};
pub use net::{Net, NetAction, NetRule, Network, Peers, Ports};
pub use roots::{Root, Roots};

use harness_metadata::{PolicyMode, words};
use serde::{Deserialize, Serialize};

/// The policy of a test, as the configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Its effect.
    pub mode: PolicyMode,
    /// The files that may be read, and the folders that may be listed.
    pub read: Entries,
    /// The files and folders that may be changed.
    pub write: Entries,
    /// The programs that may be executed.
    pub exec: Entries,
    /// The ways to reach processes that are not of the test.
    pub ipc: Ipc,
    /// The peers that may be connected to.
    pub net: Net,
}

/// A use of files that a policy allows or does not.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// To read a file, or to list a folder.
    Read,
    /// To change a file, or the names in a folder.
    Write,
    /// To execute a program.
    Exec,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Exec];

    /// Returns the key of its setting.
    pub fn key(self) -> &'static str {
        match self {
            Self::Read => "policy.fs.read",
            Self::Write => "policy.fs.write",
            Self::Exec => "policy.fs.exec",
        }
    }
}

/// The ways to reach processes that are not of the test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ipc {
    /// All ways.
    #[default]
    All,
    /// Only these.
    Only(Vec<IpcWay>),
}

/// A way to reach another process.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IpcWay {
    /// Unix sockets with abstract names.
    AbstractSockets,
    /// Signals.
    Signals,
}

words!(IpcWay {
    AbstractSockets = "abstract-sockets",
    Signals = "signals",
});

impl Ipc {
    /// The key of its setting.
    pub const KEY: &str = "policy.ipc";
}

#[cfg(test)]
mod tests;
