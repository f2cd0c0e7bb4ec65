//! Hands the events of a run to the sinks, on the thread that called the session.

use super::{keeping::Keeping, outputs::OutputStore};
use crate::{
    report::{Sink, SinkError},
    run::{Control, Running, Told},
    store::{KeepError, SpooledOutput},
};
use harness_metadata::{
    Attempt, AttemptId, Event, EventKind, TestId, Verdict,
    event::{OutputPolicy, OutputWhen, RunFinished},
};
use std::{
    panic::{self, AssertUnwindSafe},
    sync::mpsc::RecvTimeoutError,
    thread,
    time::{Duration, Instant},
};

/// How often clocks on display advance.
const TICK: Duration = Duration::from_millis(100);

/// While events come one after the other, they are handled in batches this far apart: being woken
/// for every test would cost more than showing it.
const BATCH: Duration = Duration::from_millis(5);

/// Who is told.
pub type Sinks<'a> = Vec<Box<dyn Sink + 'a>>;

/// The sinks, the output that they can ask for, and the recording. What the sinks show has been
/// recorded before.
pub(super) struct Reporting<'a> {
    sinks: Sinks<'a>,
    keeping: Keeping,
    store: OutputStore,
    errors: Vec<SinkError>,
    /// Whether a sink has panicked. It is told nothing more; the others are.
    panicked: bool,
    /// Active time of the run and when that was heard, for clocks on display.
    heard: (Duration, Instant),
    paused: bool,
}

impl<'a> Reporting<'a> {
    pub(super) fn new(sinks: Sinks<'a>, keeping: Keeping) -> Self {
        Self {
            sinks,
            store: OutputStore::new(keeping.spool()),
            keeping,
            errors: Vec::new(),
            panicked: false,
            heard: (Duration::ZERO, Instant::now()),
            paused: false,
        }
    }

