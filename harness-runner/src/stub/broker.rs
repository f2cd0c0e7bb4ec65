//! Tells runs within a test what their own tests do: see [`crate::protocol::broker`].
//!
//! The socket is an abstract one: it leaves no file, and a run within a test finds it from another
//! root directory and as another user. But its name is in /proc/net/unix, so that every user of the
//! machine can connect. Who has connected is asked first (SO_PEERCRED); a process that is not of the
//! traced test costs an accept4(2) and a close(2), and nothing of it is read.

use super::sys::{self, Pid};
use crate::protocol::{
    broker::{Ask, Tell, VERSION},
    packet,
};
use harness_metadata::{
    TraceEvent, TraceEventKind,
    event::TraceLevel,
    trace::{Creation, Exited},
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, getsockopt, listen,
        socket, sockopt::PeerCredentials,
    },
};
use std::{
    collections::{HashSet, VecDeque},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

/// Events that wait for an inner stub to take them. It may be stopped, or busy; it is not awaited.
const MOST_WAITING: usize = 16 * 1024;

/// Events that are sent without waiting for a quiet moment.
const BATCH: usize = 64;

/// Has the stub's wait interrupted when something arrives at a socket.
pub(super) type Watch = fn(BorrowedFd<'_>) -> Result<(), Errno>;

/// The connections that may wait to be taken. Each stub of an inner run makes one.
const BACKLOG: i32 = 128;

/// The most connections that are served, each for a stub of a run within the test.
const MOST_CLIENTS: usize = 1024;

/// The number of connections to accept before other work gets its turn.
const MOST_ACCEPTED: u32 = 64;

/// The time limit for the first question of a connection.
const UNASKED: Duration = Duration::from_secs(10);

/// Events that wait for all inner stubs together.
const MOST_WAITING_IN_ALL: usize = 4 * MOST_WAITING;

/// The number of questions of one connection to answer before other work gets its turn.
const MOST_ASKED: u32 = 8;

/// The bytes of the longest question, and more.
const LONGEST_ASK: usize = 64;

/// The facts about the running attempt.
pub(super) trait Traced {
    /// Its level.
    fn level(&self) -> TraceLevel;

    /// The time since it began.
    fn elapsed(&self) -> Duration;

    /// Returns whether a process belongs to it.
    fn has(&self, process: Pid) -> bool;

    /// Returns whether one of its processes was created by another one.
    fn created(&self, child: Pid, creator: Pid) -> bool;
}

/// The listening end, and who has connected.
pub(super) struct Broker {
    name: String,
    watch: Watch,
    listener: OwnedFd,
    clients: Vec<Client>,
    /// Processes of the tests of inner stubs that have died. A dying tracer kills its tracees
    /// (ptrace(2), PTRACE_O_EXITKILL); these are ours, so we kill them.
    doomed: HashSet<Pid>,
}

/// An inner stub. It has one test at a time.
struct Client {
    socket: OwnedFd,
    /// The process that connected, which is traced.
    peer: Pid,
    since: Instant,
    /// The same, once it has asked.
    stub: Option<Pid>,
    root: Pid,
    /// The live processes of its subtree; empty before it asks and after the last one's end.
    subtree: HashSet<Pid>,
    waiting: VecDeque<TraceEvent>,
    lost: u64,
    gone_untold: bool,
}

impl Broker {
    /// Starts to listen.
    pub(super) fn new(watch: Watch) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        let name = format!("cargo-harness-{}", uuid::Uuid::new_v4().simple());
        let address = UnixAddr::new_abstract(name.as_bytes())?;
        bind(listener.as_raw_fd(), &address)?;
        listen(&listener, Backlog::new(BACKLOG)?)?;
        watch(listener.as_fd())?;
        Ok(Self {
            name,
            watch,
            listener,
            clients: Vec::new(),
            doomed: HashSet::new(),
        })
    }

    /// The value of [`crate::protocol::broker::VARIABLE`].
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Takes connections and questions, and sends what waits, without waiting for anybody.
    pub(super) fn serve(&mut self, traced: &dyn Traced) {
        for _ in 0..MOST_ACCEPTED {
            match self.accept(traced) {
                Ok(Some(client)) => self.clients.push(client),
                Ok(None) => {}
                Err(_) => break,
            }
        }
        self.keep(|client| client.serve(traced));
        self.flush();
    }

    /// Keeps the clients that are still there. A stub that dies closes its socket before its end is
    /// reported, so this may be the first to be seen of it: what it has left is doomed.
    fn keep(&mut self, mut is_there: impl FnMut(&mut Client) -> bool) {
        let doomed = &mut self.doomed;
        self.clients.retain_mut(|client| {
            let there = is_there(client);
            if !there {
                for process in client.subtree.drain() {
                    doom(doomed, process);
                }
            }
            there
        });
    }

    /// Takes the next connection; `None` if it is not served. A traced process cannot run before its
    /// tracer knows it, so one that is not known is a stranger. A stub makes one connection.
    ///
    /// # Errors
    ///
    /// When there is no other.
    fn accept(&self, traced: &dyn Traced) -> Result<Option<Client>, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = sys::owned(accept4(self.listener.as_raw_fd(), flags)?);
        let Ok(peer) = getsockopt(&socket, PeerCredentials) else {
            return Ok(None);
        };
        // The id of a process that is gone may have been given to a traced one since, but not its
        // user. Root may have tests with other users.
        let own = nix::unistd::geteuid();
        let user = own.is_root() || peer.uid() == own.as_raw();
        let peer = peer.pid();
        let known = || self.clients.iter().any(|client| client.peer == peer);
        if !user || !traced.has(peer) || known() || self.clients.len() >= MOST_CLIENTS {
            return Ok(None);
        }
        if (self.watch)(socket.as_fd()).is_err() {
            return Ok(None);
        }
        Ok(Some(Client {
            socket,
            peer,
            since: Instant::now(),
            stub: None,
            root: 0,
            subtree: HashSet::new(),
            waiting: VecDeque::new(),
            lost: 0,
            gone_untold: false,
        }))
    }

    /// Returns whether anybody is concerned by what happens.
    pub(super) fn is_asked(&self) -> bool {
        !self.clients.is_empty() || !self.doomed.is_empty()
    }

    /// Passes an event on to those whom it concerns.
    pub(super) fn event(&mut self, event: &TraceEvent) {
        if !self.is_asked() {
            return;
        }
        let ended = matches!(event.kind, TraceEventKind::Exited(_));
        let waiting: usize = self.clients.iter().map(|client| client.waiting.len()).sum();
        for client in &mut self.clients {
            client.event(event, waiting < MOST_WAITING_IN_ALL);
            if ended && client.stub == Some(event.pid) {
                for process in client.subtree.drain() {
                    doom(&mut self.doomed, process);
                }
            }
        }
        if self.doomed.contains(&event.pid) {
            match &event.kind {
                TraceEventKind::Created(created) if created.how != Creation::Thread => {
                    doom(&mut self.doomed, created.child);
                }
                TraceEventKind::Exited(_) => {
                    self.doomed.remove(&event.pid);
                }
                _ => {}
            }
        }
    }

    /// Sends what waits, as far as it is taken.
    fn flush(&mut self) {
        self.keep(Client::flush);
    }

    /// Forgets the peers of an attempt that is over.
    pub(super) fn attempt_over(&mut self) {
        self.flush();
        self.clients.clear();
        self.doomed.clear();
    }
}

