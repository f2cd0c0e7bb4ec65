//! Resources that a test's processes used.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Resources used by a test's process and all its descendants, as `wait4(2)` and their cgroup report
/// them.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Usage {
    /// CPU time in user mode.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub user: Duration,
    /// CPU time in the kernel.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub system: Duration,
    /// The largest resident set of any single process, in bytes. Includes what the process had
    /// before its first exec, which is the spawning stub's own few MiB: read values below 8 MiB
    /// as "small".
    pub peak_memory: u64,
    /// The peak of the memory of all processes together, in bytes, as their cgroup counted it: with
    /// kernel memory and the page cache of their files. `None` without a cgroup that counts it.
    #[serde(default)]
    pub peak_tree_memory: Option<u64>,
    /// The time in which `cpu-max` kept the test's processes from running; `None` without that
    /// limit.
    #[serde(default)]
    #[serde(with = "crate::seconds::optional")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub throttled: Option<Duration>,
    /// The number of processes, the test's own included, threads not counted. `None` if it takes a
    /// tracer to count them and there was none.
    pub processes: Option<u32>,
    /// Bytes that were read from disks, pages of memory-mapped files included.
    #[serde(default)]
    pub disk_read: u64,
    /// Bytes that were written and have to go to disks.
    #[serde(default)]
    pub disk_written: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
}
