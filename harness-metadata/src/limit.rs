//! The limits of a test, and those that it hit.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The limits of a test and all its descendants together. `None` is no limit.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct Limits {
    /// Bytes of memory, swap not included: there is none for a test that has this limit.
    pub memory_max: Option<u64>,
    /// Processes and threads at the same time.
    pub pids_max: Option<u32>,
    /// CPUs.
    pub cpu_max: Option<Cpus>,
}

impl Limits {
    /// Returns the kinds that have a limit.
    pub fn kinds(&self) -> impl Iterator<Item = LimitKind> + use<> {
        let limited = [
            (LimitKind::Memory, self.memory_max.is_some()),
            (LimitKind::Pids, self.pids_max.is_some()),
            (LimitKind::Cpu, self.cpu_max.is_some()),
        ];
        let limited = limited.into_iter().filter(|(_, limited)| *limited);
        limited.map(|(kind, _)| kind)
    }
}

/// The kinds of limits.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    /// Memory.
    Memory,
    /// The number of processes and threads.
    Pids,
    /// CPU time.
    Cpu,
}

impl LimitKind {
    /// Returns the key in the configuration.
    pub fn key(self) -> &'static str {
        match self {
            Self::Memory => "memory-max",
            Self::Pids => "pids-max",
            Self::Cpu => "cpu-max",
        }
    }
}

/// A number of CPUs, in thousandths.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Cpus {
    /// 1000 is one CPU.
    pub thousandths: u32,
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f64::from(self.thousandths) / 1000.0).fmt(f)
    }
}

/// A limit that a test hit, or that did not hold for it. Either fails it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(tag = "limit", rename_all = "kebab-case")]
pub enum LimitHit {
    /// It ran out of memory.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    MemoryMax {
        /// The limit.
        bytes: u64,
        /// The number of its processes that the kernel killed for it.
        killed: u64,
    },
    /// It had too many processes.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    PidsMax {
        /// The limit.
        pids: u32,
        /// The number of further ones that the kernel refused.
        refused: u64,
    },
    /// A process or thread was outside of the test's cgroup, where no limit holds.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    LeftCgroup {
        /// The process or thread.
        pid: i32,
        /// The cgroup in which it was, as in `/proc/PID/cgroup`.
        found: String,
    },
    /// The trace shows that a process opened a file for writing by which a cgroup is left or a limit
    /// is changed.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    CgroupOpened {
        /// The process.
        pid: i32,
        /// The file.
        file: String,
    },
    /// A limit had changed between start and end.
    #[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
    LimitChanged {
        /// The kind of limit.
        kind: LimitKind,
        /// The file of the cgroup that has it, such as `memory.max`.
        file: String,
        /// The limit at the start.
        wanted: String,
        /// The limit at the end; `None` if there was no such file any more.
        found: Option<String>,
    },
}

impl LimitHit {
    /// Returns whether the limits did not hold.
    pub fn escaped(&self) -> bool {
        match self {
            Self::MemoryMax { .. } | Self::PidsMax { .. } => false,
            Self::LeftCgroup { .. } | Self::CgroupOpened { .. } | Self::LimitChanged { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_cpus_is_written_as_it_is_configured() {
        let shown = |thousandths| Cpus { thousandths }.to_string();
        assert_eq!(
            [500, 1000, 1500, 10].map(shown),
            ["0.5", "1", "1.5", "0.01"]
        );
    }
}
