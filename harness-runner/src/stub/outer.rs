//! The tracer of the run that this run is a test of: see [`crate::protocol::broker`].

use super::{sys, sys::Pid, watch::Watch};
use crate::{
    proc::{self, Mounted},
    protocol::{
        broker::{Ask, Tell, VARIABLE, VERSION},
        packet::{self, Packet},
    },
    tracer::Observer,
};
use harness_metadata::{
    Exit, TraceEvent, TraceEventKind,
    event::TraceLevel,
    trace::{Creation, Doubt, EnvironmentChange, Missing, Sender, Signal},
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, connect, getsockopt, shutdown,
        socket, sockopt::PeerCredentials,
    },
};
use std::{
    collections::BTreeSet,
    env, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    thread,
    time::{Duration, Instant},
};

/// The time limit for an answer. The outer stub is at most busy.
const ANSWER: Duration = Duration::from_secs(2);

/// The time without a message from the outer stub after which its missing events are given up.
const SILENCE: Duration = Duration::from_millis(500);

/// The time limit for all missing events.
const REST: Duration = Duration::from_secs(10);

/// The number of messages to read before other work gets its turn.
const BATCH: u32 = 64;

/// A connection to the stub that traces us.
pub(super) struct Outer {
    socket: OwnedFd,
    packet: Packet,
}

/// The events of the running attempt.
pub(super) struct Subtree {
    root: Pid,
    /// This stub.
    stub: Pid,
    level: TraceLevel,
    /// The time of the outer attempt when ours began.
    began: Duration,
    /// Set once the root has become the test.
    executed: bool,
    /// Set once every event up to the root's end has arrived.
    root_ended: bool,
    /// Set once all events have arrived, or no more will.
    over: bool,
    processes: u32,
    /// The live ones, by the events so far.
    alive: BTreeSet<Pid>,
    /// Whether the stub kills what is left.
    pub(super) killing: bool,
}

impl Outer {
    /// Asks the tracer that is named in the environment whether it traces this process. `None` if
    /// none is named.
    ///
    /// # Errors
    ///
    /// The reason why it does not help.
    pub(super) fn find() -> Option<Result<(Self, TraceLevel), Missing>> {
        let name = env::var_os(VARIABLE)?;
        Some(
            Self::greet(name.as_bytes())
                .unwrap_or_else(|error| Err(Missing::OuterUnreachable(error.to_string()))),
        )
    }

    fn greet(name: &[u8]) -> io::Result<Result<(Self, TraceLevel), Missing>> {
        let mut outer = Self::connect(name, ANSWER)?;
        if let Err(why) = outer.check_peer() {
            return Ok(Err(why));
        }
        let answer = outer.say_hello().and_then(|()| outer.answer(ANSWER));
        let answer = match answer {
            // It has nothing to say to strangers.
            Err(error) if is_end(&error) => Err(Missing::OuterSilent),
            answer => answer?.map_err(Missing::OuterRefuses),
        };
        // So that what it says does not pile up while we wait for something else.
        sys::interrupt_waits_for(outer.as_fd())?;
        Ok(answer.map(|(level, _)| (outer, level)))
    }

