//! The attempt that a stub runs.

use super::{
    BATCH, EVENTS, KILL_LIMIT,
    sys::{self, Pace, RawUsage, WaitAny, Waited},
    tree::Tree,
};
use crate::{
    protocol::{OwnFarewell, Response, SoFar, Ticket, packet::send_response},
    tracer::tasks::Broke,
};
use harness_metadata::Survivor;
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

/// The attempt that runs, or whose descendants do.
pub(super) struct Attempt {
    pub(super) ticket: Ticket,
    pub(super) tree: Tree,
    /// Set once the root's exit was reported to the runner.
    pub(super) exit_told: bool,
    pub(super) killing: Option<Killing>,
    /// The usage of the stub's children, when it was reported last.
    pub(super) reaped: Option<RawUsage>,
    /// The end that it is given if the runner dies.
    pub(super) farewell: Option<OwnFarewell>,
    /// The reading ends of its output, for that time.
    pub(super) output: Vec<OwnedFd>,
}

/// The count of changes of tasks that have been taken.
#[derive(Copy, Clone, Default)]
pub(super) struct Taken {
    /// The number of processes that have ended.
    pub(super) ended: u32,
    /// There is no more for now.
    pub(super) quiet: bool,
    /// Neither a child nor a tracee is left.
    pub(super) nobody_left: bool,
}

/// A kill in progress.
pub(super) struct Killing {
    pub(super) deadline: Instant,
    pub(super) survivors: Vec<Survivor>,
}

impl Attempt {
    /// Waits for news of tasks, and handles it until there is something to say or a message to
    /// see to. What this saves over a look for more news after each is a system call per stop.
    pub(super) fn follow(&mut self) {
        for _ in 0..BATCH {
            match self.tree.wait_for_news() {
                WaitAny::News { pid, waited, usage } => self.tree.handle(pid, waited, usage),
                WaitAny::Quiet | WaitAny::Nobody => {
                    self.tree.tick();
                    break;
                }
            }
            let ended = self.tree.root_ended().is_some();
            if ended
                || self.tree.has_broken()
                || self.tree.has_stopped()
                || self.tree.is_stuck()
                || self.tree.watch().is_live()
                || sys::is_interrupted()
            {
                break;
            }
        }
    }

    /// Takes some news of tasks, without waiting.
    pub(super) fn take_news(&mut self, socket: BorrowedFd<'_>) -> io::Result<Taken> {
        let mut taken = Taken::default();
        for _ in 0..BATCH {
            match self.tree.news() {
                WaitAny::News { pid, waited, usage } => {
                    taken.ended += u32::from(matches!(waited, Waited::Ended(_)));
                    self.tree.handle(pid, waited, usage);
                    self.tell_events(socket, EVENTS)?;
                }
                WaitAny::Quiet => taken.quiet = true,
                WaitAny::Nobody => (taken.quiet, taken.nobody_left) = (true, true),
            }
            if taken.quiet {
                break;
            }
        }
        Ok(taken)
    }

    /// Returns what is known of it until now.
    pub(super) fn so_far(&mut self) -> SoFar {
        let reaped = *self.reaped.insert(self.tree.reaped());
        SoFar {
            usage: self.tree.usage(reaped),
            trace: self.tree.watch().summary(),
            escapes: self.tree.escapes(),
            violations: self.tree.watch().violations(),
        }
    }

    /// Tells the runner what has been seen, if it wants to know and there are at least so many
    /// events.
    pub(super) fn tell_events(&mut self, socket: BorrowedFd<'_>, least: usize) -> io::Result<()> {
        let Some(events) = self.tree.watch().unsaid(least) else {
            return Ok(());
        };
        let ticket = self.ticket;
        send_response(socket, &Response::Seen { ticket, events })
    }

    /// Tells the runner of processes that have been let go.
    pub(super) fn tell_broken(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let ticket = self.ticket;
        for Broke { pid, args } in self.tree.take_broken() {
            send_response(socket, &Response::Broke { ticket, pid, args })?;
        }
        Ok(())
    }

    /// Names what is alive, once, and kills it.
    pub(super) fn kill(&mut self) {
        if self.killing.is_none() {
            self.tree.look_for_escapes(Duration::ZERO);
            sys::set_pace(Pace::Insistent);
            let survivors = match self.tree.root_ended() {
                Some(ended) => self.tree.survivors(ended.at),
                // The test itself still runs: its descendants have not outlived anything.
                None => Vec::new(),
            };
            self.killing = Some(Killing {
                deadline: Instant::now() + KILL_LIMIT,
                survivors,
            });
        }
        let _ = self.tree.kill_all();
    }
}
