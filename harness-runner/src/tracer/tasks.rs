//! The tracees of an attempt: which exist, what each is doing, and what is reported of it.
//!
//! [`Tasks::handle`] takes the news that wait4(2) had of a task. A handler finds its events and
//! answers how its stop ends; then the observer has the events, and only then the stop ends: see
//! [`stop`](super::stop). Nothing is kept of a task that ended, but for a handful of ids.

use super::{
    Observer,
    breakpoint::Breakpoint,
    decode::{self, Entry, Environment},
    disturbed::Means,
    entries::EntryRecord,
    inject::Injections,
    live::{Context, Process},
    loads::Loads,
    outbox::Outbox,
    recorder::Recorder,
    stop::{Aside, Kernel, Linux, Next, Tracee},
};
use crate::policy::Bounds;
use crate::sys::{
    CreatedBy, End, Options, RawSignal, RawUsage, Stop, Stopped, SyscallInfo, Tgid, Tid, Waited,
};
use harness_metadata::{
    Exit, TraceEventKind,
    event::TraceLevel,
    trace::{Created, Creation, Doubt},
};
use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

mod breaks;
mod calls;
mod exec;
mod exiting;
mod held;
mod injected;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        unreachable_code,
        unused_variables,
        irrefutable_let_patterns,
        reason = "no loader is followed there"
    )
)]
mod loading;
mod origin;
mod recording;
mod refusals;
mod refused;
mod skipped;
mod tree;
mod untraced;

use breaks::Breaks;
pub(crate) use breaks::Broke;
use calls::{Call, Calls, is_interruption};
pub(crate) use loading::Loader;
use loading::Loaders;
use origin::Harness;
use recording::Recording;
use refused::Refusals;
use tree::{Early, Tree};

/// The number of remembered ids of ended processes: a signal can come from one of them, and one can
/// be reported once more when it is adopted as a zombie.
const REMEMBERED: usize = 256;

/// The root of an attempt.
pub(crate) struct Root {
    pub(crate) pid: Tgid,
    /// When it was created.
    pub(crate) started: Instant,
    /// The level of tracing. Above `process`, it installs a filter before it executes.
    pub(crate) level: TraceLevel,
    /// The program, arguments and environment of its execution; strings ended by NUL.
    pub(crate) program: Vec<u8>,
    pub(crate) args: Vec<u8>,
    pub(crate) environment: Vec<u8>,
    pub(crate) cwd: Vec<u8>,
    /// The breakpoints of its descendants. Not together with a filter.
    pub(crate) breakpoint: Option<Breakpoint>,
    /// The policy whose bounds of peers are enforced here.
    pub(crate) policy: Option<Rc<Bounds>>,
    /// The calls of its processes that fail, because the user asked for that.
    pub(crate) inject: Option<Injections>,
    /// If what its loader does is known, or to be remembered.
    pub(crate) loader: Option<Loader>,
    /// If the functions that are entered are recorded.
    pub(crate) entries: Option<EntryRecord>,
    /// The memory of loaders.
    pub(crate) loads: Option<Rc<RefCell<Loads>>>,
    /// Whether calls are recorded where they are made.
    pub(crate) recording: crate::sys::Recording,
    /// The options that it was seized with.
    pub(crate) options: Options,
    /// The usage of the children of this process that were reaped before.
    pub(crate) reaped: RawUsage,
}

/// The tracees of an attempt.
pub(crate) struct Tasks<K: Kernel = Linux> {
    kernel: K,
    root: Root,
    /// Whether the root has become what it was created for.
    executed: bool,
    /// Whether the root has been stopped by its filter.
    filtered: bool,
    killing: bool,
    tree: Tree,
    context: Context,
    calls: Calls,
    loaders: Loaders,
    breaks: Breaks,
    refusals: Refusals,
    recording: Recording,
    /// The most memory that a process used that has ended.
    peak_memory: u64,
    /// The usage of the children of this process that have been reaped.
    reaped: RawUsage,
    harness: Harness,
    aside: Aside,
    /// Stops that were put aside and can end.
    freed: Vec<Stopped>,
    outbox: Outbox,
    /// Reused, so that nothing is allocated per stop.
    decoded: Vec<TraceEventKind>,
    /// Reused, for the stacks of new programs.
    stack: Vec<u8>,
}

