//! Turns system calls into events.
//!
//! Nothing here does I/O: what a call's memory, descriptors and paths are is asked of a [`Task`].
//! Which calls are watched, and how their arguments are laid out, says one table (`calls`), from
//! which [`super::filter`] is built too; so a call that the filter stops at is one that is decoded.
//!
//! A call is read at its entry and told when it has returned, with its own result: what the tracer would
//! find if it asked the kernel itself can be another answer. What was read is compared then: another thread
//! may have rewritten it. What cannot be seen at all from a call's arguments: names in an io_uring. What a
//! program was started with is read from its own memory ([`Vectors::on_stack`]), which is still unchanged.
//! A call without an event that is not known to be `harmless` is a doubt.

mod calls;
mod control;
mod environment;
mod exec;
mod files;
mod harmless;
mod memory;
mod names;
mod network;
mod paths;
mod places;
mod process;
mod received;
mod sockets;
#[cfg(test)]
pub(super) mod tests;
mod untold;
mod vectors;

pub use environment::{Environment, environment_change};
pub use exec::{ReadFile, inherited, interpreters};
pub use sockets::Bound;
pub use vectors::Vectors;

pub use super::disturbed::Question;
pub use crate::sys::{Syscall, arch::NATIVE_ARCHITECTURE};
pub(super) use calls::{level_of_named, watched};
pub(super) use exec::interpreters_of_executed;
pub(super) use harmless::is_rare;
pub(super) use names::QUESTION;
pub(super) use process::{ASKED, CLONE_FLAGS, PROMISES, PTRACE_STARTS, RIGHTS, UNSHARED};
pub(super) use untold::TERMINAL;

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

    /// Whether a process or thread is of the attempt.
    fn is_own(&self, process: i32) -> bool;

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

    /// Takes notice that the task queues a signal with a value (rt_sigqueueinfo(2)), which one arrives of.
    fn queues_signal(&self) {}

    /// Returns true if a signal that was queued can be one that the attempt itself has queued, once for each.
    fn has_queued(&self) -> bool {
        false
    }

    /// Takes notice that the task gives up gaining privileges (PR_SET_NO_NEW_PRIVS).
    fn promises(&self) {}

    /// Takes notice that memory of the attempt's may be served by a task of the attempt
    /// (userfaultfd(2)): to read it could wait for who is stopped.
    fn serves_memory(&self) {}

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
    /// Paths and addresses that were read at the entry, and where. The kernel reads them again.
    texts: Vec<(u64, Vec<u8>)>,
    /// The address at which memory of the call could not be read. Some memory can be read by the kernel alone,
    /// for the caller (memfd_secret(2)).
    unread: Option<u64>,
    /// The facts that its result allows to find out.
    then: Then,
}

/// A fact to find out when a call has succeeded.
#[derive(Debug)]
enum Then {
    /// Nothing.
    Tell,
    /// The file that the returned descriptor is; and whether that is what the path leads to.
    Opened(Option<files::Question>),
    /// The file that a path leads to.
    Asked(files::Question),
    /// The working directory.
    Entered,
    /// The file that is there now.
    Made { directory: i32, path: Vec<u8> },
    /// The arguments and environment of a program, and the descriptors that stayed open.
    Executed(Executing),
    /// The effect on the addresses of sockets.
    Socket(NetworkOperation),
    /// Another root directory.
    Root,
    /// The sender of a signal that was taken, by the `siginfo_t` at this address.
    Signal { info: u64 },
    /// The descriptors that have arrived with these messages (`struct msghdr`).
    Received { fd: i32, headers: Vec<u64> },
}

impl Pending {
    fn new(event: TraceEventKind, then: Then) -> Self {
        Self {
            events: vec![event],
            then,
            ..Self::silent()
        }
    }

    /// A call that is reported only as a doubt, if it succeeds.
    fn doubt(doubt: Doubt) -> Self {
        Self {
            doubt: Some(doubt),
            ..Self::silent()
        }
    }

    /// A call that is reported only if it is refused because of the tracer.
    fn asks(question: Question) -> Self {
        Self {
            asks: Some(question),
            ..Self::silent()
        }
    }

    /// A call whose memory could not be read. It fails for that reason, or is a doubt.
    fn unread(at: u64) -> Self {
        Self {
            unread: Some(at),
            ..Self::silent()
        }
    }

    fn silent() -> Self {
        Self {
            events: Vec::new(),
            doubt: None,
            asks: None,
            texts: Vec::new(),
            unread: None,
            then: Then::Tell,
        }
    }

    /// Returns true for an exec, which ends in PTRACE_EVENT_EXEC if it succeeds.
    pub fn is_exec(&self) -> bool {
        matches!(self.then, Then::Executed(_))
    }

