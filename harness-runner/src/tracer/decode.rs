//! Turns system calls into events.
//!
//! Nothing here does I/O: what a call's memory, descriptors and paths are is asked of a [`Task`].
//! Which calls are watched, and how their arguments are laid out, says one table (`calls`), from
//! which [`super::filter`] is built too; so a call that the filter stops at is one that is decoded.
//!
//! A call that only asks is answered at its entry: the tracer asks the kernel the same question
//! ([`Task::look`]). So is an exec of what is not there, and a chdir. A call that changes something else,
//! or whose result only the caller learns, is awaited, and so is one that asks with other rights than the tracer has. What
//! cannot be seen at all from a call's arguments: names in an io_uring, and what a call's memory said a
//! moment later, when another thread of the program had rewritten it. What a program was started with is
//! read from its own memory ([`Vectors::on_stack`]), which is still unchanged.

mod calls;
mod environment;
mod exec;
mod files;
mod memory;
mod names;
mod network;
mod paths;
mod process;
mod received;
mod sockets;
#[cfg(test)]
pub(super) mod tests;
mod vectors;

pub use environment::{Environment, environment_change};
pub use exec::{ReadFile, inherited, interpreters};
pub use sockets::Bound;
pub use vectors::Vectors;

pub use super::disturbed::Question;
pub use crate::sys::{Syscall, arch::NATIVE_ARCHITECTURE};
pub(super) use calls::watched;
pub(super) use exec::interpreters_of_executed;
pub(super) use names::QUESTION;
pub(super) use process::{ASKED, CLONE_FLAGS, PROMISES, PTRACE_STARTS, RIGHTS, UNSHARED};

use calls::{At, Call, Shape};
use exec::Executing;
use harness_metadata::{
    TraceEventKind,
    event::TraceLevel,
    trace::{Address, CallResult, Disturbance, Doubt, Exec, FileId, NetworkOperation},
};
use memory::Memory;
use std::{cell::RefCell, rc::Rc};
use syscalls::Sysno;

/// The bit that marks a call of the x32 architecture, whose AUDIT_ARCH_* is the native one; `None`
/// where there is no such thing.
pub(super) const X32_BIT: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0x4000_0000)
} else {
    None
};

/// An error that kept memory of a task from being read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// There is nothing at this address. The call will fail as well.
    Fault,
    /// The task may not be read (PR_SET_DUMPABLE).
    Refused,
    /// To read it could wait for the test itself (userfaultfd(2)).
    Waits,
    /// The task is gone.
    Gone,
}

/// The task that made a call, while it is stopped.
pub trait Task {
    /// The process (thread group), as the tracer calls it.
    fn pid(&self) -> i32;

    /// The thread, as the tracer calls it.
    fn tid(&self) -> i32;

    /// Reads memory from an address on, as much as there is up to the buffer's length. Returns how
    /// much, at least 1 for a buffer that is not empty. Never asked for more than reaches to the end
    /// of a page of 4 KiB.
    ///
    /// # Errors
    ///
    /// When nothing can be read.
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<usize, ReadError>;

    /// The working directory of this thread; `None` if it is not known.
    fn cwd(&self) -> Option<Vec<u8>>;

    /// The root directory of this thread; `None` if it is the tracer's own. It may be remembered
    /// until a call returned that is a [`Pending::moves_root`].
    fn root(&self) -> Option<Vec<u8>>;

    /// The target of a descriptor, by /proc/TID/fd/N.
    fn descriptor(&self, fd: i32) -> Option<Vec<u8>>;

    /// All open descriptors but the standard streams, and what they are. Asked once per program that
    /// was executed.
    fn descriptors(&self) -> Vec<(i32, Vec<u8>)>;

    /// Asks the kernel for a file as the task would see it: relative to its root directory, or to
    /// `directory` (AT_FDCWD for its working directory) if `path` is relative. An empty path is
    /// `directory` itself, a descriptor of the task then. Does not wait and changes nothing.
    ///
    /// # Errors
    ///
    /// The errno. EAGAIN if a file system would have to be waited for.
    fn look(&self, directory: i32, path: &[u8], follow: bool) -> Result<FileId, i32>;

    /// As [`Self::look`], for a file that is going to be opened for reading, or to become the working
    /// directory.
    ///
    /// # Errors
    ///
    /// The errno. EAGAIN also if the call alone can tell: opening may wait, as for a pipe, or not
    /// everybody may read the file, or enter the directory.
    fn look_to_read(&self, directory: i32, path: &[u8], follow: bool) -> Result<FileId, i32>;

