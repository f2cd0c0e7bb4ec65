//! A recorded trace, and questions about it.

use harness_metadata::{
    TraceEvent, TraceEventKind,
    outcome::Exit,
    trace::{
        Backend, CallResult, Created, Creation, Doubt, Exec, Exited, FileCall, FileOperation,
        NetworkCall, NetworkOperation, Signal,
    },
};
use harness_runner::tracer::record::file::{Ending, Reader};
use std::{fmt, io::Read};

/// The facts about one test of one run.
pub(crate) struct Trace {
    /// The events, in the order in which they were recorded.
    pub(crate) events: Vec<TraceEvent>,
    /// Its doubts.
    pub(crate) doubts: Vec<Doubt>,
    pub(crate) backend: Backend,
    /// Whether the program said that it left itself out.
    skipped: bool,
}

impl Trace {
    /// Reads a trace to its end. Returns it with the test's own process.
    pub(crate) fn read(mut reader: Reader<Box<dyn Read>>) -> (i32, Self) {
        let events = reader.by_ref().collect();
        let Some(Ending::Complete(trailer)) = reader.ending() else {
            panic!("it has no end");
        };
        let doubts = trailer.doubts.clone();
        let backend = reader.header().backend;
        let trace = Self {
            events,
            doubts,
            backend,
            skipped: false,
        };
        (reader.header().root, trace)
    }

    /// Takes the events of a program of which only the lives of its processes were followed.
    pub(crate) fn of_lives(events: Vec<TraceEvent>, skipped: bool) -> Self {
        let doubts = events.iter().filter_map(|event| match &event.kind {
            TraceEventKind::Doubt(doubt) => Some(doubt.clone()),
            _ => None,
        });
        Self {
            doubts: doubts.collect(),
            events,
            backend: Backend::Lifecycle,
            skipped,
        }
    }

    /// Returns the test's own process.
    pub(crate) fn root(&self) -> i32 {
        self.events.first().map_or(0, |event| event.pid)
    }

    /// Returns true if the program left itself out: it then asks for a file that says so.
    pub(crate) fn skipped(&self) -> bool {
        self.skipped
            || self
                .files()
                .any(|(_, file)| file.path.asked.as_bytes().starts_with(b"/skipped: "))
    }

    pub(crate) fn execs(&self) -> impl Iterator<Item = (&TraceEvent, &Exec)> {
        self.of(|kind| match kind {
            TraceEventKind::Exec(exec) => Some(&**exec),
            _ => None,
        })
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&TraceEvent, &FileCall)> {
        self.of(|kind| match kind {
            TraceEventKind::File(file) => Some(&**file),
            _ => None,
        })
    }

    /// Returns the calls of this kind on files whose path ends like this.
    pub(crate) fn calls(&self, operation: FileOperation, end: &str) -> Vec<&FileCall> {
        let calls = self.files().map(|(_, file)| file);
        let calls = calls.filter(|file| file.operation == operation);
        calls
            .filter(|file| file.path.path().as_bytes().ends_with(end.as_bytes()))
            .collect()
    }

    /// Returns true if the call succeeded, as far as the backend sees results.
    pub(crate) fn fine(&self, result: CallResult) -> bool {
        match result {
            CallResult::Ok(_) | CallResult::Found => true,
            CallResult::Unknown => self.notified(),
            CallResult::Err(_) => false,
        }
    }

    /// Returns true if only the entries of calls were seen, and not their results.
    pub(crate) fn notified(&self) -> bool {
        self.backend == Backend::Notify
    }

    /// Returns the results of opening files whose path ends like this.
    pub(crate) fn opened(&self, end: &str) -> Vec<CallResult> {
        let calls = self.calls(FileOperation::Open, end);
        calls.into_iter().map(|call| call.result).collect()
    }

    pub(crate) fn network(&self, operation: NetworkOperation) -> Vec<&NetworkCall> {
        let calls = self.of(|kind| match kind {
            TraceEventKind::Network(call) => Some(&**call),
            _ => None,
        });
        calls
            .map(|(_, call)| call)
            .filter(|call| call.operation == operation)
            .collect()
    }

    /// Returns who created how many tasks like this: an entry a task. A process of which it is not
    /// known how it was created is of any kind.
    pub(crate) fn created(&self, how: Creation) -> Vec<(&TraceEvent, i32)> {
        let unknown =
            |created: &Created| how != Creation::Thread && created.how == Creation::Unknown;
        let created = self.of(move |kind| match kind {
            TraceEventKind::Created(created) if created.how == how || unknown(created) => {
                Some(created)
            }
            _ => None,
        });
        created
            .map(|(event, created)| (event, created.child))
            .collect()
    }

    pub(crate) fn ends(&self) -> impl Iterator<Item = (&TraceEvent, &Exited)> {
        self.of(|kind| match kind {
            TraceEventKind::Exited(exited) => Some(exited),
            _ => None,
        })
    }

    /// Returns how many processes exited with this code.
    pub(crate) fn exited(&self, code: i32) -> usize {
        let ends = self.ends();
        ends.filter(|(_, end)| end.exit == Exit::Code(code)).count()
    }

    /// Returns how many processes were killed by this signal.
    pub(crate) fn killed(&self, number: i32) -> usize {
        let killed = |exit| matches!(exit, Exit::Signal { signal, .. } if signal == number);
        self.ends().filter(|(_, end)| killed(end.exit)).count()
    }

    /// Returns how often this signal was delivered.
    pub(crate) fn signals(&self, number: i32) -> Vec<&Signal> {
        let signals = self.of(move |kind| match kind {
            TraceEventKind::Signal(signal) if signal.signal == number => Some(signal),
            _ => None,
        });
        signals.map(|(_, signal)| signal).collect()
    }

    fn of<'a, T: 'a>(
        &'a self,
        part: impl Fn(&'a TraceEventKind) -> Option<T>,
    ) -> impl Iterator<Item = (&'a TraceEvent, T)> {
        let parts = self.events.iter();
        parts.filter_map(move |event| Some((event, part(&event.kind)?)))
    }
}

/// Shows the events, one a line, without those before the test itself begins.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More would hide what is shown.
        const SHOWN: usize = 120;
        let first = self.events.len().saturating_sub(SHOWN);
        for event in &self.events[first..] {
            writeln!(f, "  {} {} {:?}", event.pid, event.tid, event.kind)?;
        }
        write!(f, "  doubts: {:?}", self.doubts)
    }
}
