//! Drives a [`Dispatcher`]: waits for inputs, passes them on, and performs its actions.

mod helped;
mod slow;

use super::{
    BreakExec, Capture, Control, Output, Told, Work, arguments,
    dispatch::{Action, Candidate, Dispatcher, Input, Limits},
    environment,
    live::Lines,
    scripts,
    serve::serve,
    services,
    shared::Shared,
    signals::{Heard, Signals},
    slot::{self, Broken, FromSlot, Made, Mail, Slot, Spoken, ToSlot},
    status::{Asking, gathered},
    until,
    work::Role,
};
use crate::{
    keys,
    protocol::RunnerStopped,
    store::KeptTrace,
    stub::link::{self, Stub},
    stub::{survivors, terminal},
};
use harness_metadata::{AttemptId, Event, EventKind, event::AttemptPrinted};
use std::{
    collections::BTreeMap,
    mem,
    rc::Rc,
    sync::{Arc, mpsc as std_mpsc},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// The output and the trace of an attempt.
#[derive(Default)]
struct Kept {
    output: Option<(AttemptId, Output)>,
    trace: Option<KeptTrace>,
}

/// The time that slots have to stop their tests, and sinks to give the terminal back, before the
/// run stops for Ctrl-Z.
const PAUSE_LIMIT: Duration = Duration::from_millis(100);

/// The time that sinks have to show the start of a test whose output is not captured.
const SHOW_LIMIT: Duration = Duration::from_secs(5);

/// The time that slots have to look for arrived results when the run is out of time.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// Stubs tell of no shorter stop of this process.
const SHORTEST_STOP: Duration = Duration::from_secs(1);

/// Drives a run to its end. Returns the signal of an impatient user, if there was one: then slots
/// may still be busy.
pub(super) async fn drive(
    work: Work,
    tell: std_mpsc::Sender<Told>,
    controls: &mut mpsc::UnboundedReceiver<Control>,
    signals: &mut Signals,
) -> Option<i32> {
    let _adopted = link::adopt_orphans(environment::mark(work.run_id));
    let mut driver = Driver::new(work, tell);
    let (slot_tx, mut from_slots) = mpsc::unbounded_channel();
    driver.step(Input::Begin, &slot_tx);
    let mut alive_at = Instant::now();
    while !driver.finished {
        let deadline = driver
            .dispatcher
            .deadline()
            .and_then(|at| driver.shared.clock.instant(at));
        tokio::select! {
            biased;
            Some(message) = from_slots.recv() => {
                driver.look_at_services_of(&message, &slot_tx).await;
                if alive_at.elapsed() > SHORTEST_STOP {
                    driver.hear_of_stops(Some(message), &mut from_slots, &slot_tx).await;
                } else {
                    driver.heard(message, &slot_tx);
                }
                driver.hear_all(&mut from_slots, &slot_tx).await;
            }
            signal = signals.next() => {
                let goes_on = matches!(signal, Heard::Continue);
                driver.signalled(signal, &slot_tx).await;
                if goes_on {
                    driver.hear_of_stops(None, &mut from_slots, &slot_tx).await;
                }
            }
            Some(control) = controls.recv() => match control {
                Control::ReportFailed => driver.step(Input::ReportFailed, &slot_tx),
                Control::Status => driver.ask_status(&slot_tx),
                Control::Progress => driver.tell_progress(),
            },
            () = gathered(&mut driver.asking) => driver.tell_status(),
            () = until(deadline) => {
                if driver.dispatcher.is_out_of_time(driver.shared.clock.now()) {
                    driver.look(&slot_tx).await;
                    driver.hear_all(&mut from_slots, &slot_tx).await;
                }
                driver.step(Input::Deadline, &slot_tx);
            }
        }
        alive_at = Instant::now();
    }
    if driver.impatient.is_some() {
        // They are not awaited: they end when this process has ended.
        mem::forget(mem::take(&mut driver.stubs));
    }
    driver.impatient
}

/// Waits until an event has been shown. A reader that is slow is not waited for without end.
fn await_shown(shown: Option<std_mpsc::Receiver<()>>) {
    if let Some(shown) = shown {
        // Disconnected once the sinks are done.
        let _ = shown.recv_timeout(SHOW_LIMIT);
    }
}

/// Drives a [`Dispatcher`]: performs what it decides.
struct Driver {
    dispatcher: Dispatcher,
    shared: Rc<Shared>,
    slots: BTreeMap<usize, mpsc::UnboundedSender<ToSlot>>,
    stubs: Vec<Stub>,
    break_exec: Option<BreakExec>,
    tell: std_mpsc::Sender<Told>,
    finished: bool,
    /// A request of the user, while its answers are collected.
    asking: Option<Asking>,
    /// The signal that ended the run before its tests, if one did.
    impatient: Option<i32>,
    /// The end of the last reported stop, by CLOCK_MONOTONIC.
    stopped_until: Duration,
}

impl Driver {
    fn new(mut work: Work, tell: std_mpsc::Sender<Told>) -> Self {
        let own_tests = work.tests.len();
        let scripts = scripts::add_units(&mut work);
        let (services, of_services) = services::add_units(&mut work);
        let away = work.remote.as_ref();
        let tests = work.tests[..own_tests].iter().enumerate();
        let candidates = tests.map(|(index, test)| Candidate {
            remote: away.is_some_and(|away| away.tests.contains_key(&index)),
            id: test.id.clone(),
            location: test.location.clone(),
            settings: Arc::clone(&test.settings),
            memory: test.memory,
            quarantine: test.quarantine.clone(),
            command: arguments::displayed_command(&work.binaries[test.binary], test),
        });
        let limits = Limits {
            slots: work.slots,
            remote_slots: work.remote.as_ref().map_or(0, |away| away.slots),
            cpus: work.cpus,
            memory: work.memory,
            groups: work.groups.clone(),
            max_fail: work.max_fail,
            stress: work.stress,
            global_timeout: work.global_timeout,
            skipped: work.skipped,
            started_at: work.started_at,
        };
        let dispatcher = Dispatcher::new(candidates.collect(), limits, fastrand::f64);
        let dispatcher = dispatcher.with_scripts(scripts).with_services(services);
        let (stubs, break_exec) = (mem::take(&mut work.stubs), work.break_exec.clone());
        Self {
            dispatcher,
            shared: Rc::new(Shared::new(work, of_services)),
            slots: BTreeMap::new(),
            stubs,
            break_exec,
            tell,
            finished: false,
            asking: None,
            impatient: None,
            stopped_until: Duration::ZERO,
        }
    }

    fn step(&mut self, input: Input, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        self.step_with(input, Kept::default(), slot_tx);
    }

    /// Calls the dispatcher and performs its actions. `kept` belongs to the attempt that `input`
    /// ends.
    fn step_with(
        &mut self,
        input: Input,
        mut kept: Kept,
        slot_tx: &mpsc::UnboundedSender<FromSlot>,
    ) {
        let mut shown = None;
        for action in self.dispatcher.handle(self.shared.clock.now(), input) {
            match action {
                Action::Start {
                    slot,
                    test,
                    attempt,
                    total_attempts,
                    group_slot,
                    remote,
                } => {
                    await_shown(shown.take());
                    let start = slot::Start {
                        test,
                        attempt,
                        total_attempts,
                        group_slot,
                        remote,
                    };
                    self.send(slot, ToSlot::Start(start), slot_tx);
                }
                Action::Interrupt { slot, by, force } => {
                    self.send(slot, ToSlot::Interrupt(by, force), slot_tx);
                }
                Action::Close { slot } => drop(self.slots.remove(&slot)),
                Action::End { slot } => self.send(slot, ToSlot::End, slot_tx),
                Action::Look { service } => self.look_at_service(service, slot_tx),
                Action::Publish { service } => {
                    let variables = self.shared.services.publish(service);
                    let _ = slot_tx.send(FromSlot::Published { service, variables });
                }
                Action::Emit(mut kind) => {
                    self.add_tails(&mut kind);
                    let ends = matches!(
                        kind,
                        EventKind::TestFinished(_)
                            | EventKind::AttemptFailed { .. }
                            | EventKind::SetupFinished(_)
                            | EventKind::TeardownFinished(_)
                            | EventKind::ServiceFinished(_)
                    );
                    let of_it = match ends {
                        true => mem::take(&mut kept),
                        false => Kept::default(),
                    };
                    let show = self.show_before_start(&kind);
                    self.tell(kind, |told| {
                        told.output = of_it.output;
                        told.trace = of_it.trace;
                        told.shown = show.0;
                    });
                    shown = show.1;
                }
                Action::Finish { impatient } => {
                    self.finished = true;
                    self.impatient = impatient;
                }
            }
        }
    }

    /// Returns how to learn that an event has been shown, if what follows must wait for that: a test
    /// without capture prints to where results are shown.
    fn show_before_start(
        &self,
        kind: &EventKind,
    ) -> (
        Option<std_mpsc::SyncSender<()>>,
        Option<std_mpsc::Receiver<()>>,
    ) {
        let uncaptured = match kind {
            EventKind::SetupStarted(started) | EventKind::TeardownStarted(started) => {
                started.uncaptured
            }
            _ => false,
        };
        if self.shared.work.capture == Capture::Pipes && !uncaptured {
            return (None, None);
        }
        let (shown, is_shown) = std_mpsc::sync_channel(1);
        (Some(shown), Some(is_shown))
    }

    fn printed(&mut self, spoken: Spoken) {
        let Lines {
            stream,
            lines,
            unfinished,
            dropped,
            passage,
        } = spoken.lines;
        let printed = AttemptPrinted {
            test: self.shared.work.id(spoken.test),
            attempt: spoken.attempt,
            slot: spoken.slot,
            stream,
            lines,
            unfinished,
            dropped,
        };
        let kind = EventKind::AttemptPrinted(Box::new(printed));
        self.tell(kind, |told| told.passage = Some(passage));
    }

    fn heard(&mut self, message: FromSlot, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        match message {
            FromSlot::Slow {
                test,
                attempt,
                elapsed,
                terminating,
            } => {
                let role = self.shared.work.test(test).role;
                let id = self.shared.work.id(test);
                let slow = slow::event(role, id, attempt, elapsed, terminating);
                slow.into_iter().for_each(|kind| self.emit(kind));
            }
            FromSlot::Traced {
                test,
                attempt,
                batch,
            } => {
                let kind = EventKind::AttemptTraced {
                    test: self.shared.work.id(test),
                    attempt,
                    events: batch.events,
                    dropped: batch.dropped,
                };
                self.tell(kind, |told| told.passage = Some(batch.passage));
            }
            FromSlot::Printed(spoken) => self.printed(spoken),
            FromSlot::Broke {
                test,
                attempt,
                broken: Broken { pid, args },
            } => {
                let kind = EventKind::AttemptBroke {
                    test: self.shared.work.id(test),
                    attempt,
                    pid,
                    args,
                };
                self.emit(kind);
                if let Some(break_exec) = &self.break_exec {
                    break_exec.run(pid);
                }
            }
            FromSlot::Stopped(stopped) => self.was_stopped(stopped),
            FromSlot::Lost { slot, message } => {
                // The next attempt makes another.
                self.slots.remove(&slot);
                self.step(Input::SlotLost { slot, message }, slot_tx);
            }
            FromSlot::Over(made) => self.attempt_over(made, slot_tx),
            FromSlot::Said { slot, what } => self.step(Input::ServiceSaid { slot, what }, slot_tx),
            FromSlot::Looked { service, answer } => {
                self.step(Input::ServiceLooked { service, answer }, slot_tx);
            }
            FromSlot::Published { service, variables } => {
                self.step(Input::ServicePublished { service, variables }, slot_tx);
            }
            FromSlot::Ended { slot, survivors } => {
                self.step(Input::ScriptEnded { slot, survivors }, slot_tx);
            }
        }
    }

    fn attempt_over(&mut self, made: Made, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        if let Some(signal) = terminal::key(&made.attempt.outcome) {
            // Before a next test could start, or the run be over.
            self.step(Input::Shutdown { signal }, slot_tx);
        }
        let is_test = self.shared.work.test(made.test).role == Role::Test;
        let id = AttemptId {
            test: self.shared.work.id(made.test),
            attempt: made.attempt.number,
        };
        let kept = Kept {
            output: made.output.map(|output| (id, output)),
            trace: made.trace,
        };
        let over = match is_test {
            true => Input::AttemptOver {
                slot: made.slot,
                attempt: made.attempt,
                refused: made.refused,
            },
            false => Input::ScriptOver {
                slot: made.slot,
                attempt: made.attempt,
                variables: made.variables,
            },
        };
        self.step_with(over, kept, slot_tx);
    }

    /// Hears what slots have said until now.
    async fn hear_all(
        &mut self,
        from_slots: &mut mpsc::UnboundedReceiver<FromSlot>,
        slot_tx: &mpsc::UnboundedSender<FromSlot>,
    ) {
        while let Ok(message) = from_slots.try_recv() {
            self.look_at_services_of(&message, slot_tx).await;
            self.heard(message, slot_tx);
        }
    }

    /// Has all slots read what has arrived by now: what has ended in time is not ended by the run.
    async fn look(&mut self, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        let slots: Vec<usize> = self.slots.keys().copied().collect();
        self.look_in(slots, slot_tx).await;
    }

    /// Has slots read what has arrived by now.
    async fn look_in(&mut self, slots: Vec<usize>, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        let (looked, mut all_looked) = mpsc::unbounded_channel();
        for slot in slots {
            self.send(slot, ToSlot::Look(looked.clone()), slot_tx);
        }
        drop(looked);
        // Slots share this thread. Disconnected once all have; one may be ending its stub.
        let _ = tokio::time::timeout(LOOK_LIMIT, all_looked.recv()).await;
    }

    /// Reads what stubs say of a stop of this process, before anything else: the end of the run may
    /// be among it.
    async fn hear_of_stops(
        &mut self,
        message: Option<FromSlot>,
        from_slots: &mut mpsc::UnboundedReceiver<FromSlot>,
        slot_tx: &mpsc::UnboundedSender<FromSlot>,
    ) {
        self.look(slot_tx).await;
        let mut messages = Vec::from_iter(message);
        let of_spare = self.stubs.iter().filter_map(slot::runner_stopped);
        messages.extend(of_spare.map(FromSlot::Stopped));
        while let Ok(message) = from_slots.try_recv() {
            messages.push(message);
        }
        // The stub that has let this process go on knows it best.
        messages.sort_by_key(|message| match message {
            FromSlot::Stopped(stopped) => u8::from(!stopped.continued),
            _ => 2,
        });
        for message in messages {
            self.heard(message, slot_tx);
        }
    }

    /// Tells of a stop of this process, once: all stubs see it.
    fn was_stopped(&mut self, stopped: RunnerStopped) {
        if stopped.since < self.stopped_until {
            return;
        }
        self.stopped_until = stopped.until;
        let running = self.dispatcher.status(self.shared.clock.now());
        let kind = EventKind::Stopped {
            elapsed: stopped.until.saturating_sub(stopped.since),
            continued: stopped.continued,
            running: running.into_iter().map(|running| running.test).collect(),
        };
        self.emit(kind);
    }

    fn emit(&self, kind: EventKind) {
        self.tell(kind, |_| {});
    }

    /// Tells the sinks of an event, with what else belongs to it.
    fn tell(&self, kind: EventKind, complete: impl FnOnce(&mut Told)) {
        let event = Event {
            at: self.shared.clock.now(),
            kind,
        };
        let mut told = Told {
            event,
            output: None,
            trace: None,
            passage: None,
            shown: None,
        };
        complete(&mut told);
        // If the receiver is gone, the sinks have failed and have reported it by `control`.
        let _ = self.tell.send(told);
    }

    /// Asks the slots what they are doing. Asked again before all have answered, it is one question.
    fn ask_status(&mut self, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        if self.asking.is_some() {
            return;
        }
        let (tell, answers) = mpsc::unbounded_channel();
        let slots: Vec<usize> = self.slots.keys().copied().collect();
        for slot in slots {
            self.send(slot, ToSlot::Describe(tell.clone()), slot_tx);
        }
        self.asking = Some(Asking::new(answers));
    }

    fn tell_progress(&self) {
        let progress = EventKind::Progress {
            running: self.dispatcher.running(),
            stats: self.dispatcher.stats(),
        };
        self.emit(progress);
    }

    fn tell_status(&mut self) {
        let mut running = self.dispatcher.status(self.shared.clock.now());
        if let Some(asking) = self.asking.take() {
            asking.complete(&mut running);
        }
        self.emit(EventKind::Status {
            running,
            stats: self.dispatcher.stats(),
        });
    }

    async fn signalled(&mut self, signal: Heard, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        match signal {
            Heard::Shutdown(signal) => self.step(Input::Shutdown { signal }, slot_tx),
            Heard::Status => self.ask_status(slot_tx),
            Heard::Continue => keys::resume(),
            // As the kernel has it for programs that leave SIGTSTP alone.
            Heard::Stop if survivors::own_group_is_orphaned() => {}
            Heard::Stop => self.stop(slot_tx).await,
        }
    }

    /// Stops for Ctrl-Z: the clocks, the tests, the terminal, and then this process. What follows
    /// happens when the user lets it go on.
    async fn stop(&mut self, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        self.shared.clock.pause();
        let (passed_on, mut all_passed_on) = mpsc::unbounded_channel();
        self.signal_slots(libc::SIGTSTP, Some(passed_on), slot_tx);
        // Slots share this thread: they get to pass it on only while this waits. Disconnected
        // once all have.
        let _ = tokio::time::timeout(PAUSE_LIMIT, all_passed_on.recv()).await;
        let running = self.dispatcher.running();
        let (shown, is_shown) = std_mpsc::sync_channel(1);
        self.tell(EventKind::Paused { running }, |told| {
            told.shown = Some(shown)
        });
        // Disconnected once the sinks are done; a sink that hangs must not keep us from stopping.
        let _ = is_shown.recv_timeout(PAUSE_LIMIT);
        keys::give_back();
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
        keys::resume();
        self.shared.clock.resume();
        self.signal_slots(libc::SIGCONT, None, slot_tx);
        self.emit(EventKind::Continued { running });
    }

    fn signal_slots(
        &mut self,
        signal: i32,
        passed_on: Option<slot::PassedOn>,
        slot_tx: &mpsc::UnboundedSender<FromSlot>,
    ) {
        let slots: Vec<usize> = self.slots.keys().copied().collect();
        for slot in slots {
            let passed_on = passed_on.clone();
            self.send(slot, ToSlot::Signal { signal, passed_on }, slot_tx);
        }
    }

    /// Sends to a slot, which is made when it is first needed.
    fn send(&mut self, number: usize, message: ToSlot, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        let slot = self.slots.entry(number).or_insert_with(|| {
            let (tx, orders) = mpsc::unbounded_channel();
            let tell = slot_tx.clone();
            // One elsewhere needs none.
            let stub = match &message {
                ToSlot::Start(start) if start.remote => None,
                _ => self.stubs.pop(),
            };
            let slot = Slot::new(number, stub, Mail { orders, tell });
            let served = tokio::task::spawn_local(serve(slot, Rc::clone(&self.shared)));
            tokio::task::spawn_local(slot::watch_over(number, served, slot_tx.clone()));
            tx
        });
        // A slot lives as long as its sender.
        let _ = slot.send(message);
    }
}
