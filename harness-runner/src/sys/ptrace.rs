//! The requests of ptrace(2) for tasks that were seized (PTRACE_SEIZE, which nix does not have whole:
//! its signals lack the real-time ones, and its stops the kinds that only seized tasks have).

use super::{Pid, Syscall, Tid, arch::NATIVE_ARCHITECTURE};
use harness_metadata::Exit;
use nix::errno::Errno;
use std::{
    ffi::{c_int, c_void},
    ptr,
};

/// The kind of stop of a seized tracee: see ptrace(2), "Stopped states".
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is about to receive a signal.
    Signal(c_int),
    /// It is in a group-stop by this signal.
    Group(c_int),
    /// A new tracee's first stop, the end of a group-stop, or PTRACE_INTERRUPT.
    Trap,
    /// It has created a task.
    Created(CreatedBy),
    /// It has executed a new program.
    Exec,
    /// Its filter has stopped it at the entry of a system call.
    Filtered,
    /// It is at the exit of a system call, or at the entry of one: [`syscall_info`] knows.
    Syscall,
    /// It is about to exit ([`Options::exits`]).
    Exit,
    /// Anything else. It only needs to go on.
    Other,
}

/// The kind of event by which a creation is reported. It depends on the exit signal and on
/// CLONE_VFORK, and does not tell a thread from a process.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum CreatedBy {
    Fork,
    Vfork,
    Clone,
}

/// The number of a signal to deliver. nix has no type for the real-time ones.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawSignal(c_int);

impl RawSignal {
    pub(crate) fn new(signal: c_int) -> Self {
        Self(signal)
    }
}

/// The end of a tracee's stop.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It goes on, with this signal (PTRACE_CONT).
    Resume(Option<RawSignal>),
    /// It goes on to where it enters or leaves a system call, with this signal (PTRACE_SYSCALL).
    ToCall(Option<RawSignal>),
    /// It stays in its group-stop until SIGCONT, and reports events meanwhile (PTRACE_LISTEN).
    Listen,
    /// It is not traced any more, and goes on with this signal (PTRACE_DETACH). If a signal stopped
    /// its process, it stays stopped.
    Detach(Option<RawSignal>),
}

/// A stop that wait4(2) reported. The task stands still until this is consumed.
///
/// Dropping it loses the task: in a debug build that is a panic.
#[must_use = "the task stays stopped until its stop is ended"]
#[derive(Debug)]
pub(crate) struct Stopped {
    tid: Tid,
    at: Stop,
}

impl Stopped {
    /// A stop as wait4(2) reports it.
    pub(crate) fn reported(tid: Tid, at: Stop) -> Self {
        Self { tid, at }
    }

    pub(crate) fn tid(&self) -> Tid {
        self.tid
    }

    /// Returns why the task is stopped.
    pub(crate) fn at(&self) -> Stop {
        self.at
    }

    /// Ends the stop.
    ///
    /// # Errors
    ///
    /// ESRCH if the task was killed in the meantime. It is still traced then, and its end will be
    /// reported like any other.
    pub(crate) fn end(self, how: End) -> Result<(), Errno> {
        let tid = self.tid;
        self.over();
        let (request, signal) = match how {
            End::Resume(signal) => (libc::PTRACE_CONT, signal),
            End::ToCall(signal) => (libc::PTRACE_SYSCALL, signal),
            End::Listen => (libc::PTRACE_LISTEN, None),
            End::Detach(signal) => (libc::PTRACE_DETACH, signal),
        };
        let signal = signal.map_or(0, |RawSignal(signal)| signal);
        let data = signal as usize as *mut c_void;
        // SAFETY: these four requests ignore the address, and take the data for a signal's number or
        // ignore it; no memory is read or written through them.
        Errno::result(unsafe { libc::ptrace(request, tid.raw(), ptr::null_mut::<c_void>(), data) })
            .map(drop)
    }

    /// The stop is over without a request: the task was killed, or is no tracee.
    pub(crate) fn over(self) {
        std::mem::forget(self);
    }
}

#[cfg(debug_assertions)]
impl Drop for Stopped {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking(),
            "the stop of task {} was not ended",
            self.tid
        );
    }
}

/// Everything that is created is followed, and nothing outlives its tracer.
const FOLLOWED: c_int = libc::PTRACE_O_EXITKILL
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESYSGOOD;

/// A filter stops its task. Without this option it has the calls fail.
const FILTERED: c_int = libc::PTRACE_O_TRACESECCOMP;

/// The events that stop a tracee, beside its signals, executions and creations. A new task has the
/// options of the thread that created it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// It has, or is going to have, a filter that stops it.
    pub(crate) filtered: bool,
    /// It stops when it exits, before it is a zombie.
    pub(crate) exits: bool,
    /// It goes on without its filters (PTRACE_O_SUSPEND_SECCOMP).
    pub(crate) suspended: bool,
}

impl Options {
    fn bits(self) -> *mut c_void {
        let bit = |set: bool, bits: c_int| if set { bits } else { 0 };
        let bits = FOLLOWED
            | bit(self.filtered, FILTERED)
            | bit(self.exits, libc::PTRACE_O_TRACEEXIT)
            | bit(self.suspended, libc::PTRACE_O_SUSPEND_SECCOMP);
        bits as usize as *mut c_void
    }
}

