//! The processes of one attempt: its root, everything that the tracer follows, and the orphans.

use super::{
    cgroup::Den,
    holds::Interest,
    outer::{Outer, Subtree},
    sys::{self, KernelReaps, Pid, RawUsage, Stop, WaitAny, Waited},
    traced::Traced,
    watch::Watch,
};
use crate::{
    protocol::Escape,
    stub::survivors::{self, Chase, ChildList, NAMING, Survived, most_reaped},
    sys::{Tgid, Tid},
    tracer::{
        notified::Notified,
        tasks::{Broke, Tasks},
    },
};
use harness_metadata::{Exit, Survivor, Usage};
use std::{
    collections::BTreeSet,
    os::fd::BorrowedFd,
    rc::Rc,
    time::{Duration, Instant},
};

/// The number of tries to name all details of a process that keeps changing its pid. Each takes a
/// fraction of a millisecond.
const NAMING_TRIES: u32 = 3;

/// The time for which a kill looks for new children before others get their turn.
const CHASE_LIMIT: Duration = Duration::from_millis(500);

/// If more processes than this have ended since the root did, they multiply.
const MANY_ENDED: u32 = 64;

/// If more processes than this outlive the root, they are stopped before they are named.
const FEW_ALIVE: usize = 32;

/// The time for which those that multiply are chased before they are named all the same.
const FREEZE_LIMIT: Duration = Duration::from_secs(1);

/// The result of reaping.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Reaped {
    Nothing,
    Some,
    /// Neither a child nor a tracee is left.
    Last,
}

/// One pass of a kill.
pub(super) struct Swept {
    /// The processes that it found alive.
    pub(super) alive: Vec<Pid>,
    /// Whether it took news of tasks.
    pub(super) news: bool,
}

/// The tasks of an attempt.
pub(super) struct Tree {
    root: Pid,
    started: Instant,
    /// The usage of earlier attempts of this stub.
    baseline: RawUsage,
    max_rss_bytes: u64,
    ended: Option<Ended>,
    /// The number of others that have ended since.
    ended_since: u32,
    /// While the kernel reaps them.
    kernel_reaps: Option<KernelReaps>,
    /// The signal that has stopped the root, until that is taken.
    stopped: Option<i32>,
    traced: Traced,
    /// `None` if it has no cgroup.
    den: Option<Rc<Den>>,
    /// The process that was seen outside of a cgroup with limits.
    left: Option<Escape>,
    /// When it was last looked at which cgroups processes are in.
    looked: Instant,
    /// The wanted facts about survivors.
    interest: Interest,
    watch: Watch,
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
    pub(super) fn new(
        root: Pid,
        started: Instant,
        baseline: RawUsage,
        traced: Traced,
        watch: Watch,
    ) -> Self {
        Self {
            root,
            started,
            baseline,
            max_rss_bytes: 0,
            ended: None,
            ended_since: 0,
            kernel_reaps: None,
            stopped: None,
            traced,
            den: None,
            left: None,
            looked: started,
            interest: Interest::default(),
            watch,
        }
    }

    /// The root was born into this cgroup.
    pub(super) fn born_into(self, den: Option<Rc<Den>>) -> Self {
        let limited = den.clone().filter(|den| den.is_limited());
        Self {
            den,
            watch: self.watch.within(limited),
            ..self
        }
    }

    /// Returns whether it has limits.
    pub(super) fn is_limited(&self) -> bool {
        self.den.as_ref().is_some_and(|den| den.is_limited())
    }

    /// Looks whether a process has left a cgroup that has limits, unless that has been done lately.
    pub(super) fn look_for_escapes(&mut self, every: Duration) {
        if !self.is_limited() || self.left.is_some() || self.looked.elapsed() < every {
            return;
        }
        let alive = self.alive();
        let den = self.den.as_ref();
        let left = |pid: &Pid| den?.left_by_any_of(*pid, self.root);
        self.left = alive.iter().find_map(left);
        self.looked = Instant::now();
    }

