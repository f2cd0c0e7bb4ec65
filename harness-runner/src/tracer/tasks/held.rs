//! New tasks, which are not resumed before it is known who created them.

use super::{Held, Task, Tasks};
use crate::sys::{self, Pid};
use crate::tracer::{
    Observer,
    live::{self, Process},
};
use harness_metadata::event::TraceLevel;
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// How long a new task is held at most. The event of its creation takes microseconds, but if its
/// creator is killed before, there is none.
const HELD: Duration = Duration::from_millis(100);

impl Tasks {
    /// Takes a new task in, the event of whose creation is still to come, and holds it until then if
    /// its creator is to be found.
    pub(super) fn unannounced(&mut self, pid: Pid) {
        self.ended_early.remove(&pid);
        let creator = live::likely_creator(pid);
        self.appeared(pid, creator);
        let known = creator.filter(|creator| self.context.processes.contains_key(creator));
        let held = known.map(|creator| Held {
            since: Instant::now(),
            creator,
        });
        self.held += u32::from(held.is_some());
        if let Some(task) = self.tasks.get_mut(&pid) {
            (task.due, task.held) = (true, held);
        }
    }

    /// Returns whether a task is held.
    pub(super) fn is_held(&self, pid: Pid) -> bool {
        self.tasks.get(&pid).is_some_and(|task| task.held.is_some())
    }

    /// Takes a new task in. The kind of its event does not tell a thread from a process: it depends
    /// on the exit signal and on CLONE_VFORK, not on CLONE_THREAD. But a process is a thread of
    /// itself, even as a zombie.
    pub(super) fn appeared(&mut self, pid: Pid, creator: Option<Pid>) -> bool {
        let leads = sys::is_thread_of(pid, pid);
        let task = self.tasks.entry(pid).or_default();
        task.options.filtered = self.root.options.filtered;
        if !leads {
            task.process = task.process.or(creator);
            self.has_thread(creator);
            return false;
        }
        task.process = Some(pid);
        self.processes = self.processes.saturating_add(1);
        let environment = creator
            .and_then(|creator| self.context.processes.get(&creator))
            .map(|creator| Rc::clone(&creator.environment))
            .unwrap_or_default();
        let process = Process {
            may_meet_tracer: self.is_watched(creator.unwrap_or_default()),
            ..Process::new(creator, environment)
        };
        self.context.processes.insert(pid, process);
        if self.root.level >= TraceLevel::Io {
            self.context.check_root_of(pid);
        }
        true
    }

    /// Lets a held task go.
    pub(super) fn release(&mut self, pid: Pid) {
        let held = self.tasks.get_mut(&pid).and_then(|task| task.held.take());
        if held.is_some() {
            self.held -= 1;
            self.go(pid, 0);
        }
    }

    /// Lets go what has been held for too long, as if it had been created by whom it seems.
    pub(crate) fn release_overdue(&mut self, observer: &mut dyn Observer) {
        if self.held == 0 {
            return;
        }
        let overdue = |(tid, task): (&Pid, &Task)| {
            let held = task.held.filter(|held| held.since.elapsed() >= HELD)?;
            Some((*tid, held.creator))
        };
        for (child, creator) in self.tasks.iter().filter_map(overdue).collect::<Vec<_>>() {
            self.suppose_created(creator, child, observer);
        }
    }

    /// Tells of a creation by whom it seems, and not how. If its event comes after all, it is not told
    /// again.
    pub(super) fn suppose_created(
        &mut self,
        creator: Pid,
        child: Pid,
        observer: &mut dyn Observer,
    ) {
        self.created(creator, child, None, observer);
        if let Some(task) = self.tasks.get_mut(&child) {
            task.due = true;
        }
    }
}
