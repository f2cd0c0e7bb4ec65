//! The near side: starts attempts in slots, keeps their clocks, and tells what happens.
//!
//! A run is two state machines and their drivers: [`dispatch`](self) decides what runs next and
//! when the run is over, [`unit`](self) decides the life of one attempt. This file drives the
//! first, `slot` drives the second. This is the only module that uses tokio, on one thread.

mod again;
mod arguments;
mod bounds;
mod capture;
mod clock;
mod debugger;
mod dispatch;
mod environment;
mod live;
mod signals;
mod slot;
mod streams;
mod unit;

use crate::{
    config::settings::{MaxFail, TestSettings},
    protocol::Environment,
    store::TraceFiles,
    stub::{
        cgroup::Cgroups,
        link::{self, Stub},
        survivors, sys,
    },
};
pub use debugger::BreakExec;

pub use capture::Output;
use clock::Clock;
use dispatch::{Action, Candidate, Dispatcher, Input, Limits};
use harness_metadata::{
    AttemptId, Event, EventKind, RunId, TestId, event::TraceLevel, trace::Backend,
};
use signals::{Heard, Signals};
use slot::{Broken, FromSlot, Slot, ToSlot};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::PathBuf,
    rc::Rc,
    sync::{Arc, mpsc as std_mpsc},
    thread,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::LocalSet,
    time::{Instant, sleep_until},
};

/// How long the slots may take to stop their tests, and the sinks to give the terminal back, before
/// the run stops for Ctrl-Z.
const PAUSE_LIMIT: Duration = Duration::from_millis(100);

/// How long the sinks may take to show the end of the run before an impatient Ctrl-C ends the
/// process without them.
const SINKS_LIMIT: Duration = Duration::from_secs(2);

/// Everything that a run needs. Complete before the first test starts.
#[derive(Debug)]
pub struct Work {
    /// The run's id.
    pub run_id: RunId,
    /// The profile's name, for the tests' environment.
    pub profile: String,
    /// When the run started.
    pub started_at: chrono::DateTime<chrono::FixedOffset>,
    /// The tests, in the order in which they start.
    pub tests: Vec<Test>,
    /// The binaries that hold them.
    pub binaries: Vec<Binary>,
    /// Tests that can run at the same time; at least 1.
    pub slots: usize,
    /// CPUs of the machine.
    pub cpus: usize,
    /// Limits of test groups.
    pub groups: BTreeMap<String, usize>,
    /// When the run gives up.
    pub max_fail: MaxFail,
    /// When the run as a whole is out of time.
    pub global_timeout: Option<Duration>,
    /// How many listed tests do not run, for the counts.
    pub skipped: usize,
    /// How many bytes of a stream are kept.
    pub output_cap: u64,
    /// Whether output is captured or goes where the run's own goes.
    pub capture: Capture,
    /// Whether every event of a trace is told at once: [`EventKind::AttemptTraced`].
    pub trace_live: bool,
    /// Which processes to stop for a debugger, and what to do then.
    pub break_exec: Option<BreakExec>,
    /// Where traces are written; `None` to write none.
    pub trace_files: Option<TraceFiles>,
    /// Where attempts are born; `None` if cgroups cannot be had.
    pub cgroups: Option<Arc<Cgroups>>,
    /// Stubs that have been started already.
    pub stubs: Vec<Stub>,
}

/// Where the tests' output goes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Capture {
    /// Into pipes that the run reads.
    Pipes,
    /// Where the run's own goes.
    Inherit,
}

/// A test to run.
#[derive(Debug)]
pub struct Test {
    /// Its id.
    pub id: TestId,
    /// What it runs under.
    pub settings: Arc<TestSettings>,
    /// Index of its binary.
    pub binary: usize,
    /// Whether it is marked as ignored.
    pub ignored: bool,
    /// Whether it is a benchmark.
    pub bench: bool,
    /// How it is traced.
    pub tracing: Tracing,
    /// The number of the trace of its first attempt, if it is traced; that of the next one is the
    /// next.
    pub trace_number: Option<u64>,
}

