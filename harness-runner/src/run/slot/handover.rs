//! Hands the output of an attempt over to those who keep it.

use super::{Output, Slot, ToSlot};
use crate::run::{road::Toll, unit::Force};
use tokio::sync::mpsc;

impl Slot {
    /// Waits until there is a place for output on the way to where it is kept, or the run is in a
    /// hurry.
    pub(super) async fn enter_road(
        &self,
        output: &Output,
        orders: &mut mpsc::UnboundedReceiver<ToSlot>,
    ) -> Option<Toll> {
        let mut entered = std::pin::pin!(self.shared.road.enter(output));
        loop {
            tokio::select! {
                biased;
                toll = &mut entered => return toll,
                // Anything else is meant for an attempt that is over.
                Some(order) = orders.recv() => if let ToSlot::Interrupt(_, Force::Kill) = order {
                    return None;
                }
            }
        }
    }
}
