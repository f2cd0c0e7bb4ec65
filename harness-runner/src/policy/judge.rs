//! Finds the violations of a policy among events.

use super::{
    Ipc, IpcWay, Net,
    bounds::Bounds,
    net,
    roots::real,
    uses::{self, Use},
};
use harness_metadata::{
    PolicyMode, RawString, TraceEvent, TraceEventKind, Violation, Violations, Word,
    trace::{Address, CallResult, Doubt, NetworkCall, NetworkOperation, Reach},
};
use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The most violations of an attempt that are named.
const MOST: usize = 32;

/// The calls that count as violations.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Those that succeeded.
    Audit,
    /// Those that were denied, and those that succeeded although they cannot be denied. The kernel decides on
    /// the file itself, and knows better what the others were.
    Enforce,
    /// Those that succeeded or were denied: traces of any time.
    Past,
}

/// Finds the violations of a policy among the events of one attempt, in order.
#[derive(Debug)]
pub struct Judge {
    bounds: Bounds,
    look: Look,
    programs: HashMap<i32, RawString>,
    /// Paths as the trace has them, without symbolic links.
    real: HashMap<PathBuf, PathBuf>,
    seen: HashSet<(&'static str, PathBuf)>,
    found: Vec<Violation>,
    more: u64,
    most: usize,
}

impl Judge {
    /// Judges by the mode of the policy itself. `None` if it is not to be judged.
    pub fn of_mode(bounds: Bounds) -> Option<Self> {
        let look = match bounds.mode {
            PolicyMode::Observe => return None,
            PolicyMode::Audit => Look::Audit,
            PolicyMode::Enforce => Look::Enforce,
        };
        Some(Self::new(bounds, look, MOST))
    }

    /// Judges by a policy, and names so many violations at most.
    pub fn new(bounds: Bounds, look: Look, most: usize) -> Self {
        Self {
            bounds,
            look,
            programs: HashMap::new(),
            real: HashMap::new(),
            seen: HashSet::new(),
            found: Vec::new(),
            more: 0,
            most,
        }
    }

    /// Returns what was found so far; `None` for nothing.
    pub fn violations(&self) -> Option<Violations> {
        (!self.found.is_empty()).then(|| Violations {
            mode: self.bounds.mode,
            found: self.found.clone(),
            more: self.more,
        })
    }

    /// Looks at the next event.
    pub fn event(&mut self, event: &TraceEvent) {
        match &event.kind {
            TraceEventKind::Created(created) => {
                if let Some(program) = self.programs.get(&event.pid).cloned() {
                    self.programs.entry(created.child).or_insert(program);
                }
            }
            TraceEventKind::Exec(exec) => {
                // A stub allows it before the attempt starts.
                if self.look != Look::Enforce && self.programs.is_empty() {
                    let program = OsStr::from_bytes(exec.program.path().as_bytes());
                    self.bounds.allow_program(Path::new(program));
                }
                self.uses(event, "execve", exec.result, &uses::of_exec(exec));
                if exec.result.error().is_none() {
                    let program = exec.program.path().clone();
                    self.programs.insert(event.pid, program);
                }
            }
            TraceEventKind::File(call) => {
                self.uses(event, &call.call, call.result, &uses::of_call(call));
            }
            TraceEventKind::Network(call) => {
                self.peer(event, call);
                self.network(event, call);
            }
            TraceEventKind::Doubt(doubt) => self.doubt(event, doubt),
            _ => {}
        }
    }

    /// Returns the error of a call that counts, or `None` if it succeeded.
    fn counts(&self, result: CallResult, governed: bool) -> Option<Option<i32>> {
        let denied = uses::denial(result);
        let succeeded = result.error().is_none();
        let counts = match self.look {
            Look::Audit => succeeded,
            Look::Enforce => denied.is_some() && governed || succeeded && !governed,
            Look::Past => succeeded || denied.is_some(),
        };
        counts.then_some(denied)
    }

