//! The operations of calls: each with its level, its use of a file and its words.
//!
//! A new operation is a variant here, and an arm in each function that then does not compile.

use super::FileUse;
use crate::event::TraceLevel;
use serde::{Deserialize, Serialize};

/// The operation of a file call.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum FileOperation {
    /// Opens, and perhaps creates, as the `access` of the call says.
    Open,
    /// Asks for metadata.
    Stat,
    /// Asks whether it may be used.
    Access,
    /// Reads a symbolic link.
    ReadLink,
    /// Lists a directory.
    List,
    /// Creates a directory.
    MakeDirectory,
    /// Creates a device, a named pipe or a socket.
    MakeNode,
    /// Gives a file another name.
    Rename,
    /// Gives a file a further name.
    Link,
    /// Creates a symbolic link.
    SymbolicLink,
    /// Removes a name.
    Remove,
    /// Removes a directory.
    RemoveDirectory,
    /// Changes its length.
    Truncate,
    /// Changes mode, owner, times or attributes.
    ChangeMetadata,
    /// Makes it the working directory.
    ChangeDirectory,
    /// Makes it the root directory.
    ChangeRoot,
    /// Mounts, unmounts, or moves a mount.
    Mount,
    /// Watches it for changes.
    Watch,
}

impl FileOperation {
    /// Returns the lowest level at which a trace has it.
    pub fn level(self) -> TraceLevel {
        match self {
            Self::Stat | Self::Access | Self::ReadLink | Self::List | Self::Watch => {
                TraceLevel::Full
            }
            Self::Open
            | Self::MakeDirectory
            | Self::MakeNode
            | Self::Rename
            | Self::Link
            | Self::SymbolicLink
            | Self::Remove
            | Self::RemoveDirectory
            | Self::Truncate
            | Self::ChangeMetadata
            | Self::ChangeDirectory
            | Self::ChangeRoot
            | Self::Mount => TraceLevel::Io,
        }
    }

    /// Returns how it uses its path when it succeeds. How an open file is used,
    /// [`FileCall::access`](super::FileCall::access) says.
    pub fn file_use(self) -> FileUse {
        match self {
            Self::Open => FileUse::Read,
            Self::Stat
            | Self::Access
            | Self::ReadLink
            | Self::ChangeDirectory
            | Self::ChangeRoot
            | Self::Watch => FileUse::Queried,
            Self::List => FileUse::Listed,
            Self::MakeDirectory | Self::MakeNode | Self::SymbolicLink => FileUse::Created,
            Self::Rename => FileUse::RenamedFrom,
            Self::Link => FileUse::Linked,
            Self::Remove | Self::RemoveDirectory => FileUse::Removed,
            Self::Truncate => FileUse::Truncated,
            Self::ChangeMetadata | Self::Mount => FileUse::MetadataChanged,
        }
    }

    /// Returns how it uses its second path when it succeeds, if it has one that names a file.
    pub fn second_use(self) -> Option<FileUse> {
        match self {
            Self::Rename => Some(FileUse::RenamedTo),
            Self::Link => Some(FileUse::Created),
            _ => None,
        }
    }

    /// Returns whether it only asks whether a file is there, and for what: programs do that in vain
    /// without minding.
    pub fn only_asks(self) -> bool {
        matches!(self, Self::Stat | Self::Access | Self::ReadLink)
    }

    /// Returns whether paths may mean another file after it.
    pub fn moves_paths(self) -> bool {
        matches!(self, Self::ChangeRoot | Self::Mount)
    }
}

/// The operation of a network call.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkOperation {
    /// Connects.
    Connect,
    /// Takes an address.
    Bind,
    /// Waits for connections.
    Listen,
    /// Takes a connection.
    Accept,
    /// Sends to an address without a connection.
    Send,
}

impl NetworkOperation {
    /// Returns the lowest level at which a trace has it.
    pub fn level(self) -> TraceLevel {
        TraceLevel::Io
    }

    /// Returns the words that stand before the address, as in "connected to".
    pub fn verb(self) -> &'static str {
        match self {
            Self::Connect => "connected to",
            Self::Bind => "bound to",
            Self::Listen => "listened at",
            Self::Accept => "accepted from",
            Self::Send => "sent to",
        }
    }
}

/// The operation of any call.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// It executes a program.
    Execute,
    /// It uses a file.
    File(FileOperation),
    /// It uses a socket.
    Network(NetworkOperation),
}

impl Operation {
    /// Returns whether it only asks about a file: see [`FileOperation::only_asks`].
    pub fn only_asks(self) -> bool {
        matches!(self, Self::File(operation) if operation.only_asks())
    }
}
