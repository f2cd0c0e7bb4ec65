//! New tasks, which do not go on before it is known which process created them.

use super::Tasks;
use crate::{
    sys::{Tgid, Tid},
    tracer::{Observer, live::Process, stop::Kernel},
};
use harness_metadata::event::TraceLevel;
use std::{rc::Rc, time::Duration};

/// The longest time that a new task is held. The event of its creation takes microseconds, but if
/// its creator is killed before, there is none.
const HELD: Duration = Duration::from_millis(100);

impl<K: Kernel> Tasks<K> {
    /// Takes a new task in, the event of whose creation is still to come, and holds it until then if
    /// its creator is to be found.
    pub(super) fn unannounced(&mut self, tid: Tid) {
        self.tree.take_ended_early(tid);
        let creator = self.kernel.likely_creator(tid);
        self.appeared(tid, creator);
        self.tree.entry(tid).due = true;
        let known = creator.filter(|creator| self.context.processes.contains_key(creator));
        if let Some(creator) = known {
            self.tree.hold(tid, creator, self.kernel.now());
        }
    }

    /// Takes a new task in. The kind of its event does not tell a thread from a process: it depends
    /// on the exit signal and on CLONE_VFORK, not on CLONE_THREAD. But a process is a thread of
    /// itself, even as a zombie. Returns whether it is a process.
    pub(super) fn appeared(&mut self, tid: Tid, creator: Option<Tgid>) -> bool {
        let leads = self.kernel.leads(tid);
        let task = self.tree.entry(tid);
        task.options.filtered = self.root.options.filtered;
        if !leads {
            task.process = task.process.or(creator);
            if let Some(creator) = creator {
                self.context.has_thread(creator);
            }
            return false;
        }
        let process = tid.led();
        task.process = Some(process);
        self.tree.count();
        let environment = creator
            .and_then(|creator| self.context.processes.get(&creator))
            .map(|creator| Rc::clone(&creator.environment))
            .unwrap_or_default();
        let watched = creator.is_some_and(|creator| self.is_watched(creator.leader()));
        let created = Process {
            may_meet_tracer: watched,
            ..Process::new(creator, environment)
        };
        self.context.processes.insert(process, created);
        if self.root.level >= TraceLevel::Io {
            self.context.check_root_of(process);
        }
        true
    }

    /// Lets a held task go, once its events have been delivered.
    pub(super) fn release(&mut self, tid: Tid) {
        if self.tree.release(tid) {
            self.free(tid);
        }
    }

    /// Has a stop end that was put aside, once its events have been delivered.
    pub(super) fn free(&mut self, tid: Tid) {
        self.freed.extend(self.aside.take(tid));
    }

    /// Lets go what has been held for too long, as if it had been created by its likely creator.
    pub(crate) fn release_overdue(&mut self, observer: &mut dyn Observer) {
        if !self.tree.holds() {
            return;
        }
        for (child, creator) in self.tree.overdue(self.kernel.now(), HELD) {
            self.suppose_created(creator, child);
        }
        self.deliver(observer);
    }

    /// Reports a creation by the likely creator, and not how. If its event comes after all, it is not
    /// reported again.
    pub(super) fn suppose_created(&mut self, creator: Tgid, child: Tid) {
        self.created(creator.leader(), child, None);
        if let Some(task) = self.tree.get_mut(child) {
            task.due = true;
        }
    }
}
