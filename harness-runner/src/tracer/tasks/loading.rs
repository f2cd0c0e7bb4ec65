//! The time between a program's execution and the moment when its dynamic loader is done.
//!
//! The work of a loader is traced once and remembered. A known loader is not traced, and its events
//! come from memory. A root has no filter until its loader is done: it is made to install one at
//! the hook. Its descendants inherit the filter, so there the filter is suspended, or its stops are
//! passed by where that is not allowed. If a loader turns out to have done something else, that is
//! a doubt, and it is traced again the next time.

use super::Tasks;
use crate::{
    proc::{self, maps::MappedFile},
    sys::{Tgid, Tid},
    tracer::{
        Map,
        entries::EntryRecord,
        hook::{Installing, Reached, Trap},
        loads::{Key, Known, Load, Loads, Seen},
        stop::{Kernel, Tracee},
    },
};
use harness_metadata::{Exit, RawString, TraceEventKind, trace::Doubt};
use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

/// Signals of a process that has done something wrong.
const FAULTS: [i32; 7] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
];

/// The known facts about the loader of a root.
pub(crate) struct Loader {
    pub(crate) key: Key,
    pub(crate) known: Known,
    /// The filter to install when it is done, if it is known.
    pub(crate) filter: Rc<[libc::sock_filter]>,
}

/// A loader at work.
pub(super) struct Loading {
    key: Key,
    phase: Phase,
}

enum Phase {
    /// It is watched, and what it does remembered.
    Watched { trap: Trap, seen: Seen },
    /// It is known what it does.
    Trusted {
        trap: Trap,
        load: Rc<Load>,
        /// The filter that the process must install when it is done. `None` if it has its filter
        /// already.
        filter: Option<Rc<[libc::sock_filter]>>,
    },
    /// It is done, and the filter is being installed.
    Done { trap: Trap, installing: Installing },
}

/// Loaders at work, and copies of their traps.
#[derive(Default)]
pub(super) struct Loaders {
    at_work: Map<Tgid, Loading>,
    /// New tasks that have a copy of their creator's trap.
    copies: Map<Tid, Trap>,
}

impl Loaders {
    /// Takes notice of what a process does.
    pub(super) fn heed(&mut self, process: Tgid, kind: &TraceEventKind) {
        if let Some(loading) = self.at_work.get_mut(&process) {
            loading.heed(kind);
        }
    }

    /// Returns whether a filter stops a process for nothing, because it is known what it does.
    pub(super) fn is_trusted(&self, process: Tgid) -> bool {
        !self.at_work.is_empty()
            && matches!(
                self.at_work.get(&process).map(|loading| &loading.phase),
                Some(Phase::Trusted { .. })
            )
    }

    /// Returns whether the loader of a process is at work.
    pub(super) fn is_at_work(&self, process: Tgid) -> bool {
        !self.at_work.is_empty() && self.at_work.contains_key(&process)
    }

    /// A task that may have a copy of a trap ended.
    pub(super) fn forget_copy(&mut self, tid: Tid) {
        self.copies.remove(&tid);
    }
}

impl Loading {
    /// Takes notice of what the loader does.
    fn heed(&mut self, kind: &TraceEventKind) {
        if let Phase::Watched { seen, .. } = &mut self.phase {
            seen.events.push(kind.clone());
        }
    }
}

impl<K: Kernel> Tasks<K> {
    /// Returns whether the root installs its filter after its execution.
    pub(super) fn filters_later(&self) -> bool {
        self.known_load().is_some()
    }

    /// Returns what interprets the root's program, if that is known.
    pub(super) fn known_interpreters(&self) -> Option<&[RawString]> {
        self.known_load().map(|load| load.interpreters.as_slice())
    }

    fn known_load(&self) -> Option<&Rc<Load>> {
        match &self.root.loader.as_ref()?.known {
            Known::Yes(load) => Some(load),
            Known::No => None,
        }
    }

    /// The root has executed its program, and its loader is about to begin.
    pub(super) fn begin_loading(&mut self, interpreters: Vec<RawString>) {
        let (Some(loads), Some(loader)) = (self.root.loads.clone(), self.root.loader.take()) else {
            return;
        };
        let root = self.root.pid;
        let Loader { key, known, filter } = loader;
        match known {
            Known::Yes(load) => match load.hook.set(root.leader()) {
                Some(trap) => {
                    let filter = Some(filter);
                    let phase = Phase::Trusted { trap, load, filter };
                    self.loaders.at_work.insert(root, Loading { key, phase });
                }
                None => {
                    self.doubt_loader(root, &key, "it could not be stopped");
                    self.report_unfiltered();
                }
            },
            Known::No if self.filtered => self.watch_loading(root, key, interpreters, &loads),
            Known::No => loads.borrow_mut().give_up(key),
        }
    }

