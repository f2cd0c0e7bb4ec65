//! The tasks that exist, and a few ids of those that ended.

use super::REMEMBERED;
use crate::{
    sys::{Options, RawUsage, Tgid, Tid},
    tracer::{Map, stop::Tracee},
};
use harness_metadata::Exit;
use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

/// A live task.
#[derive(Default)]
pub(super) struct Task {
    /// Its process; `None` for a thread until the event of its creation has been seen.
    pub(super) process: Option<Tgid>,
    /// Whether that event is still to come.
    pub(super) due: bool,
    /// Whether its creation has been reported.
    pub(super) told: bool,
    held: Option<Held>,
    /// Whether its first stop has been seen.
    pub(super) begun: bool,
    /// As far as they are known. What is not known stops it more often than needed.
    pub(super) options: Options,
}

/// The reason why a new task is held at its first stop: the event of its creation is still to come.
#[derive(Copy, Clone)]
struct Held {
    since: Instant,
    /// The process that seems to have created it.
    creator: Tgid,
}

/// A task that ended before the event of its creation.
#[derive(Copy, Clone)]
pub(super) struct Early {
    /// Whether its creation was reported all the same.
    pub(super) told: bool,
    /// Its wait status, if that could not be reported.
    pub(super) ended: Option<(Exit, RawUsage)>,
}

/// The tasks of an attempt.
#[derive(Default)]
pub(super) struct Tree {
    tasks: Map<Tid, Task>,
    /// The number of held ones.
    held: u32,
    /// Tasks that ended before the event of their creation, the last ones.
    ended_early: VecDeque<(Tid, Early)>,
    /// Processes that ended, the last ones.
    ended: VecDeque<Tgid>,
    /// Creators that wait for the first stop of a task that they created, by that task.
    beginning: Map<Tid, Tid>,
    /// Processes whose first threads exited and were let go of, and whose other threads go on.
    leaderless: HashSet<Tgid>,
    /// The number of processes so far.
    processes: u32,
}

impl Tree {
    /// A tree that consists of a root that was seized with these options.
    pub(super) fn new(root: Tgid, options: Options) -> Self {
        let task = Task {
            process: Some(root),
            told: true,
            begun: true,
            options,
            ..Task::default()
        };
        Self {
            tasks: Map::from_iter([(root.leader(), task)]),
            processes: 1,
            ..Self::default()
        }
    }

    /// Returns how many processes there have been.
    pub(super) fn processes(&self) -> u32 {
        self.processes
    }

    /// Counts a new process.
    pub(super) fn count(&mut self) {
        self.processes = self.processes.saturating_add(1);
    }

    pub(super) fn has(&self, tid: Tid) -> bool {
        self.tasks.contains_key(&tid)
    }

    pub(super) fn get(&self, tid: Tid) -> Option<&Task> {
        self.tasks.get(&tid)
    }

    pub(super) fn get_mut(&mut self, tid: Tid) -> Option<&mut Task> {
        self.tasks.get_mut(&tid)
    }

    /// Returns a task, which exists from now on.
    pub(super) fn entry(&mut self, tid: Tid) -> &mut Task {
        self.tasks.entry(tid).or_default()
    }

    /// Forgets a task that ended, or is not traced any more.
    pub(super) fn remove(&mut self, tid: Tid) -> Option<Task> {
        let task = self.tasks.remove(&tid)?;
        self.held -= u32::from(task.held.is_some());
        Some(task)
    }

    /// Returns the threads of a process beside its first one.
    pub(super) fn threads(&self, process: Tgid) -> Vec<Tid> {
        let of_process = |(tid, task): (&Tid, &Task)| {
            (*tid != process.leader() && task.process == Some(process)).then_some(*tid)
        };
        self.tasks.iter().filter_map(of_process).collect()
    }

