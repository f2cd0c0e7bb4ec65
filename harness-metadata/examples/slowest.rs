//! Names the slowest tests of a run.
//!
//! `cargo harness run --events events.ndjson`, then
//! `cargo run -p harness-metadata --example slowest < events.ndjson`.

use harness_metadata::{Event, EventKind, TestId};
use std::{
    error::Error,
    io::{self, Write},
    time::Duration,
};

/// The number of tests to name.
const MOST: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut tests: Vec<(Duration, TestId)> = Vec::new();
    let mut skipped = 0;
    for line in io::stdin().lines() {
        // A newer runner writes kinds of events that this version of the crate does not know.
        let Ok(event) = serde_json::from_str::<Event>(&line?) else {
            skipped += 1;
            continue;
        };
        if let EventKind::TestFinished(finished) = event.kind {
            let elapsed = finished.attempts.iter().map(|attempt| attempt.elapsed);
            tests.push((elapsed.sum(), finished.test));
        }
    }
    tests.sort_by(|(a, _), (b, _)| b.cmp(a));
    let mut out = io::stdout().lock();
    for (elapsed, test) in tests.iter().take(MOST) {
        writeln!(out, "{:>9.3} s  {test}", elapsed.as_secs_f64())?;
    }
    if skipped > 0 {
        writeln!(io::stderr(), "lines that could not be read: {skipped}")?;
    }
    Ok(())
}
