//! One attempt: everything of its own, from its start to its end.
//!
//! [`Running`] is made when the attempt starts and consumed when it ends. It drives a [`Unit`]: gives
//! the attempt to the stub, reads its output, keeps its deadlines. It borrows the slot, which has what
//! outlives it.

mod arrived;
mod heard;
mod known;
mod over;
mod start;

pub(super) use over::{Cut, Over};

use super::{
    Tracing,
    dispatch::Said,
    live::{Live, Printed},
    pulse::Pulse,
    shared::Shared,
    slot::{Described, FromSlot, Slot, Start, ToSlot},
    streams::Streams,
    unit::{Action, Ending, Input, Unit},
    until,
    work::{Role, Test},
};
use crate::{
    protocol::{Request, Response, Ticket},
    stub::link::StubError,
};
use known::Known;
use std::{
    collections::VecDeque,
    ffi::OsString,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Output is not read before an attempt is this old: a short one is read once, at its end, without
/// a wake-up for each line. A pipe holds 64 KiB meanwhile (pipe(7)).
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// An attempt that runs.
pub(super) struct Running<'a> {
    slot: &'a mut Slot,
    shared: &'a Shared,
    test: &'a Test,
    tracing: Tracing,
    start: Start,
    ticket: Ticket,
    begun: Duration,
    /// For how long the run had been stopped before.
    paused_before: Duration,
    unit: Unit,
    pulse: Pulse,
    streams: Streams,
    /// If it is traced live.
    live: Option<Live>,
    /// If its output is shown live.
    printed: Option<Printed>,
    known: Known,
    /// The file for variables, if it is a setup script.
    env_file: Option<OsString>,
    /// The file for metrics, if it is a test: it is not there unless the test makes it.
    metrics_file: Option<PathBuf>,
    /// The receivers of the answers to the inspections that the stub has been asked for, in order.
    inspections: VecDeque<Inspection>,
    /// The reason why it was cut short, if it was.
    cut: Option<Cut>,
}

/// The receiver of an answer to an inspection.
enum Inspection {
    /// A question from outside.
    Question(mpsc::UnboundedSender<Described>),
    /// The attempt's own record: its time is up.
    TimeUp,
    /// The attempt's own record: it is slow.
    Slow,
}

/// The reason why an attempt that waits goes on.
enum Woken {
    /// A deadline may have come.
    Time,
    /// The stub has said something, or is gone.
    Heard(Box<Result<Response, StubError>>),
    /// The dispatcher has said something.
    Order(ToSlot),
    /// A stream can be read.
    Readable,
    /// Its limit has refused it a process.
    LimitHit,
    /// There is no stub to wait for.
    NoStub,
}

impl<'a> Running<'a> {
    /// An attempt that starts now.
    pub(super) fn new(
        slot: &'a mut Slot,
        shared: &'a Shared,
        start: Start,
        tracing: Tracing,
    ) -> Self {
        let test = shared.work.test(start.test);
        let begun = shared.clock.now();
        let ticket = slot.next_ticket();
        let is_test = test.role == Role::Test;
        let metrics_file = is_test.then(|| shared.work.blocks.metrics_file(slot.number, ticket));
        Self {
            ticket,
            slot,
            shared,
            test,
            tracing,
            start,
            begun,
            paused_before: shared.clock.paused(),
            unit: Unit::new(
                begun,
                test.settings.slow_timeout,
                test.settings.leak_timeout,
            )
            .with_lingering(matches!(test.role, Role::Setup { .. })),
            pulse: Pulse::new(begun),
            streams: Streams::default(),
            live: shared.work.live.as_ref().map(Live::new),
            printed: shared.work.printed.as_ref().map(Printed::new),
            known: Known::default(),
            env_file: None,
            metrics_file,
            inspections: VecDeque::new(),
            cut: None,
        }
    }

    /// Runs it to its end.
    pub(super) async fn run_to_end(mut self) -> Over {
        let mut inputs = match self.spawn() {
            Ok(()) => Vec::new(),
            Err(input) => vec![input],
        };
        if self.streams.closed() {
            inputs.push(Input::OutputClosed);
        }
        let ending = loop {
            if let Some(ending) = self.handle(inputs) {
                break ending;
            }
            let woken = self.wait().await;
            inputs = self.woken(woken);
            self.tell_printed();
            if self.streams.take_line() {
                self.slot.tell(FromSlot::Said {
                    slot: self.slot.number,
                    what: Said::Line,
                });
            }
        };
        self.over(ending).await
    }