/// How a test is traced, by what it asks for and what works here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// How closely.
    pub level: TraceLevel,
    /// By what.
    pub backend: Backend,
    /// Whether no_new_privs may be set for it.
    pub no_new_privs: bool,
    /// By what it is run again if the tracer was in its way and it failed; `None` for never.
    pub otherwise: Option<Backend>,
}

/// A binary that holds tests.
#[derive(Debug)]
pub struct Binary {
    /// The program and its first arguments: a target runner, if there is one, then the binary.
    pub program: Vec<OsString>,
    /// Where its tests run.
    pub cwd: PathBuf,
    /// What its tests see, but for what depends on the run and the test.
    pub environment: Environment,
    /// Whether the standard test harness is linked into it.
    pub libtest: bool,
}

/// An event on its way to the sinks, with the output that belongs to it.
#[derive(Debug)]
pub struct Told {
    /// The event.
    pub event: Event,
    /// The output of the attempt that the event ends, if it ends one and if it was captured.
    pub output: Option<(AttemptId, Output)>,
    /// To be dropped once the event has been shown, so that more of the kind can be told.
    pub passage: Option<live::Passage>,
    /// To be dropped once the event has been shown and the terminal is as it was found.
    pub shown: Option<std_mpsc::SyncSender<()>>,
}

/// What others ask of a run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Results cannot be reported any more.
    ReportFailed,
    /// The user wants to know what is running.
    Status,
}

/// A run on its own thread.
#[derive(Debug)]
pub struct Running {
    /// The events. Disconnected when the run is over.
    pub events: std_mpsc::Receiver<Told>,
    control: mpsc::UnboundedSender<Control>,
    thread: thread::JoinHandle<io::Result<()>>,
}

impl Running {
    /// Starts a run. The calling thread is unparked when it is over.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn start(work: Work) -> io::Result<Self> {
        let (tell, events) = std_mpsc::channel();
        let (control, mut controls) = mpsc::unbounded_channel();
        let sinks = thread::current();
        let thread = thread::Builder::new()
            .name("run".to_owned())
            .spawn(move || {
                crate::stub::sys::prefer_latency();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let mut signals = runtime.block_on(async { Signals::new() })?;
                let run = drive(work, tell, &mut controls, &mut signals);
                LocalSet::new().block_on(&runtime, run);
                sinks.unpark();
                runtime.block_on(outlast_sinks(&mut controls, &mut signals));
                Ok(())
            })?;
        Ok(Self {
            events,
            control,
            thread,
        })
    }

    /// Asks something of the run. Nothing happens if it is over.
    pub fn control(&self, control: Control) {
        let _ = self.control.send(control);
    }

    /// Waits for the end, when all events have been received.
    ///
    /// # Errors
    ///
    /// When the run could not be driven to its end.
    pub fn join(self) -> io::Result<()> {
        drop(self.control);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that drives the run panicked")))
    }
}

/// What slots and the dispatcher share.
struct Shared {
    clock: Clock,
    work: SharedWork,
}

/// The parts of [`Work`] that slots need.
struct SharedWork {
    tests: Vec<Test>,
    binaries: Vec<Binary>,
    blocks: environment::Blocks,
    output_cap: u64,
    capture: Capture,
    live: Option<live::Road>,
    /// Empty for none.
    break_exec: String,
    trace_files: Option<TraceFiles>,
    cgroups: Option<Arc<Cgroups>>,
    started_at: chrono::DateTime<chrono::FixedOffset>,
}

