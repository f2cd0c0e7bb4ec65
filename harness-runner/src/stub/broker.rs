//! Tells runs within a test what their own tests do: see [`crate::protocol::broker`].

use super::sys::{self, Pid};
use crate::protocol::{
    broker::{Ask, Tell, VERSION},
    packet::{self, Packet},
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
};

/// Events that wait for an inner stub to take them. It may be stopped, or busy; nobody waits for it.
const MOST_WAITING: usize = 16 * 1024;

/// Events that are sent without waiting for a quiet moment.
const BATCH: usize = 64;

/// Has the stub's wait interrupted when something arrives at a socket.
pub(super) type Watch = fn(BorrowedFd<'_>) -> Result<(), Errno>;

/// The listening end, and who has connected.
pub(super) struct Broker {
    name: String,
    watch: Watch,
    listener: OwnedFd,
    clients: Vec<Client>,
}

/// An inner stub. It has one test at a time.
struct Client {
    socket: OwnedFd,
    packet: Packet,
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
        // Nobody can guess it, and nobody but a descendant is served.
        let name = format!("cargo-harness-{}", uuid::Uuid::new_v4().simple());
        let address = UnixAddr::new_abstract(name.as_bytes())?;
        bind(listener.as_raw_fd(), &address)?;
        listen(&listener, Backlog::new(16)?)?;
        watch(listener.as_fd())?;
        Ok(Self {
            name,
            watch,
            listener,
            clients: Vec::new(),
        })
    }

    /// The value of [`crate::protocol::broker::VARIABLE`].
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Takes connections and questions without waiting. `is_traced` tells whether a process belongs
    /// to the attempt that runs.
    pub(super) fn serve(&mut self, level: TraceLevel, is_traced: impl Fn(Pid) -> bool) {
        while let Some(client) = self.accept() {
            self.clients.push(client);
        }
        self.clients.retain_mut(|client| {
            loop {
                match client.packet.receive(client.socket.as_fd()) {
                    Ok(true) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    Ok(false) | Err(_) => return false,
                }
                let answer = client.answer(level, &is_traced);
                if packet::send(client.socket.as_fd(), &answer, &[]).is_err() {
                    return false;
                }
            }
        });
    }

    fn accept(&self) -> Option<Client> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = accept4(self.listener.as_raw_fd(), flags).ok()?;
        let socket = sys::owned(fd);
        (self.watch)(socket.as_fd()).ok()?;
        Some(Client {
            socket,
            packet: Packet::default(),
            subtree: HashSet::new(),
            waiting: VecDeque::new(),
            lost: 0,
            gone_untold: false,
        })
    }

    /// Passes an event on to those whom it concerns.
    pub(super) fn event(&mut self, event: &TraceEvent) {
        for client in &mut self.clients {
            client.event(event);
        }
    }

    /// Sends what waits, as far as it is taken.
    pub(super) fn flush(&mut self) {
        self.clients.retain_mut(Client::flush);
    }

    /// Forgets whoever asked during an attempt that is over.
    pub(super) fn attempt_over(&mut self) {
        self.flush();
        self.clients.clear();
    }
}

impl Client {
    fn answer(&mut self, level: TraceLevel, is_traced: &impl Fn(Pid) -> bool) -> Tell {
        let Ok(Ask::Follow { version, root }) = self.packet.decode::<Ask>() else {
            return Tell::Refused("the question was not understood".to_owned());
        };
        if version != VERSION {
            return Tell::Refused(format!(
                "the outer tracer speaks version {VERSION}, not {version}"
            ));
        }
        let peer = getsockopt(&self.socket, PeerCredentials).map(|peer| peer.pid());
        if !peer.is_ok_and(is_traced) || !is_traced(root) {
            return Tell::Refused("the process is not traced by the outer tracer".to_owned());
        }
        self.subtree = HashSet::from([root]);
        self.waiting.clear();
        self.lost = 0;
        self.gone_untold = true;
        Tell::Following(level)
    }

    fn event(&mut self, event: &TraceEvent) {
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
        if self.waiting.len() == MOST_WAITING {
            self.lost += 1;
            return;
        }
        self.waiting.push_back(event.clone());
        if self.waiting.len().is_multiple_of(BATCH) {
            self.flush();
        }
    }

    /// Returns false if nobody listens any more.
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

    const ROOT: Pid = 4242;

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

    /// Asks while the broker, which must not wait for anybody, serves.
    fn follow(broker: &mut Broker, traced: bool) -> (Outer, Result<TraceLevel, String>) {
        let mut outer = Outer::connect(broker.name()).unwrap();
        outer.ask(ROOT).unwrap();
        broker.serve(TraceLevel::Io, |_| traced);
        let answer = outer.answer(Duration::from_secs(10)).unwrap();
        (outer, answer)
    }

    #[test]
    fn an_inner_run_is_told_of_its_own_subtree_in_order_and_of_its_end() {
        let mut broker = Broker::new(|_| Ok(())).unwrap();
        let (mut outer, answer) = follow(&mut broker, true);
        assert_eq!(answer, Ok(TraceLevel::Io));
        let events = [
            created(ROOT, 1),
            created(1, 2),
            exited(ROOT),
            exited(1),
            exited(2),
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
    fn who_is_not_traced_is_refused() {
        let mut broker = Broker::new(|_| Ok(())).unwrap();
        let (_outer, answer) = follow(&mut broker, false);
        assert!(answer.is_err_and(|why| why.contains("not traced")));
    }

    #[test]
    fn nobody_waits_for_an_inner_run_that_takes_nothing_and_what_it_lost_is_counted() {
        let mut broker = Broker::new(|_| Ok(())).unwrap();
        let (mut outer, _) = follow(&mut broker, true);
        let sent = 3 * MOST_WAITING as u64;
        for child in 0..sent {
            broker.event(&created(ROOT, 100_000 + child as Pid));
        }
        for child in 0..sent {
            broker.event(&exited(100_000 + child as Pid));
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
