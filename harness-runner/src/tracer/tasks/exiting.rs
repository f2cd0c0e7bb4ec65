//! Processes that exit, and whose zombies are not ours.
//!
//! While a process has a tracer that is not its parent, its zombie is the tracer's first. Its parent
//! cannot wait for it before the tracer has, although a pidfd is readable already (pidfd_open(2)).
//! So a process stops at its exit (PTRACE_O_TRACEEXIT). What is to be known of it is taken there, and
//! it is let go of before it is a zombie.
//!
//! The kernel looks at the first thread only, and at whether there are others. So other threads need
//! no stop and stay ours to the end. Nor does the root, whose parent we are. A new task has the
//! options of the thread that created it, from its very beginning and even if it is killed before its
//! first stop. So a thread that creates a process is given the option then. A task that creates no
//! process never stops at its exit.
//!
//! A process that is killed in another stop goes on to the stop at its exit by itself, and a request
//! that was meant for the stop before would end that one. The kernel has no request that ends a
//! certain stop only. So a creator is held until the first stop of what it has created is over: it
//! is the only one that knows the new process by then, and can kill it.

use super::{News, Tasks};
use crate::{
    proc,
    sys::{self, Options, RawUsage, Stop, Stopped, Tgid, Tid},
    tracer::stop::{Kernel, Leaving, Next, Tracee},
};
use harness_metadata::{
    Exit, TraceEventKind,
    event::TraceLevel,
    trace::{Doubt, Exited, Sender, Signal},
};
use std::time::Duration;

impl<K: Kernel> Tasks<K> {
    /// Returns what the children of this process have used that were reaped until now.
    pub(crate) fn reaped(&self) -> RawUsage {
        self.reaped
    }

