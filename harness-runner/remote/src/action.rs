//! An action, and all that is known of it when it is done.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

/// A command with all that it needs.
#[derive(Clone, Debug, Default)]
pub struct Action {
    /// The program and its arguments. A program with a `/` is below the input root.
    pub arguments: Vec<String>,
    /// The inputs.
    pub inputs: Vec<Input>,
    /// The files that it leaves, below the input root.
    pub outputs: Vec<String>,
    /// Properties that a worker must have.
    pub properties: BTreeMap<String, String>,
    /// The time after which the engine ends it; `None` for the engine's own.
    pub timeout: Option<Duration>,
    /// The time from its submission to its end after which it is given up.
    pub patience: Duration,
    /// Makes it another action than one that is the same otherwise.
    pub salt: Vec<u8>,
    /// The number of tries as long as only the engine is at fault; at least 1.
    pub tries: u32,
}

/// An input of an action.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its path below the input root, without `.` and `..`.
    pub path: String,
    /// Its content.
    pub content: Content,
}

/// The content of an input.
#[derive(Clone, Debug)]
pub enum Content {
    /// The content of a file of this machine.
    File {
        /// The file.
        from: PathBuf,
        /// Whether it may be executed.
        executable: bool,
    },
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// A folder. Those above other inputs need not be given.
    Folder,
}

/// An action that has been executed to its end.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// The exit code of its command. Engines have different numbers for a signal.
    pub exit_code: i32,
    /// The contents of those of its outputs that it has left.
    pub outputs: BTreeMap<String, Vec<u8>>,
    /// The last bytes of its standard error, as far as the engine has it.
    pub stderr: Vec<u8>,
    /// The name of the worker; empty if the engine says none.
    pub worker: String,
    /// The times of its parts.
    pub times: Times,
    /// The number of bytes that were uploaded for it.
    pub uploaded: u64,
    /// The reasons of its earlier tries.
    pub earlier: Vec<String>,
}

/// The time that each part of an action took.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Looking for and uploading what the engine lacked.
    pub upload: Duration,
    /// From its submission to the start of its worker. All that the engine does not tell apart is in here.
    pub queue: Duration,
    /// Laying out its inputs at the worker.
    pub staging: Duration,
    /// Its command.
    pub execution: Duration,
    /// Fetching its outputs.
    pub fetch: Duration,
}
