//! A run whose runner is watched: how long it takes, and its memory.

use crate::scene::{Finished, LONGEST_RUN, Scene};
use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// A run that has ended.
pub(crate) struct Watched {
    pub(crate) finished: Finished,
    pub(crate) wall: Duration,
    /// The most memory that the runner's own process had, in MiB: neither what it started nor the
    /// stubs.
    pub(crate) peak: u64,
}

/// Runs a command to its end.
pub(crate) fn watch(scene: &Scene, command: Command) -> Watched {
    let begun = Instant::now();
    let mut run = scene.start(command);
    let mut peak = 0;
    // What takes longer is ended, and fails, where its end is waited for.
    while !run.has_ended() && begun.elapsed() < 4 * LONGEST_RUN {
        peak = peak.max(peak_of(run.pid().as_raw()).unwrap_or_default());
        thread::sleep(Duration::from_millis(5));
    }
    let wall = begun.elapsed();
    Watched {
        finished: run.finish(),
        wall,
        peak: peak / 1024,
    }
}

/// Returns the peak of a process, in KiB.
fn peak_of(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
