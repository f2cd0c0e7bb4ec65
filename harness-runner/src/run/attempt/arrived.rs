//! Looks for what has arrived before a deadline condemns.

use super::Running;
use crate::{
    protocol::Request,
    run::{
        pulse::{self, Beat},
        slot::WatchedStub,
        unit::Input,
    },
};

/// More messages than a socket holds: a packet takes at least 768 bytes of its 208 KiB, as the
/// kernel counts (`net.core.wmem_default`, socket(7)).
const MOST_ARRIVED: u32 = 1024;

impl Running<'_> {
    /// Takes all that has arrived by now, asked of the socket and the pipes themselves. Nothing is
    /// held against a test, or a stub, before that: a run that is busy hears of things late, and of
    /// several things at once.
    pub(super) fn arrived(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        for _ in 0..MOST_ARRIVED {
            let stub = self.slot.stub.current();
            let Some(response) = stub.and_then(WatchedStub::try_receive) else {
                break;
            };
            let lost = response.is_err();
            inputs.extend(self.heard(response));
            if lost {
                break;
            }
        }
        inputs.extend(self.streams.drain(&mut self.slot.buffer));
        inputs
    }

    /// Finds out whether the stub still answers.
    pub(super) fn beat(&mut self) -> Vec<Input> {
        let Some(WatchedStub { stub, .. }) = self.slot.stub.current() else {
            return Vec::new();
        };
        match self.pulse.beat(self.shared.clock.now()) {
            Beat::Ask => {
                let _ = stub.send(&Request::Beat, &[]);
                Vec::new()
            }
            Beat::Wake => {
                stub.wake();
                Vec::new()
            }
            Beat::Lost => {
                stub.kill();
                let message = format!(
                    "the double-spawn stub (process {}) has not answered for {}, and was killed; the \
                     last thing that it was asked was to {}",
                    stub.pid(),
                    humantime::format_duration(pulse::LIMIT),
                    self.slot.stub.asked(),
                );
                vec![Input::StubLost(message)]
            }
        }
    }
}
