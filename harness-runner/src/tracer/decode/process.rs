//! Calls that say nothing of files or sockets, but may hide what does.

use super::{Decoded, Entry, Pending, Question, Stop};
use harness_metadata::{
    TraceEventKind,
    trace::{Disturbance, Doubt},
};
use std::ops::RangeInclusive;

/// New namespaces in which a path or an address may mean something else. In the others (users,
/// processes, host names…) it means the same.
pub(in crate::tracer) const NAMESPACES: u32 = (libc::CLONE_NEWNS | libc::CLONE_NEWNET) as u32;

/// New namespaces that are of interest: those, and that of users, in which everybody has all rights
/// over what is theirs.
pub(in crate::tracer) const UNSHARED: u32 = NAMESPACES | libc::CLONE_NEWUSER as u32;

/// Flags of clone(2) that are of interest.
pub(in crate::tracer) const CLONE_FLAGS: u32 = libc::CLONE_UNTRACED as u32 | UNSHARED;

/// Options of prctl(2) that change what the caller, or what it executes, may; and some between that
/// hardly anybody uses.
pub(in crate::tracer) const RIGHTS: [RangeInclusive<u32>; 2] = [
    libc::PR_CAPBSET_DROP as u32..=libc::PR_SET_SECUREBITS as u32,
    libc::PR_CAP_AMBIENT as u32..=libc::PR_CAP_AMBIENT as u32,
];

/// Options of prctl(2) that ask for the seccomp mode or set it.
pub(in crate::tracer) const ASKED: RangeInclusive<u32> =
    libc::PR_GET_SECCOMP as u32..=libc::PR_SET_SECCOMP as u32;

/// Options of prctl(2) that set no_new_privs or ask for it.
pub(in crate::tracer) const PROMISES: RangeInclusive<u32> =
    libc::PR_SET_NO_NEW_PRIVS as u32..=libc::PR_GET_NO_NEW_PRIVS as u32;

/// Most instructions of a filter (BPF_MAXINSNS of linux/bpf_common.h).
const INSTRUCTIONS: u16 = 4096;

/// Requests of ptrace(2) that start to trace: all others follow one of these.
// libc's type for them is not the same everywhere.
#[allow(clippy::unnecessary_cast)]
pub(in crate::tracer) const PTRACE_STARTS: [u32; 3] = [
    libc::PTRACE_TRACEME as u32,
    libc::PTRACE_ATTACH as u32,
    libc::PTRACE_SEIZE as u32,
];

