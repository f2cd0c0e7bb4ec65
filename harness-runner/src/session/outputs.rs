//! Holds captured output for the sinks: that of the event at hand as the run handed it over, and
//! what is wanted again in one file on disk.

use crate::{
    report::{Kept, Outputs, Stream},
    run::Output,
    store::{Spool, SpooledOutput},
};
use harness_metadata::{AttemptId, TestId};
use std::{collections::BTreeMap, io};

/// The captured output that can still be asked for.
#[derive(Debug, Default)]
pub(super) struct OutputStore {
    /// Of attempts whose test is not over, and of the event at hand.
    fresh: BTreeMap<AttemptId, Output>,
    kept: BTreeMap<AttemptId, SpooledOutput>,
    spool: Spool,
}

impl OutputStore {
    pub(super) fn new(spool: Spool) -> Self {
        Self {
            spool,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, attempt: AttemptId, output: Output) {
        self.fresh.insert(attempt, output);
    }

    /// Moves the output of an attempt to disk. Returns where it is.
    ///
    /// If the disk is full it stays in memory: nothing that is known is lost.
    pub(super) fn keep(&mut self, attempt: AttemptId) -> Option<SpooledOutput> {
        let output = self.fresh.get(&attempt)?;
        let spooled = self.spool.add(output.stdout(), output.stderr()).ok()?;
        self.fresh.remove(&attempt);
        self.kept.insert(attempt, spooled);
        Some(spooled)
    }

    /// Forgets the output of a test's attempts.
    pub(super) fn forget(&mut self, test: &TestId, attempts: u32) {
        for attempt in 1..=attempts {
            let attempt = AttemptId {
                test: test.clone(),
                attempt,
            };
            self.fresh.remove(&attempt);
            self.kept.remove(&attempt);
        }
    }
}

impl Outputs for OutputStore {
    fn open(&self, attempt: &AttemptId, stream: Stream) -> io::Result<Option<Kept<'_>>> {
        if let Some(output) = self.fresh.get(attempt) {
            return Ok(Some(match stream {
                Stream::Stdout => output.stdout(),
                Stream::Stderr => output.stderr(),
            }));
        }
        let kept = self.kept.get(attempt);
        kept.map(|output| self.spool.open(*output, stream))
            .transpose()
    }
}
