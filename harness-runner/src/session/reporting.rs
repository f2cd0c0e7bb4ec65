//! Hands the events of a run to the sinks, on the thread that called the session.

use super::{
    audience::Audience,
    keeping::{Ended, Keeping},
    outputs::Place,
    queue::{Exit, Item, Next, Whole, queue},
};
use crate::{
    report::{Sink, SinkError},
    run::{Control, Running, Told},
    store::SpoolFile,
};
use harness_metadata::{Event, EventKind, event::RunFinished};
use std::{
    fs::File,
    io,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

/// The interval at which displayed clocks advance.
const TICK: Duration = Duration::from_millis(100);

/// While events come one after the other, they are handled in batches this far apart: being woken
/// for every test would cost more than showing it. They have been recorded before, so this is only
/// how often a terminal moves.
const BATCH: Duration = Duration::from_millis(20);

/// The sinks of a run.
#[derive(Default)]
pub struct Sinks<'a> {
    /// Those that write files. Each result is in them as soon as it is recorded, and before the others
    /// have it.
    pub files: Vec<Box<dyn Sink + Send>>,
    /// Those whose readers may be slow, or never read.
    pub readers: Vec<Box<dyn Sink + 'a>>,
}

/// The sinks with readers. Their events have been recorded before.
pub(super) struct Reporting<'a> {
    readers: Audience<dyn Sink + 'a>,
    /// `None` while its thread has it, and if that panicked.
    keeping: Option<Keeping>,
    /// Recorded, and to be shown when the run has begun.
    begun: Vec<Event>,
    /// Whether the thread that keeps the run has panicked.
    lost_keeper: bool,
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
    /// The source of the items that are not in the queue.
    recording: Option<(Arc<File>, SpoolFile)>,
}

impl Keeper {
    /// Returns the thread, to be unparked when the run is over.
    pub(super) fn thread(&self) -> &Thread {
        self.thread.thread()
    }
}

impl<'a> Reporting<'a> {
    pub(super) fn new(readers: Vec<Box<dyn Sink + 'a>>, keeping: Keeping) -> Self {
        Self {
            readers: Audience::new(readers),
            keeping: Some(keeping),
            begun: Vec::new(),
            lost_keeper: false,
            heard: (Duration::ZERO, Instant::now()),
            paused: false,
            finished: None,
        }
    }

    /// Records an event that comes before the first test. It is shown when the run has begun, which a
    /// reader that does not read does not put off.
    pub(super) fn begin(&mut self, event: Event) {
        if let Some(keeping) = &mut self.keeping {
            keeping.begin(&event);
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
                self.readers.for_each(|sink| sink.tick(at));
            }
            let failed = !self.readers.errors.is_empty() || self.readers.panicked;
            if failed && !failure_told {
                failure_told = true;
                running.control(Control::ReportFailed);
            }
        }
        self.flush();
        self.keeping = keeper.thread.join().ok();
        self.lost_keeper = self.keeping.is_none();
        self.finished.take()
    }

    fn show_begun(&mut self) {
        for event in std::mem::take(&mut self.begun) {
            self.readers.hear(&event, None);
        }
    }

    fn flush(&mut self) {
        self.readers.for_each(|sink| sink.flush());
    }

    /// Handles the arrived items. Returns true if the run waits until they are shown, and will wait
    /// for the next ones.
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
                        self.readers.errors.push(SinkError { what, source });
                        continue;
                    };
                    let place = line.kept_output;
                    let place = place.map(|kept| Arc::new(Place::File(output.clone(), kept)));
                    self.hear(&line.event, place);
                }
            }
        }
        false
    }

    fn hear(&mut self, event: &Event, place: Option<Arc<Place>>) {
        self.heard = (event.at, Instant::now());
        match &event.kind {
            EventKind::Paused { .. } => self.paused = true,
            EventKind::Continued { .. } => self.paused = false,
            EventKind::RunFinished(event) => self.finished = Some((**event).clone()),
            _ => {}
        }
        self.readers.hear(event, place);
    }

    /// Lets the sinks write what they know of a run that broke off.
    pub(super) fn cut_short(&mut self) {
        self.show_begun();
        if let Some(keeping) = &mut self.keeping {
            keeping.files.for_each(|sink| sink.close());
        }
        self.readers.for_each(|sink| sink.close());
    }

    /// Returns whether a sink has panicked.
    pub(super) fn has_panicked(&self) -> bool {
        let files = self
            .keeping
            .as_ref()
            .is_some_and(|keeping| keeping.files.panicked);
        self.lost_keeper || files || self.readers.panicked
    }

    /// Notes that the run is over. Returns what the sinks could not write, and why the run is not
    /// kept whole, if so.
    pub(super) fn end(self) -> Ended {
        let mut ended = self.keeping.map(Keeping::end).unwrap_or_default();
        ended.unwritten.extend(self.readers.errors);
        // A terminal that is gone fails again and again.
        ended
            .unwritten
            .dedup_by(|one, other| one.what == other.what);
        ended
    }
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
            panic!("it gets no more events");
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
            reporting.hear(&Event { at, kind }, None);
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
            reporting.hear(&Event { at, kind }, None);
        }
        reporting.cut_short();
        assert_eq!((counts.events.get(), counts.closed.get()), (3, 1));
        let errors: Vec<_> = reporting
            .end()
            .unwritten
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, ["failed to write anything"]);
    }
}
