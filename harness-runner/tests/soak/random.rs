//! Random numbers that a seed repeats.

use std::{
    hint, thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Numbers that can be had again (SplitMix64).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns another seed every time.
    pub(crate) fn seed() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(1, |since| since.as_micros() as u64)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Takes a random time, a few hundred microseconds at most.
    pub(crate) fn dawdle(&mut self) {
        match self.below(3) {
            0 => {}
            1 => (0..self.below(20_000)).for_each(|_| hint::spin_loop()),
            _ => thread::sleep(Duration::from_micros(self.below(500))),
        }
    }
}
