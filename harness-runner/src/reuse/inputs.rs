//! Reads the inputs of a test out of its trace: what it asked the machine for, before it changed that itself.
//!
//! What is found here are questions, without the states that answer them. The first thing that no state of files
//! answers, such as a connection, is kept as the reason why the pass is not used again.

use super::{
    special::{Special, special},
    state::parent,
    tracked::Made,
};
use harness_metadata::{
    TraceEvent, TraceEventKind,
    noise::FIRST_CHOSEN_PORT,
    trace::{
        Access, Address, CallResult, Exec, FileCall, FileId, FileOperation, NetworkCall,
        NetworkOperation, Reach, TracedPath,
    },
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Questions of one test; a test with more of them is run.
const MOST: usize = 100_000;

/// The answer that a test got.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// Something is there.
    Something,
    /// Nothing is there.
    Nothing,
    /// It was refused for another reason.
    Refusal,
}

/// A path that a test asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) path: Vec<u8>,
    pub(super) met: Met,
    /// The file that it met, where the trace says which.
    pub(super) file: Option<FileId>,
    /// Its names were read.
    pub(super) listed: bool,
    /// The kernel opened it to execute something, and nothing says which file that was.
    pub(super) executed: bool,
    /// It was asked for in another way than to execute it.
    pub(super) read: bool,
    /// It was opened for writing without being emptied.
    pub(super) open_to_write: bool,
}

