//! The far side: the `__double-spawn` process of a slot.
//!
//! A stub has one thread and plain blocking code. It spawns one attempt after the other, traces
//! it, is the subreaper of its orphans, and kills what is left. It decides nothing: when to
//! signal and when to kill, the runner says. When the runner is gone, the stub kills its whole
//! tree and exits.
//!
//! [`link`] is the near side's handle.

mod attempt;
pub mod blocking;
mod broker;
pub mod cgroup;
mod confine;
mod explain;
mod guard;
mod holds;
pub mod link;
mod nest;
pub mod open_files;
mod outer;
mod probe;
mod reaping;
mod spawn;
pub(crate) mod standalone;
mod status;
mod stuck;
pub(crate) mod survivors;
pub mod terminal;
mod traced;
mod tree;
mod watch;
mod will;

use crate::{
    keys::Guard,
    proc,
    protocol::{
        Available, Exited, Left, OwnFarewell, Request, Response, RunnerStopped, Spawn,
        packet::{self, Packet, send_response},
    },
    sys,
};
use attempt::{Attempt, Taken};
use guard::{Guard as RunnerGuard, LOOK};
use harness_metadata::{exit_code, trace::Missing};
use nest::Nest;
use spawn::{Loaders, SpawnError, Spawner};
use std::{
    env,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};
use survivors::NAMING;
use sys::{Pace, Signals, WaitAny, Woken};
use tree::Ended;
use watch::Way;
use will::OwnWill;

/// The argument by which the executable is asked to be a stub.
pub const ARGUMENT: &str = "__double-spawn";

/// The number of times that a kill is repeated for new processes.
const SWEEP: Duration = Duration::from_millis(2);

/// The number of events of tasks to handle before the runner gets its turn: a tree can make events
/// faster than they can be handled.
const BATCH: u32 = 256;

/// The number of events of a live trace to send at once.
const EVENTS: usize = 256;

/// The interval for checking whether a test with limits is still in its cgroup.
const LOOK_INSIDE: Duration = Duration::from_millis(50);

/// The time limit for SIGKILL. A process in uninterruptible sleep is reported after this.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Makes this process deaf to no signal and its children waitable, whatever its parent left it. To
/// be called at the very start of the program, which still has one thread.
pub fn restore_signals() {
    sys::restore_signals();
}

/// Returns why there is no /proc by which a stub finds and names what is not traced, if so.
pub fn no_proc() -> Option<Missing> {
    proc::mounted().lacks()
}

/// Serves requests on standard input until the runner is gone. Returns the exit code.
pub fn serve() -> i32 {
    match Stub::new().and_then(|mut stub| stub.run()) {
        Ok(()) => exit_code::OK,
        // The runner reads end of file and reports the attempt as a fault.
        Err(_) => exit_code::DOUBLE_SPAWN,
    }
}

/// The state of a stub.
struct Stub {
    socket: OwnedFd,
    runner: nix::unistd::Pid,
    guard: RunnerGuard,
    signals: Signals,
    spawner: Spawner,
    nest: Nest,
    available: Available,
    attempt: Option<Attempt>,
    /// The runner's terminal, if keys are read from it.
    terminal: Option<Guard>,
    /// The terminal that tests have, if they are to have it.
    lending: Option<terminal::Terminal>,
    /// True if there may be events of tasks that wake no one up.
    more_news: bool,
    /// True if the attempt has just begun: its news are waited for, and not looked for before.
    has_begun: bool,
    /// Whether processes end faster than they are reaped.
    flooded: bool,
    /// The command to run if the runner dies.
    will: Option<OwnWill>,
}

