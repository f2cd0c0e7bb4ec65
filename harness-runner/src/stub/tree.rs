//! The processes of one attempt: its root, everything that the tracer follows, and the orphans.

use super::sys::{self, Pid, RawUsage, Stop, Waited};
use crate::stub::survivors;
use harness_metadata::{Exit, Usage};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

/// The tasks of an attempt.
pub(super) struct Tree {
    root: Pid,
    traced: bool,
    started: Instant,
    /// What earlier attempts of this stub had used.
    baseline: RawUsage,
    max_rss_bytes: u64,
    processes: u32,
    /// Whether the root has become the test.
    executed: bool,
    ended: Option<Ended>,
    killing: bool,
    /// Live tracees by task id. Empty if not traced.
    tasks: HashMap<Pid, Task>,
    /// Tasks that have ended before the event of their creation has been seen.
    ended_early: HashSet<Pid>,
}

/// A live tracee.
#[derive(Copy, Clone)]
struct Task {
    /// Its process; `None` for a thread until the event of its creation has been seen.
    process: Option<Pid>,
    /// Whether that event has been seen, or will not come.
    announced: bool,
}

impl Task {
    fn process(pid: Pid) -> Self {
        Self {
            process: Some(pid),
            announced: true,
        }
    }
}

/// The end of the root.
#[derive(Copy, Clone)]
pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) at: Instant,
    pub(super) elapsed: Duration,
}

impl Tree {
    /// A tree that consists of a root that was forked at `started`.
    pub(super) fn new(root: Pid, traced: bool, started: Instant, baseline: RawUsage) -> Self {
        let mut tasks = HashMap::new();
        if traced {
            tasks.insert(root, Task::process(root));
        }
        Self {
            root,
            traced,
            started,
            baseline,
            max_rss_bytes: 0,
            processes: 1,
            executed: false,
            ended: None,
            killing: false,
            tasks,
            ended_early: HashSet::new(),
        }
    }

    pub(super) fn root(&self) -> Pid {
        self.root
    }

    pub(super) fn root_ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Returns whether the root is known to have become the test. Not known if not traced.
    pub(super) fn executed(&self) -> Option<bool> {
        self.traced.then_some(self.executed)
    }

    /// Handles what wait4(2) told of a task, and resumes it if it is stopped.
    pub(super) fn handle(&mut self, pid: Pid, waited: Waited, usage: RawUsage) {
        match waited {
            Waited::Ended(exit) => self.task_ended(pid, exit, usage),
            Waited::Stopped(stop) => self.task_stopped(pid, stop),
        }
    }

    fn task_ended(&mut self, pid: Pid, exit: Exit, usage: RawUsage) {
        self.max_rss_bytes = self.max_rss_bytes.max(usage.max_rss_bytes);
        if self.tasks.remove(&pid).is_some_and(|task| !task.announced) {
            self.ended_early.insert(pid);
        }
        if pid == self.root && self.ended.is_none() {
            let at = Instant::now();
            self.ended = Some(Ended {
                exit,
                at,
                elapsed: at - self.started,
            });
        }
    }

