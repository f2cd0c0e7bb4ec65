//! Gathers what is running, for a user who asked: what the dispatcher knows at once, and what the
//! slots and their stubs have to be asked for, as far as they answer in time.

use super::slot::Described;
use harness_metadata::event::RunningTest;
use std::time::{Duration, Instant};
use tokio::{sync::mpsc, time::timeout_at};

/// The time limit for the answers. A stub takes up to 200 ms to inspect a large tree.
const LIMIT: Duration = Duration::from_millis(500);

/// An answer that is being gathered.
pub(super) struct Asking {
    /// Disconnected when every slot has answered, or has nothing to say.
    answers: mpsc::UnboundedReceiver<Described>,
    until: Instant,
    heard: Vec<Described>,
}

impl Asking {
    pub(super) fn new(answers: mpsc::UnboundedReceiver<Described>) -> Self {
        Self {
            answers,
            until: Instant::now() + LIMIT,
            heard: Vec::new(),
        }
    }

    /// Waits until there is nothing more to wait for. Nothing is lost if it is cancelled.
    pub(super) async fn gather(&mut self) {
        while let Ok(Some(described)) = timeout_at(self.until.into(), self.answers.recv()).await {
            self.heard.push(described);
        }
    }

    /// Adds what was heard to what is running now.
    pub(super) fn complete(self, running: &mut [RunningTest]) {
        for described in self.heard {
            let Described {
                slot,
                attempt,
                state,
                detail,
            } = described;
            let same = |test: &&mut RunningTest| test.slot == slot && test.attempt == attempt;
            // What has ended meanwhile, or has been followed by another, is not running.
            if let Some(test) = running.iter_mut().find(same) {
                test.state = state;
                test.detail = Some(Box::new(detail));
            }
        }
    }
}

/// Waits for the end of an [`Asking`], or for ever if there is none.
pub(super) async fn gathered(asking: &mut Option<Asking>) {
    match asking {
        Some(asking) => asking.gather().await,
        None => std::future::pending().await,
    }
}
