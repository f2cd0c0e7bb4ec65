//! The questions of one attempt, and the answers that it got.

use crate::answers::uses::Thing;
use harness_metadata::{
    Exit, RawString, TraceEvent, TraceEventKind,
    noise::{FIRST_CHOSEN_PORT, Names},
    trace::{
        Address, CallResult, Exec, FileCall, FileOperation, NetworkCall, NetworkOperation, Reach,
        Sender,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::Duration,
};

/// Questions of one attempt; what follows is left out.
const QUESTIONS: usize = 200_000;

/// A question, under a name that lasts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// The words before the name.
    pub verb: &'static str,
    /// The name: of a file, an address, a program, a host.
    pub name: String,
    /// The second name, of a rename or link.
    pub to: Option<String>,
}

/// The words of the question how a child ended.
const ENDED: &str = "the child";

impl Asked {
    /// Returns whether it is about the end of a child.
    pub fn is_end(&self) -> bool {
        self.verb == ENDED
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, name, to } = self;
        write!(f, "{verb} {}", name.replace("{workspace}/", ""))?;
        match to {
            Some(to) => write!(f, " as {}", to.replace("{workspace}/", "")),
            None => Ok(()),
        }
    }
}

/// An answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// It worked.
    Worked,
    /// It failed with this `errno(3)`.
    Failed(i32),
    /// The child exited with this code.
    Exited(i32),
    /// A signal ended the child, or was delivered.
    Signal(i32),
}

impl Said {
    /// Returns whether it is the answer of something that went wrong.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Worked | Self::Exited(0))
    }
}

/// A moment of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The time since the start of the attempt.
    pub at: Duration,
    /// The process.
    pub pid: i32,
    /// The system call; `None` for the end of a child.
    pub call: Option<String>,
}

/// The answers to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The answers.
    pub said: BTreeSet<Said>,
    /// The first moment.
    pub first: Moment,
    /// The thing by the name that it had, if other tests can use it.
    pub thing: Option<Thing>,
    /// The number of times that it was asked.
    pub times: u64,
    /// The number of questions that were asked before it.
    pub place: usize,
}

/// Reads the events of an attempt.
pub(in crate::answers) struct Observed<'a> {
    names: Names,
    wanted: &'a dyn Fn(&Thing) -> bool,
    /// Folders with names of their own, such as the home folder: the longest ones come first.
    places: &'a [(Vec<u8>, &'static str)],
    /// The program of each process.
    programs: HashMap<i32, RawString>,
    pub(in crate::answers) asked: BTreeMap<Asked, Answered>,
    /// Questions that there was no room for.
    pub(in crate::answers) left_out: u64,
}

impl<'a> Observed<'a> {
    /// An attempt without events. Things that `wanted` refuses are left out.
    pub(in crate::answers) fn new(names: Names, wanted: &'a dyn Fn(&Thing) -> bool) -> Self {
        Self {
            names,
            wanted,
            places: &[],
            programs: HashMap::new(),
            asked: BTreeMap::new(),
            left_out: 0,
        }
    }

    /// Gives folders names of their own. The longest ones come first.
    pub(in crate::answers) fn with_places(self, places: &'a [(Vec<u8>, &'static str)]) -> Self {
        Self { places, ..self }
    }
}