    /// Reads from a regular file, named as for [`Self::look`] with links followed. Returns how much;
    /// `None` if it cannot be read or is no regular file.
    fn file(&self, directory: i32, path: &[u8], offset: u64, buffer: &mut [u8]) -> Option<usize>;

    /// The own address of a socket, as getsockname(2) tells; `None` if it is not known.
    fn socket_name(&self, fd: i32) -> Option<Address>;

    /// The peer's address of a socket, as getpeername(2) tells; `None` if it is not known.
    fn peer_name(&self, fd: i32) -> Option<Address>;

    /// Whether the process at a unix socket's other end is of the same attempt (SO_PEERCRED of
    /// unix(7)); `None` if it is not known.
    fn peer_is_own(&self, fd: i32) -> Option<bool> {
        let _ = fd;
        None
    }

    /// Takes notice that the task, or what it creates or executes, may come to have other rights than
    /// the tracer (credentials(7), capabilities(7)).
    fn changes_rights(&self);

    /// Takes notice that the task, and what it creates, may be refused what its rights allow
    /// (landlock(7)).
    fn confines(&self);

    /// Takes notice of the program that the task has executed, which may have given it other rights
    /// as well (the set-user-id bit).
    fn executed(&self);

    /// Returns true if the tracer is the reason for the answer or the refusal.
    fn meets_tracer(&self, question: Question) -> bool;

    /// Returns what the file at an absolute path shows the task of the tracer, if it does.
    fn sees_tracer(&self, path: &[u8]) -> Option<Disturbance> {
        let _ = path;
        None
    }

    /// Takes notice that the task gives up gaining privileges (PR_SET_NO_NEW_PRIVS).
    fn promises(&self) {}

    /// Takes notice that memory of the attempt's may be served by a task of the attempt
    /// (userfaultfd(2)): to read it could wait for who is stopped.
    fn serves_memory(&self) {}

    /// Whether the kernel tells the task of files what it tells the tracer: if the task has the same
    /// rights and is not confined.
    fn has_our_rights(&self) -> bool;

    /// The environment that the process was started with; `None` if it is not known, as before the
    /// root's first exec.
    fn environment(&self) -> Option<Rc<Environment>>;

    /// The addresses of the attempt's sockets.
    fn sockets(&self) -> &RefCell<Bound>;
}

/// The action at a call's entry.
#[derive(Debug)]
pub enum Entry {
    /// Nothing more: all events were reported.
    Done,
    /// Its result is needed: stop at its exit and call [`exit`]. For an exec that succeeds this is
    /// PTRACE_EVENT_EXEC, and the result is 0.
    Await(Pending),
}

/// The state of a call that has not returned.
#[derive(Debug)]
pub struct Pending {
    /// The event to report once the result is known.
    events: Vec<TraceEventKind>,
    /// The doubt that a success raises.
    doubt: Option<Doubt>,
    /// The possible reason of an EPERM.
    asks: Option<Question>,
    /// The facts that its result allows to find out.
    then: Then,
}

/// A fact to find out when a call has succeeded.
#[derive(Debug)]
enum Then {
    /// Nothing.
    Tell,
    /// The file that the returned descriptor is.
    Returned,
    /// The file that is there now.
    Made { directory: i32, path: Vec<u8> },
    /// The arguments and environment of a program, and the descriptors that stayed open.
    Executed(Executing),
    /// The effect on the addresses of sockets.
    Socket(NetworkOperation),
    /// Another root directory.
    Root,
    /// The descriptors that have arrived with these messages (`struct msghdr`).
    Received { fd: i32, headers: Vec<u64> },
}

impl Pending {
    fn new(event: TraceEventKind, then: Then) -> Self {
        Self {
            events: vec![event],
            doubt: None,
            asks: None,
            then,
        }
    }

    /// A call that is reported only as a doubt, if it succeeds.
    fn doubt(doubt: Doubt) -> Self {
        Self {
            events: Vec::new(),
            doubt: Some(doubt),
            asks: None,
            then: Then::Tell,
        }
    }

    /// A call that is reported only if it is refused because of the tracer.
    fn asks(question: Question) -> Self {
        Self {
            events: Vec::new(),
            doubt: None,
            asks: Some(question),
            then: Then::Tell,
        }
    }

    /// Returns true for an exec, which ends in PTRACE_EVENT_EXEC if it succeeds.
    pub fn is_exec(&self) -> bool {
        matches!(self.then, Then::Executed(_))
    }

