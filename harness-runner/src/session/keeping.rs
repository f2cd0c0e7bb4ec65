//! Keeps a run for later: the recording of its events, and what they refer to.
//!
//! It has a thread of its own, between the run and the sinks with readers: a slow reader keeps no
//! result out of the recording or the reports, and no output in memory.

use super::{
    audience::Audience,
    outputs::{OutputStore, Place, Room, Traced},
    queue::{Entrance, Item, Whole},
};
use crate::{
    answers::gathered::Gathered,
    report::{Sink, SinkError, ended_attempt},
    reuse::{Observed, Observing},
    run::{Output, Told},
    store::{self, Belongings, KeepError, KeptTrace, Recorded, Spool, SpoolFile, SpooledOutput},
};
use harness_metadata::{
    Attempt, Event, EventKind, Verdict,
    event::{OutputPolicy, OutputWhen},
    outcome::StreamSize,
};
use std::{
    fs::File,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, mpsc as std_mpsc, mpsc::RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// The interval for flushing when no event arrives.
const TICK: Duration = Duration::from_millis(100);

/// While events come one after the other, they are handled in batches this far apart: being woken
/// for every test would cost more than keeping it.
const BATCH: Duration = Duration::from_millis(5);

/// Writes a run into the store, as far as that goes: what cannot be kept does not end the run that
/// it is about.
#[derive(Default)]
pub(super) struct Keeping {
    run: Option<store::Run>,
    /// The sinks that write files.
    pub(super) files: Audience<dyn Sink + Send>,
    /// The places for output; the first with room is used. Only the first one belongs to the
    /// recording.
    spools: Vec<Spool>,
    /// For output that none of them has room for.
    room: Room,
    broken: Option<KeepError>,
    /// `None` when the run has ended, and if it panicked.
    gathered: Option<Gathered>,
    /// Reads the traces of tests whose passes may be used again.
    observing: Option<Observing>,
}

/// Events that came one right after the other, on their way to the sinks with readers.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    /// Their bytes in the recording.
    bytes: usize,
    /// Whether the next event should not be waited for.
    urgent: bool,
}

impl Batch {
    fn has_room(&self) -> bool {
        const ITEMS: usize = 256;
        const BYTES: usize = 1 << 20;
        self.items.len() < ITEMS && self.bytes < BYTES
    }
}

/// The end of keeping a run.
#[derive(Default)]
pub(super) struct Ended {
    /// The reports that could not be written.
    pub(super) unwritten: Vec<SinkError>,
    /// The reason why the run is not kept whole, if so.
    pub(super) not_kept: Option<KeepError>,
    /// The passes that are stored; `None` if that was not asked for.
    pub(super) observed: Option<Observed>,
}

impl Keeping {
    pub(super) fn new(
        run: Result<store::Run, KeepError>,
        files: Vec<Box<dyn Sink + Send>>,
        gathered: Gathered,
        observing: Option<Observing>,
    ) -> Self {
        let (run, broken) = match run {
            Ok(run) => (Some(run), None),
            Err(error) => (None, Some(error)),
        };
        let own = run
            .iter()
            .flat_map(|run| [run.spool(), run.further_spool()]);
        let spools = own.chain([Spool::default()]).collect();
        Self {
            run,
            files: Audience::new(files),
            spools,
            room: Room::default(),
            broken,
            gathered: Some(gathered),
            observing,
        }
    }

