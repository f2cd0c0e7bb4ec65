//! Turns events into a summary, in bounded space and time: every event is looked at once.

use super::{
    failures::{Failures, about, is_interruption},
    loaded::Loaded,
    search::is_absence,
    uses::{bit, use_of_error, uses_by, uses_of},
};
use crate::tracer::Map;
use harness_metadata::{
    Exit, RawString, TraceEvent, TraceEventKind, TraceSummary,
    event::TraceLevel,
    noise::{file_name, is_noise},
    trace::{
        Address, Backend, CallResult, Created, Creation, Dropped, Exec, Failure, FileCall,
        FileSummary, FileUse, Injected, NameLookup, NetworkCall, NetworkOperation, Operation,
        PeerSummary, ProcessSummary, Sender,
    },
};
use std::{collections::BTreeMap, rc::Rc, time::Duration};

/// Processes that are listed.
pub(super) const PROCESSES: usize = 1024;
/// Files that are listed.
pub(super) const FILES: usize = 4096;
/// Addresses that are listed.
pub(super) const PEERS: usize = 256;
/// Names that are listed with an address.
const NAMES: usize = 16;
/// Bytes of all paths, addresses and names together.
pub(super) const PATH_BYTES: usize = 1024 * 1024;
/// Loaders that are known to have added their files.
pub(super) const LOADED: usize = 64;
/// Bytes of the arguments of one process, and of all together.
pub(super) const ARGS_OF_ONE: usize = 4 * 1024;
const ARGS_OF_ALL: usize = 512 * 1024;

/// The names of the kinds of events, as they are counted.
const KINDS: [&str; 10] = [
    "created",
    "exec",
    "exited",
    "thread-ended",
    "signal",
    "file",
    "network",
    "lookup",
    "doubt",
    "injected",
];

/// The most injected failures that are listed.
const INJECTED: usize = 32;

/// The position of calls on files in [`KINDS`].
const FILE: usize = 5;

/// The recorded part.
#[derive(Debug)]
pub(super) struct Digest {
    counts: [u64; KINDS.len()],
    processes: Vec<Process>,
    /// The position of a process in the list. A reused id belongs to the later one.
    by_pid: Map<i32, usize>,
    args_bytes: usize,
    /// The uses of a file: bit N is `USES[N]`.
    files: Map<RawString, u16>,
    path_bytes: usize,
    /// The loads whose files are all listed.
    loaded: Vec<Rc<Loaded>>,
    peers: Map<(NetworkOperation, Address), Peer>,
    failures: Failures,
    injected: Vec<Injected>,
    dropped: Dropped,
}

#[derive(Debug)]
struct Process {
    pid: i32,
    creator: Option<i32>,
    started: Duration,
    ended: Option<Duration>,
    exit: Option<Exit>,
    last_signal: Option<(i32, Sender)>,
    args: Rc<Args>,
    execs: u32,
}

/// Arguments; a process shares them with its creator until it executes something.
#[derive(Debug, Default)]
struct Args {
    list: Vec<RawString>,
    bytes: usize,
}

#[derive(Debug)]
struct Peer {
    /// When it was first used, among all addresses.
    order: usize,
    reach: harness_metadata::trace::Reach,
    names: Vec<RawString>,
    count: u64,
    error: Option<i32>,
}

impl Digest {
    pub(super) fn new(root: i32) -> Self {
        let mut digest = Self {
            counts: [0; KINDS.len()],
            processes: Vec::new(),
            by_pid: Map::default(),
            args_bytes: 0,
            files: Map::default(),
            path_bytes: 0,
            loaded: Vec::new(),
            peers: Map::default(),
            failures: Failures::default(),
            injected: Vec::new(),
            dropped: Dropped::default(),
        };
        digest.add_process(root, None, Duration::ZERO, Rc::default());
        digest
    }

    pub(super) fn event(&mut self, event: &TraceEvent) {
        let number = match &event.kind {
            TraceEventKind::Created(created) => {
                self.created(event, created);
                0
            }
            TraceEventKind::Exec(exec) => {
                self.exec(event, exec);
                1
            }
            TraceEventKind::Exited(exited) => {
                if let Some(process) = self.process(event.pid) {
                    process.ended = Some(event.at);
                    process.exit = Some(exited.exit);
                }
                2
            }
            TraceEventKind::ThreadEnded => 3,
            TraceEventKind::Signal(signal) => {
                if let Some(process) = self.process(event.pid) {
                    process.last_signal = Some((signal.signal, signal.sender));
                }
                4
            }
            TraceEventKind::File(call) => {
                self.file_call(event, call);
                FILE
            }
            TraceEventKind::Network(call) => {
                self.network(event, call);
                6
            }
            TraceEventKind::Lookup(lookup) => {
                self.lookup(lookup);
                7
            }
            TraceEventKind::Doubt(_) => 8,
            TraceEventKind::Injected(injected) => {
                if self.injected.len() < INJECTED {
                    self.injected.push(injected.as_ref().clone());
                }
                9
            }
        };
        self.counts[number] += 1;
    }

