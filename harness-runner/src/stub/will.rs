//! A command that a stub runs if its runner dies.

use super::{SWEEP, Stub, attempt::Attempt, sys::WaitAny};
use crate::{
    protocol::{Cgroup, CommandBlocks, Spawn, Trace, Will},
    stub::sys,
};
use std::{
    ffi::OsStr,
    fs,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    time::{Duration, Instant},
};

/// A command that a stub runs if its runner dies.
pub(super) struct OwnWill {
    command: CommandBlocks,
    limit: Duration,
    stdio: Vec<OwnedFd>,
}

impl OwnWill {
    pub(super) fn new(will: &Will<'_>, stdio: Vec<OwnedFd>) -> Self {
        Self {
            command: will.command.into(),
            limit: will.limit,
            stdio,
        }
    }
}

/// Reads what is in a pipe that does not block.
fn discard(pipe: &OwnedFd) {
    let mut buffer = [0; 4096];
    while nix::unistd::read(pipe, &mut buffer).is_ok_and(|read| read > 0) {}
}

impl Stub {
    /// Ends what the stub has, because no runner is left, and runs the command that was left for this. As
    /// in a run, a process that its attempt has left is there until that command is over.
    pub(super) fn bequeath(&mut self) {
        let attempt = self.attempt.as_ref();
        let runs = attempt.is_some_and(|attempt| attempt.tree.root_ended().is_none());
        if runs || self.will.is_none() {
            self.bid_farewell();
            self.abandon();
        }
        self.execute_will();
    }

    /// Asks the attempt to end and waits, if that was agreed.
    fn bid_farewell(&mut self) {
        let Some(Attempt {
            tree,
            farewell,
            output,
            ..
        }) = &mut self.attempt
        else {
            return;
        };
        let Some(farewell) = farewell.take() else {
            return;
        };
        tree.signal_group(farewell.signal);
        let deadline = Instant::now() + farewell.grace;
        while tree.root_ended().is_none() && Instant::now() < deadline {
            // Without a reader its last words would end it by SIGPIPE.
            output.iter().for_each(discard);
            match sys::wait_any() {
                WaitAny::News { pid, waited, usage } => tree.handle(pid, waited, usage),
                WaitAny::Quiet => self.signals.wait_for_child(SWEEP),
                WaitAny::Nobody => break,
            }
        }
        self.abandon();
        if !farewell.folder.is_empty() {
            let _ = fs::remove_dir_all(OsStr::from_bytes(&farewell.folder));
        }
    }

    /// Runs the command that was left for the end of the runner, if there is one.
    fn execute_will(&mut self) {
        let Some(will) = self.will.take() else {
            return;
        };
        let spawn = Spawn {
            ticket: 0,
            command: will.command.raw(),
            trace: Trace::NONE,
            cgroup: Cgroup::default(),
            foreground: false,
            image: None,
            farewell: None,
            policy: &[],
            inject: &[],
            entries: None,
        };
        if self.spawn(&spawn, &will.stdio).is_err() {
            self.abandon();
            return;
        }
        let deadline = Instant::now() + will.limit;
        while Instant::now() < deadline {
            let Some(Attempt { tree, .. }) = &mut self.attempt else {
                return;
            };
            match sys::wait_any() {
                WaitAny::News { pid, waited, usage } => tree.handle(pid, waited, usage),
                WaitAny::Quiet => self.signals.wait_for_child(SWEEP),
                WaitAny::Nobody => break,
            }
            if self
                .attempt
                .as_ref()
                .is_some_and(|it| it.tree.root_ended().is_some())
            {
                break;
            }
        }
        self.abandon();
    }
}
