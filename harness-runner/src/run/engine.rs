//! The engine of a run, which runs tests elsewhere, as the run knows it.
//!
//! The client is not here: a run is given an [`Engine`].

use crate::inputs::{Learnt, Needs, Places};
use std::{cell::RefCell, collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

/// An engine that executes actions.
pub trait Engine: fmt::Debug + Send + Sync {
    /// Returns its address.
    fn address(&self) -> &str;

    /// Executes an action, and gives the answer to a function. The action is cancelled when what is returned is
    /// dropped before that.
    fn execute(&self, action: Action, answer: Answer) -> Box<dyn Send>;
}

/// Takes the answer of an engine.
pub type Answer = Box<dyn FnOnce(Result<Done, Failed>) + Send>;

/// A command with all that it needs.
#[derive(Clone, Debug)]
pub struct Action {
    /// The program and its arguments; the program is below the input root.
    pub arguments: Vec<String>,
    /// The inputs, by their paths below the input root.
    pub inputs: BTreeMap<String, Content>,
    /// The files that it leaves, below the input root.
    pub outputs: Vec<String>,
    /// Properties that a worker must have.
    pub properties: BTreeMap<String, String>,
    /// The time after which the engine ends it; `None` for the engine's own.
    pub timeout: Option<Duration>,
    /// The time from its submission to its end after which it is given up.
    pub patience: Duration,
    /// Makes it another action than one that is the same otherwise.
    pub salt: String,
    /// The number of tries as long as only the engine is at fault.
    pub tries: u32,
}

/// The content of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The content of a file of this machine.
    File(PathBuf),
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// A folder.
    Folder,
}

/// An action that has been executed to its end.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// The exit code of its command, as the engine tells it.
    pub exit_code: i32,
    /// The contents of its outputs that are there.
    pub outputs: BTreeMap<String, Vec<u8>>,
    /// The last bytes of its standard error, as far as the engine has it.
    pub stderr: Vec<u8>,
    /// Its place, and the time of each part.
    pub place: harness_metadata::Remote,
}

/// An action without a result.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The reason, as a sentence fragment.
    pub message: String,
    /// The reasons of its earlier tries.
    pub earlier: Vec<String>,
}

/// The engine of a run, and the tests that may run there.
pub struct Away {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Tests that can run there at the same time.
    pub slots: usize,
    /// The tests that may run there, by their indices.
    pub tests: BTreeMap<usize, MayGo>,
    /// The places of the workspace.
    pub places: Places,
    /// Files that tests elsewhere have asked for in vain.
    pub learnt: RefCell<Option<Learnt>>,
    /// Variables of this machine that tests there have too.
    pub variables: Vec<String>,
    /// The time from the submission of an attempt to its end after which it is given up, beside its own limit.
    pub patience: Duration,
    /// The number of tries of an attempt as long as only the engine is at fault.
    pub tries: u32,
}

/// A test that may run elsewhere.
#[derive(Clone, Debug)]
pub struct MayGo {
    /// The files that it needs.
    pub needs: Arc<Needs>,
    /// Properties that a worker must have.
    pub properties: Arc<BTreeMap<String, String>>,
}

impl fmt::Debug for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Away")
            .field("engine", &self.engine.address())
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        if let Some(learnt) = self.learnt.take() {
            // Without it the next run asks again.
            let _ = learnt.save();
        }
    }
}
