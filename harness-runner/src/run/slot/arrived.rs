//! Looks for what has arrived before a deadline condemns.

use super::{Slot, Start, Told, WatchedStub};
use crate::{
    protocol::Request,
    run::{
        pulse::{self, Beat},
        streams::Streams,
        unit::{Input, Unit},
    },
};

/// More messages than a socket holds: a packet takes at least 768 bytes of its 208 KiB, as the
/// kernel counts (`net.core.wmem_default`, socket(7)).
const MOST_ARRIVED: u32 = 1024;

impl Slot {
    /// Takes all that has arrived by now, asked of the socket and the pipes themselves. Nothing is
    /// held against a test, or a stub, before that: a run that is busy hears of things late, and of
    /// several things at once.
    pub(super) fn arrived(
        &mut self,
        start: Start,
        unit: &Unit,
        streams: &mut Streams,
        told: &mut Told,
    ) -> Vec<Input> {
        let mut inputs = Vec::new();
        for _ in 0..MOST_ARRIVED {
            let response = self.stub.as_ref().and_then(WatchedStub::try_receive);
            let Some(response) = response else { break };
            let lost = response.is_err();
            inputs.extend(self.heard(start, unit, response, streams, told));
            if lost {
                break;
            }
        }
        inputs.extend(streams.drain(&mut self.buffer));
        inputs
    }

    /// Finds out whether the stub still answers.
    pub(super) fn beat(&mut self) -> Vec<Input> {
        let Some(WatchedStub { stub, .. }) = &self.stub else {
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
                    self.asked,
                );
                vec![Input::StubLost(message)]
            }
        }
    }
}