    /// Returns everything but level, backend and doubts.
    pub(super) fn summary(&self) -> TraceSummary {
        let mut summary = self.totals();
        summary.processes = self.processes.iter().map(Process::summary).collect();
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_unstable_by_key(|(path, _)| *path);
        summary.files = files
            .into_iter()
            .map(|(path, uses)| FileSummary {
                path: path.clone(),
                uses: uses_of(*uses),
            })
            .collect();
        let mut peers: Vec<_> = self.peers.iter().collect();
        peers.sort_unstable_by_key(|(_, peer)| peer.order);
        summary.peers = peers
            .into_iter()
            .map(|((operation, address), peer)| PeerSummary {
                operation: *operation,
                address: address.clone(),
                reach: peer.reach,
                names: peer.names.clone(),
                count: peer.count,
                error: peer.error,
            })
            .collect();
        summary.failures = self.failures.list();
        summary.injected.clone_from(&self.injected);
        summary
    }

    /// Returns the counts.
    pub(super) fn totals(&self) -> TraceSummary {
        let counts = KINDS.iter().zip(self.counts);
        TraceSummary {
            level: TraceLevel::Off,
            backend: Backend::None,
            doubts: Vec::new(),
            processes: Vec::new(),
            files: Vec::new(),
            peers: Vec::new(),
            failures: Vec::new(),
            injected: Vec::new(),
            counts: counts
                .filter(|(_, count)| *count > 0)
                .map(|(kind, count)| ((*kind).to_owned(), count))
                .collect::<BTreeMap<_, _>>(),
            dropped: self.dropped,
        }
    }

    fn process(&mut self, pid: i32) -> Option<&mut Process> {
        let index = *self.by_pid.get(&pid)?;
        self.processes.get_mut(index)
    }

    fn add_process(&mut self, pid: i32, creator: Option<i32>, started: Duration, args: Rc<Args>) {
        if self.processes.len() == PROCESSES {
            // What this one does must not be told of another with the same number.
            self.by_pid.remove(&pid);
            self.dropped.processes += 1;
            return;
        }
        self.by_pid.insert(pid, self.processes.len());
        self.processes.push(Process {
            pid,
            creator,
            started,
            ended: None,
            exit: None,
            last_signal: None,
            args,
            execs: 0,
        });
    }

    fn created(&mut self, event: &TraceEvent, created: &Created) {
        if created.how == Creation::Thread {
            return;
        }
        let args = match self.process(event.pid) {
            Some(creator) => Rc::clone(&creator.args),
            None => Rc::default(),
        };
        self.add_process(created.child, Some(event.pid), event.at, args);
    }

    fn exec(&mut self, event: &TraceEvent, exec: &Exec) {
        let path = exec.program.path();
        let about = about(event.pid, "exec", file_name(path.as_bytes()));
        if let Some(errno) = exec.result.error() {
            self.use_file(path, use_of_error(errno));
            let failure = failure(event, "execve", Operation::Execute, (path.clone(), errno));
            self.failures.fail(failure, about, false);
            return;
        }
        self.failures.succeed(about);
        self.use_file(path, FileUse::Executed);
        for interpreter in &exec.interpreters {
            self.use_file(interpreter, FileUse::Executed);
        }
        let left = ARGS_OF_ALL.saturating_sub(self.args_bytes);
        let args = bounded(&exec.args, left.min(ARGS_OF_ONE));
        let bytes = args.bytes;
        if let Some(process) = self.process(event.pid) {
            process.execs += 1;
            let before = std::mem::replace(&mut process.args, Rc::new(args));
            self.args_bytes += bytes;
            self.args_bytes -= Rc::into_inner(before).map_or(0, |args| args.bytes);
        }
    }

    fn file_call(&mut self, event: &TraceEvent, call: &FileCall) {
        uses_by(call, |path, uses| {
            self.use_file_so(path, uses, 1);
        });
        self.failures.file_call(event.at, event.pid, call);
    }

    /// Adds the work of a process's loader: the same as adding its events one by one.
    pub(super) fn loaded(&mut self, at: Duration, pid: i32, loaded: &Rc<Loaded>) {
        self.counts[FILE] += loaded.len() as u64;
        loaded.add_to(&mut self.failures, at, pid);
        if self.loaded.iter().any(|known| Rc::ptr_eq(known, loaded)) {
            return;
        }
        let mut all_listed = true;
        for used in loaded.files() {
            all_listed &= self.use_file_so(&used.path, used.uses, used.times);
        }
        // Uses that do not fit count each time.
        if all_listed && self.loaded.len() < LOADED {
            self.loaded.push(Rc::clone(loaded));
        }
    }

    fn use_file(&mut self, path: &RawString, file_use: FileUse) {
        self.use_file_so(path, bit(file_use), 1);
    }

