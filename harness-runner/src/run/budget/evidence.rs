//! The parts of a trace that a number is made of.

use harness_metadata::{
    Attempt, Measure, TraceSummary,
    trace::{NetworkOperation, ProcessSummary},
};
use std::time::Duration;

/// The most things that are named.
const MOST: usize = 8;
/// The most characters of a command line.
const COMMAND: usize = 100;

/// Returns what a trace knows of a number, a sentence fragment each. Empty without a trace.
pub(super) fn of(measure: Measure, attempt: &Attempt) -> Vec<String> {
    let Some(trace) = attempt.trace.as_deref() else {
        return Vec::new();
    };
    match measure {
        Measure::Time => longest(trace),
        Measure::Processes => processes(trace, |_| true),
        Measure::Execs => processes(trace, |process| process.execs > 0),
        // Use is known of all processes together, so only what ran is evidence.
        Measure::Cpu
        | Measure::CpuUser
        | Measure::CpuSystem
        | Measure::Rss
        | Measure::Memory
        | Measure::Switches
        | Measure::Output
            if trace.processes.len() > 1 =>
        {
            processes(trace, |process| process.execs > 0)
        }
        Measure::DiskWritten => files(trace, Measure::FilesWritten, "wrote"),
        Measure::DiskRead => files(trace, Measure::FilesOpened, "opened"),
        Measure::FilesOpened | Measure::CallsFiles => files(trace, Measure::FilesOpened, "opened"),
        Measure::FilesWritten => files(trace, measure, "wrote"),
        Measure::FilesRemoved => files(trace, measure, "removed"),
        Measure::FilesMissing => files(trace, measure, "did not find"),
        Measure::CallsNetwork | Measure::Peers => peers(trace),
        _ => Vec::new(),
    }
}

fn processes(trace: &TraceSummary, counted: impl Fn(&ProcessSummary) -> bool) -> Vec<String> {
    let named = trace.processes.iter().filter(|process| counted(process));
    let named: Vec<_> = named
        .map(|process| format!("pid {}: {}", process.pid, command(process)))
        .collect();
    listed("the processes were", named, trace.dropped.processes)
}

/// The children that ran for longest.
fn longest(trace: &TraceSummary) -> Vec<String> {
    let children = trace
        .processes
        .iter()
        .filter(|process| process.creator.is_some());
    let mut children: Vec<_> = children
        .filter_map(|process| Some((process.ended?.saturating_sub(process.started), process)))
        .filter(|(time, _)| *time >= Duration::from_millis(1))
        .collect();
    children.sort_by_key(|(time, process)| (std::cmp::Reverse(*time), process.started));
    let named = children.into_iter().map(|(time, process)| {
        format!(
            "pid {} for {:.3}s: {}",
            process.pid,
            time.as_secs_f64(),
            command(process)
        )
    });
    listed(
        "child processes ran",
        named.collect(),
        trace.dropped.processes,
    )
}

fn files(trace: &TraceSummary, measure: Measure, verb: &str) -> Vec<String> {
    let files = trace.files.iter();
    let files = files.filter(|file| file.uses.iter().any(|it| measure.counts(*it)));
    let named = files.map(|file| file.path.to_string()).collect();
    listed(&format!("it {verb}"), named, trace.dropped.files)
}

fn peers(trace: &TraceSummary) -> Vec<String> {
    let used = trace.peers.iter().filter(|peer| {
        matches!(
            peer.operation,
            NetworkOperation::Connect | NetworkOperation::Send
        )
    });
    let named = used.map(|peer| format!("{} {}", peer.operation.verb(), peer.address));
    listed("it", named.collect(), trace.dropped.peers)
}

/// Returns a line with the first names and the number of others.
fn listed(begin: &str, named: Vec<String>, dropped: u64) -> Vec<String> {
    if named.is_empty() {
        return Vec::new();
    }
    let more = named.len().saturating_sub(MOST) as u64 + dropped;
    let shown = named.into_iter().take(MOST).collect::<Vec<_>>().join(", ");
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    vec![format!("{begin} {shown}{more}")]
}

fn command(process: &ProcessSummary) -> String {
    let args: Vec<_> = process.args.iter().map(ToString::to_string).collect();
    let command = args.join(" ");
    match command.char_indices().nth(COMMAND) {
        Some((at, _)) => format!("{}…", &command[..at]),
        None => command,
    }
}
