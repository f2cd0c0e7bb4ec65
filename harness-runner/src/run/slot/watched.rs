//! A stub whose socket the event loop watches.

use crate::{
    keys::Keys,
    protocol::{
        Request, Response, RunnerStopped,
        packet::{readable, receive_response},
    },
    stub::link::{Stub, StubError},
};
use std::{io, os::fd::AsFd, time::Duration};
use tokio::{io::Interest, net::UnixDatagram};

/// A stub whose socket the event loop watches.
pub(in crate::run) struct WatchedStub {
    /// Tokio has no type for packets that keep their order (SOCK_SEQPACKET); for watching, any
    /// socket will do. Never used to receive or send. Dropped first: a stub ends when all
    /// descriptors of its socket are closed.
    watch: UnixDatagram,
    pub(in crate::run) stub: Stub,
}

/// Returns whether a stub without an attempt says that the runner was stopped. Nothing else of what it
/// says is of interest.
pub(in crate::run) fn runner_stopped(stub: &Stub) -> Option<RunnerStopped> {
    while readable(stub, Duration::ZERO).is_ok_and(|readable| readable) {
        match receive_response(stub.as_fd()) {
            Ok(Some(Response::RunnerStopped(stopped))) => return Some(stopped),
            Ok(Some(_)) => {}
            // That it is gone is noticed when it is given something to do.
            Ok(None) | Err(_) => return None,
        }
    }
    None
}

impl WatchedStub {
    pub(super) fn new(stub: Stub) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixDatagram::from(stub.as_fd().try_clone_to_owned()?);
        socket.set_nonblocking(true)?;
        if let Some([tty, note]) = Keys::guard() {
            // A stub that is gone is noticed when it is given something to do.
            let _ = stub.send(&Request::GuardTerminal, &[tty.as_fd(), note.as_fd()]);
        }
        Ok(Self {
            watch: UnixDatagram::from_std(socket)?,
            stub,
        })
    }

    /// Returns a response that has arrived, asked of the socket itself: the event loop may not have
    /// looked yet.
    pub(in crate::run) fn try_receive(&self) -> Option<Result<Response, StubError>> {
        match receive_response(self.stub.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error.into())),
            Ok(response) => Some(response.ok_or(StubError::Gone)),
        }
    }

    /// Returns whether the stub of an attempt that is over has said that the runner was stopped. It
    /// has nothing else to say then.
    pub(super) fn runner_stopped(&self) -> Option<RunnerStopped> {
        runner_stopped(&self.stub)
    }

    /// Waits for a response.
    pub(in crate::run) async fn receive(&self) -> Result<Response, StubError> {
        loop {
            self.watch.readable().await?;
            let receive = || receive_response(self.stub.as_fd());
            match self.watch.try_io(Interest::READABLE, receive) {
                Ok(response) => return response.ok_or(StubError::Gone),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