impl Stub {
    fn new() -> io::Result<Self> {
        let runner = nix::unistd::getppid();
        let signals = sys::block_signals();
        sys::set_pace(Pace::Prompt);
        let socket = take_socket()?;
        let lending = terminal::leave(env::args_os().skip(2));
        sys::become_subreaper()?;
        sys::continue_when_parent_dies();
        sys::continue_every(LOOK);
        sys::interrupt_waits_for(socket.as_fd())?;
        let mut spawner = Spawner::new(Loaders::of_environment())?;
        spawner.open_files = open_files::raise_in_stub(env::args_os().nth(2));
        let (available, outer) = match probe::available() {
            Ok(found) => found,
            Err(errno) => {
                let errno = errno as i32;
                send_response(socket.as_fd(), &Response::Refused { errno })?;
                return Err(io::Error::from_raw_os_error(errno));
            }
        };
        let ready = Response::Ready {
            available: available.clone(),
        };
        send_response(socket.as_fd(), &ready)?;
        Ok(Self {
            socket,
            runner,
            guard: RunnerGuard::new(runner.as_raw()),
            signals,
            spawner,
            nest: Nest::new(outer),
            available,
            attempt: None,
            terminal: None,
            lending,
            more_news: false,
            has_begun: false,
            flooded: false,
            will: None,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut packet = Packet::default();
        let served = loop {
            if let Err(error) = self.collect().and_then(|()| self.look_after_runner()) {
                break Err(error);
            }
            match self.wait(self.is_killing()) {
                Woken::Child | Woken::Limit => {}
                Woken::Call => {
                    if let Some(attempt) = &mut self.attempt {
                        attempt.tree.serve_call();
                    }
                }
                Woken::Deserted => {
                    if let Some(attempt) = &mut self.attempt {
                        attempt.tree.leave_listener();
                    }
                }
                Woken::Socket => match packet.receive(self.socket.as_fd()) {
                    Ok(true) => {
                        if let Err(error) = self.obey(&mut packet) {
                            break Err(error);
                        }
                    }
                    Ok(false) => break Ok(()),
                    Err(error) => break Err(error),
                },
            }
        };
        // First of all: its user's shell may be about to go on.
        if let Some(terminal) = &self.terminal {
            let _ = terminal.put_back();
        }
        if let Some(lending) = &mut self.lending {
            lending.take_back();
        }
        self.bequeath();
        // A runner that is gone cannot do it.
        let orphaned = nix::unistd::getppid() != self.runner;
        self.spawner.remove_den(orphaned);
        served
    }

    /// Waits for the next thing to happen.
    fn wait(&mut self, killing: bool) -> Woken {
        let socket = self.socket.as_fd();
        let interrupted = sys::interrupted();
        if let Some(attempt) = self.attempt.as_mut().filter(|_| interrupted) {
            attempt.tree.serve();
        }
        // Mostly that was the message by which the attempt has begun.
        if interrupted && self.attempt.is_some() && !self.more_news {
            let woken = self.signals.wait(socket, None, Some(Duration::ZERO));
            if woken != Woken::Limit {
                return woken;
            }
        }
        match &mut self.attempt {
            // A message that came while news kept arriving is seen to before more are waited for.
            Some(_) if self.more_news => self.signals.wait(socket, None, Some(Duration::ZERO)),
            // Who is killed waits for no answer.
            Some(attempt) if !killing && attempt.tree.listener().is_some() => {
                let limit = match attempt.tree.is_limited() {
                    true => LOOK_INSIDE,
                    false => LOOK,
                };
                self.signals
                    .wait(socket, attempt.tree.listener(), Some(limit))
            }
            Some(attempt) if !killing => {
                attempt.follow();
                Woken::Child
            }
            Some(_) => self.signals.wait(socket, None, Some(SWEEP)),
            None => (self.signals).wait_idle(socket, self.guard.is_on().then_some(LOOK)),
        }
    }

    /// Continues the runner if it was stopped and will not be continued. The message is sent
    /// before, so that the runner gets it in any case.
    fn look_after_runner(&mut self) -> io::Result<()> {
        let Some(stopped) = self.guard.look() else {
            return Ok(());
        };
        // What it has said before it was stopped may be that it is about to.
        if packet::readable(self.socket.as_fd(), Duration::ZERO)? {
            return Ok(());
        }
        let response = Response::RunnerStopped(RunnerStopped {
            since: stopped.since,
            until: stopped.until,
            continued: stopped.to_be_continued,
        });
        send_response(self.socket.as_fd(), &response)?;
        if stopped.to_be_continued {
            self.guard.continue_runner();
        }
        Ok(())
    }

    /// Takes the news of children and tracees, and tells what has ended.
    fn collect(&mut self) -> io::Result<()> {
        self.more_news = false;
        if std::mem::take(&mut self.has_begun) {
            return Ok(());
        }
        let Some(attempt) = &mut self.attempt else {
            return Ok(());
        };
        let taken = attempt.take_news(self.socket.as_fd())?;
        self.keep_pace(taken);
        self.tell_of_running(taken)?;
        let untold = self.attempt.as_ref().filter(|attempt| !attempt.exit_told);
        if let Some(ended) = untold.and_then(|attempt| attempt.tree.root_ended()) {
            return self.exited(ended, taken.nobody_left);
        }
        if taken.nobody_left {
            return self.gone(Left::Nothing);
        }
        self.go_on_killing()
    }

    /// Reaps with more of the processor while processes end faster than they are reaped: the dead
    /// would else become more and more.
    fn keep_pace(&mut self, taken: Taken) {
        let flooded = !taken.quiet && taken.ended > BATCH / 2;
        if flooded == self.flooded {
            return;
        }
        self.flooded = flooded;
        sys::set_pace(match flooded || self.is_killing() {
            true => Pace::Insistent,
            false => Pace::Prompt,
        });
    }

    fn is_killing(&self) -> bool {
        let attempt = self.attempt.as_ref();
        attempt.is_some_and(|attempt| attempt.killing.is_some())
    }

    /// Tells what the runner is to know of an attempt that runs.
    fn tell_of_running(&mut self, taken: Taken) -> io::Result<()> {
        let Some(attempt) = &mut self.attempt else {
            return Ok(());
        };
        attempt.tree.leave_reaping_to_kernel();
        self.more_news = !taken.quiet | attempt.tree.listen(&mut self.nest.outer);
        attempt.tree.look_for_escapes(LOOK_INSIDE);
        attempt.tell_broken(self.socket.as_fd())?;
        attempt.tell_events(self.socket.as_fd(), 1)?;
        if attempt.tree.take_stuck() {
            let ticket = attempt.ticket;
            send_response(self.socket.as_fd(), &Response::Stuck { ticket })?;
        }
        if let (Some(lending), Some(signal)) = (&mut self.lending, attempt.tree.take_stopped()) {
            lending.stopped(attempt.tree.root(), signal);
        }
        Ok(())
    }

    /// Tells of the root's end, with which the attempt ends if nothing else is left of it.
    fn exited(&mut self, ended: Ended, nobody_left: bool) -> io::Result<()> {
        let Some(attempt) = &mut self.attempt else {
            return Ok(());
        };
        attempt.exit_told = true;
        attempt.tree.look_for_escapes(Duration::ZERO);
        if let Some(lending) = &mut self.lending {
            lending.take_back();
        }
        let outer = &mut self.nest.outer;
        attempt.tree.listen_to_the_end(outer, nobody_left);
        if nobody_left {
            attempt.tree.watch().complete();
        }
        let ticket = attempt.ticket;
        let response = match self.spawner.failure_of(attempt.tree.executed(), ended.exit) {
            Some(failure) => Response::StartFailed { ticket, failure },
            None => {
                let exited = Exited {
                    pid: attempt.tree.root(),
                    exit: ended.exit,
                    elapsed: ended.elapsed,
                    descendants_alive: !nobody_left,
                    so_far: attempt.so_far(),
                };
                Response::Exited { ticket, exited }
            }
        };
        attempt.tell_events(self.socket.as_fd(), 1)?;
        send_response(self.socket.as_fd(), &response)?;
        if nobody_left && let Some(attempt) = self.attempt.take() {
            self.spawner.reaped = attempt.reaped;
            attempt.tree.into_watch().attempt_over();
        }
        Ok(())
    }

    /// Kills what has appeared since the last pass, if the attempt is being killed.
    ///
    /// # Errors
    ///
    /// When that takes too long: this stub is of no further use then.
    fn go_on_killing(&mut self) -> io::Result<()> {
        let Some(attempt) = &mut self.attempt else {
            return Ok(());
        };
        let Some(killing) = &attempt.killing else {
            return Ok(());
        };
        let overdue = killing.deadline <= Instant::now();
        let swept = attempt.tree.kill_all();
        if overdue && attempt.exit_told {
            let mut left = swept.alive;
            if left.is_empty() {
                // Not empty: a process forked between the two looks.
                left.extend(survivors::descendants(Instant::now() + NAMING));
            }
            self.gone(Left::Unkillable(left))?;
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        // It may have been that of the last end.
        self.more_news |= swept.news;
        Ok(())
    }

    fn gone(&mut self, left: Left) -> io::Result<()> {
        let Some(mut attempt) = self.attempt.take() else {
            return Ok(());
        };
        if attempt.killing.is_some() {
            sys::set_pace(Pace::Prompt);
        }
        let all = left == Left::Nothing;
        attempt.tree.listen_to_the_end(&mut self.nest.outer, all);
        attempt.tell_events(self.socket.as_fd(), 1)?;
        attempt.tree.watch().complete();
        let response = Response::Gone {
            ticket: attempt.ticket,
            so_far: attempt.so_far(),
            survivors: attempt
                .killing
                .map_or_else(Vec::new, |killing| killing.survivors),
            left,
        };
        send_response(self.socket.as_fd(), &response)?;
        self.spawner.reaped = attempt.reaped.filter(|_| all);
        attempt.tree.into_watch().attempt_over();
        Ok(())
    }

    fn obey(&mut self, packet: &mut Packet) -> io::Result<()> {
        let mut stdio = std::mem::take(&mut packet.fds);
        let request = packet.decode::<Request<'_>>()?;
        let stop = matches!(&request, Request::Signal { signal, .. } if *signal == libc::SIGTSTP);
        self.guard.heard(stop);
        match request {
            Request::Spawn(spawn) => {
                let output = stdio.split_off(stdio.len().min(3));
                self.spawn(&spawn, &stdio)?;
                if let Some(attempt) = &mut self.attempt {
                    attempt.output = output;
                }
            }
            Request::GuardTerminal => {
                self.terminal = <[OwnedFd; 2]>::try_from(stdio).ok().map(Guard::new);
            }
            Request::Signal { ticket, signal } => {
                if let Some(attempt) = self.attempt.as_ref().filter(|a| a.ticket == ticket) {
                    if let Some(lending) = self.lending.as_mut().filter(|_| signal == libc::SIGCONT)
                    {
                        lending.continues();
                    }
                    attempt.tree.signal_group(signal);
                }
            }
            Request::Will(will) => self.will = Some(OwnWill::new(&will, stdio)),
            Request::RevokeWill => self.will = None,
            Request::Beat => send_response(self.socket.as_fd(), &Response::Beat)?,
            Request::Inspect { ticket } => {
                if let Some(attempt) = self.attempt.as_ref().filter(|a| a.ticket == ticket) {
                    let inspected = Response::Inspected {
                        ticket,
                        pid: (attempt.tree.root_ended().is_none()).then(|| attempt.tree.root()),
                        tasks: stuck::describe(&attempt.tree.alive()),
                    };
                    send_response(self.socket.as_fd(), &inspected)?;
                }
            }
            Request::Kill { ticket } => {
                if let Some(attempt) = self.attempt.as_mut().filter(|a| a.ticket == ticket) {
                    attempt.kill();
                }
            }
        }
        Ok(())
    }

    fn spawn(&mut self, spawn: &Spawn<'_>, stdio: &[OwnedFd]) -> io::Result<()> {
        let way = Way::choose(&spawn.trace, &self.available);
        let (nest, signals) = (&mut self.nest, &self.signals);
        let mut lending = self.lending.as_mut().filter(|_| spawn.foreground);
        self.spawner.foreground = lending
            .as_mut()
            .and_then(|lending| lending.take_from_runner());
        match self.spawner.spawn(spawn, stdio, &way, nest, signals) {
            Ok(tree) => {
                let ticket = spawn.ticket;
                if let Some(lending) = lending {
                    lending.taken_by(tree.root());
                }
                self.attempt = Some(Attempt {
                    ticket,
                    tree,
                    exit_told: false,
                    killing: None,
                    reaped: None,
                    farewell: spawn.farewell.map(OwnFarewell::from),
                    output: Vec::new(),
                });
                self.has_begun = true;
                Ok(())
            }
            Err(SpawnError::Test(failure)) => {
                let failed = Response::StartFailed {
                    ticket: spawn.ticket,
                    failure,
                };
                send_response(self.socket.as_fd(), &failed)
            }
            Err(SpawnError::Stub(error)) => Err(error),
        }
    }

    /// Kills everything, because no runner is left to report to.
    fn abandon(&mut self) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        attempt.kill();
        let deadline = Instant::now() + KILL_LIMIT;
        while Instant::now() < deadline {
            let _ = attempt.tree.kill_all();
            match sys::wait_any() {
                WaitAny::News { pid, waited, usage } => attempt.tree.handle(pid, waited, usage),
                WaitAny::Quiet => {}
                WaitAny::Nobody => return,
            }
            // The socket is at its end, so only SIGCHLD and the limit are worth waiting for.
            self.signals.wait_for_child(SWEEP);
        }
    }
}

/// Moves the socket from standard input to a descriptor of its own, closes whatever else was
/// inherited, and leaves `/dev/null` behind.
fn take_socket() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    // Above the standard streams, so that a child's own can be put there without a clash.
    let socket = stdin.as_fd().try_clone_to_owned()?;
    let high = nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3))?;
    drop(socket);
    let socket = sys::keep_only(high);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(socket)
}
