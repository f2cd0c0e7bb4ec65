//! Hands the events of a run to the sinks, on the thread that called the session.

use super::{
    keeping::Keeping,
    outputs::{OutputStore, Place},
    queue::{Exit, Item, Next, Whole, queue},
};
use crate::{
    report::{Sink, SinkError},
    run::{Control, Running, Told},
    store::{KeepError, SpoolFile},
};
use harness_metadata::{AttemptId, Event, EventKind, event::RunFinished};
use std::{
    fs::File,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

/// How often clocks on display advance.
const TICK: Duration = Duration::from_millis(100);

/// While events come one after the other, they are handled in batches this far apart: being woken
/// for every test would cost more than showing it.
const BATCH: Duration = Duration::from_millis(5);

/// Who is told.
pub type Sinks<'a> = Vec<Box<dyn Sink + 'a>>;

/// The sinks, and the output that they can ask for. What they are told has been recorded before.
pub(super) struct Reporting<'a> {
    sinks: Sinks<'a>,
    /// `None` while its thread has it, and if that panicked.
    keeping: Option<Keeping>,
    /// Recorded, and to be shown when the run has begun.
    begun: Vec<Event>,
    store: OutputStore,
    errors: Vec<SinkError>,
    /// Whether a sink has panicked. It is told nothing more; the others are.
    panicked: bool,
    /// Active time of the run and when that was heard, for clocks on display.
    heard: (Duration, Instant),
    paused: bool,
    finished: Option<RunFinished>,
}

/// The thread that keeps a run. It ends with the run.
pub(super) struct Keeper {
    thread: JoinHandle<Keeping>,
    hand_over: mpsc::Sender<mpsc::Receiver<Told>>,
    exit: Exit,
    /// Where what is not in the queue is read from.
    recording: Option<(Arc<File>, SpoolFile)>,
}

impl Keeper {
    /// Returns the thread, to be unparked when the run is over.
    pub(super) fn thread(&self) -> &Thread {
        self.thread.thread()
    }
}

impl<'a> Reporting<'a> {
    pub(super) fn new(sinks: Sinks<'a>, keeping: Keeping) -> Self {
        Self {
            sinks,
            keeping: Some(keeping),
            begun: Vec::new(),
            store: OutputStore::default(),
            errors: Vec::new(),
            panicked: false,
            heard: (Duration::ZERO, Instant::now()),
            paused: false,
            finished: None,
        }
    }

    /// Records an event that comes before the first test. It is shown when the run has begun, which a
    /// reader that does not read does not put off.
    pub(super) fn begin(&mut self, event: Event) {
        if let Some(keeping) = &mut self.keeping {
            keeping.record(&event, None);
        }
        self.begun.push(event);
    }

    /// Starts the thread that keeps the run.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub(super) fn start_keeper(&mut self) -> io::Result<Keeper> {
        let (hand_over, handed) = mpsc::channel::<mpsc::Receiver<Told>>();
        let (entrance, exit) = queue();
        let mut keeping = self.keeping.take().unwrap_or_default();
        let recording = keeping.recording();
        let thread = thread::Builder::new().name("keeping".to_owned());
        let thread = thread.spawn(move || {
            if let Ok(events) = handed.recv() {
                keeping.follow(&events, &entrance);
            }
            keeping
        })?;
        Ok(Keeper {
            thread,
            hand_over,
            exit,
            recording,
        })
    }

    /// Follows a run to its end. Returns its last event; `None` if it broke off.
    pub(super) fn follow(
        &mut self,
        keeper: Keeper,
        running: &Running,
        events: mpsc::Receiver<Told>,
    ) -> Option<RunFinished> {
        // It waits for this.
        let _ = keeper.hand_over.send(events);
        self.show_begun();
        let mut last_batch = Instant::now();
        let mut failure_told = false;
        loop {
            match keeper.exit.next(TICK) {
                Next::Item(item) => {
                    let mut awaited = self.take(item, &keeper);
                    while let Some(item) = keeper.exit.try_next() {
                        awaited |= self.take(item, &keeper);
                    }
                    self.flush();
                    if last_batch.elapsed() < 2 * BATCH && self.finished.is_none() && !awaited {
                        keeper.exit.wait_for_end(BATCH);
                    }
                    last_batch = Instant::now();
                }
                Next::Late => {}
                Next::Closed => break,
            }
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
        self.keeping = keeper.thread.join().ok();
        self.finished.take()
    }

    fn show_begun(&mut self) {
        for event in std::mem::take(&mut self.begun) {
            self.show(&event);
        }
    }

    fn flush(&mut self) {
        self.for_each_sink(|sink| sink.flush());
    }

    /// Handles what has come. Returns whether somebody waits until it is shown, and will wait for the
    /// next.
    fn take(&mut self, item: Item, keeper: &Keeper) -> bool {
        match item {
            Item::Event(whole) => {
                let Whole {
                    event,
                    place,
                    passage,
                    shown,
                    ..
                } = *whole;
                self.hear(&event, place);
                let awaited = shown.is_some();
                if awaited {
                    self.flush();
                }
                drop((passage, shown));
                return awaited;
            }
            Item::Recorded(recorded) => {
                let Some((events, output)) = &keeper.recording else {
                    return false;
                };
                for line in recorded.lines(Arc::clone(events)) {
                    let Some(line) = line else {
                        let what = "what the recording did not give back".to_owned();
                        let source = io::ErrorKind::InvalidData.into();
                        self.errors.push(SinkError { what, source });
                        continue;
                    };
                    let place = line.kept_output;
                    let place = place.map(|kept| Place::File(output.clone(), kept));
                    self.hear(&line.event, place);
                }
            }
        }
        false
    }

    fn hear(&mut self, event: &Event, place: Option<Place>) {
        self.heard = (event.at, Instant::now());
        match &event.kind {
            EventKind::Paused { .. } => self.paused = true,
            EventKind::Continued { .. } => self.paused = false,
            EventKind::RunFinished(event) => self.finished = Some((**event).clone()),
            _ => {}
        }
        if let (Some(place), Some(attempt)) = (place, ended(event)) {
            self.store.add(attempt, place);
        }
        self.show(event);
    }

    /// Tells all sinks of an event.
    fn show(&mut self, event: &Event) {
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
            }
        }
    }

    /// Lets the sinks write what they know of a run that broke off.
    pub(super) fn cut_short(&mut self) {
        self.show_begun();
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
        (errors, self.keeping.and_then(Keeping::end))
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

/// Returns the attempt that an event ends.
fn ended(event: &Event) -> Option<AttemptId> {
    let (test, attempt) = match &event.kind {
        EventKind::AttemptFailed { test, attempt, .. } => (test, attempt.number),
        EventKind::TestFinished(finished) => (&finished.test, finished.attempts.last()?.number),
        _ => return None,
    };
    Some(AttemptId {
        test: test.clone(),
        attempt,
    })
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
            reporting.show(&Event { at, kind });
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
            reporting.show(&Event { at, kind });
        }
        reporting.cut_short();
        assert_eq!((counts.events.get(), counts.closed.get()), (3, 1));
        let errors: Vec<_> = reporting.end().0.iter().map(ToString::to_string).collect();
        assert_eq!(errors, ["failed to write anything"]);
    }
}
