//! The time between the root's execution and the moment when its dynamic loader is done.
//!
//! What a loader does is watched once and remembered. When it is known, the root has no filter until
//! then: it is made to install one at the hook, and what the loader has done is told from memory. If it
//! turns out to have done something else, that is a doubt, and the next time it is watched again.

use super::Tasks;
use crate::tracer::{
    Observer,
    hook::{Installing, Trap},
    loads::{Key, Known, Load, Loads, Seen},
    sys::Pid,
};
use harness_metadata::{RawString, TraceEventKind, trace::Doubt};
use std::{cell::RefCell, rc::Rc};

/// What is known of the loader of a root.
pub(crate) struct Loader {
    /// Where it is remembered.
    pub(crate) loads: Rc<RefCell<Loads>>,
    pub(crate) key: Key,
    pub(crate) known: Known,
    /// What is to be installed when it is done, if it is known.
    pub(crate) filter: Rc<[libc::sock_filter]>,
}

/// A loader at work.
pub(super) struct Loading {
    loader: Loader,
    phase: Phase,
}

enum Phase {
    /// The root has not executed anything yet.
    Before,
    /// It is watched, and what it does remembered.
    Watched { trap: Trap, seen: Seen },
    /// It is known what it does.
    Trusted { trap: Trap, load: Rc<Load> },
    /// It is done, and the filter is being installed.
    Done { trap: Trap, installing: Installing },
}

impl Loading {
    pub(super) fn new(loader: Loader) -> Self {
        Self {
            loader,
            phase: Phase::Before,
        }
    }

    /// Takes notice of what the loader does.
    pub(super) fn heed(&mut self, kind: &TraceEventKind) {
        if let Phase::Watched { seen, .. } = &mut self.phase {
            seen.events.push(kind.clone());
        }
    }

    fn known(&self) -> Option<&Rc<Load>> {
        match &self.loader.known {
            Known::Yes(load) => Some(load),
            Known::No => None,
        }
    }
}

impl Tasks {
    /// Returns whether the root installs its filter after its execution.
    pub(super) fn filters_later(&self) -> bool {
        self.known_load().is_some()
    }

    /// Returns what interprets the root's program, if that is known.
    pub(super) fn known_interpreters(&self) -> Option<&[RawString]> {
        self.known_load().map(|load| load.interpreters.as_slice())
    }

    fn known_load(&self) -> Option<&Rc<Load>> {
        self.loading.as_ref().and_then(Loading::known)
    }

    /// The root has executed its program, and its loader is about to begin.
    pub(super) fn begin_loading(
        &mut self,
        interpreters: Vec<RawString>,
        observer: &mut dyn Observer,
    ) {
        let Some(mut loading) = self.loading.take() else {
            return;
        };
        let root = self.root.pid;
        if let Some(load) = loading.known() {
            let load = Rc::clone(load);
            match load.hook.set(root) {
                Some(trap) => loading.phase = Phase::Trusted { trap, load },
                None => {
                    return self.doubt_loader(loading, "it could not be stopped", observer);
                }
            }
        } else {
            let Loader { loads, key, .. } = &loading.loader;
            let hook = loads.borrow_mut().hook(&interpreters);
            let Some(hook) = hook.filter(|_| self.filtered) else {
                return loads.borrow_mut().give_up(key.clone());
            };
            // If it cannot be set, the root may have been killed.
            let Some(trap) = hook.set(root) else {
                return;
            };
            let seen = Seen {
                events: Vec::new(),
                interpreters,
                hook,
            };
            loading.phase = Phase::Watched { trap, seen };
        }
        self.loading = Some(loading);
    }

    /// SIGTRAP has stopped a task. Returns whether it was at the hook, from where it goes on.
    pub(super) fn at_hook(&mut self, pid: Pid, observer: &mut dyn Observer) -> bool {
        if pid != self.root.pid {
            return false;
        }
        let Some(mut loading) = self.loading.take() else {
            return false;
        };
        let trap = match &loading.phase {
            Phase::Before => None,
            Phase::Watched { trap, .. } | Phase::Trusted { trap, .. } => trap.reached(pid),
            Phase::Done { trap, installing } => {
                let Some(installed) = trap.installed(pid) else {
                    self.loading = Some(loading);
                    return false;
                };
                // Whether it is there to be put anywhere, its end will tell.
                let _ = trap.remove(pid).and_then(|()| installing.pass(pid));
                match installed {
                    Ok(()) => self.filtered = true,
                    Err(_) => {
                        loading.loader.loads.borrow_mut().refuse();
                        self.tell_unfiltered(observer);
                    }
                }
                return true;
            }
        };
        let Some(reached) = trap else {
            self.loading = Some(loading);
            return false;
        };
        if !reached.done {
            let _ = reached.pass(pid);
            self.loading = Some(loading);
            return true;
        }
        match loading.phase {
            Phase::Watched { trap, seen } => {
                let _ = trap.remove(pid).and_then(|()| reached.pass(pid));
                let Loader { loads, key, .. } = loading.loader;
                loads.borrow_mut().learn(key, pid, seen);
            }
            Phase::Trusted { trap, load } => {
                if load.is_mapped_by(pid) {
                    let mut events = load.events.clone();
                    self.tell(pid, pid, &mut events, observer);
                } else {
                    loading
                        .loader
                        .loads
                        .borrow_mut()
                        .forget(&loading.loader.key);
                    self.tell_unseen("it loaded something else than before", observer);
                }
                match trap.install(pid, &reached, &loading.loader.filter) {
                    Ok(installing) => {
                        loading.phase = Phase::Done { trap, installing };
                        self.loading = Some(loading);
                    }
                    Err(_) => {
                        let _ = trap.remove(pid).and_then(|()| reached.pass(pid));
                        self.tell_unfiltered(observer);
                    }
                }
            }
            Phase::Before | Phase::Done { .. } => {}
        }
        true
    }

    /// The root has ended, perhaps while its loader was at work.
    pub(super) fn ended_loading(&mut self, pid: Pid, observer: &mut dyn Observer) {
        if pid == self.root.pid
            && let Some(loading) = self.loading.take()
            && matches!(loading.phase, Phase::Trusted { .. })
        {
            self.doubt_loader(loading, "its process ended before it was done", observer);
        }
    }

    fn doubt_loader(&mut self, loading: Loading, why: &str, observer: &mut dyn Observer) {
        let Loader { loads, key, .. } = loading.loader;
        loads.borrow_mut().forget(&key);
        self.tell_unseen(why, observer);
    }

    fn tell_unseen(&self, why: &str, observer: &mut dyn Observer) {
        let missing = format!("what the dynamic loader did, because {why}");
        self.tell_missing(missing, observer);
    }

    /// Tells that there is no filter where there should be one.
    pub(super) fn tell_unfiltered(&self, observer: &mut dyn Observer) {
        let missing = "what processes do, because the filter could not be installed";
        self.tell_missing(missing.to_owned(), observer);
    }

    fn tell_missing(&self, missing: String, observer: &mut dyn Observer) {
        let root = self.root.pid;
        let doubt = TraceEventKind::Doubt(Doubt::Backend(missing));
        self.tell_one(root, root, doubt, observer);
    }
}
