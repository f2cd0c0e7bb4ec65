//! Drives a [`Unit`]: gives one attempt after the other to a stub, reads its output, keeps its
//! deadlines.

mod arrived;
mod handover;
mod idle;
mod lost;
mod messages;
mod told;
mod watched;

pub(super) use lost::watch_over;
pub(super) use messages::{Broken, Described, FromSlot, PassedOn, Start, ToSlot};
pub(super) use watched::runner_stopped;

use super::{
    Capture as CaptureMode, Image, Output, Shared, Test, Tracing,
    again::{again, earlier},
    arguments::{arguments, word},
    bounds::Bounds,
    environment::OfAttempt,
    live::Live,
    pulse::Pulse,
    streams::Streams,
    unit::{Action, Ending, Input, Unit, verdict},
    until,
    word::judged,
};
use crate::{
    config::settings::LeakPolicy,
    protocol::{Exited, Left, Request, Response, SoFar, Spawn, Trace},
    stub::{
        blocking::terminated,
        link::{self, Stub, StubError},
    },
};
use harness_metadata::{Attempt, Leak, Outcome, StartFailure, outcome::StreamSize};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, IsTerminal},
    os::fd::AsFd,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use told::{Told, pass_on};
use watched::WatchedStub;

/// Output is not looked at before an attempt is this old: a short one is read once, at its end,
/// and nobody is woken for every line that it prints. A pipe holds 64 KiB meanwhile (pipe(7)).
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// A slot and its stub.
pub(super) struct Slot {
    number: usize,
    shared: Rc<Shared>,
    /// `None` before the first attempt and after a fault.
    stub: Option<WatchedStub>,
    spare: Option<Stub>,
    /// After the stubs, which are gone before what they were in is removed.
    bounds: Bounds,
    ticket: u64,
    buffer: Vec<u8>,
    null: Option<File>,
    pulse: Pulse,
    /// What the stub was last asked to do.
    asked: &'static str,
    /// Whether the running attempt has been told to end.
    interrupted: bool,
    /// Whether the system did not have enough to start it.
    refused: bool,
}

impl Slot {
    pub(super) fn new(number: usize, shared: Rc<Shared>, stub: Option<Stub>) -> Self {
        Self {
            number,
            shared,
            stub: None,
            spare: stub,
            bounds: Bounds::default(),
            ticket: 0,
            buffer: Vec::new(),
            null: None,
            pulse: Pulse::new(Duration::ZERO),
            asked: "",
            interrupted: false,
            refused: false,
        }
    }

    /// Takes orders until there are no more.
    pub(super) async fn serve(
        mut self,
        mut orders: mpsc::UnboundedReceiver<ToSlot>,
        tell: mpsc::UnboundedSender<FromSlot>,
    ) {
        while let Some(order) = orders.recv().await {
            match order {
                ToSlot::Start(start) => {
                    let (attempt, mut output) = self.attempt(start, &mut orders, &tell).await;
                    if let Some(output) = &mut output {
                        output.toll = self.enter_road(output, &mut orders).await;
                    }
                    let over = FromSlot::Over {
                        slot: self.number,
                        test: start.test,
                        attempt: Box::new(attempt),
                        output,
                        refused: self.refused,
                    };
                    // Nobody listens any more if the run has been abandoned.
                    let _ = tell.send(over);
                }
                order => self.idle(order, &tell),
            }
        }
        self.end_stub().await;
    }

    async fn attempt(
        &mut self,
        start: Start,
        orders: &mut mpsc::UnboundedReceiver<ToSlot>,
        tell: &mpsc::UnboundedSender<FromSlot>,
    ) -> (Attempt, Option<Output>) {
        self.interrupted = false;
        self.refused = false;
        let learned = self.shared.learned.borrow().get(&start.test).copied();
        let mut tracing = learned.unwrap_or(self.shared.work.tests[start.test].tracing);
        let mut before = Vec::new();
        loop {
            let (attempt, output) = self.once(start, tracing, orders, tell).await;
            let again = again(tracing, &attempt).filter(|_| !self.interrupted && !self.refused);
            let Some(next) = again else {
                let earlier = before;
                return (Attempt { earlier, ..attempt }, output);
            };
            before.push(earlier(tracing, attempt));
            tracing = next;
            // Its further attempts begin with this.
            self.shared.learned.borrow_mut().insert(start.test, next);
        }
    }

