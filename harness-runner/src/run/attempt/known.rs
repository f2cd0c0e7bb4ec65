//! The facts that the stub has sent of a running attempt.

use crate::protocol::{Exited, SoFar};
use harness_metadata::outcome::StuckTask;
use std::time::Duration;

/// The facts that the stub has sent of a running attempt.
#[derive(Default)]
pub(super) struct Known {
    pub(super) pid: Option<i32>,
    pub(super) elapsed: Option<Duration>,
    /// The size of the output at the end of the test's own process.
    pub(super) written_at_exit: Option<u64>,
    pub(super) so_far: SoFar,
    /// The states of its tasks at its time limit.
    pub(super) stuck: Vec<StuckTask>,
    /// The states of its tasks when it was last reported as slow.
    pub(super) slow: Vec<StuckTask>,
}

impl Known {
    /// The test's own process has ended, when so much output had been written.
    pub(super) fn exited(&mut self, exited: Exited, written: u64) {
        self.pid = Some(exited.pid);
        self.elapsed = Some(exited.elapsed);
        self.written_at_exit = Some(written);
        self.so_far = exited.so_far;
    }

    /// The last process is gone.
    pub(super) fn gone(&mut self, so_far: SoFar) {
        // What was seen up to the root's end is more than nothing.
        let trace = so_far.trace.or(self.so_far.trace.take());
        self.so_far = SoFar { trace, ..so_far };
    }
}
