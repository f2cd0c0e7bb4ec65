//! What the stub has told of the running attempt.

use super::{Broken, Described, FromSlot, Start};
use crate::protocol::{Escape, RunnerStopped};
use crate::run::live::{self, Live};
use harness_metadata::{TraceSummary, Usage, outcome::StuckTask};
use std::{collections::VecDeque, time::Duration};
use tokio::sync::mpsc;

/// What the stub has told of the running attempt.
#[derive(Default)]
pub(super) struct Told {
    pub(super) pid: Option<i32>,
    pub(super) elapsed: Option<Duration>,
    /// How much output there was when the test's own process had ended.
    pub(super) written_at_exit: Option<u64>,
    pub(super) usage: Usage,
    pub(super) trace: Option<Box<TraceSummary>>,
    /// By what its limits did not hold.
    pub(super) escapes: Vec<Escape>,
    /// What it was waiting for when its time was up.
    pub(super) stuck: Vec<StuckTask>,
    /// If it is traced live.
    pub(super) live: Option<Live>,
    /// What a live trace saw since that was last passed on.
    pub(super) seen: Vec<live::Batch>,
    /// Who wants to know the answers to the inspections that the stub has been asked for, in order:
    /// somebody else, or the attempt's own record.
    pub(super) inspections: VecDeque<Option<mpsc::UnboundedSender<Described>>>,
    /// A stop of the runner, until that is passed on.
    pub(super) stopped: Option<RunnerStopped>,
    /// Processes that are stopped for a debugger, until that is passed on.
    pub(super) broken: Vec<Broken>,
}

/// Passes on what the stub has told and others want to know.
pub(super) fn pass_on(told: &mut Told, start: Start, tell: &mpsc::UnboundedSender<FromSlot>) {
    let (test, attempt) = (start.test, start.attempt);
    if let Some(stopped) = told.stopped.take() {
        let _ = tell.send(FromSlot::Stopped(stopped));
    }
    for broken in told.broken.drain(..) {
        let _ = tell.send(FromSlot::Broke {
            test,
            attempt,
            broken,
        });
    }
    for batch in told.seen.drain(..) {
        let _ = tell.send(FromSlot::Traced {
            test,
            attempt,
            batch,
        });
    }
}