impl Stop<'_> {
    fn doubt(&mut self, doubt: Doubt) {
        self.tell(TraceEventKind::Doubt(doubt));
    }

    /// Waits for whether it succeeds, which makes the doubt.
    fn doubt_if(&self, doubtful: bool, doubt: Doubt) -> Entry {
        if doubtful {
            Entry::Await(Pending::doubt(doubt))
        } else {
            Entry::Done
        }
    }

    pub(super) fn clone_flags(&mut self, flags: u64) -> Entry {
        let flags = flags as u32;
        if flags & libc::CLONE_UNTRACED as u32 != 0 {
            self.doubt(Doubt::UntracedTask);
        }
        self.new_user_namespace(flags);
        // Not awaited: it returns twice.
        if flags & NAMESPACES != 0 {
            self.doubt(Doubt::ChangedNamespace);
        }
        Entry::Done
    }

    fn new_user_namespace(&self, flags: u32) {
        if flags & libc::CLONE_NEWUSER as u32 != 0 {
            self.task.changes_rights();
        }
    }

    pub(super) fn clone3(&mut self) -> Decoded {
        // `flags` is the first member of its struct.
        let flags = self.memory.u64(self.arg(0))?;
        Ok(self.clone_flags(flags))
    }

    pub(super) fn prctl(&mut self) -> Entry {
        match self.int(0) {
            libc::PR_SET_SECCOMP if self.arg(1) == u64::from(libc::SECCOMP_MODE_STRICT) => {
                self.strict_mode()
            }
            libc::PR_SET_SECCOMP => self.own_filter(self.arg(2), false),
            libc::PR_GET_SECCOMP => self.answered(Question::SeccompMode, Disturbance::SeccompAsked),
            libc::PR_GET_NO_NEW_PRIVS => {
                self.answered(Question::NoNewPrivs, Disturbance::NoNewPrivsAsked)
            }
            libc::PR_SET_NO_NEW_PRIVS => {
                self.task.promises();
                Entry::Done
            }
            // Any value but 1, which is the default (prctl(2)).
            libc::PR_SET_DUMPABLE => self.doubt_if(self.arg(1) != 1, Doubt::Undumpable),
            option
                if RIGHTS
                    .iter()
                    .any(|options| options.contains(&option.cast_unsigned())) =>
            {
                self.task.changes_rights();
                Entry::Done
            }
            _ => Entry::Done,
        }
    }

    pub(super) fn seccomp(&mut self) -> Entry {
        let flags = self.int(1) as libc::c_ulong;
        match self.int(0) as u32 {
            libc::SECCOMP_SET_MODE_STRICT if flags == 0 && self.arg(2) == 0 => self.strict_mode(),
            libc::SECCOMP_SET_MODE_FILTER => {
                let listens = flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0;
                self.own_filter(self.arg(2), listens)
            }
            // It asks for all there are, or fails for every user.
            _ => Entry::Done,
        }
    }

    fn disturbed(&mut self, how: Disturbance) {
        self.doubt(Doubt::Disturbed(how));
    }

    /// A question to which the tracer may have changed the answer.
    fn answered(&mut self, question: Question, how: Disturbance) -> Entry {
        if self.task.meets_tracer(question) {
            self.disturbed(how);
        }
        Entry::Done
    }

    fn strict_mode(&mut self) -> Entry {
        if self.task.meets_tracer(Question::SeccompMode) {
            self.disturbed(Disturbance::StrictModeRefused);
            return Entry::Done;
        }
        self.doubt_if(true, Doubt::OwnFilter)
    }

    /// Something that only those may do who have given up gaining privileges.
    pub(super) fn confines(&mut self) {
        if self.task.meets_tracer(Question::Confine) {
            self.disturbed(Disturbance::NoNewPrivsUsed);
        }
    }

    /// A filter of `struct sock_fprog` at an address. One that cannot be read fails.
    fn own_filter(&mut self, address: u64, listens: bool) -> Entry {
        let Some(hands_to_tracer) = self.hands_to_tracer(address) else {
            return self.doubt_if(true, Doubt::OwnFilter);
        };
        if hands_to_tracer {
            self.disturbed(Disturbance::FilterForTracer);
        }
        if listens && self.task.meets_tracer(Question::Listen) {
            self.disturbed(Disturbance::ListenerRefused);
            return Entry::Done;
        }
        self.confines();
        self.doubt_if(true, Doubt::OwnFilter)
    }

    /// Returns whether a filter has SECCOMP_RET_TRACE among its answers.
    fn hands_to_tracer(&self, address: u64) -> Option<bool> {
        let mut length = [0; 2];
        self.memory.fill(address, &mut length).ok()?;
        let length = u16::from_ne_bytes(length);
        let program = self.memory.u64(address.checked_add(8)?).ok()?;
        if !(1..=INSTRUCTIONS).contains(&length) {
            return None;
        }
        let mut code = vec![0; usize::from(length) * size_of::<libc::sock_filter>()];
        self.memory.fill(program, &mut code).ok()?;
        let answers = code.chunks_exact(8).filter(|it| {
            let code = u16::from_ne_bytes([it[0], it[1]]);
            u32::from(code) == libc::BPF_RET | libc::BPF_K
        });
        let mut answers = answers.map(|it| u32::from_ne_bytes([it[4], it[5], it[6], it[7]]));
        Some(
            answers.any(|answer| answer & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_TRACE),
        )
    }

    pub(super) fn ptrace(&mut self) -> Entry {
        let Some(question) = self.asks_to_trace() else {
            return Entry::Done;
        };
        // Also if it fails, as it does for who is traced already: the caller wanted to trace.
        self.doubt(Doubt::TracesOthers);
        Entry::Await(Pending::asks(question))
    }

    pub(super) fn asks_to_trace(&self) -> Option<Question> {
        let request = self.arg(0) as u32;
        let [trace_me, starts @ ..] = PTRACE_STARTS;
        if request == trace_me {
            Some(Question::TraceMe)
        } else if starts.contains(&request) {
            Some(Question::Attach(self.int(1)))
        } else {
            None
        }
    }

    pub(super) fn process_memory(&mut self) -> Entry {
        // A process may read itself, to find out whether an address is good.
        let own = [self.task.pid(), self.task.tid()].contains(&self.int(0));
        self.doubt_if(!own, Doubt::TracesOthers)
    }

    pub(super) fn unshare(&mut self) -> Entry {
        let flags = self.arg(0) as u32;
        self.new_user_namespace(flags);
        self.doubt_if(flags & NAMESPACES != 0, Doubt::ChangedNamespace)
    }

    pub(super) fn keyed(&mut self) -> Entry {
        // An object without a key (IPC_PRIVATE) cannot be found by other processes.
        self.doubt_if(self.int(0) != libc::IPC_PRIVATE, Doubt::KernelFacility)
    }
}