/// News of a task, as wait4(2) has it.
struct News {
    tid: Tid,
    waited: Waited,
    usage: RawUsage,
}

impl Tasks {
    /// The tracees are a root that has been seized.
    pub(crate) fn new(root: Root) -> Self {
        Self::with(root, Linux)
    }
}

impl<K: Kernel> Tasks<K> {
    /// The tracees are a root that has been seized by way of this kernel.
    fn with(mut root: Root, kernel: K) -> Self {
        let environment = std::mem::take(&mut root.environment);
        let mut context = Context::of(Means {
            traces: true,
            filters: root.level >= TraceLevel::Io,
            listens: false,
        });
        let process = Process::new(None, Rc::new(Environment::from_block(environment)));
        context.processes.insert(root.pid, process);
        Self {
            kernel,
            executed: false,
            filtered: false,
            killing: false,
            tree: Tree::new(root.pid, root.options),
            context,
            calls: Calls::default(),
            loaders: Loaders::default(),
            breaks: Breaks::default(),
            refusals: Refusals::default(),
            recording: Recording::new(Recorder::new(root.recording)),
            peak_memory: 0,
            reaped: root.reaped,
            harness: Harness::default(),
            aside: Aside::default(),
            freed: Vec::new(),
            outbox: Outbox::new(root.started),
            decoded: Vec::new(),
            stack: Vec::new(),
            root,
        }
    }

    /// Returns whether the root has become what it was created for.
    pub(crate) fn root_executed(&self) -> bool {
        self.executed
    }

    /// Returns whether [`Self::release_overdue`] may have to let a task go soon.
    pub(crate) fn holds(&self) -> bool {
        self.tree.holds()
    }

    /// Returns how many processes there have been.
    pub(crate) fn count(&self) -> u32 {
        self.tree.processes()
    }

    /// Returns the live processes, as far as it is known which they are.
    pub(crate) fn alive(&self) -> impl Iterator<Item = i32> {
        self.tree.alive().map(Tgid::raw)
    }

    /// Returns the level.
    pub(crate) fn level(&self) -> TraceLevel {
        self.root.level
    }

    /// Returns the time since the root was created.
    pub(crate) fn elapsed(&self) -> Duration {
        self.outbox.elapsed()
    }

    /// Returns whether this is a live process.
    pub(crate) fn has(&self, process: Tgid) -> bool {
        self.context.processes.contains_key(&process)
    }

    /// Returns whether a live process was created by another one.
    pub(crate) fn created_by(&self, child: Tgid, creator: Tgid) -> bool {
        let child = self.context.processes.get(&child);
        child.is_some_and(|child| child.creator == Some(creator))
    }

    /// Sends SIGKILL to every live process. What is created from now on never gets to run.
    pub(crate) fn kill(&mut self) {
        self.killing = true;
        // A tracee's id is not reused before we have waited for it.
        self.tree
            .alive()
            .for_each(|process| self.kernel.kill(process));
    }

    /// Handles the news of a task: the observer has its events, and its stop is ended.
    pub(crate) fn handle(
        &mut self,
        tid: Tid,
        waited: Waited,
        usage: RawUsage,
        observer: &mut dyn Observer,
    ) {
        let mut news = Some(News { tid, waited, usage });
        while let Some(News { tid, waited, usage }) = news.take() {
            self.aside.overtaken(tid);
            self.take_recorded();
            match waited {
                Waited::Ended(exit) => news = self.ended(tid, exit, usage),
                Waited::Stopped(stopped) => {
                    let next = match self.killing {
                        true => self.stopped_to_be_killed(&stopped),
                        false => self.stopped(&stopped),
                    };
                    self.outbox.deliver(observer);
                    if matches!(stopped.at(), Stop::Created(_)) {
                        // What was created goes on before its creator can kill it.
                        self.deliver(observer);
                    }
                    self.act(stopped, next);
                }
            }
            self.deliver(observer);
        }
        self.release_overdue(observer);
    }