    /// Returns the largest resident set of the processes that have ended, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.peak_memory
    }

    /// A task has stopped for the first time, or has only now become known.
    pub(super) fn first_stop(&mut self, tid: Tid) {
        let Some(task) = self.tree.get_mut(tid) else {
            return;
        };
        if std::mem::replace(&mut task.begun, true) {
            return;
        }
        let leads = task.process == Some(tid.led());
        if task.options.exits != leads {
            task.options.exits = leads;
            // A task that is gone needs none.
            let _ = self.kernel.set_options(tid, task.options);
        }
        self.begins(tid);
    }

    /// Lets a creator go on that waits for this task.
    pub(super) fn begins(&mut self, tid: Tid) {
        if let Some(creator) = self.tree.begun(tid) {
            self.free(creator);
        }
    }

    /// A task stands at the event of a creation. Returns whether it is to stay there until what it
    /// has created has stopped for the first time, and goes on.
    pub(super) fn waits_for_first_stop(&mut self, tid: Tid, child: Tid) -> bool {
        let Some(created) = self.tree.get(child) else {
            return false;
        };
        let (leads, begun) = (created.process == Some(child.led()), created.begun);
        let Some(creator) = self.tree.get_mut(tid).filter(|_| leads) else {
            return false;
        };
        if !std::mem::replace(&mut creator.options.exits, true) {
            let _ = self.kernel.set_options(tid, creator.options);
        }
        if !begun {
            self.tree.awaits(tid, child);
        }
        !begun
    }

    /// A thread has executed a program and leads its process from now on.
    pub(super) fn leads_now(&mut self, process: Tgid, had: Options) {
        self.tree.has_leader(process);
        let exits = had.exits || process != self.root.pid;
        let filtered = self.root.options.filtered;
        let task = self.tree.entry(process.leader());
        (task.told, task.begun) = (true, true);
        task.options = Options {
            exits,
            filtered,
            ..had
        };
        if exits != had.exits {
            let _ = self.kernel.set_options(process.leader(), task.options);
        }
    }

    /// Has a task go on without its filters, or with them again. That it is not allowed leaves it as
    /// it is.
    pub(super) fn suspend_filters(&mut self, tid: Tid, suspended: bool) {
        let filtered = self.root.options.filtered;
        let Some(task) = self.tree.get_mut(tid) else {
            let options = Options {
                filtered,
                suspended,
                ..Options::default()
            };
            let _ = self.kernel.set_options(tid, options);
            return;
        };
        let options = Options {
            suspended,
            ..task.options
        };
        if self.kernel.set_options(tid, options).is_ok() {
            task.options = options;
        }
    }

    /// A task is stopped, and is to be killed.
    pub(super) fn stopped_to_be_killed(&mut self, stopped: &Stopped) -> Next {
        if stopped.at() == Stop::Exit {
            return Next::Exit;
        }
        // Its end is enough: where processes fork without end, each stop counts.
        let options = Options {
            exits: false,
            filtered: self.root.options.filtered,
            suspended: false,
        };
        let _ = self.kernel.set_options(stopped.tid(), options);
        self.kernel.kill(self.tree.tracee(stopped.tid()).process);
        Next::Killed
    }

    /// Returns whether a task that is to go on is about to exit. If it was killed while it was looked
    /// at, it stands in that stop now, and would go on from there.
    pub(super) fn exits_meanwhile(&self, tid: Tid) -> bool {
        let exits = tid != self.root.pid.leader()
            && (self.tree.get(tid))
                .is_some_and(|task| task.options.exits && task.process == Some(tid.led()));
        exits && self.kernel.has_news(tid)
    }

    /// A task exits. It has not closed anything yet, and no process knows of it.
    pub(super) fn at_exit(&mut self, tid: Tid) -> Next {
        if tid == self.root.pid.leader() {
            return Next::Exit;
        }
        if self.tree.is_leaderless(tid.led()) {
            // A thread took the id over, and was killed before that could be reported.
            self.forget_threads(tid.led());
            self.tree.entry(tid).process = Some(tid.led());
            self.leads_now(tid.led(), Options::default());
        }
        if !self.tree.has(tid) {
            // Killed before its first stop, and before its creator could tell of it.
            self.unannounced(tid);
        }
        let process = tid.led();
        if self.tree.get(tid).and_then(|task| task.process) != Some(process) {
            return Next::Exit;
        }
        let exit = self.kernel.exit_to_be(tid);
        let threaded = (self.context.processes.get(&process)).is_some_and(|it| it.threads);
        if threaded && self.tree.has_other_thread(process) {
            // Without a look at more: if one of them ends the whole process meanwhile, this stop is
            // over. What the process has used is known at its end.
            let (usage, has_threads) = (RawUsage::default(), true);
            return Next::Leave(Leaving {
                exit,
                usage,
                has_threads,
            });
        }
        let status = proc::read(&proc::path(process, "status")).unwrap_or_default();
        let number = |name| {
            let field = proc::field(&status, name)?;
            field.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        if number("PPid:") == Some(u64::from(std::process::id())) {
            // An orphan. We are its parent, and its end tells all.
            return Next::Exit;
        }
        // The unit is 1024 bytes, whatever it says.
        let peak_memory = number("VmHWM:").map_or(0, |kilobytes| kilobytes * 1024);
        Next::Leave(Leaving {
            exit,
            usage: self.usage_until_now(process, peak_memory),
            has_threads: false,
        })
    }

    /// A process was let go of at its exit.
    pub(super) fn left(&mut self, process: Tgid, leaving: Leaving) {
        let Some(exit) = leaving.exit else {
            return;
        };
        if leaving.has_threads {
            self.tree.lost_leader(process);
        }
        let of_leader = self.ended(process.leader(), exit, leaving.usage);
        debug_assert!(of_leader.is_none(), "it is the leader itself");
    }

    /// Returns what wait4(2) would tell now: what a process has used, and the children that it has
    /// waited for.
    fn usage_until_now(&self, process: Tgid, max_rss_bytes: u64) -> RawUsage {
        let (user, system) = sys::cpu_time(process.raw()).unwrap_or_default();
        let children = self.context.processes.get(&process);
        let children = children.map_or_else(RawUsage::default, |process| process.children);
        RawUsage {
            user: user + children.user,
            system: system + children.system,
            max_rss_bytes,
            ..RawUsage::default()
        }
    }

    /// A thread has ended. Returns the news of the first thread of its process, which may have ended
    /// without a stop: the kernel does not wait for us if another thread ends the whole process
    /// meanwhile. Its parent may know since a moment, when the last other thread was waited for.
    pub(super) fn news_of_leader(&self, tid: Tid) -> Option<News> {
        let process = self.tree.get(tid)?.process?;
        let others = process != tid.led() && process != self.root.pid && !self.killing;
        if !others || !self.tree.has(process.leader()) {
            return None;
        }
        let (waited, usage) = self.kernel.news_of(process)?;
        Some(News {
            tid: process.leader(),
            waited,
            usage,
        })
    }

    /// A thread that was not the first of its process has ended.
    pub(super) fn thread_ended(&mut self, process: Tgid, exit: Exit, usage: RawUsage) {
        if self.tree.is_leaderless(process) && !self.tree.has_other_thread(process) {
            self.tree.has_leader(process);
            self.ended_loading(process, exit);
            self.process_ended(process, exit, usage);
        }
    }

    /// A process ended, and no thread of it is left. One may still be known: the kernel does not say
    /// which thread executed a program if the process is killed at that moment.
    fn forget_threads(&mut self, process: Tgid) {
        for tid in self.tree.threads(process) {
            self.tree.remove(tid);
            self.calls.take(tid);
            self.aside.overtaken(tid);
            self.begins(tid);
        }
    }

    pub(super) fn process_ended(&mut self, process: Tgid, exit: Exit, usage: RawUsage) {
        let ended = self.context.processes.remove(&process);
        self.tree.remember(process);
        self.refusals.forget(process);
        if ended.as_ref().is_some_and(|process| process.threads) {
            self.forget_threads(process);
        }
        // wait4(2) counts a process's children in that it has waited for.
        let (children, creator) = ended.map_or_else(Default::default, |process| {
            (process.children, process.creator)
        });
        let creator = creator.and_then(|creator| self.context.processes.get_mut(&creator));
        if let Some(creator) = creator {
            creator.children.user += usage.user;
            creator.children.system += usage.system;
        }
        let tracee = Tracee::leader_of(process);
        if self.killing && matches!(exit, Exit::Signal { signal, .. } if signal == libc::SIGKILL) {
            let signal = TraceEventKind::Signal(Signal {
                signal: libc::SIGKILL,
                code: libc::SI_USER,
                sender: Sender::Harness,
            });
            self.outbox.event(tracee, signal);
        }
        if let Exit::Signal {
            core_dumped: true, ..
        } = exit
            && self.root.level >= TraceLevel::Io
        {
            let doubt = Doubt::Untold("a core dump".to_owned());
            self.outbox.event(tracee, TraceEventKind::Doubt(doubt));
        }
        let kind = TraceEventKind::Exited(Exited {
            exit,
            user: own_time(usage.user, children.user),
            system: own_time(usage.system, children.system),
            peak_memory: usage.max_rss_bytes,
        });
        self.outbox.event(tracee, kind);
    }
}

/// Takes from a process's time what its children have used. If that is more, it has not waited for
/// all of them.
fn own_time(with_children: Duration, children: Duration) -> Duration {
    with_children.checked_sub(children).unwrap_or(with_children)
}
