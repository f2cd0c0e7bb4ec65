//! Bounds the output that is on its way from the slots to where it is kept.
//!
//! A disk can be slower than tests print. What waits for it holds memory and descriptors, so a slot
//! waits with the result of its test, and starts the next one later. A slow reader is never waited
//! for: see `session::queue`.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The greatest weight of the files that are on the way.
const WIDTH: u32 = 32 * 1024;

/// Bytes that weigh 1.
const UNIT: u64 = 1024;

/// The weight of a file: only a handful are on the way.
pub(super) const FILE: u64 = 8 * 1024 * 1024;

/// The way to where output is kept.
#[derive(Debug)]
pub(super) struct Road(Arc<Semaphore>);

/// A place on the way. It is free again when this is dropped.
pub(super) type Toll = OwnedSemaphorePermit;

impl Default for Road {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WIDTH as usize)))
    }
}

impl Road {
    /// Waits until there is a place for an output of this weight.
    pub(super) async fn enter(&self, weight: u64) -> Option<Toll> {
        let weight = weight.div_ceil(UNIT);
        // One output alone always fits.
        let weight = u32::try_from(weight).unwrap_or(WIDTH).clamp(1, WIDTH);
        Arc::clone(&self.0).acquire_many_owned(weight).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Output;
    use std::time::Duration;

    #[test]
    fn memory_and_files_on_the_way_are_bounded() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let road = Road::default();
            let output = Output::of(&vec![b'x'; 1 << 20]);
            let mut on_the_way = Vec::new();
            let short = Duration::from_millis(1);
            while let Ok(toll) = tokio::time::timeout(short, road.enter(output.weight())).await {
                on_the_way.push(toll.unwrap());
            }
            assert_eq!(on_the_way.len(), 32);
            on_the_way.clear();
            let with_file = Output::of(&vec![b'x'; 2 << 20]);
            while let Ok(toll) = tokio::time::timeout(short, road.enter(with_file.weight())).await {
                on_the_way.push(toll.unwrap());
            }
            assert_eq!(on_the_way.len(), 3);
        });
    }
}