    /// Looks whether a task that is stopped has left a cgroup that has limits. At its exit this is
    /// the last moment at which its cgroup is known.
    fn look_at(&mut self, pid: Pid, stop: Stop) {
        let Some(den) = self.den.as_ref().filter(|_| self.left.is_none()) else {
            return;
        };
        self.left = match stop {
            Stop::Exit => den.left_by_any_of(pid, self.root),
            Stop::Exec | Stop::Created(_) => den.left_by(pid, self.root),
            _ => None,
        };
    }

    /// Takes news of a task, without waiting.
    pub(super) fn news(&mut self) -> WaitAny {
        match self.looks_at_the_dead() {
            true => self.news_of_a_dead(false),
            false => sys::wait_any(),
        }
    }

    /// Waits for news of a task.
    pub(super) fn wait_for_news(&mut self) -> WaitAny {
        match self.looks_at_the_dead() {
            true => self.news_of_a_dead(true),
            false => sys::wait_for_news(),
        }
    }

    /// Returns whether the cgroup of a child that has ended is looked at before it is reaped. It is
    /// still known in version 2. With a tracer it is known before.
    fn looks_at_the_dead(&self) -> bool {
        let traced = matches!(self.traced, Traced::Ptrace(_) | Traced::Notify(_));
        self.is_limited() && self.left.is_none() && !traced
    }

    /// Takes news of a child after a look whether it had left a cgroup that has limits. Only a child
    /// that has been looked at is reaped: another one may end in between.
    fn news_of_a_dead(&mut self, block: bool) -> WaitAny {
        match sys::child_with_news(block) {
            Ok(pid) => {
                let den = self.den.as_ref();
                self.left = den.and_then(|den| den.left_by(pid, self.root));
                sys::news_at(pid)
            }
            Err(none) => none,
        }
    }

    /// Returns by what limits did not hold so far.
    pub(super) fn escapes(&self) -> Vec<Escape> {
        let opened = self.watch.opened();
        self.left.iter().chain(opened).cloned().collect()
    }

    /// This is of interest of survivors.
    pub(super) fn interested_in(self, interest: Interest) -> Self {
        Self { interest, ..self }
    }