    /// Hands the observer its events, and ends the stops that waited for them.
    fn deliver(&mut self, observer: &mut dyn Observer) {
        self.outbox.deliver(observer);
        while let Some(stopped) = self.freed.pop() {
            let next = self.onward(stopped.tid());
            self.act(stopped, next);
        }
    }

    /// Ends a stop. Nothing else does.
    fn act(&mut self, stopped: Stopped, next: Next) {
        let tid = stopped.tid();
        let how = match next {
            Next::Go(_) | Next::ToExit if self.exits_meanwhile(tid) => return stopped.over(),
            Next::Go(signal) if self.stops_before() || self.is_watched(tid) => End::ToCall(signal),
            Next::Go(signal) => End::Resume(signal),
            Next::ToExit => End::ToCall(None),
            Next::Listen => End::Listen,
            Next::Exit => End::Resume(None),
            Next::Debugged(signal) => End::Detach(signal),
            Next::Leave(_) => End::Detach(None),
            Next::Aside => return self.aside.put(stopped),
            Next::Killed => return stopped.over(),
        };
        // If it was killed in this stop it is still ours, and its end will be reported.
        let ended = self.kernel.end(stopped, how);
        match next {
            Next::Debugged(_) => self.detached(tid),
            Next::Leave(leaving) if ended.is_ok() => self.left(tid.led(), leaving),
            _ => {}
        }
    }

    /// Returns how a task goes on that has nothing to wait for: to the exit of its call if that is
    /// awaited.
    fn onward(&self, tid: Tid) -> Next {
        match self.calls.awaits(tid) {
            true => Next::ToExit,
            false => Next::Go(None),
        }
    }

    fn stopped(&mut self, stopped: &Stopped) -> Next {
        let tracee = self.tree.tracee(stopped.tid());
        if let Some(next) = self.stopped_for_break(tracee, stopped.at()) {
            return next;
        }
        if let Some(next) = self.at_injection(stopped) {
            return next;
        }
        match stopped.at() {
            Stop::Filtered => self.at_filter(tracee),
            Stop::Syscall => self.at_syscall(tracee),
            Stop::Trap => {
                self.refusals.continued(tracee.process);
                self.at_trap(tracee.tid)
            }
            Stop::Created(by) => self.at_creation(tracee, by),
            Stop::Exec => match self.at_exec(tracee.tid.led()) && self.records(tracee.process) {
                true => Next::Go(None),
                false => Next::Killed,
            },
            Stop::Signal(libc::SIGTRAP) if self.at_hook(tracee.tid) => Next::Go(None),
            Stop::Signal(libc::SIGSEGV | libc::SIGBUS) if self.at_recorders_fault(tracee.tid) => {
                Next::Go(None)
            }
            Stop::Signal(signal) => {
                self.leave_hook(tracee);
                self.heed_stop(tracee, signal);
                self.signalled(tracee, signal);
                Next::Go(Some(RawSignal::new(signal)))
            }
            Stop::Exit => self.at_exit(tracee.tid),
            Stop::Group(_) => {
                self.context.stopped(tracee.process);
                Next::Listen
            }
            Stop::Other => self.onward(tracee.tid),
        }
    }

