//! The tasks of an attempt as a [`Listener`] hears of them: what they ask of the kernel, and not
//! the result.
//!
//! A process is known from its first call of interest on. One that makes none is never heard of,
//! nor is the end of one that is no child of ours.

use super::{
    Observer,
    decode::{self, Entry, Environment, Pending},
    disturbed::Means,
    kin,
    live::{Context, Live, Process},
    outbox::Outbox,
    stop::Tracee,
    tasks::Root,
};
use crate::sys::{
    self, RawUsage, Tgid, Tid,
    notify::{Listener, Notification, Received},
};
use harness_metadata::{
    Exit, TraceEventKind,
    trace::{CallResult, Created, Creation, Disturbance, Doubt, EnvironmentChange, Exited},
};
use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
};

/// The blind spot of this backend, as the text of a doubt.
pub(crate) const UNSEEN: &str = "results of calls, exit statuses of descendants and signals";

/// The number of known threads above which ended ones are forgotten.
const THREADS: usize = 4096;

/// The greatest number of parents to follow.
const ANCESTORS: usize = 64;

/// The tasks of an attempt.
pub(crate) struct Notified {
    root: Root,
    /// `None` when no process is left that could make a call.
    listener: Option<Listener>,
    /// Whether the root has asked to become what it was created for.
    executed: bool,
    context: Context,
    /// Each known thread's process.
    threads: HashMap<Tid, Tgid>,
    /// The number of threads above which ended ones are looked for.
    room: usize,
    outbox: Outbox,
    /// Reused, so that nothing is allocated per call.
    decoded: Vec<TraceEventKind>,
}

impl Notified {
    /// The tasks are a root that has installed a filter, and whatever it creates.
    pub(crate) fn new(mut root: Root, listener: Listener) -> Self {
        let environment = Environment::from_block(std::mem::take(&mut root.environment));
        let mut context = Context::of(Means {
            traces: false,
            filters: true,
            listens: true,
        });
        let process = Process::new(None, Rc::new(environment));
        context.processes.insert(root.pid, process);
        Self {
            listener: Some(listener),
            executed: false,
            context,
            threads: HashMap::from([(root.pid.leader(), root.pid)]),
            room: THREADS,
            outbox: Outbox::new(root.started),
            decoded: Vec::new(),
            root,
        }
    }

    /// The descriptor that becomes readable when a call waits.
    pub(crate) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// Returns whether the root has asked to become what it was created for. Whether that
    /// succeeded is not known.
    pub(crate) fn root_executes(&self) -> bool {
        self.executed
    }

    /// Stops listening, because no process is left that could make a call.
    pub(crate) fn leave(&mut self) {
        self.listener = None;
    }