    /// Connects to the socket of this name.
    pub(super) fn connect(name: impl AsRef<[u8]>, limit: Duration) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        let address = UnixAddr::new_abstract(name.as_ref())?;
        let deadline = Instant::now() + limit;
        loop {
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => break,
                // Too many wait to be taken.
                Err(Errno::EAGAIN) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Self {
            socket,
            packet: Packet::default(),
        })
    }

    /// Checks that the tracer listens and no other process: another one may have had this name before, the
    /// name of an abstract socket that is closed can be taken by every user.
    fn check_peer(&self) -> Result<(), Missing> {
        let peer = getsockopt(&self.socket, PeerCredentials);
        let peer = peer.map_err(|errno| Missing::OuterUnknown(errno as i32))?;
        let own = nix::unistd::geteuid().as_raw();
        if peer.uid() != 0 && peer.uid() != own {
            return Err(Missing::OuterStranger(peer.uid()));
        }
        let status = proc::read("/proc/self/status").unwrap_or_default();
        let tracer = proc::field(&status, "TracerPid:").and_then(|pid| pid.parse().ok());
        match tracer.filter(|_| proc::mounted() == Mounted::Own) {
            // Not traced, or not from within this PID namespace: it will say so.
            None | Some(0) => Ok(()),
            Some(tracer) if tracer == peer.pid() => Ok(()),
            Some(_) => Err(Missing::OuterElsewhere),
        }
    }

    /// Asks whether we are traced. [`Self::answer`] follows.
    pub(super) fn say_hello(&self) -> io::Result<()> {
        let version = VERSION;
        packet::send(self.socket.as_fd(), &Ask::Hello { version }, &[])
    }

    /// Asks to be told what a process and its descendants do. [`Self::answer`] follows.
    pub(super) fn ask(&self, root: Pid) -> io::Result<()> {
        packet::send(self.socket.as_fd(), &Ask::Follow { root }, &[])
    }

    /// Waits for the answer: the level and the outer attempt's time, or why not. What is still told
    /// of an earlier attempt is dropped.
    pub(super) fn answer(
        &mut self,
        limit: Duration,
    ) -> io::Result<Result<(TraceLevel, Duration), String>> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !packet::readable(self.socket.as_fd(), left)? {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            match self.receive()? {
                Some(Tell::Following { level, at }) => return Ok(Ok((level, at))),
                Some(Tell::Refused(why)) => return Ok(Err(why)),
                Some(Tell::Seen(_) | Tell::Gone { .. }) => {}
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            }
        }
    }

    /// Takes the next message; `None` if the outer stub is gone. Fails with `WouldBlock` if there is
    /// none.
    pub(super) fn receive(&mut self) -> io::Result<Option<Tell>> {
        if !self.packet.receive(self.socket.as_fd())? {
            return Ok(None);
        }
        self.packet.decode().map(Some)
    }

    /// Has a child that was created at `started`, and that waits, followed at this level or less.
    ///
    /// # Errors
    ///
    /// A sentence fragment that says why it is not.
    pub(super) fn follow(
        &mut self,
        root: Pid,
        started: Instant,
        level: TraceLevel,
    ) -> Result<Subtree, String> {
        let answer = self.ask(root).and_then(|()| self.answer(ANSWER));
        let (at_most, now) = answer.map_err(|error| {
            // A late answer must not be taken for that to another question.
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
            format!("the outer tracer does not answer: {error}")
        })??;
        Ok(Subtree {
            root,
            stub: nix::unistd::getpid().as_raw(),
            level: level.min(at_most),
            began: now.saturating_sub(started.elapsed()),
            executed: false,
            root_ended: false,
            over: false,
            processes: 1,
            alive: BTreeSet::from([root]),
            killing: false,
        })
    }

    /// Takes the next events of an attempt. Returns true if there may be more.
    pub(super) fn drain(&mut self, subtree: &mut Subtree, watch: &mut Watch) -> bool {
        for _ in 0..BATCH {
            if subtree.over {
                return false;
            }
            match self.receive() {
                Ok(Some(told)) => subtree.take(told, watch),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Ok(None) | Err(_) => subtree.give_up(watch),
            }
        }
        true
    }

    /// Waits until all events of an attempt have arrived, or all up to the end of its root.
    pub(super) fn complete(&mut self, subtree: &mut Subtree, all: bool, watch: &mut Watch) {
        let deadline = Instant::now() + REST;
        loop {
            if self.drain(subtree, watch) {
                continue;
            }
            if subtree.over || (!all && subtree.root_ended) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = packet::readable(self.socket.as_fd(), left.min(SILENCE));
            if !heard.is_ok_and(|heard| heard) {
                return subtree.give_up(watch);
            }
        }
    }
}

impl AsFd for Outer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Subtree {
    /// The level in force.
    pub(super) fn level(&self) -> TraceLevel {
        self.level
    }

    /// The number of processes so far.
    pub(super) fn processes(&self) -> u32 {
        self.processes
    }

    /// Returns the live processes, by the events so far.
    pub(super) fn alive(&self) -> impl Iterator<Item = Pid> {
        self.alive.iter().copied()
    }

