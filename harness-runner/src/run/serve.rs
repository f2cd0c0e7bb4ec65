//! Serves a slot: makes the attempts that the dispatcher orders.

use super::{
    Output,
    again::{again, earlier},
    attempt::{Cut, Over, Running},
    road::Toll,
    shared::Shared,
    slot::{FromSlot, Made, Slot, Start, ToSlot},
    unit::Force,
};
use harness_metadata::Attempt;
use std::rc::Rc;

/// Takes orders until there are no more.
pub(super) async fn serve(mut slot: Slot, shared: Rc<Shared>) {
    while let Some(order) = slot.orders.recv().await {
        match order {
            ToSlot::Start(start) => {
                let mut over = attempt(&mut slot, &shared, start).await;
                if let Some(output) = &mut over.output {
                    output.toll = enter_road(&mut slot, &shared, output).await;
                }
                slot.tell(FromSlot::Over(Made {
                    slot: slot.number,
                    test: start.test,
                    attempt: Box::new(over.attempt),
                    output: over.output,
                    refused: over.cut == Some(Cut::Refused),
                }));
            }
            order => slot.idle(order),
        }
    }
    slot.end_stub().await;
}

/// Makes an attempt, and makes it again if the tracer was in its way.
async fn attempt(slot: &mut Slot, shared: &Shared, start: Start) -> Over {
    let learned = shared.learned.borrow().get(&start.test).copied();
    let mut tracing = learned.unwrap_or(shared.work.tests[start.test].tracing);
    let mut before = Vec::new();
    loop {
        let running = Running::new(slot, shared, start, tracing);
        let over = running.run_to_end().await;
        let again = again(tracing, &over.attempt).filter(|_| over.cut.is_none());
        let Some(next) = again else {
            let attempt = Attempt {
                earlier: before,
                ..over.attempt
            };
            return Over { attempt, ..over };
        };
        before.push(earlier(tracing, over.attempt));
        tracing = next;
        // Its further attempts begin with this.
        shared.learned.borrow_mut().insert(start.test, next);
    }
}

/// Waits until there is a place for output on the way to where it is kept, or the run is in a hurry.
async fn enter_road(slot: &mut Slot, shared: &Shared, output: &Output) -> Option<Toll> {
    let mut entered = std::pin::pin!(shared.road.enter(output.weight()));
    loop {
        tokio::select! {
            biased;
            toll = &mut entered => return toll,
            // Anything else is meant for an attempt that is over.
            Some(order) = slot.orders.recv() => if let ToSlot::Interrupt(_, Force::Kill) = order {
                return None;
            }
        }
    }
}
