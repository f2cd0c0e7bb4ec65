//! The tracees of an attempt: which there are, what each is doing, and what is to be told of it.
//!
//! What wait4(2) told of a task goes to [`Tasks::handle`], which tells an [`Observer`] what happened
//! and resumes the task. Nothing is kept of what has ended, but for a handful of ids.

use super::{
    Observer,
    breakpoint::Breakpoint,
    decode::{self, Entry, Environment, Pending, Syscall},
    disturbed::Means,
    hook::Trap,
    live::{Context, Live, Process},
    loads::Loads,
};
use crate::sys::{self, CreatedBy, Options, Pid, RawUsage, Stop, SyscallInfo, Waited};
use crate::tracer::Map;
use harness_metadata::{
    Exit, TraceEvent, TraceEventKind,
    event::TraceLevel,
    trace::{Created, Creation, Doubt},
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

mod breaks;
mod exec;
mod exiting;
mod held;
mod loading;
mod origin;
mod refusals;
mod refused;
mod untraced;

use breaks::Breaks;
pub(crate) use breaks::Broke;
pub(crate) use loading::Loader;
use loading::Loading;
use origin::Harness;

/// How many ids of ended processes are remembered: a signal can come from one of them, and one can
/// be reported once more when it is adopted as a zombie.
const REMEMBERED: usize = 256;

/// What the root of an attempt is.
pub(crate) struct Root {
    pub(crate) pid: Pid,
    /// When it was created.
    pub(crate) started: Instant,
    /// How closely it is watched. Above `process`, it installs a filter before it executes.
    pub(crate) level: TraceLevel,
    /// What it is going to execute, its arguments and its environment; strings ended by NUL.
    pub(crate) program: Vec<u8>,
    pub(crate) args: Vec<u8>,
    pub(crate) environment: Vec<u8>,
    pub(crate) cwd: Vec<u8>,
    /// Where to stop its descendants. Not together with a filter.
    pub(crate) breakpoint: Option<Breakpoint>,
    /// If what its loader does is known, or to be remembered.
    pub(crate) loader: Option<Loader>,
    /// Where it is remembered what loaders do.
    pub(crate) loads: Option<Rc<RefCell<Loads>>>,
    /// What it has been seized with.
    pub(crate) options: Options,
}

/// The tracees of an attempt.
pub(crate) struct Tasks {
    root: Root,
    /// Whether the root has become what it was created for.
    executed: bool,
    /// Whether the root has been stopped by its filter.
    filtered: bool,
    killing: bool,
    /// How many processes there have been.
    processes: u32,
    tasks: Map<Pid, Task>,
    context: Context,
    /// Tasks that have ended before the event of their creation has been seen, and whether their
    /// creation has been told all the same.
    ended_early: Map<Pid, bool>,
    /// New tasks that have not been resumed, since that event has not been seen.
    held: u32,
    /// Processes that have ended, the last ones.
    ended: VecDeque<Pid>,
    harness: Harness,
    breaks: Breaks,
    /// Processes whose loaders are at work.
    loading: Map<Pid, Loading>,
    /// Creators that wait for the first stop of what they have created, by the latter.
    beginning: Map<Pid, Pid>,
    /// Processes whose first threads have exited and been let go, and whose others have not ended.
    leaderless: Map<Pid, ()>,
    /// Processes that were refused to be tracers or tracees of others, because they are ours.
    refused: Map<Pid, ()>,
    /// Whether a process waits for somebody who cannot come.
    stuck: bool,
    /// The most memory that a process used that has ended.
    peak_memory: u64,
    /// New tasks that have a copy of their creator's trap.
    copies: Map<Pid, Trap>,
    /// Reused, so that nothing is allocated per stop.
    decoded: Vec<TraceEventKind>,
    /// Reused, for the stacks of new programs.
    stack: Vec<u8>,
}

/// A live tracee.
#[derive(Default)]
struct Task {
    /// Its process; `None` for a thread until the event of its creation has been seen.
    process: Option<Pid>,
    /// Whether that event is still to come.
    due: bool,
    /// Whether its creation has been told.
    told: bool,
    held: Option<Held>,
    call: Call,
    /// Whether its first stop has been seen.
    begun: bool,
    /// As far as they are known. What is not known stops it more often than needed.
    options: Options,
}

/// Why a new task has not been resumed: the event of its creation is still to come.
#[derive(Copy, Clone)]
struct Held {
    since: Instant,
    /// Which process seems to have created it.
    creator: Pid,
}

/// What is awaited of a task.
#[derive(Default)]
enum Call {
    #[default]
    None,
    /// The exit of a call.
    Awaited(Syscall, Pending),
    /// A call that was interrupted is going to be made again, or to fail with EINTR: that depends on
    /// the signal's handler (signal(7)).
    Interrupted(Syscall, Pending),
}

impl Tasks {
    /// The tracees are a root that has been seized.
    pub(crate) fn new(mut root: Root) -> Self {
        let environment = std::mem::take(&mut root.environment);
        let mut tasks = Self {
            executed: false,
            filtered: false,
            killing: false,
            processes: 1,
            tasks: Map::default(),
            context: Context::of(Means {
                traces: true,
                filters: root.level >= TraceLevel::Io,
                listens: false,
            }),
            ended_early: Map::default(),
            held: 0,
            ended: VecDeque::new(),
            harness: Harness::default(),
            breaks: Breaks::default(),
            loading: Map::default(),
            beginning: Map::default(),
            leaderless: Map::default(),
            refused: Map::default(),
            stuck: false,
            peak_memory: 0,
            copies: Map::default(),
            decoded: Vec::new(),
            stack: Vec::new(),
            root,
        };
        let pid = tasks.root.pid;
        let task = Task {
            process: Some(pid),
            told: true,
            begun: true,
            options: tasks.root.options,
            ..Task::default()
        };
        tasks.tasks.insert(pid, task);
        let process = Process::new(None, Rc::new(Environment::from_block(environment)));
        tasks.context.processes.insert(pid, process);
        tasks
    }

    /// Returns whether the root has become what it was created for.
    pub(crate) fn root_executed(&self) -> bool {
        self.executed
    }

    /// Returns whether [`Self::release_overdue`] may have to let a task go soon.
    pub(crate) fn holds(&self) -> bool {
        self.held > 0
    }

    /// Returns how many processes there have been.
    pub(crate) fn count(&self) -> u32 {
        self.processes
    }

    /// Returns the live processes, as far as it is known which they are.
    pub(crate) fn alive(&self) -> impl Iterator<Item = Pid> {
        self.tasks.values().filter_map(|task| task.process)
    }

    /// Returns the level.
    pub(crate) fn level(&self) -> TraceLevel {
        self.root.level
    }

    /// Returns the time since the root was created.
    pub(crate) fn elapsed(&self) -> Duration {
        self.root.started.elapsed()
    }

    /// Returns whether this is a live process.
    pub(crate) fn has(&self, process: Pid) -> bool {
        self.context.processes.contains_key(&process)
    }

    /// Returns whether a live process was created by another one.
    pub(crate) fn created_by(&self, child: Pid, creator: Pid) -> bool {
        let child = self.context.processes.get(&child);
        child.is_some_and(|child| child.creator == Some(creator))
    }

    /// Sends SIGKILL to every live process. What is created from now on never gets to run.
    pub(crate) fn kill(&mut self) {
        self.killing = true;
        for process in self.alive() {
            // A tracee's id is not reused before we have waited for it.
            let _ = sys::kill(process, libc::SIGKILL);
        }
    }

    /// Handles what wait4(2) told of a task, and resumes it if it is stopped.
    pub(crate) fn handle(
        &mut self,
        pid: Pid,
        waited: Waited,
        usage: RawUsage,
        observer: &mut dyn Observer,
    ) {
        match waited {
            Waited::Ended(exit) => self.ended(pid, exit, usage, observer),
            Waited::Stopped(stop) if self.killing => self.stopped_to_be_killed(pid, stop),
            Waited::Stopped(stop) => self.stopped(pid, stop, observer),
        }
        self.release_overdue(observer);
    }

    fn stopped(&mut self, pid: Pid, stop: Stop, observer: &mut dyn Observer) {
        if self.stopped_for_break(pid, stop, observer) {
            return;
        }
        match stop {
            Stop::Filtered => self.at_filter(pid, observer),
            Stop::Syscall => self.at_syscall(pid, observer),
            Stop::Trap => self.at_trap(pid),
            Stop::Created(by) => {
                if let Some(child) = sys::event_message(pid) {
                    self.created_in_loading(self.process_of(pid), child, observer);
                    self.created(pid, child, Some(by), observer);
                    if self.waits_for_first_stop(pid, child) {
                        return;
                    }
                }
                self.resume(pid);
            }
            Stop::Exec => {
                self.at_exec(pid, observer);
                self.go(pid, 0);
            }
            Stop::Signal(libc::SIGTRAP) if self.at_hook(pid, observer) => self.go(pid, 0),
            Stop::Signal(signal) => {
                self.heed_stop(pid, signal);
                self.signalled(pid, signal, observer);
                self.go(pid, signal);
            }
            Stop::Exit => self.at_exit(pid, observer),
            Stop::Group(_) => {
                self.context.stopped(self.process_of(pid));
                sys::listen(pid);
            }
            Stop::Other => self.resume(pid),
        }
    }

    /// Resumes a task, until the exit of its call if that is awaited.
    fn resume(&self, pid: Pid) {
        match self.tasks.get(&pid).map(|task| &task.call) {
            Some(Call::Awaited(..)) => self.go_to_exit(pid),
            _ => self.go(pid, 0),
        }
    }

    /// A filter has stopped a task in front of a call.
    fn at_filter(&mut self, pid: Pid, observer: &mut dyn Observer) {
        if pid == self.root.pid && !self.executed {
            // What it becomes is known, and that it did will be told.
            self.filtered = true;
            return self.go(pid, 0);
        }
        if self.is_trusted(pid) {
            return self.go(pid, 0);
        }
        let Some(SyscallInfo::Entry(call)) = sys::syscall_info(pid) else {
            return self.resume(pid);
        };
        let call = untraced::without_flag(pid, call);
        let process = self.process_of(pid);
        match self.take_call(pid) {
            Call::Interrupted(before, pending) if before == call => {
                self.set_call(pid, Call::Awaited(call, pending));
                return self.go_to_exit(pid);
            }
            // Another call: that of a handler, or what comes after EINTR.
            Call::Interrupted(_, pending) => {
                self.complete(pid, process, pending, observer, |pending, live, events| {
                    decode::exit(pending, -i64::from(libc::EINTR), live, events);
                });
            }
            Call::Awaited(_, pending) => {
                self.complete(pid, process, pending, observer, |pending, live, events| {
                    decode::unfinished(pending, live, events);
                });
            }
            Call::None => {}
        }
        let mut events = std::mem::take(&mut self.decoded);
        let live = self.live(pid, process);
        let entry = decode::entry(&call, self.root.level, &live, &mut events);
        self.tell(pid, process, &mut events, observer);
        self.decoded = events;
        match entry {
            Entry::Done => self.go(pid, 0),
            Entry::Await(pending) => {
                self.set_call(pid, Call::Awaited(call, pending));
                self.go_to_exit(pid);
            }
        }
    }

    /// A task is at the exit of its call. Which side of a call it is on the kernel says; counting
    /// stops would go wrong with the first one that does not come.
    fn at_syscall(&mut self, pid: Pid, observer: &mut dyn Observer) {
        let result = match sys::syscall_info(pid) {
            Some(SyscallInfo::Exit(result)) => result,
            Some(SyscallInfo::Entry(call)) if self.is_watched(pid) => {
                return self.at_any_call(pid, call, observer);
            }
            _ => return self.resume(pid),
        };
        if let Call::Awaited(call, pending) = self.take_call(pid) {
            if is_interruption(result) {
                self.set_call(pid, Call::Interrupted(call, pending));
            } else {
                let process = self.process_of(pid);
                self.complete(pid, process, pending, observer, |pending, live, events| {
                    decode::exit(pending, result, live, events);
                });
            }
        }
        self.go(pid, 0);
    }

    /// The first stop of a new task, or the end of a group-stop.
    ///
    /// A new task can report before the event of its creation. It is held until that event, so that
    /// what it does is told after its creation, unless its creator is not to be found.
    fn at_trap(&mut self, pid: Pid) {
        if self.tasks.contains_key(&pid) {
            self.first_stop(pid);
            self.remove_copy(pid);
            if !self.is_held(pid) {
                self.resume(pid);
            }
            return;
        }
        self.unannounced(pid);
        self.first_stop(pid);
        self.remove_copy(pid);
        if !self.is_held(pid) {
            self.go(pid, 0);
        }
    }

    /// A task has been created, by what if that is known.
    fn created(
        &mut self,
        tid: Pid,
        child: Pid,
        by: Option<CreatedBy>,
        observer: &mut dyn Observer,
    ) {
        let creator = self.process_of(tid);
        let exits = self.tasks.get(&tid).is_some_and(|task| task.options.exits);
        let (leads, told) = match self.tasks.get_mut(&child) {
            Some(task) => {
                task.due = false;
                task.process = task.process.or(Some(creator));
                let leads = task.process == Some(child);
                if let Some(process) = self.context.processes.get_mut(&child) {
                    process.creator = Some(creator);
                }
                let told = std::mem::replace(&mut task.told, true);
                if !leads {
                    self.has_thread(Some(creator));
                }
                (leads, told)
            }
            None => match self.ended_early.remove(&child) {
                // Nothing more will be heard of it, and its id may come to belong to a stranger.
                Some(told) => (by != Some(CreatedBy::Clone), told),
                None => {
                    let leads = self.appeared(child, Some(creator));
                    if let Some(task) = self.tasks.get_mut(&child) {
                        task.told = true;
                        task.options.exits = exits;
                    }
                    (leads, false)
                }
            },
        };
        if told {
            return self.release(child);
        }
        let how = match by {
            _ if !leads => Creation::Thread,
            Some(CreatedBy::Fork) => Creation::Fork,
            Some(CreatedBy::Vfork) => Creation::Vfork,
            Some(CreatedBy::Clone) => Creation::Clone,
            None => Creation::Unknown,
        };
        let kind = TraceEventKind::Created(Created { child, how });
        self.tell_one(tid, creator, kind, observer);
        self.release(child);
    }

    fn ended(&mut self, pid: Pid, exit: Exit, usage: RawUsage, observer: &mut dyn Observer) {
        let of_leader = self.news_of_leader(pid);
        self.peak_memory = self.peak_memory.max(usage.max_rss_bytes);
        self.abandon_call(pid, observer);
        if !self.leaderless.contains_key(&pid) {
            self.ended_loading(pid, exit, observer);
        }
        self.copies.remove(&pid);
        self.begins(pid);
        // Killed while it was held. Its creator may have been as well, and then no event comes.
        if let Some(Held { creator, .. }) = self.tasks.get(&pid).and_then(|task| task.held) {
            self.suppose_created(creator, pid, observer);
        }
        let Some(task) = self.tasks.remove(&pid) else {
            // An orphan. If it was a tracee, it has been told of before, or was killed before its
            // first stop and has done nothing.
            let killed = matches!(exit, Exit::Signal { signal, .. } if signal == libc::SIGKILL);
            if !killed && !self.ended.contains(&pid) && pid != self.root.pid {
                let root = self.root.pid;
                let doubt = TraceEventKind::Doubt(Doubt::UntracedTask);
                self.tell_one(root, root, doubt, observer);
            }
            return;
        };
        if task.due {
            self.ended_early.insert(pid, task.told);
        }
        self.held -= u32::from(task.held.is_some());
        match task.process {
            Some(process) if self.leaderless.contains_key(&process) && process == pid => {}
            Some(process) if process == pid => self.process_ended(pid, exit, usage, observer),
            Some(process) => {
                self.tell_one(pid, process, TraceEventKind::ThreadEnded, observer);
                self.thread_ended(process, exit, usage, observer);
                if let Some((waited, usage)) = of_leader {
                    self.handle(process, waited, usage, observer);
                }
            }
            None => {}
        }
    }

    /// Tells of a call whose end will not be seen.
    fn abandon_call(&mut self, pid: Pid, observer: &mut dyn Observer) {
        if let Call::Awaited(_, pending) | Call::Interrupted(_, pending) = self.take_call(pid) {
            let process = self.process_of(pid);
            self.complete(pid, process, pending, observer, |pending, live, events| {
                decode::unfinished(pending, live, events);
            });
        }
    }

    fn complete(
        &mut self,
        tid: Pid,
        process: Pid,
        pending: Pending,
        observer: &mut dyn Observer,
        how: impl FnOnce(Pending, &Live<'_>, &mut Vec<TraceEventKind>),
    ) {
        let mut events = std::mem::take(&mut self.decoded);
        how(pending, &self.live(tid, process), &mut events);
        self.tell(tid, process, &mut events, observer);
        self.decoded = events;
    }

    fn tell(
        &mut self,
        tid: Pid,
        process: Pid,
        events: &mut Vec<TraceEventKind>,
        observer: &mut dyn Observer,
    ) {
        for kind in events.drain(..) {
            self.context.heed(&kind);
            self.heed_refusal(process, &kind);
            if let Some(loading) = self.loading.get_mut(&process) {
                loading.heed(&kind);
            }
            self.tell_one(tid, process, kind, observer);
        }
    }

    fn tell_one(&self, tid: Pid, process: Pid, kind: TraceEventKind, observer: &mut dyn Observer) {
        observer.event(&TraceEvent {
            at: self.root.started.elapsed(),
            pid: process,
            tid,
            kind,
        });
    }

    fn live(&self, tid: Pid, process: Pid) -> Live<'_> {
        Live::new(tid, process, &self.context)
    }

    fn process_of(&self, tid: Pid) -> Pid {
        self.tasks
            .get(&tid)
            .and_then(|task| task.process)
            .unwrap_or(tid)
    }

    fn take_call(&mut self, tid: Pid) -> Call {
        self.tasks
            .get_mut(&tid)
            .map_or(Call::None, |task| std::mem::take(&mut task.call))
    }

    fn set_call(&mut self, tid: Pid, call: Call) {
        self.tasks.entry(tid).or_default().call = call;
    }
}

/// Returns whether a call's result asks the kernel to make it again or to fail with EINTR
/// (ERESTARTSYS and its like, which no program sees).
fn is_interruption(result: i64) -> bool {
    matches!(result, -516 | -514..=-512)
}

#[cfg(test)]
mod tests;