    /// Keeps a run to its end and passes it on. To be run by a thread that the run unparks when it
    /// is over.
    pub(super) fn follow(&mut self, events: &std_mpsc::Receiver<Told>, to: &Entrance) {
        let mut last_batch = Instant::now();
        let mut next = events.recv_timeout(TICK);
        loop {
            match next {
                Ok(told) => {
                    let mut batch = Batch::default();
                    self.take(told, to, &mut batch);
                    while batch.has_room()
                        && let Ok(told) = events.try_recv()
                    {
                        self.take(told, to, &mut batch);
                    }
                    // A result that is shown is in the reports.
                    self.files.for_each(|sink| sink.flush());
                    let pauses = last_batch.elapsed() < 2 * BATCH && !batch.urgent;
                    batch.items.into_iter().for_each(|item| to.push(item));
                    if pauses {
                        thread::park_timeout(BATCH);
                    }
                    last_batch = Instant::now();
                    // What comes meanwhile is mostly a result, which is recorded at once, with all that
                    // waits to be.
                    next = match events.try_recv() {
                        Ok(told) if pauses => Ok(told),
                        told => {
                            self.flush();
                            told.or_else(|_| events.recv_timeout(TICK))
                        }
                    };
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.flush();
                    next = events.recv_timeout(TICK);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.flush();
    }

    /// Keeps an event and adds it to those that are passed on next.
    fn take(&mut self, told: Told, to: &Entrance, batch: &mut Batch) {
        let Told {
            mut event,
            output,
            trace,
            passage,
            shown,
        } = told;
        batch.urgent |= shown.is_some() || matches!(event.kind, EventKind::RunFinished(_));
        let place = output.and_then(|(_, output)| self.keep_output(&mut event, output));
        let kept = match &place {
            Some((_, kept)) => *kept,
            None => None,
        };
        if let (EventKind::TestFinished(finished), Some(observing)) = (&event.kind, &self.observing)
        {
            observing.finished(finished, trace.clone());
        }
        let place = place.map(|(place, _)| Arc::new(place));
        self.find(&mut event, trace.as_ref(), place.as_ref());
        self.explain(&mut event, trace.as_ref());
        let belongings = Belongings {
            trace,
            output: kept,
        };
        let size = self.record(&event, belongings);
        self.files.hear(&event, place.clone());
        let in_recording = place.is_none() || kept.is_some();
        if in_recording
            && passage.is_none()
            && shown.is_none()
            && to.is_full(batch.bytes + size)
            && let Some(recorded) = self.last_recorded()
        {
            batch.items.push(Item::Recorded(recorded));
            return;
        }
        batch.bytes += size;
        batch.items.push(Item::Event(Box::new(Whole {
            event,
            size,
            place,
            passage,
            shown,
        })));
    }

    /// Lets reports ask for the trace of an attempt that failed.
    fn explain(&mut self, event: &mut Event, trace: Option<&KeptTrace>) {
        let failed = ended_mut(event).is_some_and(|attempt| attempt.verdict != Verdict::Pass);
        let attempt = ended_attempt(event).filter(|_| failed);
        if let (Some(attempt), Some(trace), Some(run)) = (attempt, trace, &self.run) {
            let traced = Traced {
                run: run.folder().to_owned(),
                trace: trace.clone(),
            };
            // The traces are found by the first event of the run.
            self.flush();
            self.files.add_trace(attempt, traced);
        }
    }

    /// Lets an event add to what is found in the run, and the last event have all of that.
    fn find(&mut self, event: &mut Event, trace: Option<&KeptTrace>, place: Option<&Arc<Place>>) {
        let Some(mut gathered) = self.gathered.take() else {
            return;
        };
        if let EventKind::RunFinished(finished) = &mut event.kind {
            // The traces are found by its first event.
            self.flush();
            let folder = self.run.as_ref().map(store::Run::folder);
            let found = panic::catch_unwind(AssertUnwindSafe(|| gathered.findings(folder)));
            finished.findings = found.unwrap_or_default();
            return;
        }
        let mut outputs = OutputStore::default();
        if let (Some(place), Some(attempt)) = (place, ended_attempt(event)) {
            outputs.add(attempt, Arc::clone(place));
        }
        // What goes wrong here costs no result.
        let heard = panic::catch_unwind(AssertUnwindSafe(|| {
            gathered.hear(event, trace, &outputs);
            gathered
        }));
        self.gathered = heard.ok();
    }

    /// Moves the output of an attempt that ends to where it can be read later, if it is shown or
    /// explains a failure. Returns where that is, and where in the recording.
    ///
    /// If all disks are full it stays in memory, as much as there is room for.
    fn keep_output(
        &mut self,
        event: &mut Event,
        mut output: Output,
    ) -> Option<(Place, Option<SpooledOutput>)> {
        if !is_wanted(event) {
            return None;
        }
        for (number, spool) in self.spools.iter_mut().enumerate() {
            if let Ok(spooled) = spool.add(output.stdout(), output.stderr()) {
                let kept = (number == 0 && self.run.is_some()).then_some(spooled);
                return Some((Place::File(spool.file(), spooled), kept));
            }
        }
        output.leave_road();
        let place = Place::in_memory(output, &self.room);
        if let (Place::Lost { .. }, Some(attempt)) = (&place, ended_mut(event)) {
            let lost = |size: &mut StreamSize| {
                size.dropped = size.written;
                size.no_room |= size.written > 0;
            };
            lost(&mut attempt.stdout);
            lost(&mut attempt.stderr);
        }
        Some((place, None))
    }

    /// Keeps an event that comes before the first test.
    pub(super) fn begin(&mut self, event: &Event) {
        if let Some(gathered) = &mut self.gathered {
            gathered.hear(event, None, &OutputStore::default());
        }
        self.record(event, Belongings::default());
        self.files.hear(event, None);
    }

    /// Adds an event, and where the output and the trace of the attempt are that it ends. Returns how many
    /// bytes that takes.
    fn record(&mut self, event: &Event, belongings: Belongings) -> usize {
        let Some(run) = &mut self.run else { return 0 };
        // For people, and without bound.
        if let EventKind::AttemptTraced { .. } | EventKind::AttemptPrinted(_) = &event.kind {
            return 0;
        }
        let recorded = run.record(event, belongings);
        let size = *recorded.as_ref().unwrap_or(&0);
        self.note(recorded.map(drop));
        size
    }

    /// Returns where the event is that was recorded last, if it can be read there.
    fn last_recorded(&mut self) -> Option<Recorded> {
        self.flush();
        self.run.as_ref()?.last_recorded()
    }

    /// Returns the files that what has been recorded is read from: the events, and the output.
    pub(super) fn recording(&self) -> Option<(Arc<File>, SpoolFile)> {
        Some((self.run.as_ref()?.recording(), self.spools.first()?.file()))
    }

    /// Writes out what waits.
    pub(super) fn flush(&mut self) {
        if let Some(run) = &mut self.run {
            let flushed = run.flush();
            self.note(flushed);
        }
        self.files.for_each(|sink| sink.flush());
    }

    /// The run is over, and every sink has all events. Returns what could not be written to files, and
    /// why the run is not kept whole, if so.
    pub(super) fn end(mut self) -> Ended {
        // The traces lie where they are until the run has ended.
        let observed = self.observing.take().map(Observing::end);
        if let Some(run) = self.run.take() {
            let ended = run.end();
            self.note(ended);
        }
        Ended {
            unwritten: self.files.errors,
            not_kept: self.broken,
            observed,
        }
    }

    fn note(&mut self, done: Result<(), KeepError>) {
        if let Err(error) = done {
            self.broken.get_or_insert(error);
        }
    }
}

/// Returns whether the output of the attempt that this event ends is shown, or explains a failure.
fn is_wanted(event: &Event) -> bool {
    let wanted = |attempt: &Attempt, policy: &OutputPolicy| {
        attempt.verdict != Verdict::Pass
            || policy.success != OutputWhen::Never
            || policy.junit_success
    };
    match &event.kind {
        EventKind::AttemptFailed {
            attempt, output, ..
        } => wanted(attempt, output),
        EventKind::TestFinished(finished) => {
            finished.verdict != Verdict::Pass
                || (finished.attempts.last()).is_some_and(|last| wanted(last, &finished.output))
        }
        EventKind::SetupFinished(_)
        | EventKind::TeardownFinished(_)
        | EventKind::ServiceFinished(_) => true,
        _ => false,
    }
}

fn ended_mut(event: &mut Event) -> Option<&mut Attempt> {
    match &mut event.kind {
        EventKind::AttemptFailed { attempt, .. } => Some(attempt),
        EventKind::TestFinished(finished) => finished.attempts.last_mut(),
        EventKind::SetupFinished(finished) | EventKind::TeardownFinished(finished) => {
            Some(&mut finished.attempt)
        }
        EventKind::ServiceFinished(finished) => Some(&mut finished.attempt),
        _ => None,
    }
}