async fn drive(
    work: Work,
    tell: std_mpsc::Sender<Told>,
    controls: &mut mpsc::UnboundedReceiver<Control>,
    signals: &mut Signals,
) {
    link::adopt_orphans();
    let mut driver = Driver::new(work, tell);
    let (slot_tx, mut from_slots) = mpsc::unbounded_channel();
    driver.step(Input::Begin, &slot_tx);
    while !driver.finished {
        let deadline = driver
            .dispatcher
            .deadline()
            .and_then(|at| driver.shared.clock.instant(at));
        tokio::select! {
            Some(message) = from_slots.recv() => {
                driver.heard(message, &slot_tx);
                while let Ok(message) = from_slots.try_recv() {
                    driver.heard(message, &slot_tx);
                }
            }
            signal = signals.next() => driver.signalled(signal, &slot_tx).await,
            Some(control) = controls.recv() => match control {
                Control::ReportFailed => driver.step(Input::ReportFailed, &slot_tx),
                Control::Status => driver.tell_status(),
            },
            () = until(deadline) => driver.step(Input::Deadline, &slot_tx),
        }
    }
}

/// Waits until the sinks are done with what the run has told them. If one hangs (a full pipe, a
/// terminal that is held), a signal that asks the run to end has to end the process.
async fn outlast_sinks(controls: &mut mpsc::UnboundedReceiver<Control>, signals: &mut Signals) {
    let limit = std::time::Instant::now() + SINKS_LIMIT;
    let mut shutdown = None;
    loop {
        tokio::select! {
            control = controls.recv() => if control.is_none() {
                return;
            },
            heard = signals.next() => if let Heard::Shutdown(signal) = heard {
                shutdown = Some(signal);
            },
            () = until(shutdown.map(|_| limit)) => if let Some(signal) = shutdown.take() {
                sys::restore_default_action(signal);
                let _ = sys::kill(std::process::id().cast_signed(), signal);
            },
        }
    }
}

/// Waits for a moment, or for ever.
async fn until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => sleep_until(Instant::from_std(at)).await,
        None => std::future::pending().await,
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
}

impl Driver {
    fn new(work: Work, tell: std_mpsc::Sender<Told>) -> Self {
        let blocks = environment::Blocks::new(&work);
        let candidates = work.tests.iter().map(|test| Candidate {
            id: test.id.clone(),
            settings: Arc::clone(&test.settings),
            command: arguments::displayed_command(&work.binaries[test.binary], test),
        });
        let limits = Limits {
            slots: work.slots,
            cpus: work.cpus,
            groups: work.groups,
            max_fail: work.max_fail,
            global_timeout: work.global_timeout,
            skipped: work.skipped,
        };
        let dispatcher = Dispatcher::new(candidates.collect(), limits, random);
        let shared = Shared {
            clock: Clock::start(),
            work: SharedWork {
                tests: work.tests,
                binaries: work.binaries,
                blocks,
                output_cap: work.output_cap,
                capture: work.capture,
                trace_files: work.trace_files,
                cgroups: work.cgroups,
                break_exec: BreakExec::pattern(work.break_exec.as_ref()),
                live: work.trace_live.then(live::Road::default),
                started_at: work.started_at,
            },
        };
        Self {
            dispatcher,
            shared: Rc::new(shared),
            slots: BTreeMap::new(),
            stubs: work.stubs,
            break_exec: work.break_exec,
            tell,
            finished: false,
        }
    }

    fn step(&mut self, input: Input, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        self.step_with(input, None, slot_tx);
    }

    /// Lets the dispatcher decide and does as it is told. `output` belongs to the attempt that
    /// `input` ends.
    fn step_with(
        &mut self,
        input: Input,
        mut output: Option<(AttemptId, Output)>,
        slot_tx: &mpsc::UnboundedSender<FromSlot>,
    ) {
        for action in self.dispatcher.handle(self.shared.clock.now(), input) {
            match action {
                Action::Start {
                    slot,
                    test,
                    attempt,
                    total_attempts,
                    group_slot,
                } => {
                    let start = slot::Start {
                        test,
                        attempt,
                        total_attempts,
                        group_slot,
                    };
                    self.send(slot, ToSlot::Start(start), slot_tx);
                }
                Action::Interrupt { slot, by, force } => {
                    self.send(slot, ToSlot::Interrupt(by, force), slot_tx);
                }
                Action::Emit(kind) => {
                    let ends = matches!(
                        kind,
                        EventKind::TestFinished(_) | EventKind::AttemptFailed { .. }
                    );
                    let output = if ends { output.take() } else { None };
                    self.emit(kind, output, None);
                }
                Action::Finish => self.finished = true,
            }
        }
    }