    async fn once(
        &mut self,
        start: Start,
        tracing: Tracing,
        orders: &mut mpsc::UnboundedReceiver<ToSlot>,
        tell: &mpsc::UnboundedSender<FromSlot>,
    ) -> (Attempt, Option<Output>) {
        let shared = Rc::clone(&self.shared);
        let test = &shared.work.tests[start.test];
        let settings = &test.settings;
        let begun = shared.clock.now();
        let paused_before = shared.clock.paused();
        self.pulse = Pulse::new(begun);
        let mut unit = Unit::new(begun, settings.slow_timeout, settings.leak_timeout);
        let mut streams = Streams::default();
        let mut told = Told {
            live: shared.work.live.as_ref().map(Live::new),
            ..Told::default()
        };
        let mut inputs = match self.spawn(start, test, tracing, &mut streams) {
            Ok(()) => Vec::new(),
            Err(input) => vec![input],
        };
        if streams.closed() {
            inputs.push(Input::OutputClosed);
        }
        let ending = 'life: loop {
            for input in inputs.drain(..) {
                for action in unit.handle(shared.clock.now(), input) {
                    match action {
                        Action::Finish(ending) => break 'life ending,
                        Action::Slow { terminating } => {
                            let elapsed = shared.clock.now() - begun;
                            let (test, attempt) = (start.test, start.attempt);
                            let slow = FromSlot::Slow {
                                test,
                                attempt,
                                elapsed,
                                terminating,
                            };
                            let _ = tell.send(slow);
                        }
                        Action::Inspect => {
                            told.inspections.push_back(None);
                            let ticket = self.ticket;
                            self.say(&Request::Inspect { ticket }, "say what its tasks wait for");
                        }
                        Action::Signal(signal) => {
                            let ticket = self.ticket;
                            self.say(&Request::Signal { ticket, signal }, "send a signal");
                        }
                        Action::Kill => {
                            let ticket = self.ticket;
                            self.bounds.spoil();
                            self.say(&Request::Kill { ticket }, "kill its tree");
                        }
                    }
                }
            }
            inputs = self
                .wait(start, &unit, &mut streams, &mut told, orders, begun)
                .await;
            pass_on(&mut told, start, tell);
        };
        if let Some(live) = &mut told.live {
            told.seen.extend(live.end());
        }
        pass_on(&mut told, start, tell);
        let mut leak = ending.leak.clone();
        if !ending.stub_free {
            let survivors = self.end_stub().await;
            if !survivors.is_empty() {
                leak.get_or_insert_default().survivors.extend(survivors);
            }
            self.bounds.kill();
        }
        let escapes = std::mem::take(&mut told.escapes);
        let limits = self.bounds.end(&mut told.usage, escapes, !ending.stub_free);
        streams.read_rest(&mut self.buffer);
        let in_time = told.written_at_exit.unwrap_or(u64::MAX);
        let late_output = streams.written().saturating_sub(in_time);
        let binary = &shared.work.binaries[test.binary];
        let ending = Ending {
            outcome: match judged(ending.outcome, streams.word(), settings.require_result) {
                Outcome::Exited(exit) if exit.success() => binary.judge_image(exit),
                other => other,
            },
            ..ending
        };
        let output = streams.finish();
        let by_stub = told.elapsed.map(|elapsed| {
            elapsed.saturating_sub(shared.clock.paused().saturating_sub(paused_before))
        });
        let verdict = verdict(&ending, &limits, settings);
        let allowed = settings.leak == LeakPolicy::Allow;
        let leak = leak.map(|leak| Leak {
            allowed,
            late_output,
            ..leak
        });
        let attempt = Attempt {
            number: start.attempt,
            verdict,
            slow: ending.slow,
            started_at: shared.work.started_at + begun + paused_before,
            elapsed: by_stub.unwrap_or_else(|| match ending.outcome {
                Outcome::StartFailed(_) => Duration::ZERO,
                _ => shared.clock.now() - begun,
            }),
            usage: told.usage,
            stdout: output
                .as_ref()
                .map_or_else(StreamSize::default, |o| o.stdout.size()),
            stderr: output
                .as_ref()
                .map_or_else(StreamSize::default, |o| o.stderr.size()),
            pid: told.pid,
            outcome: ending.outcome,
            leak,
            limits,
            stuck: told.stuck,
            trace: told.trace,
            earlier: Vec::new(),
        };
        (attempt, output)
    }

    /// Waits for the next thing to happen to the running attempt.
    async fn wait(
        &mut self,
        start: Start,
        unit: &Unit,
        streams: &mut Streams,
        told: &mut Told,
        orders: &mut mpsc::UnboundedReceiver<ToSlot>,
        begun: Duration,
    ) -> Vec<Input> {
        let clock = &self.shared.clock;
        let deadline = clock.instant(unit.deadline());
        let first_look = (!streams.watched)
            .then(|| clock.instant(begun + FIRST_LOOK))
            .flatten();
        let pulse = clock.instant(self.pulse.due());
        let wake = [deadline, first_look, pulse].into_iter().flatten().min();
        let Some(stub) = &self.stub else {
            return vec![Input::StubLost("the slot has no stub".to_owned())];
        };
        tokio::select! {
            biased;
            () = until(wake) => {
                let due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
                if due(deadline) {
                    // Then there may be another deadline, or none.
                    let inputs = self.arrived(start, unit, streams, told);
                    match inputs.is_empty() {
                        true => vec![Input::Deadline],
                        false => inputs,
                    }
                } else if due(pulse) {
                    let mut inputs = self.arrived(start, unit, streams, told);
                    inputs.extend(self.beat());
                    inputs
                } else {
                    streams.watch();
                    Vec::new()
                }
            }
            response = stub.receive() => self.heard(start, unit, response, streams, told),
            Some(order) = orders.recv() => match order {
                ToSlot::Interrupt(by, force) => {
                    self.interrupted = true;
                    let mut inputs = self.arrived(start, unit, streams, told);
                    inputs.push(Input::Interrupt(by, force));
                    inputs
                }
                ToSlot::Look(looked) => {
                    let inputs = self.arrived(start, unit, streams, told);
                    drop(looked);
                    inputs
                }
                ToSlot::Signal { signal, passed_on } => {
                    let ticket = self.ticket;
                    self.say(&Request::Signal { ticket, signal }, "send a signal");
                    drop(passed_on);
                    Vec::new()
                }
                ToSlot::Describe(to) => {
                    told.inspections.push_back(Some(to));
                    let ticket = self.ticket;
                    self.say(&Request::Inspect { ticket }, "say what its tasks wait for");
                    streams.read(&mut self.buffer)
                }
                ToSlot::Start(_) => Vec::new(),
            },
            () = streams.readable() => streams.read(&mut self.buffer),
            () = self.bounds.refused() => vec![Input::LimitHit],
        }
    }

    fn heard(
        &mut self,
        start: Start,
        unit: &Unit,
        response: Result<Response, StubError>,
        streams: &mut Streams,
        told: &mut Told,
    ) -> Vec<Input> {
        if response.is_ok() {
            self.pulse.heard();
        }
        match response {
            Err(error) => vec![Input::StubLost(describe(&error))],
            Ok(Response::Ready { .. } | Response::Beat) => Vec::new(),
            Ok(Response::RunnerStopped(stopped)) => {
                told.stopped = Some(stopped);
                Vec::new()
            }
            Ok(Response::Refused { errno }) => {
                self.refused = link::is_scarcity(errno);
                vec![Input::StubLost(describe(&StubError::refused(errno)))]
            }
            Ok(
                Response::Seen { ticket, .. }
                | Response::Inspected { ticket, .. }
                | Response::Broke { ticket, .. }
                | Response::Stuck { ticket }
                | Response::StartFailed { ticket, .. }
                | Response::Exited { ticket, .. }
                | Response::Gone { ticket, .. },
            ) if ticket != self.ticket => Vec::new(),
            Ok(Response::Inspected { pid, tasks, .. }) => {
                let Some(Some(to)) = told.inspections.pop_front() else {
                    told.stuck = tasks;
                    return Vec::new();
                };
                let inputs = streams.read(&mut self.buffer);
                let (now, attempt) = (self.shared.clock.now(), start.attempt);
                let described = Described::new(self.number, attempt, unit, now, streams);
                // Whoever asked may not have waited.
                let _ = to.send(described.with_tasks(pid, tasks));
                inputs
            }
            Ok(Response::Stuck { .. }) => vec![Input::Stuck],
            Ok(Response::Broke { pid, args, .. }) => {
                told.broken.push(Broken { pid, args });
                vec![Input::Broke]
            }
            Ok(Response::Seen { events, .. }) => {
                if let Some(live) = &mut told.live {
                    told.seen.extend(live.pass(events));
                }
                Vec::new()
            }
            Ok(Response::StartFailed { failure, .. }) => {
                self.refused = link::is_scarcity(failure.errno);
                vec![Input::StartFailed(failure)]
            }
            Ok(Response::Exited { exited, .. }) => {
                let Exited {
                    pid,
                    exit,
                    elapsed,
                    descendants_alive,
                    so_far,
                } = exited;
                let SoFar {
                    usage,
                    trace,
                    escapes,
                } = so_far;
                told.escapes = escapes;
                told.pid = Some(pid);
                told.elapsed = Some(elapsed);
                told.usage = usage;
                told.trace = trace;
                let mut inputs = streams.read(&mut self.buffer);
                told.written_at_exit = Some(streams.written());
                inputs.insert(
                    0,
                    Input::Exited {
                        exit,
                        descendants_alive,
                    },
                );
                inputs
            }
            Ok(Response::Gone {
                so_far,
                survivors,
                left,
                ..
            }) => {
                let SoFar {
                    usage,
                    trace,
                    escapes,
                } = so_far;
                told.escapes = escapes;
                told.usage = usage;
                // What was seen up to the root's end is more than nothing.
                told.trace = trace.or(told.trace.take());
                let mut inputs = streams.read(&mut self.buffer);
                inputs.insert(
                    0,
                    match left {
                        Left::Nothing => Input::Gone { survivors },
                        Left::Unkillable(pids) if pids.is_empty() => Input::StubLost(
                            "processes of the test are left that could neither be found nor killed"
                                .to_owned(),
                        ),
                        Left::Unkillable(pids) => Input::StubLost(format!(
                            "processes {pids:?} could not be killed: they are in uninterruptible \
                             sleep"
                        )),
                    },
                );
                inputs
            }
        }
    }

    fn spawn(
        &mut self,
        start: Start,
        test: &Test,
        tracing: Tracing,
        streams: &mut Streams,
    ) -> Result<(), Input> {
        self.ticket += 1;
        let name = format!("slot-{}.{}", self.number, self.ticket);
        let cgroups = self.shared.work.cgroups.as_deref();
        let bounded = self.bounds.begin(cgroups, &name, test.settings.limits);
        bounded.map_err(|error| {
            Input::StartFailed(StartFailure {
                message: describe(&error),
                errno: error.source.raw_os_error().unwrap_or_default(),
            })
        })?;
        let spawned = self.spawn_bounded(start, test, tracing, streams);
        spawned.map_err(|error| {
            self.refused = error.is_scarcity();
            Input::StubLost(describe(&error))
        })
    }

    fn spawn_bounded(
        &mut self,
        start: Start,
        test: &Test,
        tracing: Tracing,
        streams: &mut Streams,
    ) -> Result<(), StubError> {
        self.asked = "start the test";
        let work = &self.shared.work;
        let binary = &work.binaries[test.binary];
        let of = OfAttempt {
            test,
            attempt: start.attempt,
            total_attempts: start.total_attempts,
            slot: self.number,
            group_slot: start.group_slot,
        };
        let environment = work.blocks.of_attempt(&of);
        let args = arguments(binary, test);
        let trace_file = match (&work.trace_files, test.trace_number) {
            (Some(files), Some(first)) => {
                let path = files.path(first + u64::from(start.attempt) - 1);
                path.into_string().into_bytes()
            }
            _ => Vec::new(),
        };
        let spawn = Spawn {
            ticket: self.ticket,
            program: &terminated(
                binary
                    .program
                    .first()
                    .map_or(OsStr::new(""), OsString::as_os_str),
            ),
            args: &args
                .iter()
                .flat_map(|arg| terminated(arg))
                .collect::<Vec<u8>>(),
            environment: &environment,
            cwd: &terminated(binary.cwd.as_os_str()),
            trace: Trace {
                level: tracing.level,
                backend: tracing.backend,
                file: &trace_file,
                live: work.live.is_some(),
                no_new_privs: tracing.no_new_privs,
                break_exec: work.break_exec.as_bytes(),
            },
            foreground: work.capture == CaptureMode::Inherit,
            cgroup: self.bounds.cgroup(),
            image: binary.image.as_ref().map(Image::to_protocol),
        };
        let null = match &mut self.null {
            Some(null) => null,
            none => none.insert(File::open("/dev/null")?),
        };
        let (stdout, stderr) = match work.capture {
            CaptureMode::Pipes => streams.open(work.output_cap, word(binary, test))?,
            CaptureMode::Inherit => (
                io::stdout().as_fd().try_clone_to_owned()?,
                io::stderr().as_fd().try_clone_to_owned()?,
            ),
        };
        let stub = match &self.stub {
            Some(stub) => stub,
            None => {
                let stub = match self.spare.take() {
                    Some(stub) => stub,
                    None => Stub::launch()?,
                };
                self.stub.insert(WatchedStub::new(stub)?)
            }
        };
        let own = io::stdin();
        let asks = work.capture == CaptureMode::Inherit && own.is_terminal();
        let stdin = if asks { own.as_fd() } else { null.as_fd() };
        let fds = [stdin, stdout.as_fd(), stderr.as_fd()];
        let request = Request::Spawn(spawn);
        match stub.stub.send(&request, &fds) {
            Err(StubError::Talk { source }) if source.kind() == io::ErrorKind::BrokenPipe => {
                // Killed while it had nothing to do: no test need suffer from that.
                self.stub = None;
                let fresh = WatchedStub::new(Stub::launch()?)?;
                self.stub.insert(fresh).stub.send(&request, &fds)
            }
            result => result,
        }
    }

    /// Says something to the stub. If it is gone, that is heard from its socket.
    fn say(&mut self, request: &Request<'_>, asked: &'static str) {
        self.asked = asked;
        if let Some(stub) = &self.stub {
            stub.stub.wake();
            let _ = stub.stub.send(request, &[]);
        }
    }
}

/// An error with its causes, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
