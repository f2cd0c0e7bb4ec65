//! Runs one command to its end through a stub, for callers that have nothing else to do.

use super::link::{Stub, StubError};
use crate::protocol::{
    Cgroup, Command, CommandBlocks, Request, Response, Spawn, Ticket, Trace,
    packet::{readable, receive_response},
};
use harness_metadata::{Exit, StartFailure, Survivor};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

/// The time limit for a killed tree to end. Longer than the stub's own limit.
const KILL_LIMIT: Duration = Duration::from_secs(15);

/// The number of bytes to keep of each output stream; the rest is read and dropped.
const OUTPUT_CAP: usize = 64 * 1024 * 1024;

/// The result of a command.
#[derive(Debug)]
pub struct Completed {
    /// Its wait status.
    pub end: End,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Its leftovers, which were killed.
    pub survivors: Vec<Survivor>,
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(Exit),
    /// It was not there.
    StartFailed(StartFailure),
    /// It exceeded its limit and was killed.
    TimedOut,
}

impl Stub {
    /// Runs a command with nothing on its standard input, reads its output, and kills what is
    /// left of it when it has ended or when `limit` has passed. `ticket` must not have been used
    /// with this stub before. The stub must have said that it is ready.
    ///
    /// # Errors
    ///
    /// When the stub fails; it is of no further use then.
    pub fn run_to_end(
        &mut self,
        ticket: Ticket,
        command: &Command,
        trace: Trace<'_>,
        limit: Duration,
    ) -> Result<Completed, StubError> {
        let (stdout, stdout_writer) = Stream::open()?;
        let (stderr, stderr_writer) = Stream::open()?;
        self.spawn(ticket, command, trace, &stdout_writer, &stderr_writer)?;
        drop((stdout_writer, stderr_writer));
        let mut running = Running {
            ticket,
            stdout,
            stderr,
            deadline: Instant::now() + limit,
            killing: false,
            end: None,
            survivors: Vec::new(),
        };
        while running.step(self)? == Step::Further {}
        running.completed()
    }

    fn spawn(
        &self,
        ticket: Ticket,
        command: &Command,
        trace: Trace<'_>,
        stdout: &OwnedFd,
        stderr: &OwnedFd,
    ) -> Result<(), StubError> {
        let null = File::open("/dev/null")?;
        let blocks = CommandBlocks::of(command);
        let spawn = Spawn {
            ticket,
            command: blocks.raw(),
            trace,
            foreground: false,
            cgroup: Cgroup::default(),
            image: None,
            farewell: None,
            policy: &[],
            inject: &[],
            entries: None,
        };
        self.send(
            &Request::Spawn(spawn),
            &[null.as_fd(), stdout.as_fd(), stderr.as_fd()],
        )
    }
}

/// A command that runs, or whose descendants do.
struct Running {
    ticket: Ticket,
    stdout: Stream,
    stderr: Stream,
    /// When it is killed, or, if it is being killed, when that has taken too long.
    deadline: Instant,
    killing: bool,
    end: Option<End>,
    survivors: Vec<Survivor>,
}

/// The continuation of a step.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Step {
    Further,
    /// All is gone.
    Over,
}

impl Running {
    /// Waits for the next thing to happen, and does what it asks for.
    fn step(&mut self, stub: &Stub) -> Result<Step, StubError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let fds = [stub.as_fd()].into_iter();
        let fds = fds.chain(self.stdout.open_fd());
        if !wait_for(fds.chain(self.stderr.open_fd()), left)? {
            return self.out_of_time(stub);
        }
        self.read();
        if !readable(stub, Duration::ZERO)? {
            return Ok(Step::Further);
        }
        let response = receive_response(stub.as_fd())?.ok_or(StubError::Gone)?;
        self.heard(stub, response)
    }

    fn heard(&mut self, stub: &Stub, response: Response) -> Result<Step, StubError> {
        match response {
            Response::StartFailed { failure, .. } => {
                self.end = Some(End::StartFailed(failure));
                return Ok(Step::Over);
            }
            Response::Exited { exited, .. } => {
                self.end.get_or_insert(End::Exited(exited.exit));
                if !exited.descendants_alive {
                    return Ok(Step::Over);
                }
                if !self.killing {
                    self.kill(stub)?;
                }
            }
            Response::Gone { survivors, .. } => {
                self.survivors = survivors;
                return Ok(Step::Over);
            }
            Response::Ready { .. }
            | Response::Refused { .. }
            | Response::Beat
            | Response::RunnerStopped(_)
            | Response::Seen { .. }
            | Response::Broke { .. }
            | Response::Stuck { .. }
            | Response::Inspected { .. } => {}
        }
        Ok(Step::Further)
    }

    fn out_of_time(&mut self, stub: &Stub) -> Result<Step, StubError> {
        if self.killing {
            return Err(StubError::Silent {
                pid: stub.pid(),
                what: "kill a tree",
                limit: KILL_LIMIT,
            });
        }
        self.end = Some(End::TimedOut);
        self.kill(stub)?;
        Ok(Step::Further)
    }

    fn kill(&mut self, stub: &Stub) -> Result<(), StubError> {
        self.killing = true;
        self.deadline = Instant::now() + KILL_LIMIT;
        stub.wake();
        let ticket = self.ticket;
        stub.send(&Request::Kill { ticket }, &[])
    }

    fn read(&mut self) {
        self.stdout.read();
        self.stderr.read();
    }

    fn completed(mut self) -> Result<Completed, StubError> {
        self.read();
        Ok(Completed {
            end: self.end.ok_or(StubError::Gone)?,
            stdout: self.stdout.bytes,
            stderr: self.stderr.bytes,
            survivors: self.survivors,
        })
    }
}

/// Waits until one of the descriptors can be read. Returns false if the time is up.
fn wait_for<'a>(
    fds: impl Iterator<Item = BorrowedFd<'a>>,
    limit: Duration,
) -> Result<bool, StubError> {
    let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let millis = limit.as_micros().div_ceil(1000);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(ready) => Ok(ready > 0 || !limit.is_zero()),
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// An output stream that is being read.
struct Stream {
    pipe: Option<OwnedFd>,
    bytes: Vec<u8>,
}

impl Stream {
    fn open() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((
            Self {
                pipe: Some(reader),
                bytes: Vec::new(),
            },
            writer,
        ))
    }

    fn open_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    fn read(&mut self) {
        let mut chunk = [0; 16 * 1024];
        // Bounded, so that a program that never stops printing cannot keep the deadline waiting.
        for _ in 0..64 {
            let Some(pipe) = &self.pipe else { return };
            match nix::unistd::read(pipe, &mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(read) => {
                    let room = OUTPUT_CAP - self.bytes.len();
                    self.bytes.extend_from_slice(&chunk[..read.min(room)]);
                }
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}