    /// Follows a run to its end. Returns its last event; `None` if it broke off.
    pub(super) fn follow(&mut self, running: &Running) -> Option<RunFinished> {
        let mut finished = None;
        let mut last_batch = Instant::now();
        let mut failure_told = false;
        loop {
            match running.events.recv_timeout(TICK) {
                Ok(told) => {
                    self.take(told, &mut finished);
                    while let Ok(told) = running.events.try_recv() {
                        self.take(told, &mut finished);
                    }
                    self.flush();
                    if last_batch.elapsed() < 2 * BATCH && finished.is_none() {
                        // The run unparks this thread when it is over.
                        thread::park_timeout(BATCH);
                    }
                    last_batch = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.keeping.flush();
            if !self.paused {
                let at = self.heard.0 + self.heard.1.elapsed();
                self.for_each_sink(|sink| sink.tick(at));
            }
            if (!self.errors.is_empty() || self.panicked) && !failure_told {
                failure_told = true;
                running.control(Control::ReportFailed);
            }
        }
        self.flush();
        finished
    }

    fn flush(&mut self) {
        self.keeping.flush();
        self.for_each_sink(|sink| sink.flush());
    }

    fn take(&mut self, told: Told, finished: &mut Option<RunFinished>) {
        if let Some((attempt, output)) = told.output {
            self.store.add(attempt, output);
        }
        self.heard = (told.event.at, Instant::now());
        match &told.event.kind {
            EventKind::Paused { .. } => self.paused = true,
            EventKind::Continued { .. } => self.paused = false,
            EventKind::RunFinished(event) => *finished = Some((**event).clone()),
            _ => {}
        }
        self.handle(&told.event);
        if told.shown.is_some() {
            self.flush();
        }
    }

    /// Records an event and tells all sinks of it.
    pub(super) fn handle(&mut self, event: &Event) {
        let output = self.keep_output(event);
        self.keeping.record(event, output);
        let store = &self.store;
        let handle = |sink: &mut dyn Sink| sink.handle(event, store);
        for_each_sink(
            &mut self.sinks,
            &mut self.errors,
            &mut self.panicked,
            handle,
        );
        if let EventKind::TestFinished(test) = &event.kind {
            let attempts = test.attempts.last().map_or(0, |attempt| attempt.number);
            if !self.sinks.iter().any(|sink| sink.keeps_output(test)) {
                self.store.forget(&test.test, attempts);
            } else if output.is_none() {
                self.store.keep(id(&test.test, attempts));
            }
        }
    }

    /// Moves the output of an attempt that ends to where it can be read later, if the recording is
    /// to have it: if it is shown, or explains a failure.
    fn keep_output(&mut self, event: &Event) -> Option<SpooledOutput> {
        let (test, attempt, policy) = match &event.kind {
            EventKind::AttemptFailed {
                test,
                attempt,
                output,
                ..
            } => (test, &**attempt, output),
            EventKind::TestFinished(finished) => {
                (&finished.test, finished.attempts.last()?, &finished.output)
            }
            _ => return None,
        };
        is_recorded(attempt, policy)
            .then(|| self.store.keep(id(test, attempt.number)))
            .flatten()
    }

    /// Lets the sinks write what they know of a run that broke off.
    pub(super) fn cut_short(&mut self) {
        self.for_each_sink(|sink| sink.close());
    }

    /// Returns whether a sink has panicked.
    pub(super) fn has_panicked(&self) -> bool {
        self.panicked
    }

    /// Notes that the run is over. Returns what the sinks could not write, and why the run is not
    /// kept whole, if so.
    pub(super) fn end(self) -> (Vec<SinkError>, Option<KeepError>) {
        let mut errors = self.errors;
        // A terminal that is gone fails again and again.
        errors.dedup_by(|one, other| one.what == other.what);
        (errors, self.keeping.end())
    }

    fn for_each_sink(&mut self, each: impl FnMut(&mut dyn Sink) -> Result<(), SinkError>) {
        for_each_sink(&mut self.sinks, &mut self.errors, &mut self.panicked, each);
    }
}

/// Gives each sink its turn, and gathers what goes wrong.
fn for_each_sink(
    sinks: &mut Sinks<'_>,
    errors: &mut Vec<SinkError>,
    panicked: &mut bool,
    mut each: impl FnMut(&mut dyn Sink) -> Result<(), SinkError>,
) {
    sinks.retain_mut(|sink| {
        // A sink that panicked is not used again, and what it shares with others is only read.
        match panic::catch_unwind(AssertUnwindSafe(|| each(&mut **sink))) {
            Ok(result) => {
                errors.extend(result.err());
                true
            }
            Err(_) => {
                *panicked = true;
                false
            }
        }
    });
}

fn id(test: &TestId, attempt: u32) -> AttemptId {
    AttemptId {
        test: test.clone(),
        attempt,
    }
}

fn is_recorded(attempt: &Attempt, policy: &OutputPolicy) -> bool {
    attempt.verdict != Verdict::Pass || policy.success != OutputWhen::Never || policy.junit_success
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Outputs;
    use harness_metadata::{RunStats, event::CancelReason};
    use std::{cell::Cell, io};

    struct Broken;

    impl Sink for Broken {
        fn handle(&mut self, _: &Event, _: &dyn Outputs) -> Result<(), SinkError> {
            Err(broken())
        }

        fn close(&mut self) -> Result<(), SinkError> {
            Err(broken())
        }
    }

    fn broken() -> SinkError {
        SinkError {
            what: "anything".to_owned(),
            source: io::ErrorKind::BrokenPipe.into(),
        }
    }

    #[derive(Default)]
    struct Counts {
        events: Cell<usize>,
        closed: Cell<usize>,
    }

    impl Sink for &Counts {
        fn handle(&mut self, _: &Event, _: &dyn Outputs) -> Result<(), SinkError> {
            self.events.set(self.events.get() + 1);
            Ok(())
        }

        fn close(&mut self) -> Result<(), SinkError> {
            self.closed.set(self.closed.get() + 1);
            Ok(())
        }
    }

    struct Panics;

    impl Sink for Panics {
        fn handle(&mut self, _: &Event, _: &dyn Outputs) -> Result<(), SinkError> {
            panic!("as it should");
        }

        fn close(&mut self) -> Result<(), SinkError> {
            panic!("it has been told nothing more");
        }
    }

    #[test]
    fn a_sink_that_panics_takes_nothing_from_the_others() {
        let counts = Counts::default();
        let mut reporting = Reporting::new(
            vec![Box::new(Panics), Box::new(&counts)],
            Keeping::default(),
        );
        for running in 0..2 {
            let (at, kind) = (Duration::ZERO, EventKind::Paused { running });
            reporting.handle(&Event { at, kind });
        }
        reporting.cut_short();
        assert_eq!((counts.events.get(), counts.closed.get()), (2, 1));
        assert!(reporting.has_panicked());
    }

    #[test]
    fn a_broken_sink_takes_nothing_from_the_others() {
        let counts = Counts::default();
        let mut reporting = Reporting::new(
            vec![Box::new(Broken), Box::new(&counts)],
            Keeping::default(),
        );
        let kinds = [
            EventKind::Paused { running: 1 },
            EventKind::Status {
                running: Vec::new(),
                stats: RunStats::default(),
            },
            EventKind::Cancelled {
                reason: CancelReason::ReportFailed,
                running: 1,
                killing: false,
            },
        ];
        for kind in kinds {
            let at = Duration::ZERO;
            reporting.handle(&Event { at, kind });
        }
        reporting.cut_short();
        assert_eq!((counts.events.get(), counts.closed.get()), (3, 1));
        let errors: Vec<_> = reporting.end().0.iter().map(ToString::to_string).collect();
        assert_eq!(errors, ["failed to write anything"]);
    }
}
