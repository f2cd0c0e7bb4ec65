//! The decoding of calls, with a fake task.

mod environment;
mod fake;
mod files;
mod fuzz;
mod network;
mod programs;
mod sockets;
mod untold;
mod vectors;

use super::{Entry, NATIVE_ARCHITECTURE, Syscall, entry, exit};
pub(in crate::tracer) use fake::Fake;
use harness_metadata::{
    TraceEventKind,
    event::TraceLevel,
    trace::{Exec, FileCall, NetworkCall},
};
use syscalls::Sysno;

/// The events of a call.
#[derive(Debug)]
struct Told {
    /// Before it runs.
    first: Vec<TraceEventKind>,
    /// After that; `None` if it is not awaited.
    then: Option<Vec<TraceEventKind>>,
}

fn native(number: Sysno, args: &[u64]) -> Syscall {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    Syscall {
        arch: NATIVE_ARCHITECTURE,
        number: number.id() as u64,
        args: all,
    }
}

/// Makes a call that returns `result` if that is awaited.
fn call(task: &Fake, level: TraceLevel, number: Sysno, args: &[u64], result: i64) -> Told {
    let mut first = Vec::new();
    let then = match entry(&native(number, args), level, task, &mut first) {
        Entry::Done => None,
        Entry::Await(pending) => {
            let mut events = Vec::new();
            exit(pending, result, task, &mut events);
            Some(events)
        }
    };
    Told { first, then }
}

/// Shows a call to the decoder at the highest level, with a task that has a string.
pub(in crate::tracer) fn entry_of(call: &Syscall) -> (Entry, Vec<TraceEventKind>) {
    let mut task = Fake::new();
    task.memory.insert(Fake::STRING, b"/some/path\0".to_vec());
    let mut events = Vec::new();
    let entry = entry(call, TraceLevel::Full, &task, &mut events);
    (entry, events)
}

impl Told {
    fn at_entry(self) -> Vec<TraceEventKind> {
        assert!(self.then.is_none(), "awaited: {self:?}");
        self.first
    }

    fn at_exit(self) -> Vec<TraceEventKind> {
        assert_eq!(self.first, [], "told at the entry");
        self.then.expect("not awaited")
    }
}

fn file(events: Vec<TraceEventKind>) -> FileCall {
    match <[_; 1]>::try_from(events) {
        Ok([TraceEventKind::File(call)]) => *call,
        other => panic!("not one file call: {other:?}"),
    }
}

fn network(events: Vec<TraceEventKind>) -> NetworkCall {
    match <[_; 1]>::try_from(events) {
        Ok([TraceEventKind::Network(call)]) => *call,
        other => panic!("not one network call: {other:?}"),
    }
}

fn exec(events: Vec<TraceEventKind>) -> Exec {
    match <[_; 1]>::try_from(events) {
        Ok([TraceEventKind::Exec(exec)]) => *exec,
        other => panic!("not one exec: {other:?}"),
    }
}