    /// Returns the environment that the process has if this is an exec that succeeds: what
    /// [`Task::environment`] answers from then on. `None` as long as it has not been read.
    pub fn environment(&self) -> Option<Rc<Environment>> {
        match &self.then {
            Then::Executed(executing) => executing.read.clone(),
            _ => None,
        }
    }

    /// Returns the event of an exec once it has succeeded.
    pub(super) fn exec(&self) -> Option<&Exec> {
        match self.events.first() {
            Some(TraceEventKind::Exec(exec)) => Some(exec),
            _ => None,
        }
    }

    /// Returns what an exec is going to execute, as [`Task::look`] is asked for it; `None` if that
    /// could not be read.
    pub fn program(&self) -> Option<(i32, &[u8])> {
        match &self.then {
            Then::Executed(Executing {
                directory, path, ..
            }) => Some((*directory, path.as_deref()?)),
            _ => None,
        }
    }

    /// Returns true if the task's root directory may be another one when the call has returned.
    pub fn moves_root(&self) -> bool {
        matches!(self.then, Then::Root) || self.doubt == Some(Doubt::ChangedNamespace)
    }
}

/// Decodes a call at its entry. What can be told already is pushed to `events`.
pub fn entry(
    call: &Syscall,
    level: TraceLevel,
    task: &dyn Task,
    events: &mut Vec<TraceEventKind>,
) -> Entry {
    // The kernel looks at 32 bits of the number. -1 is what a tracer makes of a call to skip it.
    let number = call.number as u32;
    if number == u32::MAX {
        return Entry::Done;
    }
    if call.arch != NATIVE_ARCHITECTURE || X32_BIT.is_some_and(|bit| number & bit != 0) {
        events.push(TraceEventKind::Doubt(Doubt::ForeignArchitecture));
        return Entry::Done;
    }
    let Some((name, Call { shape, .. })) = Sysno::new(number as usize)
        .and_then(|number| Some((number.name(), watched(number, level)?)))
    else {
        return Entry::Done;
    };
    let mut stop = Stop {
        name,
        args: call.args,
        task,
        memory: Memory::new(task),
        events,
    };
    match stop.decode(shape) {
        Ok(entry) => entry,
        Err(ReadError::Refused) => {
            stop.tell(TraceEventKind::Doubt(Doubt::Undumpable));
            Entry::Done
        }
        Err(ReadError::Waits) => {
            stop.tell(TraceEventKind::Doubt(Doubt::Unreadable));
            Entry::Done
        }
        // The call fails with EFAULT, or no task waits for it.
        Err(ReadError::Fault | ReadError::Gone) => Entry::Done,
    }
}

/// As [`entry`], for who is stopped at every call and only wants to know whether the tracer is in the
/// way.
pub(super) fn meeting(call: &Syscall, task: &dyn Task, events: &mut Vec<TraceEventKind>) -> Entry {
    let shape = usize::try_from(call.number)
        .ok()
        .and_then(Sysno::new)
        .and_then(|number| watched(number, TraceLevel::Io))
        .map(|call| call.shape);
    if !matches!(shape, Some(Shape::Ptrace | Shape::Open { .. })) {
        return Entry::Done;
    }
    let entry = entry(call, TraceLevel::Io, task, events);
    events.retain(|event| matches!(event, TraceEventKind::Doubt(Doubt::Disturbed(_))));
    match entry {
        // What an open leads to is not of interest.
        Entry::Await(pending) if pending.asks.is_some() => Entry::Await(pending),
        _ => Entry::Done,
    }
}

/// Completes a call that returned `result`: a value, or a negated errno. If it is an exec that has
/// succeeded, [`Pending::started`] has been called.
pub fn exit(pending: Pending, result: i64, task: &dyn Task, events: &mut Vec<TraceEventKind>) {
    // -512 and so on tell the kernel to restart the call or to make it EINTR (ERESTARTSYS). If it
    // is restarted, that is another entry.
    let result = match result {
        -516..=-512 => CallResult::Err(libc::EINTR),
        -4095..=-1 => CallResult::Err(-(result as i32)),
        value => CallResult::Ok(value),
    };
    complete(pending, result, task, events);
}

/// Completes a call whose result stays unknown: its caller was killed, or the backend sees entries
/// only.
pub fn unfinished(pending: Pending, task: &dyn Task, events: &mut Vec<TraceEventKind>) {
    complete(pending, CallResult::Unknown, task, events);
}