    fn uses(&mut self, event: &TraceEvent, call: &str, result: CallResult, uses: &[Use<'_>]) {
        for it in uses {
            let Some(errno) = self.counts(result, it.governed) else {
                continue;
            };
            let path = match (it.followed, it.path.parent(), it.path.file_name()) {
                (false, Some(folder), Some(name)) => self.real(folder).join(name),
                _ => self.real(it.path),
            };
            // What is open by `/proc/PID/fd` may be a pipe or a socket, which are no files of a folder.
            if self.bounds.allows(it.right, &path) || !path.is_absolute() {
                continue;
            }
            let folder = path.parent().filter(|_| it.names);
            let allow = self.bounds.roots.written(folder.unwrap_or(&path), it.right);
            if !self.seen.insert((it.right.key(), path)) {
                continue;
            }
            self.note(Violation {
                at: event.at,
                pid: event.pid,
                program: RawString::default(),
                call: call.to_owned(),
                target: RawString::from(it.path.as_os_str().as_bytes()),
                rule: it.right.key().to_owned(),
                allow,
                errno,
            });
        }
    }

    fn peer(&mut self, event: &TraceEvent, call: &NetworkCall) {
        let Some(address) = self.bounds.denied_peer(call) else {
            return;
        };
        // An attempt is one, whatever came of it: the peer may be there tomorrow.
        let enforced = self.look == Look::Enforce;
        let errno = call
            .result
            .error()
            .filter(|errno| enforced && *errno == libc::EACCES);
        if self
            .seen
            .insert((Net::KEY, PathBuf::from(address.to_string())))
        {
            self.note(Violation {
                at: event.at,
                pid: event.pid,
                program: RawString::default(),
                call: call.call.clone(),
                target: RawString::from(address.to_string().as_str()),
                rule: Net::KEY.to_owned(),
                allow: net::written(address),
                errno,
            });
        }
    }

    /// The tracer denies peers: past it anything may have been reached.
    fn doubt(&mut self, event: &TraceEvent, doubt: &Doubt) {
        let hides = matches!(
            doubt,
            Doubt::IoUring
                | Doubt::ForeignArchitecture
                | Doubt::Rewritten
                | Doubt::UntracedTask
                | Doubt::Untold(_)
        );
        if hides
            && self.look == Look::Enforce
            && self.bounds.bounds_net()
            && self
                .seen
                .insert((Net::KEY, PathBuf::from(doubt.to_string())))
        {
            self.note(Violation {
                at: event.at,
                pid: event.pid,
                program: RawString::default(),
                call: "a call".to_owned(),
                target: RawString::from(doubt.to_string().as_str()),
                rule: Net::KEY.to_owned(),
                allow: "all".to_owned(),
                errno: None,
            });
        }
    }

    fn network(&mut self, event: &TraceEvent, call: &NetworkCall) {
        if let (NetworkOperation::Bind, Some(Address::Unix(path))) = (call.operation, &call.address)
        {
            let path = Path::new(OsStr::from_bytes(path.as_bytes()));
            self.uses(event, &call.call, call.result, &[Use::of_socket(path)]);
        }
        let Some(Address::UnixAbstract(name)) = &call.address else {
            return;
        };
        let reaches = matches!(
            call.operation,
            NetworkOperation::Connect | NetworkOperation::Send
        );
        let own = call.reach == Reach::Tree;
        if !reaches || own || !self.bounds.forbids(IpcWay::AbstractSockets) {
            return;
        }
        let Some(errno) = self.counts(call.result, true) else {
            return;
        };
        let key = PathBuf::from(OsStr::from_bytes(name.as_bytes()));
        if self.seen.insert((Ipc::KEY, key)) {
            self.note(Violation {
                at: event.at,
                pid: event.pid,
                program: RawString::default(),
                call: call.call.clone(),
                target: RawString::from([b"@", name.as_bytes()].concat().as_slice()),
                rule: Ipc::KEY.to_owned(),
                allow: IpcWay::AbstractSockets.word().to_owned(),
                errno,
            });
        }
    }

    fn note(&mut self, violation: Violation) {
        if self.found.len() >= self.most {
            self.more += 1;
            return;
        }
        let program = self.programs.get(&violation.pid).cloned();
        self.found.push(Violation {
            program: program.unwrap_or_default(),
            ..violation
        });
    }

    fn real(&mut self, path: &Path) -> PathBuf {
        if let Some(known) = self.real.get(path) {
            return known.clone();
        }
        let real = real(path);
        self.real.insert(path.to_owned(), real.clone());
        real
    }
}
