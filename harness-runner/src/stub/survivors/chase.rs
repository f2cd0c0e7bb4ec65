//! Chases children that multiply or change their ids as fast as they can.

use super::{Children, own_pid};
use crate::{
    proc,
    stub::sys::{self, HeldChild, KernelReaps, Pid},
};
use foldhash::fast::RandomState;
use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Seek},
};

/// After so many looks without a new child there is none.
const QUIET_LOOKS: u32 = 8;

/// The list of the children of this process's first thread, which gets orphans. It is kept open: a
/// process that only forks and ends changes its pid faster than anything else can be read.
pub(in crate::stub) struct ChildList {
    file: File,
    text: String,
}

impl ChildList {
    /// Opens the list. `None` where the kernel has none.
    pub(in crate::stub) fn open() -> Option<Self> {
        if !matches!(Children::now(), Children::Told) {
            return None;
        }
        let name = format_args!("task/{}/children", own_pid()).to_string();
        let file = File::open(proc::path(own_pid(), name)).ok()?;
        let text = String::new();
        Some(Self { file, text })
    }

    /// Reads it. The kernel lists children in the order in which they came, the dead included.
    pub(in crate::stub) fn read(&mut self) -> io::Result<Vec<Pid>> {
        self.text.clear();
        self.file.rewind()?;
        self.file.read_to_string(&mut self.text)?;
        let pids = self.text.split_ascii_whitespace();
        Ok(pids.filter_map(|pid| pid.parse().ok()).collect())
    }
}

/// Sends a signal to children of this process, and at once to those that come meanwhile, if it is
/// given them in a tight loop. Who does not reap the dead between two looks is soon too slow.
///
/// A child gets the signal once, the last one first: the others may be no more than steps on the way to
/// it, and dead.
pub(in crate::stub) struct Chase {
    signal: i32,
    groups: Groups,
    /// The children that have had it.
    before: HashSet<Pid, RandomState>,
    quiet: u32,
}

impl Chase {
    /// The root's group is that of `root`, if there is one.
    pub(in crate::stub) fn new(root: Option<Pid>, signal: i32) -> Self {
        Self {
            signal,
            groups: Groups::new(root),
            before: HashSet::default(),
            quiet: 0,
        }
    }

    /// Sends the signal to those of these children that have not had it. Returns whether another look
    /// is worth it.
    pub(in crate::stub) fn look(&mut self, children: &[Pid]) -> bool {
        let kernel_reaps = KernelReaps::is_on();
        let mut has_new = false;
        for child in children.iter().rev() {
            if !self.before.insert(*child) {
                continue;
            }
            has_new = true;
            if !kernel_reaps {
                // A child's id is its own until it has been waited for.
                let _ = sys::kill(*child, self.signal);
                self.groups.signal_that_of(*child, self.signal);
            } else if let Some(held) = HeldChild::hold(*child) {
                // The group goes first: a child that dies has none soon.
                self.groups.signal_that_of(*child, self.signal);
                held.signal(self.signal);
            }
        }
        if kernel_reaps {
            // Another one may come with the id of one that is gone.
            let listed: HashSet<_, _> = children.iter().copied().collect();
            self.before = listed;
        }
        self.quiet = if has_new { 0 } else { self.quiet + 1 };
        self.quiet <= QUIET_LOOKS
    }

    /// A child has been waited for. Where the table of processes is full, the next one gets its id.
    pub(in crate::stub) fn reaped(&mut self, child: Pid) {
        self.before.remove(&child);
    }
}

/// Returns how many of so many children are reaped at most between two looks. Each takes some
/// microseconds, in which those that multiply are not hit; and so does a look for each child, so that
/// many looks at many of the dead would take longer than new ones take to die.
pub(in crate::stub) fn most_reaped(children: usize) -> usize {
    (children / 2).max(256)
}

/// The process groups that only descendants can be in: those of other sessions than ours, and that
/// of the root while it has a member.
struct Groups {
    session: Option<nix::unistd::Pid>,
    root: Option<Pid>,
}

impl Groups {
    fn new(root: Option<Pid>) -> Self {
        let session = nix::unistd::getsid(None).ok();
        Self { session, root }
    }

    /// Sends a signal to the group of a child, dead or alive. No fork escapes a signal to its group,
    /// however fast it is.
    fn signal_that_of(&self, child: Pid, signal: i32) {
        let child = nix::unistd::Pid::from_raw(child);
        let Ok(group) = nix::unistd::getpgid(Some(child)) else {
            return;
        };
        let session = nix::unistd::getsid(Some(child)).ok();
        let elsewhere = self.session.is_some() && session.is_some() && session != self.session;
        // Zero is a group of another namespace.
        if group.as_raw() > 1 && (elsewhere || self.root == Some(group.as_raw())) {
            let _ = sys::kill(-group.as_raw(), signal);
        }
    }
}