    /// Returns false if there is no room for it.
    fn use_file_so(&mut self, path: &RawString, uses: u16, times: u64) -> bool {
        if path.is_empty() {
            return true;
        }
        if let Some(known) = self.files.get_mut(path) {
            *known |= uses;
        } else if self.files.len() < FILES && self.reserve(path.as_bytes().len()) {
            self.files.insert(path.clone(), uses);
        } else {
            self.dropped.files += times;
            return false;
        }
        true
    }

    fn reserve(&mut self, bytes: usize) -> bool {
        let fits = self.path_bytes + bytes <= PATH_BYTES;
        if fits {
            self.path_bytes += bytes;
        }
        fits
    }

    fn network(&mut self, event: &TraceEvent, call: &NetworkCall) {
        let Some(address) = &call.address else {
            return;
        };
        let error = call.result.error();
        if error.is_some_and(is_interruption) && call.operation != NetworkOperation::Connect {
            return;
        }
        // A connection that does not wait for its other end.
        let error = error.filter(|errno| !is_interruption(*errno) && *errno != libc::EINPROGRESS);
        if let Some(peer) = self.peer(call.operation, address) {
            peer.count += 1;
            peer.reach = call.reach;
            peer.error = error.or(peer.error);
        }
        let shown = address.to_string();
        let about = about(event.pid, &call.call, shown.as_bytes());
        match error {
            Some(errno) if is_absence(errno) && is_noise(shown.as_bytes()) => {}
            Some(errno) => {
                let target = match address {
                    Address::Unix(path) => path.clone(),
                    _ => shown.as_str().into(),
                };
                let failure = failure(
                    event,
                    &call.call,
                    Operation::Network(call.operation),
                    (target, errno),
                );
                self.failures.fail(failure, about, false);
            }
            None if matches!(call.result, CallResult::Unknown) => {}
            None => self.failures.succeed(about),
        }
    }

    fn peer(&mut self, operation: NetworkOperation, address: &Address) -> Option<&mut Peer> {
        let order = self.peers.len();
        let key = (operation, address.clone());
        if !self.peers.contains_key(&key) {
            if order == PEERS || !self.reserve(address_bytes(address)) {
                self.dropped.peers += 1;
                return None;
            }
            let peer = Peer {
                order,
                reach: harness_metadata::trace::Reach::Unknown,
                names: Vec::new(),
                count: 0,
                error: None,
            };
            self.peers.insert(key.clone(), peer);
        }
        self.peers.get_mut(&key)
    }

    fn lookup(&mut self, lookup: &NameLookup) {
        let connected = (NetworkOperation::Connect, lookup.server.clone());
        let operation = match self.peers.contains_key(&connected) {
            true => NetworkOperation::Connect,
            false => NetworkOperation::Send,
        };
        let fits = self.path_bytes + lookup.name.as_bytes().len() <= PATH_BYTES;
        let Some(peer) = self.peer(operation, &lookup.server) else {
            return;
        };
        if !peer.names.contains(&lookup.name) {
            if fits && peer.names.len() < NAMES {
                peer.names.push(lookup.name.clone());
                self.path_bytes += lookup.name.as_bytes().len();
            } else {
                self.dropped.peers += 1;
            }
        }
    }
}

impl Process {
    fn summary(&self) -> ProcessSummary {
        let killed_by = match (self.exit, self.last_signal) {
            (Some(Exit::Signal { signal, .. }), Some((last, sender))) if signal == last => {
                Some(sender)
            }
            _ => None,
        };
        ProcessSummary {
            pid: self.pid,
            creator: self.creator,
            started: self.started,
            ended: self.ended,
            exit: self.exit,
            killed_by,
            args: self.args.list.clone(),
            execs: self.execs,
        }
    }
}

/// Returns the arguments that fit, the one that does not cut and marked.
fn bounded(args: &[RawString], limit: usize) -> Args {
    // An argument costs more than its bytes.
    const EACH: usize = 24;
    let mut kept = Args::default();
    for arg in args {
        let arg_bytes = arg.as_bytes();
        if kept.bytes + arg_bytes.len() + EACH > limit {
            let fits = limit.saturating_sub(kept.bytes + EACH).min(arg_bytes.len());
            let cut = [&arg_bytes[..fits], "…".as_bytes()].concat();
            kept.bytes += fits + EACH;
            kept.list.push(cut.into());
            break;
        }
        kept.bytes += arg_bytes.len() + EACH;
        kept.list.push(arg.clone());
    }
    kept
}

fn failure(
    event: &TraceEvent,
    call: &str,
    operation: Operation,
    (target, errno): (RawString, i32),
) -> Failure {
    Failure {
        at: event.at,
        pid: event.pid,
        call: call.to_owned(),
        operation: Some(operation),
        target,
        errno,
    }
}

fn address_bytes(address: &Address) -> usize {
    match address {
        Address::Unix(name) | Address::UnixAbstract(name) => name.as_bytes().len(),
        _ => 0,
    }
}