    /// A process other than the root has executed a program, with the filter that it has inherited.
    pub(super) fn begin_inherited_loading(
        &mut self,
        process: Tgid,
        key: Key,
        interpreters: Vec<RawString>,
    ) {
        let Some(loads) = self.root.loads.clone() else {
            return;
        };
        if self.context.elsewhere || !self.live(Tracee::leader_of(process)).has_our_rights() {
            return;
        }
        if !is_as_we_left_it(process, &loads) {
            return;
        }
        let Some(known) = loads.borrow_mut().of(&key) else {
            return;
        };
        match known {
            Known::Yes(load) => {
                if let Some(trap) = load.hook.set(process.leader()) {
                    // Without it, there are needless stops.
                    self.suspend_filters(process.leader(), true);
                    let filter = None;
                    let phase = Phase::Trusted { trap, load, filter };
                    self.loaders.at_work.insert(process, Loading { key, phase });
                }
            }
            Known::No => self.watch_loading(process, key, interpreters, &loads),
        }
    }

    /// Watches a loader, to remember what it does.
    fn watch_loading(
        &mut self,
        process: Tgid,
        key: Key,
        interpreters: Vec<RawString>,
        loads: &RefCell<Loads>,
    ) {
        let mut loads = loads.borrow_mut();
        let hook = interpreters.last().and_then(|loader| loads.hook(loader));
        let Some(hook) = hook else {
            return loads.give_up(key);
        };
        // If it cannot be set, the process may have been killed.
        if let Some(trap) = hook.set(process.leader()) {
            let events = Vec::new();
            let seen = Seen {
                events,
                interpreters,
                hook,
            };
            let phase = Phase::Watched { trap, seen };
            self.loaders.at_work.insert(process, Loading { key, phase });
        }
    }

    /// SIGTRAP has stopped a task. Returns whether it was at the hook, from where it goes on.
    pub(super) fn at_hook(&mut self, tid: Tid) -> bool {
        let process = tid.led();
        let Some(Loading { key, phase }) = self.loaders.at_work.remove(&process) else {
            return false;
        };
        let reached = match &phase {
            Phase::Watched { trap, .. } | Phase::Trusted { trap, .. } => trap.reached(tid),
            Phase::Done { trap, installing } => {
                let installed = self.at_installed(tid, trap, installing);
                if !installed {
                    self.loaders.at_work.insert(process, Loading { key, phase });
                }
                return installed;
            }
        };
        let Some(reached) = reached else {
            self.loaders.at_work.insert(process, Loading { key, phase });
            return false;
        };
        if reached.done {
            self.at_done(tid, key, phase, &reached);
        } else {
            let _ = reached.pass(tid);
            self.loaders.at_work.insert(process, Loading { key, phase });
        }
        true
    }

    /// A task may have installed its filter. Returns whether it has tried.
    fn at_installed(&mut self, tid: Tid, trap: &Trap, installing: &Installing) -> bool {
        let Some(installed) = trap.installed(tid) else {
            return false;
        };
        // If it is gone, its end will be reported.
        let _ = trap.remove(tid).and_then(|()| installing.pass(tid));
        match installed {
            Ok(()) => self.filtered = true,
            Err(_) => {
                self.at_loads(Loads::refuse);
                self.report_unfiltered();
            }
        }
        true
    }

    /// A loader is done.
    fn at_done(&mut self, tid: Tid, key: Key, phase: Phase, reached: &Reached) {
        match phase {
            Phase::Watched { trap, seen } => {
                let _ = trap.remove(tid).and_then(|()| reached.pass(tid));
                if !self.context.elsewhere {
                    let ours = self.mapped_by_us();
                    self.at_loads(|loads| loads.learn(key, tid.raw(), seen, &ours));
                }
            }
            Phase::Trusted { trap, load, filter } => {
                self.loaded(tid.led(), &key, &load);
                match filter {
                    Some(filter) => self.install(key, &trap, reached, &filter),
                    None => {
                        let _ = trap.remove(tid).and_then(|()| reached.pass(tid));
                        self.suspend_filters(tid, false);
                    }
                }
            }
            Phase::Done { .. } => {}
        }
    }

    /// A loader is done of which it was known what it does.
    fn loaded(&mut self, process: Tgid, key: &Key, load: &Load) {
        if load.is_mapped_by(process.raw(), &self.mapped_by_us()) {
            self.outbox.loaded(process, &load.told);
        } else {
            self.doubt_loader(process, key, "it loaded something else than before");
        }
    }

    /// Returns the files that are mapped to record entries.
    fn mapped_by_us(&self) -> BTreeSet<MappedFile> {
        let recording = self.root.entries.as_ref();
        recording.map_or_else(BTreeSet::new, EntryRecord::mapped)
    }

    /// Has the root, which stands at the hook, install its filter.
    fn install(&mut self, key: Key, trap: &Trap, reached: &Reached, filter: &[libc::sock_filter]) {
        let root = self.root.pid;
        match trap.install(root.leader(), reached, filter) {
            Ok(installing) => {
                let trap = trap.clone();
                let phase = Phase::Done { trap, installing };
                self.loaders.at_work.insert(root, Loading { key, phase });
            }
            Err(_) => {
                let _ = trap
                    .remove(root.leader())
                    .and_then(|()| reached.pass(root.leader()));
                self.at_loads(Loads::refuse);
                self.report_unfiltered();
            }
        }
    }

