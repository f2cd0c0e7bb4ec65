//! A command, as the runner describes it and as execve(2) takes it.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// A program to run, with all that it sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program, absolute or searched for in the `PATH` of `environment`.
    pub program: PathBuf,
    /// Its arguments, without argument zero.
    pub args: Vec<OsString>,
    /// Its whole environment. Nothing is inherited.
    pub environment: Environment,
    /// Its working directory.
    pub cwd: PathBuf,
}

/// The environment of a process. Names do not contain `=`, and neither names nor values NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Returns the environment of this process. Entries without a name are dropped.
    pub fn inherited() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            environment.set(name, value);
        }
        environment
    }

    /// Sets a variable. A name or value that no environment can hold is left out: an empty name,
    /// a name with `=`, or NUL in either.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let (name, value) = (name.into(), value.into());
        let (n, v) = (name.as_bytes(), value.as_bytes());
        if n.is_empty() || n.contains(&b'=') || n.contains(&0) || v.contains(&0) {
            return;
        }
        self.0.insert(name, value);
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: impl AsRef<OsStr>) {
        self.0.remove(name.as_ref());
    }

    /// Returns a variable's value.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.0.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// Returns the variables, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Returns the variables as execve(2) wants them: `NAME=VALUE`, each ended by NUL.
    pub fn to_block(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(8 * 1024);
        for (name, value) in &self.0 {
            push_variable(&mut block, name, value);
        }
        block
    }
}

/// Appends `NAME=VALUE` and NUL to an environment block. Later entries do not replace earlier
/// ones: the caller appends only names that the block does not have.
pub fn push_variable(block: &mut Vec<u8>, name: &OsStr, value: &OsStr) {
    block.extend_from_slice(name.as_bytes());
    block.push(b'=');
    block.extend_from_slice(value.as_bytes());
    block.push(0);
}

/// A command as execve(2) takes it: each string is ended by NUL.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawCommand<'a> {
    /// The program's path; searched for in `PATH` if it has no slash.
    #[serde(with = "serde_bytes")]
    pub program: &'a [u8],
    /// All arguments, argument zero included.
    #[serde(with = "serde_bytes")]
    pub args: &'a [u8],
    /// The environment block.
    #[serde(with = "serde_bytes")]
    pub environment: &'a [u8],
    /// The working directory.
    #[serde(with = "serde_bytes")]
    pub cwd: &'a [u8],
}

/// The bytes of a [`RawCommand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandBlocks {
    /// The program's path.
    pub program: Vec<u8>,
    /// All arguments, argument zero included.
    pub args: Vec<u8>,
    /// The environment block.
    pub environment: Vec<u8>,
    /// The working directory.
    pub cwd: Vec<u8>,
}

impl CommandBlocks {
    /// Returns a command's bytes. Argument zero is the program.
    pub fn of(command: &Command) -> Self {
        let program = terminated(command.program.as_os_str());
        let mut args = program.clone();
        for arg in &command.args {
            args.extend(terminated(arg));
        }
        Self {
            program,
            args,
            environment: command.environment.to_block(),
            cwd: terminated(command.cwd.as_os_str()),
        }
    }

    /// Returns the command that a stub reads.
    pub fn raw(&self) -> RawCommand<'_> {
        RawCommand {
            program: &self.program,
            args: &self.args,
            environment: &self.environment,
            cwd: &self.cwd,
        }
    }
}

impl From<RawCommand<'_>> for CommandBlocks {
    fn from(raw: RawCommand<'_>) -> Self {
        Self {
            program: raw.program.to_vec(),
            args: raw.args.to_vec(),
            environment: raw.environment.to_vec(),
            cwd: raw.cwd.to_vec(),
        }
    }
}

/// Returns a string ended by NUL. What follows a NUL within cannot be passed to a program.
pub(crate) fn terminated(text: &OsStr) -> Vec<u8> {
    let mut bytes: Vec<u8> = text
        .as_bytes()
        .iter()
        .copied()
        .take_while(|byte| *byte != 0)
        .collect();
    bytes.push(0);
    bytes
}