    /// A filter has stopped a task in front of a call.
    fn at_filter(&mut self, tracee: Tracee) -> Next {
        let Tracee { tid, process } = tracee;
        if tid == self.root.pid.leader() && !self.executed {
            // The program that it is going to execute is known, and its execution will be reported.
            self.filtered = true;
            return Next::Go(None);
        }
        if self.loaders.is_trusted(tid.led()) {
            return Next::Go(None);
        }
        let Some(SyscallInfo::Entry(call)) = self.kernel.syscall_info(tid) else {
            return self.onward(tid);
        };
        let call = untraced::without_flag(tid, call);
        if let Some(next) = self.at_recordable(tracee, &call) {
            return next;
        }
        match self.calls.take(tid) {
            Some(Call::Interrupted(before, pending)) if before == call => {
                self.calls.set(tid, Call::Awaited(call, pending));
                return Next::ToExit;
            }
            // Another call: that of a handler, or what comes after EINTR.
            Some(Call::Interrupted(_, pending)) => {
                self.complete(tracee, pending, |pending, task, events| {
                    decode::exit(pending, -i64::from(libc::EINTR), task, events);
                });
            }
            Some(Call::Awaited(_, pending)) => self.complete(tracee, pending, decode::unfinished),
            None => {}
        }
        let mut events = std::mem::take(&mut self.decoded);
        let live = self.live(Tracee { tid, process });
        let entry = decode::entry(&call, self.root.level, &live, &mut events);
        self.report_entry(tracee, &entry, &mut events);
        self.decoded = events;
        self.inject(tracee, &call, &entry);
        match entry {
            Entry::Done => Next::Go(None),
            Entry::Await(pending) => {
                if pending.moves_root() {
                    self.stop_recording();
                }
                let policy = self.root.policy.as_deref();
                if policy.is_some_and(|policy| pending.is_denied_by(policy)) {
                    // What cannot be skipped shows in the trace, by which the attempt is judged.
                    let _ = skipped::skip(tid, libc::EACCES);
                }
                self.calls.set(tid, Call::Awaited(call, pending));
                Next::ToExit
            }
        }
    }

    /// A task is at the exit of its call. Which side of a call it is on the kernel says; counting
    /// stops would go wrong with the first one that does not come.
    fn at_syscall(&mut self, tracee: Tracee) -> Next {
        let tid = tracee.tid;
        let result = match self.kernel.syscall_info(tid) {
            Some(SyscallInfo::Exit(result)) => result,
            Some(SyscallInfo::Entry(call)) if self.is_watched(tid) => {
                return self.at_any_call(tracee, call);
            }
            _ => return self.onward(tid),
        };
        match self.calls.take(tid) {
            Some(Call::Awaited(call, pending)) if is_interruption(result) => {
                self.calls.set(tid, Call::Interrupted(call, pending));
            }
            Some(Call::Awaited(_, pending)) => {
                self.complete(tracee, pending, |pending, task, events| {
                    decode::exit(pending, result, task, events);
                });
            }
            Some(Call::Interrupted(..)) | None => {}
        }
        Next::Go(None)
    }

    /// The first stop of a new task, or the end of a group-stop.
    ///
    /// A new task can report before the event of its creation. It is held until that event, so that
    /// its own events come after its creation, unless its creator is not to be found.
    fn at_trap(&mut self, tid: Tid) -> Next {
        if !self.tree.has(tid) {
            self.unannounced(tid);
        }
        self.first_stop(tid);
        self.remove_copy(tid);
        match self.tree.held_for(tid) {
            Some(_) => Next::Aside,
            None => self.onward(tid),
        }
    }

    /// A task stands at the event of a creation.
    fn at_creation(&mut self, tracee: Tracee, by: CreatedBy) -> Next {
        if let Some(child) = self.kernel.event_message(tracee.tid) {
            self.created_in_loading(tracee.process, child);
            self.created(tracee.tid, child, Some(by));
            self.recorded_creation(tracee.process, child);
            if self.waits_for_first_stop(tracee.tid, child) {
                return Next::Aside;
            }
        }
        self.onward(tracee.tid)
    }

    /// A task has been created, by what if that is known.
    fn created(&mut self, tid: Tid, child: Tid, by: Option<CreatedBy>) {
        let creator = self.tree.tracee(tid);
        let mut ended = None;
        let (leads, told) = if let Some(known) = self.announced(creator, child) {
            known
        } else if let Some(early) = self.tree.take_ended_early(child) {
            // No more news of it comes, and its id may come to belong to a stranger.
            ended = early.ended;
            (by != Some(CreatedBy::Clone), early.told)
        } else {
            let exits = self.tree.get(tid).is_some_and(|task| task.options.exits);
            let leads = self.appeared(child, Some(creator.process));
            let task = self.tree.entry(child);
            task.told = true;
            task.options.exits = exits;
            (leads, false)
        };
        if !told {
            let how = match by {
                _ if !leads => Creation::Thread,
                Some(CreatedBy::Fork) => Creation::Fork,
                Some(CreatedBy::Vfork) => Creation::Vfork,
                Some(CreatedBy::Clone) => Creation::Clone,
                None => Creation::Unknown,
            };
            let kind = TraceEventKind::Created(Created {
                child: child.raw(),
                how,
            });
            self.outbox.event(creator, kind);
        }
        if let Some((exit, usage)) = ended.filter(|_| leads) {
            self.process_ended(child.led(), exit, usage);
        }
        self.release(child);
    }