    /// Returns true if memory with a path or an address is not what it was at the call's entry: what the
    /// kernel has read is not known then.
    fn is_rewritten(&self, result: CallResult, task: &dyn Task) -> bool {
        // A new program has other memory.
        if result == CallResult::Unknown || self.is_exec() && result.error().is_none() {
            return false;
        }
        let memory = Memory::new(task);
        self.texts.iter().any(|(address, text)| {
            let mut now = vec![0; text.len()];
            match memory.fill(*address, &mut now) {
                Ok(()) => now != *text,
                Err(error) => error == ReadError::Fault,
            }
        })
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
    let Some(known) = Sysno::new(number as usize) else {
        let doubt = Doubt::Untold(format!("system call {number}"));
        return Entry::Await(Pending::doubt(doubt));
    };
    let (name, Some(Call { shape, .. })) = (known.name(), watched(known, level)) else {
        return Entry::Done;
    };
    let mut stop = Stop {
        name,
        args: call.args,
        task,
        memory: Memory::new(task),
        texts: RefCell::default(),
        events,
    };
    match stop.decode(shape) {
        Ok(Entry::Await(mut pending)) => {
            pending.texts = stop.texts.take();
            Entry::Await(pending)
        }
        Ok(Entry::Done) => Entry::Done,
        Err(ReadError::Refused) => {
            stop.tell(TraceEventKind::Doubt(Doubt::Undumpable));
            Entry::Done
        }
        Err(ReadError::Waits) => {
            stop.tell(TraceEventKind::Doubt(Doubt::Unreadable));
            Entry::Done
        }
        Err(ReadError::Fault) => Entry::Await(Pending::unread(stop.memory.fault())),
        // No task waits for it.
        Err(ReadError::Gone) => Entry::Done,
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
    let mut rewritten = pending.is_rewritten(result, task);
    match &pending.then {
        Then::Tell | Then::Root => {}
        Then::Opened(question) => {
            rewritten |= files::opened(&mut pending.events, result, *question, task);
        }
        Then::Asked(question) => files::asked(&mut pending.events, result, *question, task),
        Then::Entered => files::entered(&mut pending.events, result, task),
        Then::Made { directory, path } => {
            files::made(&mut pending.events, result, (*directory, path), task);
        }
        Then::Executed(executing) => {
            exec::executed(&mut pending.events, result, executing, task);
        }
        Then::Signal { info } => {
            untold::taken(&mut pending.events, result, *info, task);
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
    if pending
        .unread
        .is_some_and(|at| untold::may_have_been_read(at, result))
    {
        events.push(TraceEventKind::Doubt(Doubt::Unreadable));
    }
    if rewritten {
        events.push(TraceEventKind::Doubt(Doubt::Rewritten));
    }
    if let Some(doubt) = pending.doubt
        && untold::is_raised_by(&doubt, result)
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
    /// The paths and addresses that were read.
    texts: RefCell<Vec<(u64, Vec<u8>)>>,
    events: &'a mut Vec<TraceEventKind>,
}

/// The result of decoding: reading memory may fail.
type Decoded = Result<Entry, ReadError>;

impl Stop<'_> {
    fn tell(&mut self, event: TraceEventKind) {
        self.events.push(event);
    }

    /// Takes notice of what was read of the call's memory: it is looked at again when the call has
    /// returned.
    fn has_read(&self, address: u64, bytes: &[u8]) {
        self.texts.borrow_mut().push((address, bytes.to_vec()));
    }

    /// As [`Self::has_read`], for a string: its end belongs to it.
    fn has_read_text(&self, address: u64, text: &memory::Text) {
        let mut bytes = text.bytes.clone();
        if text.whole {
            bytes.push(0);
        }
        self.texts.borrow_mut().push((address, bytes));
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
            Shape::Untold => Ok(self.untold(self.name.to_owned())),
            Shape::Socket => Ok(self.socket()),
            Shape::Control => self.control(),
            Shape::Process(pid) => Ok(self.concerns_process(pid)),
            Shape::QueuesSignal => {
                self.task.queues_signal();
                Ok(self.concerns_process(0))
            }
            Shape::TakesSignal => Ok(self.takes_signal()),
            Shape::Clone => Ok(self.clone_flags(self.arg(0))),
            Shape::Clone3 => self.clone3(),
            Shape::Prctl => Ok(self.prctl()),
            Shape::Seccomp => Ok(self.seccomp()),
            Shape::Ptrace => Ok(self.ptrace()),
            Shape::ProcessMemory => Ok(self.process_memory()),
            Shape::Unshare => Ok(self.unshare()),
            Shape::Keyed => Ok(self.keyed()),
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