impl Observed<'_> {
    /// Adds an event. `root` is the test's own process.
    pub(in crate::answers) fn event(&mut self, root: i32, event: &TraceEvent) {
        self.names.pids.insert(event.pid);
        match &event.kind {
            TraceEventKind::Created(created) => {
                self.names.pids.insert(created.child);
                if let Some(program) = self.programs.get(&event.pid).cloned() {
                    self.programs.insert(created.child, program);
                }
            }
            TraceEventKind::Exec(exec) => self.exec(root, event, exec),
            TraceEventKind::Exited(exited) if event.pid != root => {
                let program = self.programs.get(&event.pid).cloned().unwrap_or_default();
                let said = match exited.exit {
                    Exit::Code(code) => Said::Exited(code),
                    Exit::Signal { signal, .. } => Said::Signal(signal),
                };
                let name = self.shown(program.as_bytes());
                self.add(event, ENDED, name, None, None, said, None);
            }
            TraceEventKind::Signal(signal) => {
                if let Sender::Outside(_) = signal.sender {
                    let said = Said::Signal(signal.signal);
                    let name = "a process outside".to_owned();
                    self.add(event, "a signal from", name, None, None, said, None);
                }
            }
            TraceEventKind::File(call) => self.file(event, call),
            TraceEventKind::Network(call) => self.network(event, call),
            TraceEventKind::Lookup(lookup) => {
                let name = lookup.name.to_string();
                self.add(
                    event,
                    "look up",
                    name,
                    None,
                    Some("sendto"),
                    Said::Worked,
                    None,
                );
            }
            _ => {}
        }
    }

    pub(in crate::answers) fn shown(&self, path: &[u8]) -> String {
        let mut places = self.places.iter();
        let placed = places.find_map(|(folder, name)| {
            let rest = path.strip_prefix(folder.as_slice())?;
            let is_in_it = rest.is_empty() || rest.starts_with(b"/");
            is_in_it.then(|| [name.as_bytes(), rest].concat())
        });
        let path = placed.as_deref().unwrap_or(path);
        RawString::from(self.names.path(path)).to_string()
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of one answer")]
    fn add(
        &mut self,
        event: &TraceEvent,
        verb: &'static str,
        name: String,
        to: Option<String>,
        call: Option<&str>,
        said: Said,
        thing: Option<Thing>,
    ) {
        let asked = Asked { verb, name, to };
        let place = self.asked.len();
        if self.asked.len() >= QUESTIONS && !self.asked.contains_key(&asked) {
            self.left_out += 1;
            return;
        }
        let answered = self.asked.entry(asked).or_insert_with(|| Answered {
            said: BTreeSet::new(),
            first: Moment {
                at: event.at,
                pid: event.pid,
                call: call.map(str::to_owned),
            },
            thing: None,
            times: 0,
            place,
        });
        answered.times += 1;
        // The moment of the first failure tells more than that of the first time.
        let failed_before = answered.said.iter().any(Said::is_failure);
        if said.is_failure() && !failed_before {
            answered.first.at = event.at;
            answered.first.pid = event.pid;
            answered.thing = None;
        }
        answered.said.insert(said);
        if answered.thing.is_none() {
            answered.thing = thing;
        }
    }

    fn exec(&mut self, root: i32, event: &TraceEvent, exec: &Exec) {
        let Some(said) = said(exec.result) else {
            return;
        };
        let path = exec.program.path().clone();
        if said == Said::Worked {
            self.programs.insert(event.pid, path.clone());
        }
        let thing = Thing::Path(path.clone());
        // The program itself may be installed like noise; that it ran is none.
        if event.pid == root && said == Said::Worked {
            return;
        }
        let name = self.shown(path.as_bytes());
        self.add(
            event,
            "execute",
            name,
            None,
            Some("execve"),
            said,
            Some(thing),
        );
    }

    fn file(&mut self, event: &TraceEvent, call: &FileCall) {
        let Some(said) = said(call.result) else {
            return;
        };
        let path = call.path.path();
        let thing = Thing::Path(path.clone());
        if !(self.wanted)(&thing) {
            return;
        }
        let access = call.access.unwrap_or_default();
        let verb = match call.operation {
            FileOperation::Open if access.path_only => "open",
            FileOperation::Open if access.exclusive && access.create => "create",
            FileOperation::Open if access.write || access.truncate => "open to write",
            FileOperation::Open if access.directory => "open as a folder",
            FileOperation::Open => "open to read",
            FileOperation::Stat => "ask about",
            FileOperation::Access => "ask for access to",
            FileOperation::ReadLink => "read the link",
            FileOperation::List => "list",
            FileOperation::MakeDirectory => "make the folder",
            FileOperation::MakeNode => "make the node",
            FileOperation::Rename => "rename",
            FileOperation::Link => "link",
            FileOperation::SymbolicLink => "make the link",
            FileOperation::Remove => "remove",
            FileOperation::RemoveDirectory => "remove the folder",
            FileOperation::Truncate => "truncate",
            FileOperation::ChangeMetadata => "change the metadata of",
            FileOperation::ChangeDirectory => "enter",
            FileOperation::ChangeRoot => "make the root",
            FileOperation::Mount => "mount",
            FileOperation::Watch => "watch",
        };
        let name = self.shown(path.as_bytes());
        let to = call.to.as_ref().map(|to| self.shown(to.path().as_bytes()));
        let call = Some(call.call.as_str());
        self.add(event, verb, name, to, call, said, Some(thing));
    }

    fn network(&mut self, event: &TraceEvent, call: &NetworkCall) {
        let Some(said) = said(call.result) else {
            return;
        };
        let Some(address) = &call.address else { return };
        let verb = match call.operation {
            NetworkOperation::Connect => "connect to",
            NetworkOperation::Bind => "bind",
            NetworkOperation::Send => "send to",
            // Who comes first differs from time to time, and a bind comes before a listen.
            NetworkOperation::Listen | NetworkOperation::Accept => return,
        };
        let (name, thing) = match (address, call.reach) {
            (Address::UnixUnnamed | Address::Netlink, _) => return,
            (_, Reach::Tree) if call.operation != NetworkOperation::Bind => {
                ("a socket of its own".to_owned(), None)
            }
            (Address::Ip { ip, port: 0 }, _) => (format!("{ip} at any port"), None),
            (Address::Ip { ip, port }, _) if *port >= FIRST_CHOSEN_PORT => {
                let name = format!("{ip} at a port from {FIRST_CHOSEN_PORT} on");
                (name, Some(Thing::Ip(*ip, *port)))
            }
            (Address::Ip { ip, port }, _) => (address.to_string(), Some(Thing::Ip(*ip, *port))),
            (Address::Unix(path), _) => {
                (self.shown(path.as_bytes()), Some(Thing::Path(path.clone())))
            }
            (Address::UnixAbstract(name), _) => {
                let lasting = self.shown(name.as_bytes());
                (format!("@{lasting}"), Some(Thing::Abstract(name.clone())))
            }
            (other, _) => (other.to_string(), None),
        };
        self.add(event, verb, name, None, Some(&call.call), said, thing);
    }
}

/// Returns the answer; `None` if it is not known, or the call is made again.
fn said(result: CallResult) -> Option<Said> {
    match result {
        CallResult::Err(libc::EINTR | libc::EAGAIN | 512..=516) | CallResult::Unknown => None,
        // A connection is being made: its end is not told.
        CallResult::Err(libc::EINPROGRESS) => Some(Said::Worked),
        CallResult::Err(errno) => Some(Said::Failed(errno)),
        _ => Some(Said::Worked),
    }
}
