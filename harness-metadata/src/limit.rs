//! What a test may use, and which of its limits it hit.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a test and all its descendants may use together. `None` is without limit.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory, swap not included: there is none for a test that has this limit.
    pub memory_max: Option<u64>,
    /// Processes and threads at the same time.
    pub pids_max: Option<u32>,
    /// CPUs.
    pub cpu_max: Option<Cpus>,
}

impl Limits {
    /// Returns what is limited.
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

/// What can be limited.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// A limit that a test hit. That fails it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "limit", rename_all = "kebab-case")]
pub enum LimitHit {
    /// It ran out of memory.
    MemoryMax {
        /// The limit.
        bytes: u64,
        /// How many of its processes the kernel killed for it.
        killed: u64,
    },
    /// It had too many processes.
    PidsMax {
        /// The limit.
        pids: u32,
        /// How many further ones the kernel refused.
        refused: u64,
    },
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