    /// Returns the process of a task. A task whose process is not known is taken for one.
    pub(super) fn tracee(&self, tid: Tid) -> Tracee {
        let process = self.get(tid).and_then(|task| task.process);
        Tracee {
            tid,
            process: process.unwrap_or(tid.led()),
        }
    }

    /// Returns the process of each task whose process is known.
    pub(super) fn alive(&self) -> impl Iterator<Item = Tgid> {
        self.tasks.values().filter_map(|task| task.process)
    }

    /// Returns whether a process has a thread beside its first one.
    pub(super) fn has_other_thread(&self, process: Tgid) -> bool {
        let mut tasks = self.tasks.iter();
        tasks.any(|(tid, task)| *tid != process.leader() && task.process == Some(process))
    }

    /// Holds a new task until the event of its creation.
    pub(super) fn hold(&mut self, tid: Tid, creator: Tgid, now: Instant) {
        if let Some(task) = self.tasks.get_mut(&tid) {
            let held = Held {
                since: now,
                creator,
            };
            self.held += u32::from(task.held.replace(held).is_none());
        }
    }

    /// Returns the process that a held task seems to have been created by.
    pub(super) fn held_for(&self, tid: Tid) -> Option<Tgid> {
        Some(self.get(tid)?.held?.creator)
    }

    /// The event of a task's creation came, or will not come. Returns whether it was held.
    pub(super) fn release(&mut self, tid: Tid) -> bool {
        let held = self.tasks.get_mut(&tid).and_then(|task| task.held.take());
        self.held -= u32::from(held.is_some());
        held.is_some()
    }

    /// Returns whether tasks are held.
    pub(super) fn holds(&self) -> bool {
        self.held > 0
    }

    /// Returns tasks that have been held for longer than this, and their likely creators.
    pub(super) fn overdue(&self, now: Instant, limit: Duration) -> Vec<(Tid, Tgid)> {
        if self.held == 0 {
            return Vec::new();
        }
        let overdue = |(tid, task): (&Tid, &Task)| {
            let late = |held: &Held| now.saturating_duration_since(held.since) >= limit;
            Some((*tid, task.held.filter(late)?.creator))
        };
        self.tasks.iter().filter_map(overdue).collect()
    }

    /// A creator waits for the first stop of a task.
    pub(super) fn awaits(&mut self, creator: Tid, child: Tid) {
        self.beginning.insert(child, creator);
    }

    /// A task stopped for the first time, or ended. Returns the creator that waits for that.
    pub(super) fn begun(&mut self, child: Tid) -> Option<Tid> {
        self.beginning.remove(&child)
    }

    /// A task ended before the event of its creation.
    pub(super) fn ended_early(&mut self, tid: Tid, early: Early) {
        if self.ended_early.len() == REMEMBERED {
            self.ended_early.pop_front();
        }
        self.ended_early.push_back((tid, early));
    }

    /// The event of the creation of a task came, or its id is that of a new task. Returns what is
    /// known of it if it ended before.
    pub(super) fn take_ended_early(&mut self, tid: Tid) -> Option<Early> {
        let at = self.ended_early.iter().position(|(it, _)| *it == tid)?;
        self.ended_early.remove(at).map(|(_, early)| early)
    }

    /// Remembers a process that ended.
    pub(super) fn remember(&mut self, process: Tgid) {
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(process);
    }

    /// Returns whether a process ended lately.
    pub(super) fn remembers(&self, process: Tgid) -> bool {
        self.ended.contains(&process)
    }

    /// The first thread of a process was let go of.
    pub(super) fn lost_leader(&mut self, process: Tgid) {
        self.leaderless.insert(process);
    }

    pub(super) fn is_leaderless(&self, process: Tgid) -> bool {
        self.leaderless.contains(&process)
    }

    /// A process has a first thread again, or is gone. Returns whether it had none.
    pub(super) fn has_leader(&mut self, process: Tgid) -> bool {
        self.leaderless.remove(&process)
    }
}
