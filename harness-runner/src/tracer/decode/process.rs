//! Calls that say nothing of files or sockets, but may hide what does.

use super::{Decoded, Entry, Pending, Rival, Stop};
use harness_metadata::{TraceEventKind, trace::Doubt};
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
            libc::PR_SET_SECCOMP => self.doubt_if(true, Doubt::OwnFilter),
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
        let operation = self.int(0) as u32;
        // The others ask what there is.
        let sets = matches!(
            operation,
            libc::SECCOMP_SET_MODE_STRICT | libc::SECCOMP_SET_MODE_FILTER
        );
        let flags = self.int(1) as libc::c_ulong;
        let listens = operation == libc::SECCOMP_SET_MODE_FILTER
            && flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0;
        match self.doubt_if(sets, Doubt::OwnFilter) {
            Entry::Await(pending) if listens => Entry::Await(Pending {
                rival: Some(Rival::Listener),
                ..pending
            }),
            entry => entry,
        }
    }

    pub(super) fn ptrace(&mut self) -> Entry {
        if !PTRACE_STARTS.contains(&(self.arg(0) as u32)) {
            return Entry::Done;
        }
        // Also if it fails, as it does for who is traced already: the caller wanted to trace.
        self.doubt(Doubt::TracesOthers);
        Entry::Await(Pending::rival(Rival::Tracer))
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
        // What has no key (IPC_PRIVATE) nobody else can find.
        self.doubt_if(self.int(0) != libc::IPC_PRIVATE, Doubt::KernelFacility)
    }
}
