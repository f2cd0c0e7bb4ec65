//! The numbers that the runner measures of an attempt, by name.

use crate::{
    event::TraceLevel,
    outcome::Attempt,
    trace::{FileUse, NetworkOperation, TraceSummary},
    words,
};
use std::time::Duration;

/// A number that the runner measures. The lower each is, the better.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// The running time of the test's own process.
    Time,
    /// CPU time of all processes.
    Cpu,
    /// CPU time in user mode.
    CpuUser,
    /// CPU time in the kernel.
    CpuSystem,
    /// The peak resident memory of the largest process.
    Rss,
    /// The peak of the memory of all processes together.
    Memory,
    /// Bytes read from disks.
    DiskRead,
    /// Bytes that have to go to disks.
    DiskWritten,
    /// Bytes of output on both streams.
    Output,
    /// Context switches.
    Switches,
    /// Processes, one after the other or at the same time.
    Processes,
    /// Programs that were executed.
    Execs,
    /// Different files that were opened.
    FilesOpened,
    /// Different files that were written, created, cut or renamed to.
    FilesWritten,
    /// Different files that were removed.
    FilesRemoved,
    /// Different files that were asked for and are not there.
    FilesMissing,
    /// System calls on files that the tracer saw.
    CallsFiles,
    /// System calls on sockets that the tracer saw.
    CallsNetwork,
    /// Different addresses that were connected or sent to.
    Peers,
}

words!(Measure {
    Time = "time",
    Cpu = "cpu",
    CpuUser = "cpu.user",
    CpuSystem = "cpu.system",
    Rss = "rss",
    Memory = "memory",
    DiskRead = "disk.read",
    DiskWritten = "disk.written",
    Output = "output",
    Switches = "switches",
    Processes = "processes",
    Execs = "execs",
    FilesOpened = "files.opened",
    FilesWritten = "files.written",
    FilesRemoved = "files.removed",
    FilesMissing = "files.missing",
    CallsFiles = "calls.files",
    CallsNetwork = "calls.network",
    Peers = "peers",
});

/// The unit of a number that the runner measures.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MeasureUnit {
    /// Seconds.
    Time,
    /// Bytes.
    Size,
    /// A count.
    Count,
}

impl MeasureUnit {
    /// Returns its symbol; `None` for a count.
    pub fn symbol(self) -> Option<&'static str> {
        match self {
            Self::Time => Some("s"),
            Self::Size => Some("B"),
            Self::Count => None,
        }
    }
}

/// A number of an attempt, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// It is this.
    Exactly(f64),
    /// It is this or more; the reason, as a sentence fragment.
    AtLeast(f64, String),
    /// The reason why it is not known, as a sentence fragment.
    Unknown(String),
}

impl Measure {
    /// Returns its unit.
    pub fn unit(self) -> MeasureUnit {
        match self {
            Self::Time | Self::Cpu | Self::CpuUser | Self::CpuSystem => MeasureUnit::Time,
            Self::Rss | Self::Memory | Self::DiskRead | Self::DiskWritten | Self::Output => {
                MeasureUnit::Size
            }
            _ => MeasureUnit::Count,
        }
    }

    /// Returns the number of an attempt.
    pub fn of(self, attempt: &Attempt) -> Measured {
        let usage = &attempt.usage;
        match self {
            Self::Time => seconds(attempt.elapsed),
            Self::Cpu => seconds(usage.user + usage.system),
            Self::CpuUser => seconds(usage.user),
            Self::CpuSystem => seconds(usage.system),
            Self::Rss => number(usage.peak_memory),
            Self::Memory => usage.peak_tree_memory.map_or_else(
                || Measured::Unknown("the test had no cgroup that counts its memory".to_owned()),
                number,
            ),
            Self::DiskRead => number(usage.disk_read),
            Self::DiskWritten => number(usage.disk_written),
            Self::Output => number(attempt.stdout.written + attempt.stderr.written),
            Self::Switches => number(usage.voluntary_switches + usage.involuntary_switches),
            Self::Processes => usage.processes.map_or_else(
                || Measured::Unknown("no tracer counted the processes of the test".to_owned()),
                |processes| number(processes.into()),
            ),
            Self::Execs => traced(attempt, TraceLevel::Process, |trace| {
                let execs = trace.processes.iter().map(|it| u64::from(it.execs));
                (execs.sum::<u64>(), trace.dropped.processes)
            }),
            Self::FilesOpened | Self::FilesWritten | Self::FilesRemoved | Self::FilesMissing => {
                traced(attempt, TraceLevel::Io, |trace| {
                    let files = trace.files.iter();
                    let files = files.filter(|file| file.uses.iter().any(|it| self.counts(*it)));
                    (files.count() as u64, trace.dropped.files)
                })
            }
            Self::CallsFiles => traced(attempt, TraceLevel::Io, |trace| {
                (trace.counts.get("file").copied().unwrap_or_default(), 0)
            }),
            Self::CallsNetwork => traced(attempt, TraceLevel::Io, |trace| {
                (trace.counts.get("network").copied().unwrap_or_default(), 0)
            }),
            Self::Peers => traced(attempt, TraceLevel::Io, |trace| {
                let used = trace.peers.iter().filter(|peer| {
                    matches!(
                        peer.operation,
                        NetworkOperation::Connect | NetworkOperation::Send
                    )
                });
                (used.count() as u64, trace.dropped.peers)
            }),
        }
    }

    /// Returns whether a use of a file counts for it.
    pub fn counts(self, file_use: FileUse) -> bool {
        match self {
            Self::FilesOpened => matches!(
                file_use,
                FileUse::Executed
                    | FileUse::Read
                    | FileUse::Written
                    | FileUse::Created
                    | FileUse::Truncated
            ),
            Self::FilesWritten => matches!(
                file_use,
                FileUse::Written | FileUse::Created | FileUse::Truncated | FileUse::RenamedTo
            ),
            Self::FilesRemoved => file_use == FileUse::Removed,
            Self::FilesMissing => file_use == FileUse::Missing,
            _ => false,
        }
    }
}

fn seconds(time: Duration) -> Measured {
    Measured::Exactly(time.as_secs_f64())
}

fn number(number: u64) -> Measured {
    Measured::Exactly(float(number))
}

/// Returns a number as one with a fraction, which is exact up to 2 to the 53rd.
fn float(number: u64) -> f64 {
    number as f64
}

/// Returns a number from the trace, which is a lower bound if the trace lacks something.
fn traced(
    attempt: &Attempt,
    level: TraceLevel,
    number_of: impl Fn(&TraceSummary) -> (u64, u64),
) -> Measured {
    let Some(trace) = attempt.trace.as_deref() else {
        return Measured::Unknown("the test was not traced".to_owned());
    };
    if trace.level < level {
        return Measured::Unknown(format!(
            "the test was traced at level `{}`, which does not have it; `{level}` has",
            trace.level
        ));
    }
    let (seen, dropped) = number_of(trace);
    let least = float(seen);
    match (trace.doubts.first(), dropped) {
        (None, 0) => Measured::Exactly(least),
        (Some(doubt), _) => {
            Measured::AtLeast(least, format!("the trace may be incomplete: {doubt}"))
        }
        (None, _) => Measured::AtLeast(
            least,
            "the trace had more than its summary has room for".to_owned(),
        ),
    }
}