    fn give_up(&mut self, watch: &mut Watch) {
        self.over = true;
        watch.doubt(Doubt::Interrupted);
    }

    fn take(&mut self, told: Tell, watch: &mut Watch) {
        match told {
            Tell::Seen(events) => {
                for event in events {
                    self.event(event, watch);
                }
            }
            Tell::Gone { lost } => {
                self.over = true;
                if lost > 0 {
                    watch.doubt(Doubt::Overflow);
                }
            }
            Tell::Following { .. } | Tell::Refused(_) => {}
        }
    }

    fn event(&mut self, mut event: TraceEvent, watch: &mut Watch) {
        let of_root = event.pid == self.root;
        let mut killed = None;
        match &mut event.kind {
            TraceEventKind::Exec(exec)
                if of_root && !self.executed && exec.result.error().is_none() =>
            {
                self.executed = true;
                // It was started with this environment. That its tracer knows of another one, this
                // stub's, is none of the test's doing.
                exec.environment = EnvironmentChange::default();
            }
            TraceEventKind::Exited(exited) => {
                self.root_ended |= of_root;
                self.alive.remove(&event.pid);
                killed = match exited.exit {
                    Exit::Signal { signal, .. } if signal == libc::SIGKILL => Some(signal),
                    _ => None,
                };
            }
            TraceEventKind::Created(created) if created.how != Creation::Thread => {
                self.processes = self.processes.saturating_add(1);
                self.alive.insert(created.child);
            }
            TraceEventKind::Signal(signal) if signal.sender == Sender::Tree(self.stub) => {
                signal.sender = Sender::Harness;
            }
            _ => {}
        }
        // What the child does before it becomes the test is this stub's doing.
        if !self.executed || !belongs(&event.kind, self.level) {
            return;
        }
        event.at = event.at.saturating_sub(self.began);
        if let Some(signal) = killed.filter(|_| self.killing) {
            let kind = TraceEventKind::Signal(Signal {
                signal,
                code: libc::SI_USER,
                sender: Sender::Harness,
            });
            watch.event(&TraceEvent {
                kind,
                ..event.clone()
            });
        }
        watch.event(&event);
    }
}

