//! Serves a slot: makes the attempts that the dispatcher orders.

use super::{
    Output,
    again::{again, earlier},
    attempt::{Cut, Over, Running},
    dispatch::Variables,
    elsewhere,
    road::Toll,
    shared::Shared,
    slot::{FromSlot, Made, Slot, Start, ToSlot},
    unit::Force,
    will,
    work::Role,
};
use harness_metadata::{Attempt, Verdict};
use std::{collections::BTreeMap, rc::Rc};

/// Takes orders until there are no more.
pub(super) async fn serve(mut slot: Slot, shared: Rc<Shared>) {
    while let Some(order) = slot.orders.recv().await {
        match order {
            ToSlot::Start(start) => {
                let mut over = match start.remote {
                    true => elsewhere::attempt(&mut slot, &shared, start).await,
                    false => attempt(&mut slot, &shared, start).await,
                };
                if let Some(output) = &mut over.output {
                    output.toll = enter_road(&mut slot, &shared, output).await;
                }
                slot.lingering = over.lingers;
                let variables = variables(&mut slot, &shared, start, &over.attempt);
                slot.tell(FromSlot::Over(Made {
                    slot: slot.number,
                    variables,
                    test: start.test,
                    attempt: Box::new(over.attempt),
                    output: over.output,
                    trace: over.trace,
                    refused: over.cut == Some(Cut::Refused),
                }));
            }
            ToSlot::End => {
                let survivors = slot.end_script().await;
                let slot_number = slot.number;
                slot.tell(FromSlot::Ended {
                    slot: slot_number,
                    survivors,
                });
            }
            order => slot.idle(order),
        }
    }
    slot.end_stub().await;
}

/// Takes the variables that a setup script sets. Its teardown sees them, also if the runner dies.
fn variables(slot: &mut Slot, shared: &Shared, start: Start, attempt: &Attempt) -> Variables {
    let Role::Setup {
        script, teardown, ..
    } = shared.work.test(start.test).role
    else {
        return Ok(BTreeMap::new());
    };
    if attempt.verdict != Verdict::Pass {
        return Ok(BTreeMap::new());
    }
    let variables = shared.scripts.read_file(script)?;
    if let Some(unit) = teardown.filter(|_| !variables.is_empty()) {
        // Without a stub nothing is torn down by it.
        let _ = will::leave(slot, shared, unit);
    }
    Ok(variables)
}

/// Makes an attempt, and makes it again if the tracer was in its way.
pub(super) async fn attempt(slot: &mut Slot, shared: &Shared, start: Start) -> Over {
    let once = shared.work.once(start.test);
    let learned = shared.learned.borrow().get(&once).copied();
    let mut tracing = learned.unwrap_or(shared.work.test(start.test).tracing);
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
        shared.learned.borrow_mut().insert(once, next);
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