/// The inputs of a test.
#[derive(Clone, Debug, Default)]
pub(super) struct Inputs {
    /// The questions, in the order in which they were asked first.
    pub(super) asked: Vec<Asked>,
    index: HashMap<Vec<u8>, usize>,
    /// The paths that the test has made or replaced.
    pub(super) made: Made,
    /// Paths that it has emptied, removed or renamed, or may have written to, besides.
    pub(super) changed: BTreeSet<Vec<u8>>,
    /// The first reason why no state of files stands for what the test met.
    pub(super) obstacle: Option<String>,
    pids: BTreeSet<i32>,
    /// The number of executions by a path.
    pub(super) executions: BTreeMap<Vec<u8>, usize>,
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl Inputs {
    pub(super) fn of(root: i32, events: impl Iterator<Item = TraceEvent>) -> Self {
        let mut inputs = Self::default();
        inputs.pids.insert(root);
        for event in events {
            inputs.pids.insert(event.pid);
            inputs.add(&event.kind);
        }
        inputs
    }

    /// Returns whether a path is one that the test changes.
    pub(super) fn changes(&self) -> impl Iterator<Item = &[u8]> {
        let changed = self.changed.iter().map(Vec::as_slice);
        self.made.iter().chain(changed)
    }

    fn add(&mut self, kind: &TraceEventKind) {
        match kind {
            TraceEventKind::Created(created) => drop(self.pids.insert(created.child)),
            TraceEventKind::Exec(exec) => self.exec(exec),
            TraceEventKind::File(call) => self.file(call),
            TraceEventKind::Network(call) => self.network(call),
            TraceEventKind::Lookup(lookup) => {
                self.is_kept_by(|| format!("it asks a name server for `{}`", lookup.name));
            }
            TraceEventKind::Doubt(doubt) => self.is_kept_by(|| doubt.to_string()),
            TraceEventKind::Injected(_) => {
                self.is_kept_by(|| "a call failed because that was asked for".to_owned());
            }
            TraceEventKind::Exited(_) | TraceEventKind::ThreadEnded | TraceEventKind::Signal(_) => {
            }
        }
    }

    fn is_kept_by(&mut self, reason: impl FnOnce() -> String) {
        if self.obstacle.is_none() {
            self.obstacle = Some(reason());
        }
    }

    /// Returns the absolute path, its own links followed. `last` says whether the call follows the last name.
    fn place(&mut self, path: &TracedPath, last: bool) -> Option<Vec<u8>> {
        let bytes = path.path().as_bytes();
        if bytes.first() == Some(&b'/') {
            return Some(self.made.followed(bytes, last));
        }
        if !bytes.is_empty() {
            self.is_kept_by(|| {
                format!(
                    "the folder that `{}` is relative to is not known",
                    path.asked
                )
            });
        }
        None
    }

    fn exec(&mut self, exec: &Exec) {
        let Some(path) = self.place(&exec.program, true) else {
            return;
        };
        match exec.result.error() {
            Some(errno) => self.failed(&path, errno, &exec.program),
            None => {
                *self.executions.entry(path.clone()).or_default() += 1;
                self.executed(&path, is_roundabout(&exec.program));
                for interpreter in &exec.interpreters {
                    let interpreter = self.made.followed(interpreter.as_bytes(), true);
                    self.executed(&interpreter, false);
                }
            }
        }
    }

    fn executed(&mut self, path: &[u8], roundabout: bool) {
        if roundabout {
            let path = shown(path);
            self.is_kept_by(|| format!("`{path}` was executed by a path with `..` in it"));
        }
        if path.first() != Some(&b'/') {
            let path = shown(path);
            self.is_kept_by(|| format!("the interpreter `{path}` is no absolute path"));
            return;
        }
        if let Some(asked) = self.note(path, Met::Something, None) {
            asked.executed = true;
        }
    }

    fn file(&mut self, call: &FileCall) {
        let access = call.access.unwrap_or_default();
        if access.unnamed {
            return;
        }
        let follows = !matches!(
            call.operation,
            FileOperation::ReadLink
                | FileOperation::Remove
                | FileOperation::RemoveDirectory
                | FileOperation::Rename
                | FileOperation::Link
                | FileOperation::SymbolicLink
                | FileOperation::MakeDirectory
        );
        let Some(path) = self.place(&call.path, follows) else {
            return;
        };
        if let Some(errno) = call.result.error() {
            // The call did not happen, or is made again.
            if !matches!(errno, libc::EINTR | libc::EAGAIN | 512..=516) {
                self.refused(&path, errno, call);
            }
            return;
        }
        if call.result == CallResult::Unknown {
            let name = &call.call;
            let path = shown(&path);
            self.is_kept_by(|| format!("the answer of `{name}` for `{path}` is not known"));
            return;
        }
        self.done(path, call, access);
    }

    fn done(&mut self, path: Vec<u8>, call: &FileCall, access: Access) {
        match call.operation {
            FileOperation::Open => self.opened(&path, call, access),
            FileOperation::Stat
            | FileOperation::Access
            | FileOperation::ReadLink
            | FileOperation::ChangeDirectory
            | FileOperation::Watch => drop(self.ask(&path, Met::Something, call.file)),
            FileOperation::List => {
                if let Some(asked) = self.ask(&path, Met::Something, call.file) {
                    asked.listed = true;
                }
            }
            FileOperation::MakeDirectory | FileOperation::MakeNode => self.make(&path),
            FileOperation::SymbolicLink => {
                self.make(&path);
                let text = call.to.as_ref().map(|to| to.asked.as_bytes().to_vec());
                self.made.add_link(&path, &text.unwrap_or_default());
            }
            FileOperation::Rename | FileOperation::Link => self.named_again(&path, call),
            FileOperation::Remove | FileOperation::RemoveDirectory => {
                self.change(&path, "removes");
            }
            FileOperation::Truncate => self.change(&path, "cuts"),
            FileOperation::ChangeMetadata => self.change(&path, "changes the metadata of"),
            FileOperation::ChangeRoot | FileOperation::Mount => {
                self.is_kept_by(|| "it changes what paths mean".to_owned());
            }
        }
    }

    fn opened(&mut self, path: &[u8], call: &FileCall, access: Access) {
        if !access.write && !access.truncate || access.path_only {
            self.ask(path, Met::Something, call.file);
        } else if access.create && access.exclusive {
            self.make(path);
        } else if access.truncate {
            self.replace(path);
        } else if access.create && (self.met_nothing_at(path) || self.made.has_above(path)) {
            // It was not there a moment ago, or no other process knows its folder.
            self.made.add(path);
        } else if !self.made.has(path) {
            self.changed.insert(path.to_vec());
            if let Some(asked) = self.ask(path, Met::Something, call.file) {
                asked.open_to_write = true;
            }
        }
    }

    fn named_again(&mut self, path: &[u8], call: &FileCall) {
        let to = call.to.as_ref().and_then(|to| self.place(to, false));
        let Some(to) = to else {
            self.is_kept_by(|| "a new name of a file is not known".to_owned());
            return;
        };
        if call.operation == FileOperation::Link {
            self.make(&to);
            self.ask(path, Met::Something, call.file);
            return;
        }
        if !self.made.has(path) {
            let path = shown(path);
            self.is_kept_by(|| format!("it renames `{path}`, which was there before it"));
            return;
        }
        self.replace(&to);
        self.made.rename(path, &to);
    }

    fn refused(&mut self, path: &[u8], errno: i32, call: &FileCall) {
        // The second name is in the way.
        if errno == libc::EEXIST
            && let Some(to) = &call.to
            && call.operation != FileOperation::SymbolicLink
        {
            if let Some(to) = self.place(&to.clone(), false) {
                self.ask(&to, Met::Something, None);
            }
            return;
        }
        self.failed(path, errno, &call.path);
    }

    fn failed(&mut self, path: &[u8], errno: i32, given: &TracedPath) {
        // There is no controlling terminal (tty(4)). Whether there is one is compared.
        if path == b"/dev/tty" && errno == libc::ENXIO {
            return;
        }
        let met = match errno {
            libc::ENOENT | libc::ENOTDIR => Met::Nothing,
            libc::EEXIST => Met::Something,
            _ => Met::Refusal,
        };
        if met == Met::Nothing && is_roundabout(given) && !self.made.has_above(path) {
            let path = shown(path);
            self.is_kept_by(|| format!("`{path}` was asked for by a path with `..` in it"));
        }
        self.ask(path, met, None);
    }

    /// Something that was not there is made.
    fn make(&mut self, path: &[u8]) {
        if !self.made.has(path) {
            self.ask(path, Met::Nothing, None);
        }
        self.made.add(path);
    }

    /// The content at a path becomes the test's own, whatever it was.
    fn replace(&mut self, path: &[u8]) {
        if self.made.has(path) || special(path, &self.pids) == Special::Harmless {
            return;
        }
        let asked = self.index.get(path).map(|&index| self.asked[index].met);
        if asked.is_some_and(|met| met != Met::Nothing) {
            let path = shown(path);
            self.is_kept_by(|| format!("it asks for `{path}` and then replaces it"));
        }
        let above = parent(path).to_vec();
        self.ask(&above, Met::Something, None);
        self.made.add(path);
    }

    /// Something is changed that stays where it is.
    fn change(&mut self, path: &[u8], verb: &str) {
        if !self.made.has(path) {
            self.changed.insert(path.to_vec());
            let path = shown(path);
            self.is_kept_by(|| format!("it {verb} `{path}`, which was there before it"));
        }
    }

    fn met_nothing_at(&self, path: &[u8]) -> bool {
        let asked = self.index.get(path).map(|&index| &self.asked[index]);
        asked.is_some_and(|asked| asked.met == Met::Nothing)
    }

    /// Notes a question about a file, other than its execution.
    fn ask(&mut self, path: &[u8], met: Met, file: Option<FileId>) -> Option<&mut Asked> {
        let asked = self.note(path, met, file)?;
        asked.read = true;
        Some(asked)
    }

    /// Notes a question. Returns it, unless its answer is the test's own doing.
    fn note(&mut self, path: &[u8], met: Met, file: Option<FileId>) -> Option<&mut Asked> {
        if self.made.has(path) {
            return None;
        }
        if self.made.has_above(path) {
            // A folder of its own has what it has put there, and what another process has.
            if met == Met::Something {
                let path = shown(path);
                self.is_kept_by(|| format!("`{path}` was put into a folder of its own by others"));
            }
            return None;
        }
        match special(path, &self.pids) {
            Special::Harmless => return None,
            Special::Unsure if met != Met::Nothing => {
                let path = shown(path);
                self.is_kept_by(|| format!("it asks for `{path}`, which is another at each look"));
                return None;
            }
            Special::Unsure | Special::None => {}
        }
        if let Some(&index) = self.index.get(path) {
            self.ask_again(index, met, file);
            return Some(&mut self.asked[index]);
        }
        if self.asked.len() == MOST {
            self.is_kept_by(|| format!("it asks for more than {MOST} paths"));
            return None;
        }
        self.index.insert(path.to_vec(), self.asked.len());
        self.asked.push(Asked {
            path: path.to_vec(),
            met,
            file,
            listed: false,
            executed: false,
            read: false,
            open_to_write: false,
        });
        self.asked.last_mut()
    }

    /// A second answer that differs from the first is not by the test itself.
    fn ask_again(&mut self, index: usize, met: Met, file: Option<FileId>) {
        let asked = &mut self.asked[index];
        let (path, before) = (shown(&asked.path), asked.met);
        match (before, met) {
            (Met::Something, Met::Nothing) | (Met::Nothing, Met::Something) => {
                self.is_kept_by(|| format!("`{path}` was changed by others while it ran"));
            }
            // Another call may be refused what is there.
            (Met::Refusal, Met::Something) => (asked.met, asked.file) = (met, file),
            _ if asked.file.is_none() => asked.file = file,
            _ => {}
        }
    }

    fn network(&mut self, call: &NetworkCall) {
        let Some(address) = &call.address else { return };
        let error = call.result.error();
        if let (Address::Unix(path), Some(libc::ENOENT)) = (address, error) {
            let path = path.as_bytes().to_vec();
            if path.first() == Some(&b'/') {
                self.ask(&path, Met::Nothing, None);
                return;
            }
        }
        match call.operation {
            NetworkOperation::Listen => {}
            NetworkOperation::Bind => self.bound(address, error),
            _ if call.reach == Reach::Tree || *address == Address::UnixUnnamed => {}
            operation => {
                self.is_kept_by(|| format!("it {} `{address}`", operation.verb()));
            }
        }
    }

    fn bound(&mut self, address: &Address, error: Option<i32>) {
        match address {
            Address::Unix(path) if error.is_none() && path.as_bytes().first() == Some(&b'/') => {
                let path = path.as_bytes().to_vec();
                self.make(&path);
            }
            Address::Ip { port, .. } if error.is_none() => {
                // The kernel chose it, or may have.
                if *port != 0 && *port < FIRST_CHOSEN_PORT {
                    self.is_kept_by(|| format!("it takes the port {port}, which may be taken"));
                }
            }
            Address::UnixUnnamed | Address::UnixAbstract(_) if error.is_none() => {}
            address => self.is_kept_by(|| format!("it binds `{address}`")),
        }
    }
}

/// Returns whether a path goes down and up again: a symbolic link on its way down would lead elsewhere.
fn is_roundabout(path: &TracedPath) -> bool {
    let mut down = false;
    path.asked
        .as_bytes()
        .split(|byte| *byte == b'/')
        .any(|name| {
            let up = name == b"..";
            down |= !up && !name.is_empty() && name != b".";
            up && down
        })
}
