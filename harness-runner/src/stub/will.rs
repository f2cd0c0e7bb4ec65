//! A command that a stub runs if its runner dies.

use super::{SWEEP, Stub, attempt::Attempt, sys::WaitAny};
use crate::{
    protocol::{Cgroup, Spawn, Trace, Will},
    stub::sys,
};
use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

/// A command that a stub runs if its runner dies.
pub(super) struct OwnWill {
    program: Vec<u8>,
    args: Vec<u8>,
    environment: Vec<u8>,
    cwd: Vec<u8>,
    limit: Duration,
    stdio: Vec<OwnedFd>,
}

impl OwnWill {
    pub(super) fn new(will: &Will<'_>, stdio: Vec<OwnedFd>) -> Self {
        Self {
            program: will.program.to_vec(),
            args: will.args.to_vec(),
            environment: will.environment.to_vec(),
            cwd: will.cwd.to_vec(),
            limit: will.limit,
            stdio,
        }
    }
}

impl Stub {
    /// Runs the command that was left for this, if there is one. All else of the stub is gone.
    pub(super) fn execute_will(&mut self) {
        let Some(will) = self.will.take() else {
            return;
        };
        let spawn = Spawn {
            ticket: 0,
            program: &will.program,
            args: &will.args,
            environment: &will.environment,
            cwd: &will.cwd,
            trace: Trace::NONE,
            cgroup: Cgroup::default(),
            foreground: false,
            image: None,
        };
        self.attempt = None;
        if self.spawn(&spawn, &will.stdio).is_err() {
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
