//! Times of files, against those of tests.

use crate::sys::Identity;
use camino::Utf8Path;
use nix::time::{ClockId, clock_gettime};
use std::{
    fs, io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The coarsest step of file times in a file system of this machine: the kernel's tick, twice.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// As before for all file systems: some have times in steps of two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// The part of a time by which the clock may be steered while it passes (adjtimex(2): at most 500 in a million).
const STEERED: u32 = 1_000;

/// Returns the time since 1970.
pub fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// Returns whether a file was not changed since a moment: neither its content nor anything else of it. `prompt` says
/// whether its file system shows a change at once.
pub(super) fn is_older(file: &Identity, moment: Duration, prompt: bool) -> bool {
    let step = if prompt { TICK } else { SETTLED };
    let before = |time: (i64, i64)| time_of(time).is_some_and(|time| time + step <= moment);
    before(file.modified) && before(file.changed)
}

/// Returns whether a change of a file from now on will show in its times.
pub(super) fn is_settled(file: &Identity, now: Duration) -> bool {
    is_older(file, now, false)
}

/// Returns whether a folder's own metadata, or its name, were not changed since a moment. A change of its entries
/// sets both of its times to the same.
pub(super) fn is_in_place(folder: &Identity, moment: Duration, prompt: bool) -> bool {
    folder.changed == folder.modified || is_older(folder, moment, prompt)
}

/// Since 1970; `None` for a time before.
fn time_of((seconds, nanoseconds): (i64, i64)) -> Option<Duration> {
    Some(Duration::new(
        seconds.try_into().ok()?,
        nanoseconds.try_into().ok()?,
    ))
}

/// The clock of the files, against one that cannot be set.
#[derive(Copy, Clone, Debug)]
pub(super) struct Clock {
    wall: Duration,
    steady: Duration,
}

/// Reads of both clocks, until nothing comes between them.
const READS: u32 = 64;

impl Clock {
    /// Reads both. Who loses the CPU in between takes the time that passes for a clock that was set, so the
    /// closest pair of some counts.
    pub(super) fn read() -> Option<Self> {
        let steady = || Some(Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?));
        let mut before = steady()?;
        let mut closest: Option<(Duration, Self)> = None;
        for _ in 0..READS {
            let wall = now();
            let after = steady()?;
            let apart = after.saturating_sub(before);
            let pair = Self {
                wall,
                steady: before,
            };
            if closest.is_none_or(|(least, _)| apart < least) {
                closest = Some((apart, pair));
            }
            if apart <= TICK / 16 {
                break;
            }
            before = after;
        }
        closest.map(|(_, pair)| pair)
    }

    /// Returns whether the clock was not set between two moments.
    pub(super) fn went_on_until(self, later: Self) -> bool {
        let passed = later.steady.saturating_sub(self.steady);
        let shown = self.wall + passed;
        shown.abs_diff(later.wall) <= TICK / 2 + passed / STEERED
    }

    #[cfg(test)]
    pub(super) fn at(wall: Duration, steady: Duration) -> Self {
        Self { wall, steady }
    }
}

/// Removes files and folders in a folder that were changed longer ago than this.
pub fn remove_old(folder: &Utf8Path, age: Duration) {
    let is_old = |entry: &fs::DirEntry| -> Option<bool> {
        let modified = entry.metadata().ok()?.modified().ok()?;
        Some(SystemTime::now().duration_since(modified).ok()? > age)
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_old(&entry) == Some(true) {
            let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
        }
    }
}

/// Dates a file as changed now.
///
/// # Errors
///
/// When it cannot be opened or dated.
pub fn touch(file: &Utf8Path) -> io::Result<()> {
    fs::File::open(file)?.set_modified(SystemTime::now())
}