    /// Lets the unit decide, and carries that out. Returns the ending if that is one.
    fn handle(&mut self, inputs: Vec<Input>) -> Option<Ending> {
        for input in inputs {
            for action in self.unit.handle(self.shared.clock.now(), input) {
                match action {
                    Action::Finish(ending) => return Some(ending),
                    Action::Slow { terminating } => self.slow(terminating),
                    Action::Inspect => self.inspect(Inspection::TimeUp),
                    Action::Signal(signal) => self.signal(signal),
                    Action::Kill => self.kill(),
                }
            }
        }
        None
    }

    /// Says that it is slow, and asks why: what its tasks wait for then is a sample.
    fn slow(&mut self, terminating: bool) {
        self.tell_slow(terminating);
        if !terminating && self.test.role == Role::Test {
            self.inspect(Inspection::Slow);
        }
    }

    fn tell_slow(&self, terminating: bool) {
        self.slot.tell(FromSlot::Slow {
            test: self.start.test,
            attempt: self.start.attempt,
            elapsed: self.shared.clock.now() - self.begun,
            terminating,
        });
    }

    /// If it is a service: notes its last lines for the tests that use it.
    fn note_tail(&self) {
        if let Role::Service { .. } = self.test.role {
            let (stdout, stderr) = self.streams.so_far();
            let services = &self.shared.services;
            services.note_tail(&self.test.id, [stdout, stderr]);
        }
    }

    /// Asks what its tasks wait for.
    fn inspect(&mut self, to: Inspection) {
        self.inspections.push_back(to);
        let ticket = self.ticket;
        let request = Request::Inspect { ticket };
        self.slot.stub.ask(&request, "say what its tasks wait for");
    }

    fn signal(&mut self, signal: i32) {
        let ticket = self.ticket;
        let request = Request::Signal { ticket, signal };
        self.slot.stub.ask(&request, "send a signal");
    }

    fn kill(&mut self) {
        let ticket = self.ticket;
        self.slot.bounds.spoil();
        self.slot
            .stub
            .ask(&Request::Kill { ticket }, "kill its tree");
    }

    /// Waits for the next thing to happen.
    async fn wait(&mut self) -> Woken {
        let times = [self.deadline(), self.first_look(), self.pulse_due()];
        let wake = times.into_iter().flatten().min();
        let Slot {
            stub,
            orders,
            bounds,
            ..
        } = &mut *self.slot;
        let Some(stub) = stub.current() else {
            return Woken::NoStub;
        };
        tokio::select! {
            biased;
            () = until(wake) => Woken::Time,
            response = stub.receive() => Woken::Heard(Box::new(response)),
            Some(order) = orders.recv() => Woken::Order(order),
            () = self.streams.readable() => Woken::Readable,
            () = bounds.refused() => Woken::LimitHit,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.shared.clock.instant(self.unit.deadline())
    }

    fn pulse_due(&self) -> Option<Instant> {
        self.shared.clock.instant(self.pulse.due())
    }

    fn first_look(&self) -> Option<Instant> {
        let at = self.begun + FIRST_LOOK;
        (!self.streams.watched)
            .then(|| self.shared.clock.instant(at))
            .flatten()
    }

    /// Returns what the unit is to know of what has happened.
    fn woken(&mut self, woken: Woken) -> Vec<Input> {
        match woken {
            Woken::Time => self.time_has_come(),
            Woken::Heard(response) => self.heard(*response),
            Woken::Order(order) => self.ordered(order),
            Woken::Readable => self.streams.read(&mut self.slot.buffer),
            Woken::LimitHit => vec![Input::LimitHit],
            Woken::NoStub => vec![Input::StubLost("the slot has no stub".to_owned())],
        }
    }

    fn time_has_come(&mut self) -> Vec<Input> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        if due(self.deadline()) {
            // Then there may be another deadline, or none.
            let inputs = self.arrived();
            return match inputs.is_empty() {
                true => vec![Input::Deadline],
                false => inputs,
            };
        }
        if due(self.pulse_due()) {
            let mut inputs = self.arrived();
            inputs.extend(self.beat());
            return inputs;
        }
        self.streams.watch();
        Vec::new()
    }

    fn ordered(&mut self, order: ToSlot) -> Vec<Input> {
        match order {
            ToSlot::Interrupt(by, force) => {
                self.cut.get_or_insert(Cut::Interrupted);
                let mut inputs = self.arrived();
                inputs.push(Input::Interrupt(by, force));
                inputs
            }
            ToSlot::Look(looked) => {
                let inputs = self.arrived();
                self.note_tail();
                drop(looked);
                inputs
            }
            ToSlot::Signal { signal, passed_on } => {
                self.signal(signal);
                drop(passed_on);
                Vec::new()
            }
            ToSlot::Describe(to) => {
                self.inspect(Inspection::Question(to));
                self.streams.read(&mut self.slot.buffer)
            }
            ToSlot::Start(_) | ToSlot::End => Vec::new(),
        }
    }
}