    /// A process has ended, perhaps while its loader was at work. For a killed one, the whole work
    /// of its loader is reported: it did a part of that, and changed nothing.
    pub(super) fn ended_loading(&mut self, process: Tgid, exit: Exit) {
        let Some(Loading { key, phase }) = self.loaders.at_work.remove(&process) else {
            return;
        };
        let Phase::Trusted { load, .. } = phase else {
            return;
        };
        let killed = matches!(exit, Exit::Signal { signal, .. } if !FAULTS.contains(&signal));
        if killed && load.holds() {
            self.outbox.loaded(process, &load.told);
        } else {
            self.doubt_loader(process, &key, "its process ended before it was done");
        }
    }

    /// A process executes another program while its loader is at work.
    pub(super) fn abandon_loading(&mut self, process: Tgid) {
        if let Some(Loading { key, phase }) = self.loaders.at_work.remove(&process)
            && matches!(phase, Phase::Trusted { .. })
        {
            self.doubt_loader(process, &key, "it executed another program");
            self.filter_again(process);
        }
    }

    /// A task is created, perhaps by a loader at work, which runs code of libraries that picks an
    /// implementation (IFUNC). The child has a copy of the trap, and its filter is suspended as well.
    pub(super) fn created_in_loading(&mut self, creator: Tgid, child: Tid) {
        let Some(Loading { key, phase }) = self.loaders.at_work.remove(&creator) else {
            return;
        };
        let trap = match phase {
            Phase::Watched { trap, .. } => trap,
            Phase::Trusted { trap, .. } => {
                self.doubt_loader(creator, &key, "it created a process");
                self.filter_again(creator);
                trap
            }
            Phase::Done { .. } => {
                self.loaders.at_work.insert(creator, Loading { key, phase });
                return;
            }
        };
        self.at_loads(|loads| loads.give_up(key));
        let _ = trap.remove(creator.leader());
        self.loaders.copies.insert(child, trap);
        self.remove_copy(child);
    }

    /// Removes a copy of a trap from a new task, once it can be done: when it is stopped.
    pub(super) fn remove_copy(&mut self, tid: Tid) {
        if (self.loaders.copies.get(&tid)).is_some_and(|trap| trap.remove(tid).is_ok()) {
            self.suspend_filters(tid, false);
            self.loaders.copies.remove(&tid);
        }
    }

    /// Has a process's filter stop it again, if it has one.
    fn filter_again(&mut self, process: Tgid) {
        self.suspend_filters(process.leader(), false);
        if process == self.root.pid && !self.filtered {
            self.report_unfiltered();
        }
    }

    fn doubt_loader(&mut self, process: Tgid, key: &Key, why: &str) {
        self.at_loads(|loads| loads.forget(key));
        let missing = format!("what the dynamic loader did, because {why}");
        self.report_missing(process, missing);
    }

    /// Tells that there is no filter where there should be one.
    pub(super) fn report_unfiltered(&mut self) {
        let missing = "what processes do, because the filter could not be installed";
        self.report_missing(self.root.pid, missing.to_owned());
    }

    fn report_missing(&mut self, process: Tgid, missing: String) {
        let doubt = TraceEventKind::Doubt(Doubt::Backend(missing));
        self.outbox.event(Tracee::leader_of(process), doubt);
    }

    fn at_loads(&self, what: impl FnOnce(&mut Loads)) {
        if let Some(loads) = &self.root.loads {
            what(&mut loads.borrow_mut());
        }
    }
}

/// Returns whether a process has no other filters than its creators were given, and neither blocks nor
/// ignores a trap: it would no longer do so once it has run into one.
fn is_as_we_left_it(process: Tgid, loads: &RefCell<Loads>) -> bool {
    let own = || Condition::of(None).map(|own| own.filters);
    let own = loads.borrow_mut().own_filters(own);
    let its = Condition::of(Some(process));
    its.is_some_and(|its| its.is_trapped && own.is_some_and(|own| its.filters == own + 1))
}

/// The initial state of a process's loader.
struct Condition {
    /// The number of filters of the process.
    filters: u32,
    /// Whether a trap would do nothing but stop it for us: it is neither blocked nor ignored.
    is_trapped: bool,
}

impl Condition {
    /// Asks proc_pid_status(5). `None` before Linux 5.9, which does not count filters.
    fn of(process: Option<Tgid>) -> Option<Self> {
        let status = match process {
            Some(process) => proc::read(&proc::path(process, "status")),
            None => proc::read("/proc/self/status"),
        };
        let status = status.ok()?;
        let has_trap = |name| {
            let signals = u64::from_str_radix(proc::field(&status, name)?, 16).ok()?;
            Some(signals & 1 << (libc::SIGTRAP - 1) != 0)
        };
        Some(Self {
            filters: proc::field(&status, "Seccomp_filters:")?.parse().ok()?,
            is_trapped: !has_trap("SigBlk:")? && !has_trap("SigIgn:")?,
        })
    }
}
