//! Whether a task meets the tracer, as the running system tells: facts for
//! [`disturbed`](crate::tracer::disturbed).

use super::{Context, Live};
use crate::tracer::{
    decode::Question,
    disturbed::{self, Gift, Scope, Standing},
    kin::{Kin, kin},
};
use crate::{
    proc,
    sys::{self, Pid, Tgid},
};
use harness_metadata::trace::Disturbance;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::{
    ffi::{CStr, CString, OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

impl Context {
    /// A signal has stopped a process.
    pub(crate) fn stopped(&self, process: Tgid) {
        let mut stopped = self.stopped.borrow_mut();
        if !stopped.contains(&process) {
            stopped.push(process);
        }
    }

    /// Returns whether a process or one that it descends from has set no_new_privs itself.
    fn has_promised(&self, process: Tgid) -> bool {
        let promised = self.promised.borrow();
        !promised.is_empty()
            && self
                .lineage(process)
                .any(|ancestor| promised.contains(&ancestor))
    }

    /// Returns a process and those that it descends from, as far as they live.
    fn lineage(&self, process: Tgid) -> impl Iterator<Item = Tgid> {
        // An id that was used again could make a circle.
        const GENERATIONS: usize = 1000;
        let creator = |process: &Tgid| self.processes.get(process)?.creator;
        std::iter::successors(Some(process), creator).take(GENERATIONS)
    }
}

impl Live<'_> {
    pub(super) fn meets(&self, question: Question) -> bool {
        let means = self.context.means;
        let own = Standing::own();
        let standing = || Standing::of(self.tid);
        let was_given = || {
            let given = means.filters && !self.context.has_promised(self.process);
            standing().filter(|standing| given && standing.was_given_no_new_privs(own))
        };
        match question {
            Question::TraceMe => {
                means.traces
                    && standing().is_some_and(|standing| {
                        disturbed::may_be_traced_by_parent(disturbed::yama(), &standing)
                    })
            }
            Question::Attach(target) => means.traces && self.could_attach(target).unwrap_or(false),
            Question::Listen => means.listens,
            Question::SeccompMode => {
                means.filters
                    && standing().is_some_and(|standing| standing.has_only_our_filter(own))
            }
            Question::NoNewPrivs => was_given().is_some(),
            Question::Confine => was_given().is_some_and(|standing| !standing.is_administrator()),
        }
    }

    pub(super) fn sees(&self, path: &[u8]) -> Option<Disturbance> {
        let shown = disturbed::shown(path)?;
        let process = match shown.task {
            None => self.process,
            Some(task) => self.own_process(task)?,
        };
        let seen = match shown.disturbance {
            Disturbance::StoppedRead => self.context.stopped.borrow().contains(&process),
            _ => !self.is_harness(),
        };
        let caused = self.context.means.traces || shown.disturbance == Disturbance::StatusRead;
        (seen && caused).then_some(shown.disturbance)
    }

    /// Returns the process of a task of the attempt. A listener may not have heard of it yet.
    fn own_process(&self, task: Pid) -> Option<Tgid> {
        const GENERATIONS: usize = 64;
        let known = |process: &Tgid| self.context.processes.contains_key(process);
        let process = Tgid::new(task);
        if known(&process) {
            return Some(process);
        }
        let Kin { process, parent } = kin(task)?;
        let ancestors = std::iter::successors(Some(parent), |pid| kin(*pid).map(|kin| kin.parent));
        let mut line = std::iter::once(process).chain(ancestors.take(GENERATIONS));
        line.any(|pid| known(&pid)).then_some(process)
    }

    /// Returns whether a task is of the attempt.
    pub(super) fn owns(&self, task: Pid) -> bool {
        self.tid.raw() == task || self.own_process(task).is_some()
    }

    /// Returns whether this task could trace another one of the attempt, if that were not traced.
    fn could_attach(&self, target: Pid) -> Option<bool> {
        let process = kin(target)?.process;
        // A task may not trace a thread of its own process.
        if process == self.process || !self.context.processes.contains_key(&process) {
            return Some(false);
        }
        let scope = Scope {
            yama: disturbed::yama(),
            descends: self.context.lineage(process).any(|it| it == self.process),
        };
        let (caller, target) = (Standing::of(self.tid)?, Standing::of(target)?);
        Some(disturbed::may_attach(&caller, &target, scope))
    }

    /// Returns whether this is the program of the harness, which knows what it reads: a run within a
    /// test looks at its own tests.
    fn is_harness(&self) -> bool {
        let file = |program: String| {
            let program = CString::new(program).ok()?;
            let looked = sys::look(libc::AT_FDCWD, &program, true).ok()?;
            Some(looked.file)
        };
        let own = file("/proc/self/exe".to_owned());
        own.is_some() && own == file(proc::path(self.tid, "exe"))
    }

    /// Returns whether the program that this task has just executed did not give it the privileges that
    /// it should have, because of the tracer.
    pub(crate) fn was_withheld(&self) -> bool {
        // Asked for each execution: of those who may withhold nothing this is all.
        if Standing::own().withholds_nothing() {
            return false;
        }
        let name = proc::path(self.tid, "exe");
        let gift = self.gift(name.as_bytes());
        !gift.is_empty()
            && Standing::of(self.tid).is_some_and(|after| gift.is_withheld_from(&after))
    }

    /// Returns whether a program that this task is about to execute will not give it the privileges that
    /// it should, because of the tracer.
    pub(crate) fn foresees_withheld(&self, directory: i32, path: &[u8]) -> bool {
        if Standing::own().withholds_nothing() || self.context.elsewhere {
            return false;
        }
        let (name, _) = self.name(directory, path, true);
        let gift = self.gift(&name);
        !gift.is_empty()
            && Standing::of(self.tid).is_some_and(|before| gift.is_withheld_from(&before))
    }

    /// Returns what a program's file gives to this task, if it were not traced.
    fn gift(&self, name: &[u8]) -> Gift {
        let Ok(program) = CString::new(name) else {
            return Gift::default();
        };
        let Ok(looked) = sys::look(libc::AT_FDCWD, &program, true) else {
            return Gift::default();
        };
        let (user, group) = looked.gives();
        let mut value = [0; 24];
        let path = Path::new(OsStr::from_bytes(name));
        let read = rustix::fs::getxattr(path, "security.capability", &mut value).unwrap_or(0);
        let gift = Gift {
            user,
            group,
            capabilities: disturbed::file_capabilities(&value[..read]),
        };
        // Files without privileges, tasks with no_new_privs of their own, and user namespaces in
        // which the file's owner may be unmapped.
        if gift.is_empty()
            || !looked.regular
            || is_on_nosuid(&program)
            || self.context.has_promised(self.process)
            || Standing::own().has_no_new_privs()
            || nix::fcntl::readlink("/proc/self/ns/user")
                .ok()
                .map(OsString::into_vec)
                != self.link("ns/user")
        {
            return Gift::default();
        }
        gift
    }
}

/// Returns whether nothing in the file system of a file gives rights (`nosuid` of mount(8)).
fn is_on_nosuid(path: &CStr) -> bool {
    statvfs(path).is_ok_and(|file_system| file_system.flags().contains(FsFlags::ST_NOSUID))
}
