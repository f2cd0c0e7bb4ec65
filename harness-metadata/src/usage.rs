//! What a test's processes used.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Resources used by a test's process and all its descendants, as `wait4(2)` reports them.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// The largest resident set of any single process, in bytes. Includes what the process had
    /// before its first exec, which is the spawning stub's own few MiB: read values below 8 MiB
    /// as "small".
    pub peak_memory: u64,
    /// Processes that existed, the test's own included, threads not counted. `None` where only a
    /// tracer can tell and there was none.
    pub processes: Option<u32>,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
}
