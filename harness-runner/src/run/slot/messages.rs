//! The messages between the dispatcher and a slot.

use crate::protocol::RunnerStopped;
use crate::run::{
    Output,
    dispatch::{Said, Variables},
    live,
    streams::Streams,
    unit::{Force, Unit},
};
use crate::store::KeptTrace;
use harness_metadata::{
    Attempt, Interruption, RawString, Survivor,
    event::{RunningDetail, RunningState},
    outcome::StuckTask,
};
use std::{convert::Infallible, time::Duration};
use tokio::sync::mpsc;

/// A message from the dispatcher to a slot.
#[derive(Debug)]
pub(in crate::run) enum ToSlot {
    Start(Start),
    Interrupt(Interruption, Force),
    /// Tell of the running attempt, if there is one.
    Describe(mpsc::UnboundedSender<Described>),
    /// Read what has arrived by now of the running attempt, if there is one. Dropped when that has
    /// been done.
    Look(PassedOn),
    /// Send a signal to the process group of the running attempt, if there is one.
    Signal {
        signal: i32,
        /// Dropped when that has been done.
        passed_on: Option<PassedOn>,
    },
    /// Kill what a setup script has left, and forget its teardown: [`FromSlot::Ended`].
    End,
}

/// An attempt that runs.
#[derive(Debug)]
pub(in crate::run) struct Described {
    pub(in crate::run) slot: usize,
    pub(in crate::run) attempt: u32,
    pub(in crate::run) state: RunningState,
    pub(in crate::run) detail: RunningDetail,
}

impl Described {
    /// Returns what the near side knows.
    pub(in crate::run) fn new(
        slot: usize,
        attempt: u32,
        unit: &Unit,
        now: Duration,
        streams: &Streams,
    ) -> Self {
        let (state, slow, left) = unit.state(now);
        let (stdout, stderr) = streams.so_far();
        let detail = RunningDetail {
            slow,
            left,
            stdout,
            stderr,
            ..RunningDetail::default()
        };
        Self {
            slot,
            attempt,
            state,
            detail,
        }
    }

    /// Adds what the stub has found out.
    pub(in crate::run) fn with_tasks(mut self, pid: Option<i32>, tasks: Vec<StuckTask>) -> Self {
        self.detail.pid = pid;
        self.detail.tasks = tasks;
        self
    }
}

/// Never used to send: the other end learns when the last of these is dropped.
pub(in crate::run) type PassedOn = mpsc::UnboundedSender<Infallible>;

/// An attempt to start.
#[derive(Copy, Clone, Debug)]
pub(in crate::run) struct Start {
    pub(in crate::run) test: usize,
    pub(in crate::run) attempt: u32,
    pub(in crate::run) total_attempts: u32,
    pub(in crate::run) group_slot: Option<usize>,
    /// Whether it runs elsewhere.
    pub(in crate::run) remote: bool,
}

/// A message from a slot to the dispatcher.
#[derive(Debug)]
pub(in crate::run) enum FromSlot {
    Slow {
        test: usize,
        attempt: u32,
        elapsed: Duration,
        terminating: bool,
    },
    Traced {
        test: usize,
        attempt: u32,
        batch: live::Batch,
    },
    Printed(Spoken),
    Broke {
        test: usize,
        attempt: u32,
        broken: Broken,
    },
    /// The runner had been stopped.
    Stopped(RunnerStopped),
    /// The task of the slot has panicked.
    Lost {
        slot: usize,
        message: String,
    },
    Over(Made),
    /// Something is heard of a service that starts.
    Said {
        slot: usize,
        what: Said,
    },
    /// The answer to a look whether a service is there.
    Looked {
        service: usize,
        answer: Result<(), String>,
    },
    /// The variables of a service that is ready.
    Published {
        service: usize,
        variables: Variables,
    },
    /// Of a setup script, nothing is left. These were killed.
    Ended {
        slot: usize,
        survivors: Vec<Survivor>,
    },
}

/// Lines that an attempt has printed.
#[derive(Debug)]
pub(in crate::run) struct Spoken {
    pub(in crate::run) slot: usize,
    pub(in crate::run) test: usize,
    pub(in crate::run) attempt: u32,
    pub(in crate::run) lines: live::Lines,
}

/// An attempt that has been made.
#[derive(Debug)]
pub(in crate::run) struct Made {
    pub(in crate::run) slot: usize,
    pub(in crate::run) test: usize,
    pub(in crate::run) attempt: Box<Attempt>,
    pub(in crate::run) output: Option<Output>,
    pub(in crate::run) trace: Option<KeptTrace>,
    /// Whether it never began, because the system did not have enough for it.
    pub(in crate::run) refused: bool,
    /// If it is a setup script: the variables that it sets.
    pub(in crate::run) variables: Variables,
}

/// A process that is stopped for a debugger.
#[derive(Debug)]
pub(in crate::run) struct Broken {
    pub(in crate::run) pid: i32,
    pub(in crate::run) args: Vec<RawString>,
}