fn complete(
    mut pending: Pending,
    result: CallResult,
    task: &dyn Task,
    events: &mut Vec<TraceEventKind>,
) {
    for event in &mut pending.events {
        match event {
            TraceEventKind::File(call) => call.result = result,
            TraceEventKind::Network(call) => call.result = result,
            TraceEventKind::Exec(exec) => exec.result = result,
            _ => {}
        }
    }
    match &pending.then {
        Then::Tell | Then::Root => {}
        Then::Returned => files::returned(&mut pending.events, result, task),
        Then::Made { directory, path } => {
            files::made(&mut pending.events, result, (*directory, path), task);
        }
        Then::Executed(executing) => {
            exec::executed(&mut pending.events, result, executing, task);
        }
        Then::Received { fd, headers } => {
            received::returned(&mut pending.events, result, (*fd, headers), task);
        }
        Then::Socket(operation) => {
            network::returned(&mut pending.events, result, *operation, task);
        }
    }
    events.append(&mut pending.events);
    if let Some(question) = pending.asks
        && result.error() == Some(libc::EPERM)
        && task.meets_tracer(question)
    {
        let refused = Doubt::Disturbed(Disturbance::PtraceRefused);
        events.push(TraceEventKind::Doubt(refused));
    }
    if let Some(doubt) = pending.doubt
        && result.error().is_none()
    {
        events.push(TraceEventKind::Doubt(doubt));
    }
}

/// A task that stands still in front of a call.
struct Stop<'a> {
    name: &'static str,
    args: [u64; 6],
    task: &'a dyn Task,
    memory: Memory<'a>,
    events: &'a mut Vec<TraceEventKind>,
}

/// The result of decoding: reading memory may fail.
type Decoded = Result<Entry, ReadError>;

impl Stop<'_> {
    fn tell(&mut self, event: TraceEventKind) {
        self.events.push(event);
    }

    fn arg(&self, index: u8) -> u64 {
        self.args[usize::from(index)]
    }

    /// A descriptor, a set of flags, or another argument of which the kernel takes 32 bits.
    fn int(&self, index: u8) -> i32 {
        self.arg(index) as i32
    }

    /// Flags of AT_*, 0 where the call has none.
    fn flags(&self, index: Option<u8>) -> i32 {
        index.map_or(0, |index| self.int(index))
    }

    fn decode(&mut self, shape: Shape) -> Decoded {
        match shape {
            Shape::Open { at, how } => self.open(at, how),
            Shape::Ask(ask) => self.ask(ask),
            Shape::List => self.list(),
            Shape::Enter(at) => self.enter(at),
            Shape::Change(change) => self.change(change),
            Shape::Make { operation, at } => self.make(operation, at),
            Shape::Remove { at, flags } => self.remove(at, flags),
            Shape::Name(name) => self.name(name),
            Shape::SymbolicLink { text, at } => self.symbolic_link(text, at),
            Shape::Mount { at, flags } => self.mount(at, flags),
            Shape::Exec {
                at,
                args,
                environment,
                flags,
            } => self.exec(at, args, environment, flags),
            Shape::Network(operation) => self.network(operation),
            Shape::SendMessage => self.send_message(),
            Shape::SendMessages => self.send_messages(),
            Shape::ReceiveMessage => self.receive_message(),
            Shape::ReceiveMessages => self.receive_messages(),
            Shape::Doubt(doubt) => {
                if self.name == Sysno::userfaultfd.name() {
                    self.task.serves_memory();
                }
                if doubt == Doubt::ChangedNamespace {
                    // Perhaps that of users.
                    self.task.changes_rights();
                }
                Ok(Entry::Await(Pending::doubt(doubt)))
            }
            Shape::Clone => Ok(self.clone_flags(self.arg(0))),
            Shape::Clone3 => self.clone3(),
            Shape::Prctl => Ok(self.prctl()),
            Shape::Seccomp => Ok(self.seccomp()),
            Shape::Ptrace => Ok(self.ptrace()),
            Shape::ProcessMemory => Ok(self.process_memory()),
            Shape::Unshare => Ok(self.unshare()),
            Shape::Keyed => Ok(self.keyed()),
            Shape::Nothing => Ok(Entry::Done),
            Shape::Rights => {
                self.task.changes_rights();
                Ok(Entry::Done)
            }
            Shape::Confine => {
                self.confines();
                self.task.confines();
                Ok(Entry::Done)
            }
        }
    }

    /// The path that a call names, and what it is relative to.
    fn named(&self, at: At, flags: i32) -> Result<files::Named, ReadError> {
        files::named(self, at, flags)
    }
}