    /// The event of the creation of a task came after its first stop. Returns whether it leads a
    /// process, and whether its creation has been reported; `None` if it is not known.
    fn announced(&mut self, creator: Tracee, child: Tid) -> Option<(bool, bool)> {
        let task = self.tree.get_mut(child)?;
        task.due = false;
        let process = *task.process.get_or_insert(creator.process);
        let told = std::mem::replace(&mut task.told, true);
        if let Some(process) = self.context.processes.get_mut(&child.led()) {
            process.creator = Some(creator.process);
        }
        let leads = process == child.led();
        if !leads {
            self.context.has_thread(creator.process);
        }
        Some((leads, told))
    }

    /// A task ended. Returns the news of the first thread of its process, if it ended without a stop.
    fn ended(&mut self, tid: Tid, exit: Exit, usage: RawUsage) -> Option<News> {
        let of_leader = self.news_of_leader(tid);
        self.peak_memory = self.peak_memory.max(usage.max_rss_bytes);
        self.abandon_call(tid);
        self.recorded_end(tid);
        if !self.tree.is_leaderless(tid.led()) {
            self.ended_loading(tid.led(), exit);
        }
        self.loaders.forget_copy(tid);
        self.begins(tid);
        // Killed while it was held. Its creator may have been as well, and then no event comes.
        if let Some(creator) = self.tree.held_for(tid) {
            self.suppose_created(creator, tid);
        }
        let Some(task) = self.tree.remove(tid) else {
            if self.tree.has_leader(tid.led()) {
                // A thread took the id over, and was killed before that could be reported.
                self.reaped = self.kernel.usage_of_reaped();
                self.ended_loading(tid.led(), exit);
                self.process_ended(tid.led(), exit, usage);
            } else {
                self.ended_unknown(tid, exit, usage);
            }
            return None;
        };
        if task.due {
            let (told, ended) = (task.told, None);
            self.tree.ended_early(tid, Early { told, ended });
        }
        let process = task.process?;
        if process == tid.led() {
            self.reaped = self.kernel.usage_of_reaped();
            if !self.tree.is_leaderless(process) {
                self.process_ended(process, exit, usage);
            }
            return None;
        }
        let tracee = Tracee { tid, process };
        self.outbox.event(tracee, TraceEventKind::ThreadEnded);
        self.thread_ended(process, exit, usage);
        of_leader
    }

    /// A task ended that is not known: an orphan whose end has been reported, or that was never a
    /// tracee; or a task that was killed before its first stop, whose creation is reported next; or a
    /// thread whose process ended before its first stop, and whose creation is not reported if its
    /// creator was a thread of that process.
    fn ended_unknown(&mut self, tid: Tid, exit: Exit, usage: RawUsage) {
        let process = tid.led();
        // A process that was never a tracee is a child of this one by now, and a thread never is.
        let reaped = self.kernel.usage_of_reaped();
        let was_child = std::mem::replace(&mut self.reaped, reaped) != reaped;
        if process == self.root.pid || self.tree.remembers(process) {
            return;
        }
        if matches!(exit, Exit::Signal { signal, .. } if signal == libc::SIGKILL) {
            let early = Early {
                told: false,
                ended: Some((exit, usage)),
            };
            self.tree.ended_early(tid, early);
        } else if was_child {
            let doubt = TraceEventKind::Doubt(Doubt::UntracedTask);
            self.outbox.event(Tracee::leader_of(self.root.pid), doubt);
        }
    }
}

#[cfg(test)]
mod tests;
