//! The messages of a stub about the attempt that runs, and their inputs for its unit.

use super::{Cut, Inspection, Running};
use crate::{
    protocol::{Exited, Left, Response, SoFar},
    run::{
        causes::with_causes,
        slot::{Broken, Described, FromSlot},
        unit::Input,
    },
    stub::link::{self, StubError},
};
use harness_metadata::{StartFailure, Survivor, TraceEvent, outcome::StuckTask};

impl Running<'_> {
    /// Takes what the stub says, and returns what the unit is to know of it.
    pub(super) fn heard(&mut self, response: Result<Response, StubError>) -> Vec<Input> {
        let response = match response {
            Ok(response) => response,
            Err(error) => return vec![Input::StubLost(with_causes(&error))],
        };
        self.pulse.heard();
        // What it says late of an attempt that is over.
        if response.ticket().is_some_and(|of| of != self.ticket) {
            return Vec::new();
        }
        match response {
            Response::Ready { .. } | Response::Beat => Vec::new(),
            Response::RunnerStopped(stopped) => self.pass_on(FromSlot::Stopped(stopped)),
            Response::Refused { errno } => self.stub_refused(errno),
            Response::Inspected { pid, tasks, .. } => self.inspected(pid, tasks),
            Response::Stuck { .. } => vec![Input::Stuck],
            Response::Broke { pid, args, .. } => self.broke(Broken { pid, args }),
            Response::Seen { events, .. } => self.seen(events),
            Response::StartFailed { failure, .. } => self.start_failed(failure),
            Response::Exited { exited, .. } => self.exited(exited),
            Response::Gone {
                so_far,
                survivors,
                left,
                ..
            } => self.gone(so_far, survivors, left),
        }
    }

    fn pass_on(&self, message: FromSlot) -> Vec<Input> {
        self.slot.tell(message);
        Vec::new()
    }

    fn stub_refused(&mut self, errno: i32) -> Vec<Input> {
        self.refused(link::is_scarcity(errno));
        vec![Input::StubLost(with_causes(&StubError::refused(errno)))]
    }

    fn start_failed(&mut self, failure: StartFailure) -> Vec<Input> {
        self.refused(link::is_scarcity(failure.errno));
        vec![Input::StartFailed(failure)]
    }

    /// It never began. `scarce` says whether that is because the system did not have enough for it.
    pub(super) fn refused(&mut self, scarce: bool) {
        if scarce {
            self.cut = Some(Cut::Refused);
        }
    }

    fn inspected(&mut self, pid: Option<i32>, tasks: Vec<StuckTask>) -> Vec<Input> {
        let to = match self.inspections.pop_front() {
            Some(Inspection::Question(to)) => to,
            Some(Inspection::Slow) => {
                self.known.slow = tasks;
                return Vec::new();
            }
            Some(Inspection::TimeUp) | None => {
                self.known.stuck = tasks;
                return Vec::new();
            }
        };
        let inputs = self.streams.read(&mut self.slot.buffer);
        let (slot, attempt) = (self.slot.number, self.start.attempt);
        let now = self.shared.clock.now();
        let described = Described::new(slot, attempt, &self.unit, now, &self.streams);
        // The requester may not have waited.
        let _ = to.send(described.with_tasks(pid, tasks));
        inputs
    }

    fn broke(&mut self, broken: Broken) -> Vec<Input> {
        let (test, attempt) = (self.start.test, self.start.attempt);
        self.slot.tell(FromSlot::Broke {
            test,
            attempt,
            broken,
        });
        vec![Input::Broke]
    }

    fn seen(&mut self, events: Vec<TraceEvent>) -> Vec<Input> {
        let batch = self.live.as_mut().and_then(|live| live.pass(events));
        if let Some(batch) = batch {
            self.tell_traced(batch);
        }
        Vec::new()
    }

    fn exited(&mut self, exited: Exited) -> Vec<Input> {
        let exit = Input::Exited {
            exit: exited.exit,
            descendants_alive: exited.descendants_alive,
        };
        let closed = self.streams.read(&mut self.slot.buffer);
        self.known.exited(exited, self.streams.written());
        [exit].into_iter().chain(closed).collect()
    }

    fn gone(&mut self, so_far: SoFar, survivors: Vec<Survivor>, left: Left) -> Vec<Input> {
        self.known.gone(so_far);
        let gone = match left {
            Left::Nothing => Input::Gone { survivors },
            Left::Unkillable(pids) if pids.is_empty() => Input::StubLost(
                "processes of the test are left that could neither be found nor killed".to_owned(),
            ),
            Left::Unkillable(pids) => Input::StubLost(format!(
                "processes {pids:?} could not be killed: they are in uninterruptible sleep"
            )),
        };
        let closed = self.streams.read(&mut self.slot.buffer);
        [gone].into_iter().chain(closed).collect()
    }
}