/// Returns whether the other side has closed the connection.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Returns whether a trace of this level has such events: the outer one's can be higher.
fn belongs(kind: &TraceEventKind, level: TraceLevel) -> bool {
    match kind {
        TraceEventKind::Created(_)
        | TraceEventKind::Exec(_)
        | TraceEventKind::Exited(_)
        | TraceEventKind::ThreadEnded => true,
        TraceEventKind::File(call) => level >= call.operation.level(),
        TraceEventKind::Network(call) => level >= call.operation.level(),
        TraceEventKind::Signal(_)
        | TraceEventKind::Lookup(_)
        | TraceEventKind::Doubt(_)
        | TraceEventKind::Injected(_) => level >= TraceLevel::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Trace;
    use crate::stub::watch::Way;
    use harness_metadata::trace::{CallResult, Created, Exec, Exited};
    use harness_metadata::trace::{FileCall, FileOperation, TracedPath};

    const ROOT: Pid = 4242;
    const STUB: Pid = 4241;

    fn subtree() -> (Subtree, Watch) {
        let subtree = Subtree {
            root: ROOT,
            stub: STUB,
            level: TraceLevel::Io,
            began: Duration::from_secs(10),
            executed: false,
            root_ended: false,
            over: false,
            processes: 1,
            alive: BTreeSet::from([ROOT]),
            killing: true,
        };
        let asked = Trace {
            live: true,
            ..Trace::LIFECYCLE
        };
        let way = Way::by_outer(Ok(TraceLevel::Io));
        (subtree, Watch::new(ROOT, &way, &asked))
    }

    fn event(pid: Pid, millis: u64, kind: TraceEventKind) -> TraceEvent {
        TraceEvent {
            at: Duration::from_secs(10) + Duration::from_millis(millis),
            pid,
            tid: pid,
            kind,
        }
    }

    fn exec(millis: u64, result: CallResult) -> TraceEvent {
        let exec = Exec {
            result,
            environment: EnvironmentChange {
                unset: vec!["OF_THE_STUB".into()],
                ..EnvironmentChange::default()
            },
            ..Exec::default()
        };
        event(ROOT, millis, TraceEventKind::Exec(Box::new(exec)))
    }

    fn killed(pid: Pid, millis: u64) -> TraceEvent {
        let exited = Exited {
            exit: Exit::Signal {
                signal: libc::SIGKILL,
                core_dumped: false,
            },
            user: Duration::ZERO,
            system: Duration::ZERO,
            peak_memory: 0,
        };
        event(pid, millis, TraceEventKind::Exited(exited))
    }

    #[test]
    fn an_event_belongs_to_the_levels_at_which_we_would_have_seen_it() {
        let belongs = |operation, level| {
            let call = FileCall {
                call: String::new(),
                operation,
                path: TracedPath::default(),
                to: None,
                access: None,
                result: CallResult::Found,
                file: None,
            };
            belongs(&TraceEventKind::File(Box::new(call)), level)
        };
        use FileOperation::{Mount, Open, Stat, Watch};
        for (operation, at_io) in [(Open, true), (Mount, true), (Stat, false), (Watch, false)] {
            assert_eq!(belongs(operation, TraceLevel::Io), at_io, "{operation:?}");
            assert!(belongs(operation, TraceLevel::Full), "{operation:?}");
            assert!(!belongs(operation, TraceLevel::Process), "{operation:?}");
        }
    }

    #[test]
    fn a_trace_begins_when_the_child_has_become_the_test_and_has_its_own_time() {
        let (mut subtree, mut watch) = subtree();
        let how = Creation::Fork;
        let created = TraceEventKind::Created(Created { child: 1, how });
        let sender = Sender::Tree(STUB);
        let signal = Signal {
            signal: libc::SIGTERM,
            code: 0,
            sender,
        };
        let events = vec![
            event(ROOT, 1, TraceEventKind::Doubt(Doubt::OwnFilter)),
            exec(2, CallResult::Err(libc::ENOENT)),
            exec(3, CallResult::Ok(0)),
            event(ROOT, 4, created.clone()),
            event(ROOT, 5, TraceEventKind::Signal(signal.clone())),
            killed(1, 6),
        ];
        subtree.take(Tell::Seen(events), &mut watch);
        assert!(!subtree.root_ended);
        assert_eq!(subtree.processes(), 2);
        assert_eq!(subtree.alive().collect::<Vec<_>>(), [ROOT]);
        let told = watch.unsaid(1).unwrap();
        let times: Vec<_> = told.iter().map(|event| event.at.as_millis()).collect();
        assert_eq!(times, [3, 4, 5, 6, 6]);
        assert!(matches!(&told[0].kind, TraceEventKind::Exec(exec)
            if exec.environment == EnvironmentChange::default()));
        assert_eq!(told[1].kind, created);
        // What this stub has sent comes from the harness, also what the outer one takes for the end
        // of a process alone.
        for (told, number) in told[2..4].iter().zip([libc::SIGTERM, libc::SIGKILL]) {
            assert!(matches!(&told.kind, TraceEventKind::Signal(signal)
                if (signal.signal, signal.sender) == (number, Sender::Harness)));
        }
        subtree.take(Tell::Seen(vec![killed(ROOT, 7)]), &mut watch);
        assert!(subtree.root_ended && !subtree.over);
    }

    #[test]
    fn what_is_not_told_is_a_doubt() {
        let (mut subtree, mut watch) = self::subtree();
        subtree.take(Tell::Gone { lost: 0 }, &mut watch);
        assert!(subtree.over);
        assert_eq!(watch.summary().unwrap().doubts, []);
        subtree.take(Tell::Gone { lost: 1 }, &mut watch);
        assert_eq!(watch.summary().unwrap().doubts, [Doubt::Overflow]);
        let not_followed = Way::by_outer(Err("it is gone".to_owned()));
        let mut watch = Watch::new(ROOT, &not_followed, &Trace::LIFECYCLE);
        let doubts = watch.summary().unwrap().doubts;
        assert_eq!(doubts, [Doubt::Backend("anything: it is gone".to_owned())]);
    }
}