    /// Takes one call, tells of it and lets it happen. There must be one.
    pub(crate) fn serve(&mut self, observer: &mut dyn Observer) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        match listener.receive() {
            Ok(Received::Call(call)) => {
                self.call(&listener, &call);
                self.outbox.deliver(observer);
                listener.go_on(&call);
            }
            Ok(Received::Nothing) => {}
            Ok(Received::End) | Err(_) => return,
        }
        self.listener = Some(listener);
    }

    fn call(&mut self, listener: &Listener, call: &Notification) {
        let root = Tracee::leader_of(self.root.pid);
        if !self.executed {
            // The filter is the last thing before it. What it becomes is known; if it does not,
            // the attempt has not started.
            self.executed = true;
            let exec = self.root.exec(&Live::new(root, &self.context), None);
            let exec = TraceEventKind::Exec(Box::new(exec));
            return self.outbox.event(root, exec);
        }
        let Some(process) = self.process_of(listener, call) else {
            return;
        };
        let mut events = std::mem::take(&mut self.decoded);
        let tid = Tid::new(call.tid);
        let tracee = Tracee { tid, process };
        let live = Live::new(tracee, &self.context);
        let mut environment = None;
        match decode::entry(&call.call, self.root.level, &live, &mut events) {
            Entry::Done => {}
            Entry::Await(pending) => environment = finish(pending, &live, &mut events),
        }
        // What was read was the caller's only if it still waits.
        if !listener.is_waiting(call) {
            events.clear();
            environment = None;
        }
        for kind in events.drain(..) {
            self.context.heed(&kind);
            self.outbox.event(tracee, kind);
        }
        self.decoded = events;
        if let Some(environment) = environment {
            self.context.set_environment(process, environment);
        }
    }

    /// Returns the process of the task that waits, and tells of its creation if that is news.
    /// `None` if it is gone, or cannot be seen from here.
    fn process_of(&mut self, listener: &Listener, call: &Notification) -> Option<Tgid> {
        let tid = Tid::new(call.tid);
        let known = self.threads.get(&tid).copied();
        if let Some(process) = known.filter(|process| sys::is_thread_of(process.raw(), tid.raw())) {
            return Some(process);
        }
        let found = (tid.raw() > 0).then(|| kin::kin(tid)).flatten();
        if !listener.is_waiting(call) {
            return None;
        }
        let Some(kin) = found else {
            // In another pid namespace that is not below ours, or there is no /proc.
            let root = Tracee::leader_of(self.root.pid);
            let doubt = TraceEventKind::Doubt(Doubt::UntracedTask);
            self.outbox.event(root, doubt);
            return None;
        };
        self.forget_the_gone();
        self.meet(kin.process, kin.parent);
        if tid != kin.process.leader() {
            self.threads.insert(tid, kin.process);
            self.created(kin.process, tid, Creation::Thread);
        }
        Some(kin.process)
    }

    /// Takes in a process with those of its ancestors that are not known yet, the oldest first.
    fn meet(&mut self, process: Tgid, parent: Tgid) {
        let own = Tgid::new(nix::unistd::getpid().as_raw());
        let mut unknown = Vec::new();
        let mut next = Some((process, parent));
        let mut creator = self.root.pid;
        while let Some((process, parent)) = next {
            if self.context.processes.contains_key(&process) {
                creator = process;
                break;
            }
            // Whose parent we are has lost the one that it had. The root will do: it is an
            // ancestor of all.
            if process.raw() <= 1 || process == own || unknown.len() == ANCESTORS {
                break;
            }
            unknown.push(process);
            next = kin::kin(parent).map(|kin| (kin.process, kin.parent));
        }
        for child in unknown.into_iter().rev() {
            let environment = self.context.processes.get(&creator);
            let environment = environment.map(|creator| Rc::clone(&creator.environment));
            let process = Process::new(Some(creator), environment.unwrap_or_default());
            self.context.processes.insert(child, process);
            self.context.check_root_of(child);
            self.threads.insert(child.leader(), child);
            self.created(creator, child.leader(), Creation::Unknown);
            creator = child;
        }
    }

    /// Forgets threads and processes that are gone, when there are many.
    fn forget_the_gone(&mut self) {
        if self.threads.len() < self.room {
            return;
        }
        self.threads
            .retain(|tid, process| sys::is_thread_of(process.raw(), tid.raw()));
        let root = self.root.pid;
        let is_there =
            |process: Tgid| process == root || sys::is_thread_of(process.raw(), process.raw());
        self.context
            .processes
            .retain(|process, _| is_there(*process));
        self.room = THREADS.max(2 * self.threads.len());
    }

    /// A child of ours has ended: the root, or one that it has left behind.
    pub(crate) fn ended(
        &mut self,
        process: Tgid,
        exit: Exit,
        usage: RawUsage,
        observer: &mut dyn Observer,
    ) {
        self.threads.remove(&process.leader());
        if self.context.processes.remove(&process).is_none() {
            return;
        }
        let kind = TraceEventKind::Exited(Exited {
            exit,
            user: usage.user,
            system: usage.system,
            peak_memory: usage.max_rss_bytes,
        });
        self.outbox.event(Tracee::leader_of(process), kind);
        self.outbox.deliver(observer);
    }

    fn created(&mut self, by: Tgid, child: Tid, how: Creation) {
        let child = child.raw();
        let kind = TraceEventKind::Created(Created { child, how });
        self.outbox.event(Tracee::leader_of(by), kind);
    }
}

/// Completes a call whose result will not be seen. Returns the environment that its process has
/// from now on, if this is an exec that seems to succeed.
fn finish(
    mut pending: Pending,
    live: &Live<'_>,
    events: &mut Vec<TraceEventKind>,
) -> Option<Rc<Environment>> {
    pending.read_vectors(live, events);
    let environment = pending.environment();
    let foreseen = pending
        .program()
        .map_or(CallResult::Unknown, |(directory, path)| {
            live.foresee_exec(directory, path)
        });
    let program = pending
        .program()
        .map(|(directory, path)| (directory, path.to_vec()));
    decode::unfinished(pending, live, events);
    if let Some((directory, path)) = program
        && live.foresees_withheld(directory, &path)
    {
        let doubt = Doubt::Disturbed(Disturbance::PrivilegesWithheld);
        events.push(TraceEventKind::Doubt(doubt));
    }
    let environment = environment?;
    let exec = events.iter_mut().find_map(|event| match event {
        TraceEventKind::Exec(exec) => Some(exec),
        _ => None,
    })?;
    exec.result = foreseen;
    if exec.result.error().is_some() {
        exec.environment = EnvironmentChange::default();
        return None;
    }
    exec.inherited = decode::inherited(live.lasting_descriptors());
    Some(environment)
}
