//! The handling of a slot whose task panics: a fault of one attempt, not a run that waits for ever.

use super::FromSlot;
use std::any::Any;
use tokio::{sync::mpsc, task::JoinHandle};

/// Waits for the end of a slot's task, and tells the dispatcher if that was a panic.
pub(in crate::run) async fn watch_over(
    slot: usize,
    served: JoinHandle<()>,
    tell: mpsc::UnboundedSender<FromSlot>,
) {
    let Err(error) = served.await else { return };
    let Ok(panic) = error.try_into_panic() else {
        return;
    };
    let message = format!("its slot panicked: {}", message_of(&*panic));
    // The receiver is gone if the run has been abandoned.
    let _ = tell.send(FromSlot::Lost { slot, message });
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::{LocalSet, spawn_local};

    #[test]
    fn a_slot_that_panics_is_told_of() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("there are means for it");
        let (tell, mut told) = mpsc::unbounded_channel();
        LocalSet::new().block_on(&runtime, async {
            let ends = spawn_local(async {});
            watch_over(1, ends, tell.clone()).await;
            let panics = spawn_local(async { panic!("as it {}", "should") });
            watch_over(7, panics, tell).await;
        });
        let Ok(FromSlot::Lost { slot: 7, message }) = told.try_recv() else {
            panic!("slot 7 was not reported first");
        };
        assert_eq!(message, "its slot panicked: as it should");
        assert!(told.try_recv().is_err());
    }
}