    fn task_stopped(&mut self, pid: Pid, stop: Stop) {
        match stop {
            Stop::Created => self.created(pid),
            Stop::Exec => self.executed_by(pid),
            // A new task can report before the event of its creation, and that never comes if its
            // creator is killed. It may go on: the event only adds where a thread came from.
            Stop::Trap if !self.tasks.contains_key(&pid) => {
                self.ended_early.remove(&pid);
                self.appeared(pid, None, false);
            }
            Stop::Trap => {}
            Stop::Signal(_) | Stop::Group(_) | Stop::Other => {}
        }
        match stop {
            // What was created while the tree is being killed never gets to run.
            _ if self.killing => {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
            Stop::Group(_) => sys::listen(pid),
            Stop::Signal(signal) => sys::resume(pid, signal),
            Stop::Trap | Stop::Created | Stop::Exec | Stop::Other => sys::resume(pid, 0),
        }
    }

    fn created(&mut self, creator: Pid) {
        if let Some(child) = sys::event_message(creator) {
            self.created_by(creator, child);
        }
    }

    fn created_by(&mut self, creator: Pid, child: Pid) {
        let creator = self.tasks.get(&creator).and_then(|task| task.process);
        match self.tasks.get_mut(&child) {
            Some(task) => {
                task.process = task.process.or(creator);
                task.announced = true;
            }
            // Nothing more will be heard of it, and its id may come to belong to a stranger.
            None if self.ended_early.remove(&child) => {}
            None => self.appeared(child, creator, true),
        }
    }

    /// Takes a new task in. Its event does not tell a thread from a process: the kind of the event
    /// depends on the exit signal and on CLONE_VFORK, not on CLONE_THREAD. But a process is a
    /// thread of itself, even as a zombie.
    fn appeared(&mut self, pid: Pid, creator: Option<Pid>, announced: bool) {
        let leads = sys::is_thread_of(pid, pid);
        self.processes += u32::from(leads);
        let process = if leads { Some(pid) } else { creator };
        self.tasks.insert(pid, Task { process, announced });
    }

    fn executed_by(&mut self, pid: Pid) {
        self.executed |= pid == self.root;
        // A thread that executes takes its leader's id over; its own is no more, and no exit of
        // it will be reported.
        if let Some(former) = sys::event_message(pid).filter(|former| *former != pid) {
            self.tasks.remove(&former);
        }
        self.tasks.entry(pid).or_insert(Task::process(pid)).process = Some(pid);
    }

    /// Sends a signal to the process group of the root, or to the root alone if it has not made
    /// its group yet.
    pub(super) fn signal_group(&self, signal: i32) {
        let nobody = !self.group_is_ours() || sys::kill(-self.root, signal).is_err();
        if nobody && self.ended.is_none() {
            let _ = sys::kill(self.root, signal);
        }
    }

    /// Returns the live processes below the stub, the root included: those that are traced, and
    /// those that are children by birth or by adoption.
    pub(super) fn alive(&self) -> BTreeSet<Pid> {
        let traced = self.tasks.values().filter_map(|task| task.process);
        traced.chain(survivors::descendants()).collect()
    }

    /// Sends SIGKILL to the group and to every live process. Returns those that it found.
    pub(super) fn kill_all(&mut self) -> Vec<Pid> {
        self.killing = true;
        if self.group_is_ours() {
            let _ = sys::kill(-self.root, libc::SIGKILL);
        }
        for process in self.tasks.values().filter_map(|task| task.process) {
            // A tracee's id is not reused before we have waited for it.
            let _ = sys::kill(process, libc::SIGKILL);
        }
        survivors::kill_descendants()
    }

    /// Returns whether the id of the root's process group cannot belong to strangers. Nobody else
    /// gets it while the root is not reaped, or while the group has a member that outlived it.
    fn group_is_ours(&self) -> bool {
        self.ended.is_none() || survivors::has_descendant_in_group(self.root)
    }

    /// Returns what the tree has used, as far as it has ended.
    pub(super) fn usage(&self) -> Usage {
        let now = sys::usage_of_reaped();
        Usage {
            user: now.user.saturating_sub(self.baseline.user),
            system: now.system.saturating_sub(self.baseline.system),
            peak_memory: self.max_rss_bytes,
            processes: self.traced.then_some(self.processes),
            voluntary_switches: now.voluntary_switches - self.baseline.voluntary_switches,
            involuntary_switches: now.involuntary_switches - self.baseline.involuntary_switches,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Pid = 100;
    const CHILD: Pid = 101;

    fn tree() -> Tree {
        Tree::new(ROOT, true, Instant::now(), RawUsage::default())
    }

    fn ended() -> Waited {
        Waited::Ended(Exit::Code(0))
    }

    #[test]
    fn a_task_that_ended_before_its_creation_was_reported_is_not_taken_for_alive() {
        let mut tree = tree();
        tree.tasks.insert(
            CHILD,
            Task {
                process: None,
                announced: false,
            },
        );
        tree.handle(CHILD, ended(), RawUsage::default());
        tree.created_by(ROOT, CHILD);
        assert!(!tree.tasks.contains_key(&CHILD));
    }

    #[test]
    fn the_group_of_a_root_that_is_gone_without_a_member_is_nobodys_business() {
        let mut tree = tree();
        assert!(tree.group_is_ours());
        tree.handle(ROOT, ended(), RawUsage::default());
        assert!(!tree.group_is_ours());
    }
}