    fn heard(&mut self, message: FromSlot, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        match message {
            FromSlot::Slow {
                test,
                attempt,
                elapsed,
                terminating,
            } => {
                let test = self.dispatcher.test(test).id.clone();
                self.emit(
                    EventKind::AttemptSlow {
                        test,
                        attempt,
                        elapsed,
                        terminating,
                    },
                    None,
                    None,
                );
            }
            FromSlot::Traced {
                test,
                attempt,
                batch,
            } => {
                let kind = EventKind::AttemptTraced {
                    test: self.dispatcher.test(test).id.clone(),
                    attempt,
                    events: batch.events,
                    dropped: batch.dropped,
                };
                self.tell(kind, |told| told.passage = Some(batch.passage));
            }
            FromSlot::Broke {
                test,
                attempt,
                broken: Broken { pid, args },
            } => {
                let kind = EventKind::AttemptBroke {
                    test: self.dispatcher.test(test).id.clone(),
                    attempt,
                    pid,
                    args,
                };
                self.emit(kind, None, None);
                if let Some(break_exec) = &self.break_exec {
                    break_exec.run(pid);
                }
            }
            FromSlot::Over {
                slot,
                test,
                attempt,
                output,
            } => {
                let id = AttemptId {
                    test: self.dispatcher.test(test).id.clone(),
                    attempt: attempt.number,
                };
                let output = output.map(|output| (id, output));
                self.step_with(Input::AttemptOver { slot, attempt }, output, slot_tx);
            }
        }
    }

    fn emit(
        &self,
        kind: EventKind,
        output: Option<(AttemptId, Output)>,
        shown: Option<std_mpsc::SyncSender<()>>,
    ) {
        self.tell(kind, |told| {
            told.output = output;
            told.shown = shown;
        });
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
            passage: None,
            shown: None,
        };
        complete(&mut told);
        // If nobody listens any more, the sinks have failed and have said so by `control`.
        let _ = self.tell.send(told);
    }

    fn tell_status(&self) {
        let running = self.dispatcher.status(self.shared.clock.now());
        self.emit(
            EventKind::Status {
                running,
                stats: self.dispatcher.stats(),
            },
            None,
            None,
        );
    }

    async fn signalled(&mut self, signal: Heard, slot_tx: &mpsc::UnboundedSender<FromSlot>) {
        match signal {
            Heard::Shutdown(signal) => self.step(Input::Shutdown { signal }, slot_tx),
            Heard::Status => self.tell_status(),
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
        self.emit(EventKind::Paused { running }, None, Some(shown));
        // Disconnected once the sinks are done; a sink that hangs must not keep us from stopping.
        let _ = is_shown.recv_timeout(PAUSE_LIMIT);
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
        self.shared.clock.resume();
        self.signal_slots(libc::SIGCONT, None, slot_tx);
        self.emit(EventKind::Continued { running }, None, None);
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
            let (tx, rx) = mpsc::unbounded_channel();
            let slot = Slot::new(number, Rc::clone(&self.shared), self.stubs.pop());
            tokio::task::spawn_local(slot.serve(rx, slot_tx.clone()));
            tx
        });
        // A slot lives as long as its sender.
        let _ = slot.send(message);
    }
}

/// A random number in [0, 1).
fn random() -> f64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    // 53 bits are what a double holds exactly.
    (high >> 11) as f64 / (1u64 << 53) as f64
}
