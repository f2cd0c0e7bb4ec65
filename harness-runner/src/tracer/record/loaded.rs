//! The work of a dynamic loader, prepared for many replays.

use super::{failures::Failures, uses};
use crate::tracer::Map;
use harness_metadata::{RawString, TraceEvent, TraceEventKind, trace::FileCall};
use std::time::Duration;

/// The calls of a dynamic loader on files, in order. Each replay has the same result, so that is
/// computed once.
#[derive(Debug)]
pub struct Loaded {
    calls: Vec<FileCall>,
    /// The kinds of the events as they are in a trace file, one after the other.
    serialized: Vec<u8>,
    /// The used files, in the order of the first use.
    files: Vec<Used>,
    /// The calls that fail or make a failure forgotten.
    decided: Vec<usize>,
    /// Whether a failure remains of them.
    fails: bool,
}

/// A file that was used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) path: RawString,
    /// Bit N is [`uses::USES`]`[N]`.
    pub(super) uses: u16,
    /// The number of uses.
    pub(super) times: u64,
}

impl Loaded {
    /// `None` if one of these is no call on a file.
    pub fn new(events: Vec<TraceEventKind>) -> Option<Self> {
        let mut serialized = Vec::new();
        let mut calls = Vec::with_capacity(events.len());
        for event in events {
            serialized = postcard::to_extend(&event, serialized).ok()?;
            match event {
                TraceEventKind::File(call) => calls.push(*call),
                _ => return None,
            }
        }
        let mut failures = Failures::default();
        let mut decided = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            if failures.file_call(Duration::ZERO, 0, call) {
                decided.push(number);
            }
        }
        Some(Self {
            files: files(&calls),
            fails: !failures.is_empty(),
            calls,
            serialized,
            decided,
        })
    }

    /// Returns how many events it is.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Returns whether the loader did nothing.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns what a process's loader did as events.
    pub fn events(&self, at: Duration, pid: i32) -> impl Iterator<Item = TraceEvent> + '_ {
        self.calls.iter().map(move |call| TraceEvent {
            at,
            pid,
            tid: pid,
            kind: TraceEventKind::File(Box::new(call.clone())),
        })
    }

    /// Returns the calls.
    pub(crate) fn calls(&self) -> &[FileCall] {
        &self.calls
    }

    /// Returns the kinds of the events as they are in a trace file.
    pub(super) fn serialized(&self) -> &[u8] {
        &self.serialized
    }

    pub(super) fn files(&self) -> &[Used] {
        &self.files
    }

    /// Adds the calls to failures, as if they came one by one.
    pub(super) fn add_to(&self, failures: &mut Failures, at: Duration, pid: i32) {
        if self.fails || !failures.is_empty() {
            for number in &self.decided {
                failures.file_call(at, pid, &self.calls[*number]);
            }
        }
    }
}

/// Returns what calls use, in the order of the first use.
fn files(calls: &[FileCall]) -> Vec<Used> {
    let mut known: Map<RawString, usize> = Map::default();
    let mut files: Vec<Used> = Vec::new();
    for call in calls {
        uses::uses_by(call, |path, uses| match known.get(path) {
            Some(number) => {
                files[*number].uses |= uses;
                files[*number].times += 1;
            }
            None => {
                known.insert(path.clone(), files.len());
                let path = path.clone();
                let times = 1;
                files.push(Used { path, uses, times });
            }
        });
    }
    files
}
