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
//! first stop. So a thread that creates a process is given the option then, and is held until that
//! process has it as well. A task that creates no process never stops at its exit.

use super::{REMEMBERED, Tasks};
use crate::tracer::Observer;
use crate::{
    proc,
    sys::{self, Options, Pid, RawUsage, Stop, Waited},
};
use harness_metadata::{
    Exit, TraceEventKind,
    trace::{Exited, Sender, Signal},
};
use std::time::Duration;

impl Tasks {
    /// Returns the largest resident set of the processes that have ended, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.peak_memory
    }

    /// A task has stopped for the first time, or has only now become known.
    pub(super) fn first_stop(&mut self, pid: Pid) {
        let Some(task) = self.tasks.get_mut(&pid) else {
            return;
        };
        if std::mem::replace(&mut task.begun, true) {
            return;
        }
        let leads = task.process == Some(pid);
        if task.options.exits != leads {
            task.options.exits = leads;
            // Who is gone needs none.
            let _ = sys::set_options(pid, task.options);
        }
        self.begins(pid);
    }

    /// Lets a creator go on that waits for this task.
    pub(super) fn begins(&mut self, pid: Pid) {
        if let Some(creator) = self.beginning.remove(&pid) {
            self.resume(creator);
        }
    }

    /// A task stands at the event of a creation. Returns whether it is to stay there until what it
    /// has created has stopped for the first time: so nobody can kill that before it is going to stop
    /// at its exit.
    pub(super) fn waits_for_first_stop(&mut self, tid: Pid, child: Pid) -> bool {
        let Some(created) = self.tasks.get(&child) else {
            return false;
        };
        let (leads, begun) = (created.process == Some(child), created.begun);
        let Some(creator) = self.tasks.get_mut(&tid).filter(|_| leads) else {
            return false;
        };
        if std::mem::replace(&mut creator.options.exits, true) {
            return false;
        }
        let _ = sys::set_options(tid, creator.options);
        if !begun {
            self.beginning.insert(child, tid);
        }
        !begun
    }

    /// A thread has executed a program and leads its process from now on.
    pub(super) fn leads_now(&mut self, pid: Pid, had: Options) {
        self.leaderless.remove(&pid);
        let exits = had.exits || pid != self.root.pid;
        let filtered = self.root.options.filtered;
        let task = self.tasks.entry(pid).or_default();
        (task.told, task.begun) = (true, true);
        task.options = Options {
            exits,
            filtered,
            ..had
        };
        if exits != had.exits {
            let _ = sys::set_options(pid, task.options);
        }
    }

    /// Has a task go on without its filters, or with them again. That it is not allowed leaves it as
    /// it is.
    pub(super) fn suspend_filters(&mut self, pid: Pid, suspended: bool) {
        let filtered = self.root.options.filtered;
        let Some(task) = self.tasks.get_mut(&pid) else {
            let options = Options {
                filtered,
                suspended,
                ..Options::default()
            };
            let _ = sys::set_options(pid, options);
            return;
        };
        let options = Options {
            suspended,
            ..task.options
        };
        if sys::set_options(pid, options).is_ok() {
            task.options = options;
        }
    }

    /// A process has more than one thread.
    pub(super) fn has_thread(&mut self, process: Option<Pid>) {
        let process = process.and_then(|process| self.context.processes.get_mut(&process));
        if let Some(process) = process {
            process.threads = true;
        }
    }

    /// A task is stopped, and is to be killed.
    pub(super) fn stopped_to_be_killed(&mut self, pid: Pid, stop: Stop) {
        if stop == Stop::Exit {
            return sys::resume(pid, 0);
        }
        // Its end is enough: where processes fork without end, each stop counts.
        let options = Options {
            exits: false,
            filtered: self.root.options.filtered,
            suspended: false,
        };
        let _ = sys::set_options(pid, options);
        let _ = sys::kill(pid, libc::SIGKILL);
    }

    /// Returns whether a task that is to be resumed is about to exit. If it was killed while it
    /// was looked at, it stands in that stop now, and would be resumed from there.
    pub(super) fn exits_meanwhile(&self, pid: Pid) -> bool {
        let exits = pid != self.root.pid
            && (self.tasks.get(&pid))
                .is_some_and(|task| task.options.exits && task.process == Some(pid));
        exits && sys::has_news(pid)
    }

    /// A task exits. It has not closed anything yet, and nobody has been told.
    pub(super) fn at_exit(&mut self, pid: Pid, observer: &mut dyn Observer) {
        if pid == self.root.pid {
            return sys::resume(pid, 0);
        }
        if !self.tasks.contains_key(&pid) {
            // Killed before its first stop, and before its creator could tell of it.
            self.unannounced(pid);
        }
        if self.tasks.get(&pid).and_then(|task| task.process) != Some(pid) {
            return sys::resume(pid, 0);
        }
        let exit = sys::exit_to_be(pid);
        let threaded = (self.context.processes.get(&pid)).is_some_and(|process| process.threads);
        if threaded && self.has_other_thread(pid) {
            // At once: if one of them ends the whole process meanwhile, this stop is over. What the
            // process has used is known at its end.
            let let_go = sys::detach(pid, 0).is_ok();
            if let Some(exit) = exit.filter(|_| let_go) {
                self.leaderless.insert(pid, ());
                self.ended(pid, exit, RawUsage::default(), observer);
            }
            return;
        }
        let status = proc::read(&proc::path(pid, "status")).unwrap_or_default();
        let number = |name| {
            let field = proc::field(&status, name)?;
            field.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        if number("PPid:") == Some(u64::from(std::process::id())) {
            // An orphan. We are its parent, and its end tells all.
            return sys::resume(pid, 0);
        }
        // The unit is 1024 bytes, whatever it says.
        let peak_memory = number("VmHWM:").map_or(0, |kilobytes| kilobytes * 1024);
        let usage = self.usage_until_now(pid, peak_memory);
        let let_go = sys::detach(pid, 0).is_ok();
        if let Some(exit) = exit.filter(|_| let_go) {
            self.ended(pid, exit, usage, observer);
        }
        // Else it was killed in this stop, is still ours, and its end will be reported.
    }

    /// Returns what wait4(2) would tell now: what a process has used, and the children that it has
    /// waited for.
    fn usage_until_now(&self, process: Pid, max_rss_bytes: u64) -> RawUsage {
        let (user, system) = sys::cpu_time(process).unwrap_or_default();
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
    pub(super) fn news_of_leader(&self, tid: Pid) -> Option<(Waited, RawUsage)> {
        let process = self.tasks.get(&tid)?.process?;
        let others = process != tid && process != self.root.pid && !self.killing;
        if others && self.tasks.contains_key(&process) {
            sys::news_of(process)
        } else {
            None
        }
    }

    fn has_other_thread(&self, process: Pid) -> bool {
        let mut tasks = self.tasks.iter();
        tasks.any(|(tid, task)| *tid != process && task.process == Some(process))
    }

    /// A thread that was not the first of its process has ended.
    pub(super) fn thread_ended(
        &mut self,
        process: Pid,
        exit: Exit,
        usage: RawUsage,
        observer: &mut dyn Observer,
    ) {
        if self.leaderless.contains_key(&process) && !self.has_other_thread(process) {
            self.leaderless.remove(&process);
            self.ended_loading(process, exit, observer);
            self.process_ended(process, exit, usage, observer);
        }
    }

    pub(super) fn remember(&mut self, pid: Pid) {
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(pid);
    }

    pub(super) fn process_ended(
        &mut self,
        pid: Pid,
        exit: Exit,
        usage: RawUsage,
        observer: &mut dyn Observer,
    ) {
        let process = self.context.processes.remove(&pid);
        self.remember(pid);
        self.refused.remove(&pid);
        // wait4(2) counts a process's children in that it has waited for.
        let (children, creator) = process.map_or_else(Default::default, |process| {
            (process.children, process.creator)
        });
        let creator = creator.and_then(|creator| self.context.processes.get_mut(&creator));
        if let Some(creator) = creator {
            creator.children.user += usage.user;
            creator.children.system += usage.system;
        }
        if self.killing && matches!(exit, Exit::Signal { signal, .. } if signal == libc::SIGKILL) {
            let signal = TraceEventKind::Signal(Signal {
                signal: libc::SIGKILL,
                code: libc::SI_USER,
                sender: Sender::Harness,
            });
            self.tell_one(pid, pid, signal, observer);
        }
        let kind = TraceEventKind::Exited(Exited {
            exit,
            user: own_time(usage.user, children.user),
            system: own_time(usage.system, children.system),
            peak_memory: usage.max_rss_bytes,
        });
        self.tell_one(pid, pid, kind, observer);
    }
}

/// Takes from a process's time what its children have used. If that is more, it has not waited for
/// all of them.
fn own_time(with_children: Duration, children: Duration) -> Duration {
    with_children.checked_sub(children).unwrap_or(with_children)
}