/// Kills a tracee, whose id is not reused before we have waited for it.
fn doom(doomed: &mut HashSet<Pid>, process: Pid) {
    let _ = sys::kill(process, libc::SIGKILL);
    doomed.insert(process);
}

impl Client {
    /// Answers the questions that have arrived. Returns false if the peer is gone.
    fn serve(&mut self, traced: &dyn Traced) -> bool {
        for _ in 0..MOST_ASKED {
            let mut room = [0; LONGEST_ASK];
            let ask = match packet::receive_small(self.socket.as_fd(), &mut room) {
                Ok(Some(ask)) => ask,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.stub.is_some() || self.since.elapsed() < UNASKED;
                }
                Ok(None) | Err(_) => return false,
            };
            let answer = self.answer(&ask, traced);
            if packet::send(self.socket.as_fd(), &answer, &[]).is_err() {
                return false;
            }
        }
        true
    }

    fn answer(&mut self, ask: &Ask, traced: &dyn Traced) -> Tell {
        let following = Tell::Following {
            level: traced.level(),
            at: traced.elapsed(),
        };
        match (*ask, self.stub) {
            (Ask::Hello { version }, _) => {
                if version != VERSION {
                    return Tell::Refused(format!(
                        "the outer tracer speaks version {VERSION}, not {version}"
                    ));
                }
                // It may have ended since it connected, and left the socket to another.
                self.stub = Some(self.peer).filter(|stub| traced.has(*stub));
                match self.stub {
                    Some(_) => following,
                    None => Tell::Refused("it is not traced by the outer tracer".to_owned()),
                }
            }
            // In another namespace, it can be the id of a stranger.
            (Ask::Follow { root }, Some(stub)) if traced.created(root, stub) => {
                self.root = root;
                self.subtree = HashSet::from([root]);
                self.waiting.clear();
                self.lost = 0;
                self.gone_untold = true;
                following
            }
            (Ask::Follow { .. }, _) => {
                Tell::Refused("the process is not traced by the outer tracer".to_owned())
            }
        }
    }

    fn event(&mut self, event: &TraceEvent, has_room: bool) {
        if !self.subtree.contains(&event.pid) {
            return;
        }
        match &event.kind {
            TraceEventKind::Created(created) if created.how != Creation::Thread => {
                self.subtree.insert(created.child);
            }
            TraceEventKind::Exited(Exited { .. }) => {
                self.subtree.remove(&event.pid);
            }
            _ => {}
        }
        let ends = event.pid == self.root && matches!(event.kind, TraceEventKind::Exited(_));
        if !has_room || self.waiting.len() == MOST_WAITING {
            self.lost += 1;
        } else {
            self.waiting.push_back(event.clone());
        }
        // Who waits for the end of its test is not kept waiting.
        if ends || self.subtree.is_empty() || self.waiting.len().is_multiple_of(BATCH) {
            self.flush();
        }
    }

    /// Returns false if the peer is gone.
    fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() {
            let count = self.waiting.len().min(BATCH);
            let batch: Vec<_> = self.waiting.drain(..count).collect();
            let seen = Tell::Seen(batch);
            match packet::send(self.socket.as_fd(), &seen, &[]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Tell::Seen(batch) = seen {
                        for event in batch.into_iter().rev() {
                            self.waiting.push_front(event);
                        }
                    }
                    return true;
                }
                Err(_) => return false,
            }
        }
        if self.gone_untold && self.subtree.is_empty() {
            let gone = Tell::Gone { lost: self.lost };
            match packet::send(self.socket.as_fd(), &gone, &[]) {
                Ok(()) => self.gone_untold = false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::outer::Outer;
    use harness_metadata::{Exit, trace::Created};
    use std::time::Duration;

    /// Greater than any id that the kernel gives (PID_MAX_LIMIT): the id of no process.
    const ROOT: Pid = 5_000_000;

    fn event(pid: Pid, kind: TraceEventKind) -> TraceEvent {
        TraceEvent {
            at: Duration::from_millis(1),
            pid,
            tid: pid,
            kind,
        }
    }

    fn created(pid: Pid, child: Pid) -> TraceEvent {
        let how = Creation::Fork;
        event(pid, TraceEventKind::Created(Created { child, how }))
    }

    fn exited(pid: Pid) -> TraceEvent {
        let exited = Exited {
            exit: Exit::Code(0),
            user: Duration::ZERO,
            system: Duration::ZERO,
            peak_memory: 0,
        };
        event(pid, TraceEventKind::Exited(exited))
    }

    /// An attempt that has this process and a child of it.
    struct Attempt {
        stub: Pid,
        child: Pid,
    }

    impl Traced for Attempt {
        fn level(&self) -> TraceLevel {
            TraceLevel::Io
        }

        fn elapsed(&self) -> Duration {
            Duration::from_secs(1)
        }

        fn has(&self, process: Pid) -> bool {
            process == self.stub
        }

        fn created(&self, child: Pid, creator: Pid) -> bool {
            (child, creator) == (self.child, self.stub)
        }
    }

    /// Asks while the broker, which must not wait for anybody, serves.
    fn asked(
        broker: &mut Broker,
        attempt: &Attempt,
        root: Pid,
    ) -> (Outer, Result<TraceLevel, String>) {
        const LIMIT: Duration = Duration::from_secs(10);
        let mut outer = Outer::connect(broker.name(), LIMIT).unwrap();
        outer.say_hello().unwrap();
        broker.serve(attempt);
        let Ok(answer) = outer.answer(LIMIT) else {
            return (outer, Err("not traced: closed".to_owned()));
        };
        if answer.is_err() {
            return (outer, answer.map(|(level, _)| level));
        }
        outer.ask(root).unwrap();
        broker.serve(attempt);
        let answer = outer.answer(LIMIT).unwrap();
        (outer, answer.map(|(level, _)| level))
    }

    fn follow(broker: &mut Broker) -> (Outer, Result<TraceLevel, String>) {
        let stub = nix::unistd::getpid().as_raw();
        asked(broker, &Attempt { stub, child: ROOT }, ROOT)
    }

    #[test]
    fn an_inner_run_is_told_of_its_own_subtree_in_order_and_of_its_end() {
        const CHILD: Pid = ROOT + 1;
        const GRANDCHILD: Pid = ROOT + 2;
        let mut broker = Broker::new(|_| Ok(())).unwrap();
        let (mut outer, answer) = follow(&mut broker);
        assert_eq!(answer, Ok(TraceLevel::Io));
        let events = [
            created(ROOT, CHILD),
            created(CHILD, GRANDCHILD),
            exited(ROOT),
            exited(CHILD),
            exited(GRANDCHILD),
        ];
        broker.event(&created(7, 8));
        for event in &events {
            broker.event(event);
            broker.event(&exited(8));
        }
        broker.flush();
        let mut told = Vec::new();
        let lost = loop {
            match outer.receive().unwrap() {
                Some(Tell::Seen(seen)) => told.extend(seen),
                Some(Tell::Gone { lost }) => break lost,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((told.as_slice(), lost), (&events[..], 0));
    }

    #[test]
    fn what_a_dead_inner_stub_has_left_is_killed_even_if_its_socket_ends_before_it_does() {
        let mut command = std::process::Command::new("sleep");
        let mut left = command.arg("60").spawn().unwrap();
        let mut broker = Broker::new(|_| Ok(())).unwrap();
        let attempt = Attempt {
            stub: nix::unistd::getpid().as_raw(),
            child: left.id().cast_signed(),
        };
        let (outer, answer) = asked(&mut broker, &attempt, attempt.child);
        assert_eq!(answer, Ok(TraceLevel::Io));
        drop(outer);
        broker.serve(&attempt);
        let status = left.wait().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(libc::SIGKILL));
    }

    #[test]
    fn who_is_not_traced_is_refused() {
        let own = nix::unistd::getpid().as_raw();
        for (stub, child, refused) in [
            (own, ROOT, false),
            (own + 1, ROOT, true),
            (own, ROOT + 1, true),
        ] {
            let mut broker = Broker::new(|_| Ok(())).unwrap();
            let (_outer, answer) = asked(&mut broker, &Attempt { stub, child }, ROOT);
            assert_eq!(answer.is_err_and(|why| why.contains("not traced")), refused);
        }
    }

    #[test]
    fn a_stranger_costs_nothing_and_a_process_has_one_connection() {
        const LIMIT: Duration = Duration::from_secs(10);
        let own = nix::unistd::getpid().as_raw();
        let mut broker = Broker::new(|_| Ok(())).unwrap();
        let connect = |broker: &Broker| {
            let stranger = Outer::connect(broker.name(), LIMIT).unwrap();
            // Nothing of this is read.
            let _ = nix::unistd::write(&stranger, &[0; 16 * 1024]);
            stranger
        };
        let stranger = Attempt {
            stub: own + 1,
            child: ROOT,
        };
        let traced = Attempt {
            stub: own,
            child: ROOT,
        };
        for _ in 0..10 {
            let strangers: Vec<_> = (0..50).map(|_| connect(&broker)).collect();
            broker.serve(&stranger);
            assert_eq!(broker.clients.len(), 0);
            drop(strangers);
        }
        let (_first, answer) = asked(&mut broker, &traced, ROOT);
        assert_eq!(answer, Ok(TraceLevel::Io));
        let others: Vec<_> = (0..50).map(|_| connect(&broker)).collect();
        broker.serve(&traced);
        assert_eq!(broker.clients.len(), 1);
        drop(others);
    }

    #[test]
    fn a_question_that_is_too_long_ends_its_connection() {
        let own = nix::unistd::getpid().as_raw();
        let traced = Attempt {
            stub: own,
            child: ROOT,
        };
        let mut broker = Broker::new(|_| Ok(())).unwrap();
        let outer = Outer::connect(broker.name(), Duration::from_secs(10)).unwrap();
        nix::unistd::write(&outer, &[0; 16 * 1024]).unwrap();
        broker.serve(&traced);
        assert_eq!(broker.clients.len(), 0);
    }

    #[test]
    fn a_connection_without_a_question_is_closed_in_time() {
        let own = nix::unistd::getpid().as_raw();
        let traced = Attempt {
            stub: own,
            child: ROOT,
        };
        let mut broker = Broker::new(|_| Ok(())).unwrap();
        let _silent = Outer::connect(broker.name(), Duration::from_secs(10)).unwrap();
        broker.serve(&traced);
        assert_eq!(broker.clients.len(), 1);
        broker.clients[0].since -= UNASKED;
        broker.serve(&traced);
        assert_eq!(broker.clients.len(), 0);
    }

    #[test]
    fn nobody_waits_for_an_inner_run_that_takes_nothing_and_what_it_lost_is_counted() {
        let mut broker = Broker::new(|_| Ok(())).unwrap();
        let (mut outer, _) = follow(&mut broker);
        let sent = 3 * MOST_WAITING as u64;
        for child in 0..sent {
            broker.event(&created(ROOT, ROOT + 1 + child as Pid));
        }
        for child in 0..sent {
            broker.event(&exited(ROOT + 1 + child as Pid));
        }
        broker.event(&exited(ROOT));
        let mut told = 0;
        let lost = loop {
            broker.flush();
            match outer.receive().unwrap() {
                Some(Tell::Seen(seen)) => told += seen.len() as u64,
                Some(Tell::Gone { lost }) => break lost,
                other => panic!("{other:?}"),
            }
        };
        assert!(lost > 0);
        assert_eq!(told + lost, 2 * sent + 1);
    }
}