    /// Returns whether there is a listener, what becomes readable when there is a call to serve.
    pub(super) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.traced.notified().and_then(Notified::listener)
    }

    /// Serves one call that waits at the listener.
    pub(super) fn serve_call(&mut self) {
        if let Some(notified) = self.traced.notified_mut() {
            notified.serve(&mut self.watch);
        }
    }

    /// Stops listening, because no process is left that could make a call.
    pub(super) fn leave_listener(&mut self) {
        if let Some(notified) = self.traced.notified_mut() {
            notified.leave();
        }
    }

    /// The receivers of events.
    pub(super) fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// Sees to what runs within the test want to know. Does not wait.
    pub(super) fn serve(&mut self) {
        if let Some(tasks) = self.traced.tasks() {
            self.watch.serve(tasks);
        }
    }

    /// Takes what the tracer around us has to tell. Returns whether there may be more.
    pub(super) fn listen(&mut self, outer: &mut Option<Outer>) -> bool {
        match (self.traced.subtree_mut(), outer) {
            (Some(subtree), Some(outer)) => outer.drain(subtree, &mut self.watch),
            _ => false,
        }
    }

    /// Waits a moment for what the tracer around us has to tell of a root that has ended, or of the
    /// whole tree if that has ended.
    pub(super) fn listen_to_the_end(&mut self, outer: &mut Option<Outer>, nobody_left: bool) {
        if let (Some(subtree), Some(outer)) = (self.traced.subtree_mut(), outer) {
            outer.complete(subtree, nobody_left, &mut self.watch);
        }
    }

    /// Gives up the tree, but not what was seen.
    pub(super) fn into_watch(self) -> Watch {
        self.watch
    }

    pub(super) fn root(&self) -> Pid {
        self.root
    }

    pub(super) fn root_ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Returns whether the root is known to have become the test. Not known if not traced.
    pub(super) fn executed(&self) -> Option<bool> {
        if let Some(notified) = self.traced.notified() {
            // Whether it succeeded, the root says itself.
            return (!notified.root_executes()).then_some(false);
        }
        self.traced.tasks().map(Tasks::root_executed)
    }

    /// Handles what wait4(2) told of a task, and resumes it if it is stopped.
    pub(super) fn handle(&mut self, pid: Pid, waited: Waited, usage: RawUsage) {
        if let Waited::Ended(exit) = &waited {
            let exit = *exit;
            let others = u32::from(self.ended.is_some());
            self.ended_since = self.ended_since.saturating_add(others);
            self.max_rss_bytes = self.max_rss_bytes.max(usage.max_rss_bytes);
            if pid == self.root && self.ended.is_none() {
                let at = Instant::now();
                self.ended = Some(Ended {
                    exit,
                    at,
                    elapsed: at - self.started,
                });
            }
        }
        if let Waited::Stopped(stopped) = &waited {
            self.look_at(pid, stopped.at());
            self.stopped = match stopped.at() {
                Stop::Group(signal) if pid == self.root => Some(signal),
                Stop::Signal(signal) if pid == self.root && self.traced.tasks().is_none() => {
                    Some(signal)
                }
                _ => self.stopped,
            };
        }
        match (&mut self.traced, waited) {
            (Traced::Ptrace(tasks), waited) => {
                tasks.handle(Tid::new(pid), waited, usage, &mut self.watch);
            }
            (Traced::Notify(notified), Waited::Ended(exit)) => {
                notified.ended(Tgid::new(pid), exit, usage, &mut self.watch);
            }
            (Traced::Not | Traced::Outer(_), Waited::Ended(_)) => {}
            // It is not traced: SIGCONT ends its stop, and no request.
            (Traced::Not | Traced::Notify(_) | Traced::Outer(_), Waited::Stopped(stopped)) => {
                stopped.over();
            }
        }
    }

    /// Returns whether a process waits for what will not happen, because of the tracer.
    pub(super) fn is_stuck(&self) -> bool {
        self.traced.tasks().is_some_and(Tasks::is_stuck)
    }

    /// As [`Self::is_stuck`], once.
    pub(super) fn take_stuck(&mut self) -> bool {
        self.traced.tasks_mut().is_some_and(Tasks::take_stuck)
    }

    /// Returns whether a signal has stopped the root.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Returns that signal, once.
    pub(super) fn take_stopped(&mut self) -> Option<i32> {
        self.stopped.take()
    }

    /// Returns whether there are processes that a debugger can have.
    pub(super) fn has_broken(&self) -> bool {
        self.traced.tasks().is_some_and(Tasks::has_broken)
    }

    /// Returns those of them that this has not returned before.
    pub(super) fn take_broken(&mut self) -> Vec<Broke> {
        self.traced
            .tasks_mut()
            .map_or_else(Vec::new, Tasks::take_broken)
    }

    /// Does what is due although nothing has happened. To be called now and then.
    pub(super) fn tick(&mut self) {
        if let Some(tasks) = self.traced.tasks_mut() {
            tasks.release_overdue(&mut self.watch);
            tasks.look_at_stopped(&mut self.watch);
            tasks.tell_recorded(&mut self.watch);
        }
        self.look_for_escapes(Duration::ZERO);
    }

    /// Sends a signal to the process group of the root, or to the root alone if it has not made
    /// its group yet.
    pub(super) fn signal_group(&self, signal: i32) {
        let nobody = !self.group_is_ours() || sys::kill(-self.root, signal).is_err();
        if nobody && self.ended.is_none() {
            let _ = sys::kill(self.root, signal);
        }
    }

    /// Returns the processes below the stub, the root included: those that are traced, those
    /// that are in the cgroup, and those that are children by birth or by adoption, as far as they
    /// are found in time.
    pub(super) fn alive(&self) -> BTreeSet<Pid> {
        let traced = self.traced.tasks().into_iter().flat_map(Tasks::alive);
        let followed = self.traced.subtree().into_iter().flat_map(Subtree::alive);
        let inside = self.den.iter().flat_map(|den| den.alive());
        (traced.chain(followed))
            .chain(survivors::descendants(Instant::now() + NAMING))
            .chain(inside)
            .collect()
    }

    /// Describes the live processes that outlived a root that ended at `since`.
    pub(super) fn survivors(&mut self, since: Instant) -> Vec<Survivor> {
        let mut named = Vec::new();
        for attempt in 0..NAMING_TRIES {
            // The dead need no look.
            self.reap_for(NAMING);
            self.leave_reaping_to_kernel();
            self.stop_crowd();
            if attempt > 0 || self.multiplies() {
                self.freeze();
            }
            let alive = self.alive();
            if alive.is_empty() {
                // The kernel's list may lack what is born and what dies while it is read.
                match self.multiplies() {
                    true => continue,
                    false => break,
                }
            }
            let trace = self.watch.summary();
            let survived = Survived {
                root: self.root,
                at: since,
                interest: &self.interest,
                trace: trace.as_deref(),
            };
            named = survivors::name(&alive, &survived);
            if !named.is_empty() {
                break;
            }
            // What ended between the two looks may have left a child.
        }
        if named.is_empty() && (self.multiplies() || !self.alive().is_empty()) {
            named.extend(survivors::name_in_passing(since));
        }
        named
    }

    /// Returns whether the processes that have outlived the root multiply, as far as one can tell.
    fn multiplies(&self) -> bool {
        self.ended_since > MANY_ENDED
    }

    /// Has the kernel reap what outlived the root, if that multiplies: without a privilege, this process
    /// gets as little of the CPU as each of those that die, and cannot reap all of them itself. The
    /// root's own end must have been seen, and nothing else may depend on the end of a process.
    pub(super) fn leave_reaping_to_kernel(&mut self) {
        let depends =
            self.traced.tasks().is_some() || self.traced.subtree().is_some() || self.is_limited();
        if self.multiplies() && !depends && self.kernel_reaps.is_none() {
            self.kernel_reaps = Some(KernelReaps::begin());
        }
    }

    /// Stops very many before they are named, which may multiply below another parent than this
    /// process. With a tracer each new process waits for that, as in [`Self::freeze`].
    fn stop_crowd(&self) {
        if self.traced.tasks().is_none() && self.traced.subtree().is_none() {
            survivors::stop_crowd(FEW_ALIVE);
        }
    }

    /// Stops what multiplies, and reaps its dead, until nothing new comes: it would fill the machine's
    /// table of processes while it is named. With a tracer each new process waits for that, so it
    /// needs no stop.
    fn freeze(&mut self) {
        if self.traced.tasks().is_some() || self.traced.subtree().is_some() {
            return;
        }
        let mut chase = Chase::new(Some(self.root), libc::SIGSTOP);
        let deadline = Instant::now() + FREEZE_LIMIT;
        let _ = self.chase(&mut chase, deadline);
        self.reap_for(NAMING);
    }

    /// Reaps until nothing is left to reap, or the limit has passed.
    fn reap_for(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.reap(most_reaped(0), None) == Reaped::Some && Instant::now() < deadline {}
    }

    /// Looks for new children and reaps, in turn, until there is nothing new or the time is up. Returns
    /// whether it took news of tasks.
    fn chase(&mut self, chase: &mut Chase, deadline: Instant) -> bool {
        let mut list = ChildList::open();
        let mut news = false;
        loop {
            let children = list.as_mut().and_then(|list| list.read().ok());
            // In this order: where the table of processes is full, those that are to be killed
            // cannot fork before something is reaped.
            let go_on = (children.as_ref()).is_some_and(|children| chase.look(children));
            let most = most_reaped(children.map_or(0, |children| children.len()));
            let reaped = self.reap(most, Some(chase));
            news |= reaped != Reaped::Nothing;
            if reaped == Reaped::Last || !go_on || Instant::now() >= deadline {
                return news;
            }
        }
    }

    /// Sends SIGKILL to the group and to every live process, and reaps what is dead: processes that
    /// fork as fast as they can would else fill the machine's table of processes.
    pub(super) fn kill_all(&mut self) -> Swept {
        // Once it has ended, its group may be another's by now: see `Chase`.
        if self.ended.is_none() {
            let _ = sys::kill(-self.root, libc::SIGKILL);
        }
        if let Some(tasks) = self.traced.tasks_mut() {
            tasks.kill();
        }
        if let Some(subtree) = self.traced.subtree_mut() {
            subtree.killing = true;
        }
        self.leave_reaping_to_kernel();
        let mut left = Vec::new();
        if let Some(den) = &self.den {
            den.kill();
            left.extend(
                den.alive()
                    .into_iter()
                    .filter(|pid| survivors::is_alive(*pid)),
            );
        }
        let mut chase = Chase::new(Some(self.root), libc::SIGKILL);
        let news = self.chase(&mut chase, Instant::now() + CHASE_LIMIT);
        left.extend(survivors::kill_descendants());
        left.sort_unstable();
        left.dedup();
        Swept { alive: left, news }
    }

    /// Takes news of tasks, as much as there is, or at most so much.
    fn reap(&mut self, most: usize, mut chase: Option<&mut Chase>) -> Reaped {
        let mut reaped = Reaped::Nothing;
        for _ in 0..most {
            match self.news() {
                WaitAny::News { pid, waited, usage } => {
                    if let (Some(chase), Waited::Ended(_)) = (&mut chase, &waited) {
                        chase.reaped(pid);
                    }
                    self.handle(pid, waited, usage);
                }
                WaitAny::Quiet => return reaped,
                WaitAny::Nobody => return Reaped::Last,
            }
            reaped = Reaped::Some;
        }
        reaped
    }

    /// Returns true if the id of the root's process group cannot belong to strangers. The kernel
    /// does not reuse it while the root is not reaped, or while the group has a member that
    /// outlived it.
    fn group_is_ours(&self) -> bool {
        self.ended.is_none() || survivors::has_descendant_in_group(self.root)
    }

    /// Returns what the children of this process have used that were reaped until now.
    pub(super) fn reaped(&self) -> RawUsage {
        self.traced
            .tasks()
            .map_or_else(sys::usage_of_reaped, Tasks::reaped)
    }

    /// Returns what the tree has used, as far as it has ended; `now` is what [`Self::reaped`] says.
    pub(super) fn usage(&self, now: RawUsage) -> Usage {
        Usage {
            user: now.user.saturating_sub(self.baseline.user),
            system: now.system.saturating_sub(self.baseline.system),
            peak_memory: (self.traced.tasks().map_or(0, Tasks::peak_memory))
                .max(self.max_rss_bytes),
            // Counted by the cgroup, which the runner has.
            peak_tree_memory: None,
            throttled: None,
            processes: (self.traced.tasks().map(Tasks::count))
                .or_else(|| self.traced.subtree().map(Subtree::processes)),
            disk_read: now.disk_read.saturating_sub(self.baseline.disk_read),
            disk_written: (now.disk_written).saturating_sub(self.baseline.disk_written),
            voluntary_switches: now.voluntary_switches - self.baseline.voluntary_switches,
            involuntary_switches: now.involuntary_switches - self.baseline.involuntary_switches,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_root_that_is_gone_without_a_member_is_nobodys_business() {
        const ROOT: Pid = 100;
        let watch = Watch::default();
        let mut tree = Tree::new(
            ROOT,
            Instant::now(),
            RawUsage::default(),
            Traced::Not,
            watch,
        );
        assert!(tree.group_is_ours());
        let ended = Waited::Ended(Exit::Code(0));
        tree.handle(ROOT, ended, RawUsage::default());
        assert!(!tree.group_is_ours());
    }
}
