//! Stops as values: a task that has stopped is ended exactly once.
//!
//! wait4(2) hands out a [`Stopped`], and only consuming it ends the stop. A handler sees it by
//! reference, for the task that it names, and answers with one [`Next`]; [`Tasks::act`] alone ends
//! stops, after the observer has every event of the stop. So:
//!
//! - A stop has one answer. A handler that returns twice does not exist, and one that returns
//!   nothing does not compile.
//! - A stop is not lost. One that is put [`Aside`] has a name, and the event or the limit that takes
//!   it up again. A stop that is dropped panics in a debug build.
//! - A stop that is over is not ended. A task that was put aside can be killed, or replaced by a
//!   thread of its process that executes. The next news of its id ends the stop.
//!
//! `tests/kernel.rs` holds this with a fake [`Kernel`] and random programs.
//!
//! [`Tasks::act`]: super::tasks::Tasks

use super::kin;
use crate::sys::{
    self, End, Options, RawSignal, RawUsage, Stopped, SyscallInfo, Tgid, Tid, Waited,
};
use crate::tracer::Map;
use harness_metadata::Exit;
use nix::errno::Errno;
use std::time::Instant;

/// A task and its process.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tracee {
    pub(crate) tid: Tid,
    pub(crate) process: Tgid,
}

impl Tracee {
    /// A process, by its first thread.
    pub(crate) fn leader_of(process: Tgid) -> Self {
        Self {
            tid: process.leader(),
            process,
        }
    }
}

/// The answer to a stop.
#[must_use = "without an answer the task stays stopped"]
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// The task goes on, with this signal.
    Go(Option<RawSignal>),
    /// It goes on to the exit of the call that it is in.
    ToExit,
    /// It stays in its group-stop until SIGCONT (PTRACE_LISTEN).
    Listen,
    /// It is put aside until another task's event, or the limit of [`Held`](super::tasks).
    Aside,
    /// It goes on to its end, from the stop at its exit.
    Exit,
    /// SIGKILL is on its way, and ends the stop.
    Killed,
    /// It is let go of for a debugger, with this signal.
    Debugged(Option<RawSignal>),
    /// It exits, and is let go of before it is a zombie.
    Leave(Leaving),
}

/// A process that is let go of at its exit.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) struct Leaving {
    /// Its coming wait status; `None` if it is gone.
    pub(super) exit: Option<Exit>,
    pub(super) usage: RawUsage,
    /// Whether other threads of it go on.
    pub(super) has_threads: bool,
}

/// Stops that are put aside, by task. A task is in at most one.
#[derive(Default)]
pub(super) struct Aside(Map<Tid, Stopped>);

impl Aside {
    pub(super) fn put(&mut self, stopped: Stopped) {
        let before = self.0.insert(stopped.tid(), stopped);
        debug_assert!(before.is_none(), "the task had not gone on");
        if let Some(before) = before {
            before.over();
        }
    }

    /// Takes up the stop of a task, if it is still there.
    pub(super) fn take(&mut self, tid: Tid) -> Option<Stopped> {
        self.0.remove(&tid)
    }

    /// There is news of a task: the stop that it was in is over.
    pub(super) fn overtaken(&mut self, tid: Tid) {
        if !self.0.is_empty()
            && let Some(stopped) = self.0.remove(&tid)
        {
            stopped.over();
        }
    }

    #[cfg(test)]
    pub(super) fn tids(&self) -> impl Iterator<Item = Tid> {
        self.0.keys().copied()
    }
}

impl Drop for Aside {
    /// The attempt is over. Its tasks die with it.
    fn drop(&mut self) {
        self.0.drain().for_each(|(_, stopped)| stopped.over());
    }
}

/// The requests by which tasks are followed. Tests have a fake one.
pub(crate) trait Kernel {
    /// Ends a stop.
    ///
    /// # Errors
    ///
    /// ESRCH if the task was killed in the meantime. It is still traced then, and its end will be
    /// reported.
    fn end(&self, stopped: Stopped, how: End) -> Result<(), Errno>;

    /// See [`sys::set_options`].
    fn set_options(&self, tid: Tid, options: Options) -> Result<(), Errno>;

    /// See [`sys::event_message`].
    fn event_message(&self, tid: Tid) -> Option<Tid>;

    /// See [`sys::exit_to_be`].
    fn exit_to_be(&self, tid: Tid) -> Option<Exit>;

    /// See [`sys::syscall_info`].
    fn syscall_info(&self, tid: Tid) -> Option<SyscallInfo>;

    /// See [`sys::signal_origin`].
    fn signal_origin(&self, tid: Tid) -> Option<(i32, i32)>;

    /// See [`sys::has_news`].
    fn has_news(&self, tid: Tid) -> bool;

    /// See [`sys::news_of`].
    fn news_of(&self, process: Tgid) -> Option<(Waited, RawUsage)>;

    /// See [`sys::usage_of_reaped`].
    fn usage_of_reaped(&self) -> RawUsage;

    /// Sends SIGKILL to a process that is not reaped, so that its id is its own.
    fn kill(&self, process: Tgid);

    /// Returns whether a task is the first thread of a process.
    fn leads(&self, tid: Tid) -> bool;

    /// See [`kin::likely_creator`].
    fn likely_creator(&self, tid: Tid) -> Option<Tgid>;

    fn now(&self) -> Instant;
}

/// The running kernel.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Linux;

impl Kernel for Linux {
    fn end(&self, stopped: Stopped, how: End) -> Result<(), Errno> {
        stopped.end(how)
    }

    fn set_options(&self, tid: Tid, options: Options) -> Result<(), Errno> {
        sys::set_options(tid, options)
    }

    fn event_message(&self, tid: Tid) -> Option<Tid> {
        sys::event_message(tid)
    }

    fn exit_to_be(&self, tid: Tid) -> Option<Exit> {
        sys::exit_to_be(tid)
    }

    fn syscall_info(&self, tid: Tid) -> Option<SyscallInfo> {
        sys::syscall_info(tid)
    }

    fn signal_origin(&self, tid: Tid) -> Option<(i32, i32)> {
        sys::signal_origin(tid)
    }

    fn has_news(&self, tid: Tid) -> bool {
        sys::has_news(tid)
    }

    fn news_of(&self, process: Tgid) -> Option<(Waited, RawUsage)> {
        sys::news_of(process)
    }

    fn usage_of_reaped(&self) -> RawUsage {
        sys::usage_of_reaped()
    }

    fn kill(&self, process: Tgid) {
        let _ = sys::kill(process.raw(), libc::SIGKILL);
    }

    fn leads(&self, tid: Tid) -> bool {
        sys::is_thread_of(tid.raw(), tid.raw())
    }

    fn likely_creator(&self, tid: Tid) -> Option<Tgid> {
        kin::likely_creator(tid)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}