/// Seizes a child and follows everything that it will create.
pub(crate) fn seize(tid: Tid, options: Options) -> Result<(), Errno> {
    let data = options.bits();
    // SAFETY: PTRACE_SEIZE ignores the address; the data is a bit mask, not a pointer.
    Errno::result(unsafe {
        libc::ptrace(
            libc::PTRACE_SEIZE,
            tid.raw(),
            ptr::null_mut::<c_void>(),
            data,
        )
    })
    .map(drop)
}

/// Changes the options of a stopped tracee.
///
/// # Errors
///
/// ESRCH if it is gone. To suspend filters, EPERM for who is not allowed to (CAP_SYS_ADMIN) or has a
/// filter of its own, EINVAL if the kernel has not been built for it (CONFIG_CHECKPOINT_RESTORE).
pub(crate) fn set_options(tid: Tid, options: Options) -> Result<(), Errno> {
    let (request, null) = (libc::PTRACE_SETOPTIONS, ptr::null_mut::<c_void>());
    // SAFETY: PTRACE_SETOPTIONS ignores the address; the data is a bit mask, not a pointer.
    Errno::result(unsafe { libc::ptrace(request, tid.raw(), null, options.bits()) }).map(drop)
}

/// Returns the message of an event stop: the created task's id, or the former id of the thread
/// that called execve.
pub(crate) fn event_message(tid: Tid) -> Option<Tid> {
    Pid::try_from(message(tid)?).ok().map(Tid::new)
}

fn message(tid: Tid) -> Option<libc::c_ulong> {
    let mut message: libc::c_ulong = 0;
    let null = ptr::null_mut::<c_void>();
    // SAFETY: PTRACE_GETEVENTMSG writes one unsigned long to the data argument, a live local.
    let ret = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, tid.raw(), null, &raw mut message) };
    (ret == 0).then_some(message)
}

/// Returns how a task that is stopped at its exit is going to have ended: what wait4(2) tells of a
/// process that has no other thread by then. `None` if it is gone.
pub(crate) fn exit_to_be(tid: Tid) -> Option<Exit> {
    super::ended(c_int::try_from(message(tid)?).ok()?)
}

/// The position of a tracee in a system call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyscallInfo {
    /// At its entry, stopped by PTRACE_SYSCALL or by a filter.
    Entry(Syscall),
    /// At its exit, with what it returns: a value, or a negated errno.
    Exit(i64),
    /// In none.
    None,
}

/// `struct ptrace_syscall_info` with the longest member of its union, that of a filter's stop.
#[repr(C)]
#[derive(Default)]
struct RawSyscallInfo {
    op: u8,
    reserved: u8,
    flags: u16,
    arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    /// At an entry the call's number and arguments; at an exit the result and whether it is an
    /// error, which its value tells as well.
    words: [u64; 7],
    action: u32,
    reserved2: u32,
}

impl RawSyscallInfo {
    fn of(tid: Tid) -> Option<Self> {
        let mut raw = Self::default();
        let size = size_of::<Self>() as *mut c_void;
        let request = libc::PTRACE_GET_SYSCALL_INFO;
        // SAFETY: the kernel writes at most as many bytes as the address argument says to the data
        // argument, a live local of that size.
        let written = unsafe { libc::ptrace(request, tid.raw(), size, &raw mut raw) };
        (written > 0).then_some(raw)
    }
}

/// Asks where a tracee is in a system call (ptrace(2), PTRACE_GET_SYSCALL_INFO). `None` if it is
/// gone.
pub(crate) fn syscall_info(tid: Tid) -> Option<SyscallInfo> {
    const OP_ENTRY: u8 = 1;
    const OP_EXIT: u8 = 2;
    const OP_SECCOMP: u8 = 3;
    let raw = RawSyscallInfo::of(tid)?;
    Some(match raw.op {
        OP_ENTRY | OP_SECCOMP => {
            let [number, args @ ..] = raw.words;
            SyscallInfo::Entry(Syscall {
                arch: raw.arch,
                number,
                args,
            })
        }
        OP_EXIT => SyscallInfo::Exit(raw.words[0].cast_signed()),
        _ => SyscallInfo::None,
    })
}

/// Returns the stack pointer of a tracee, which is in any stop. `None` if it is gone, or if it is not
/// of the machine's own architecture.
pub(crate) fn stack_pointer(tid: Tid) -> Option<u64> {
    let raw = RawSyscallInfo::of(tid)?;
    (raw.arch == NATIVE_ARCHITECTURE).then_some(raw.stack_pointer)
}

/// The sender of the signal that a tracee is about to receive: its `si_code`, and for codes of
/// kill(2) and the like the sender's id.
pub(crate) fn signal_origin(tid: Tid) -> Option<(c_int, Pid)> {
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let null = ptr::null_mut::<c_void>();
    // SAFETY: PTRACE_GETSIGINFO writes one siginfo_t to the data argument, a live local.
    let ret = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, tid.raw(), null, &raw mut info) };
    // SAFETY: every kind of siginfo is initialized, since it was zeroed. Where the code is none
    // that has a sender, the caller does not use it.
    let sender = unsafe { info.si_pid() };
    (ret == 0).then_some((info.si_code, sender))
}
