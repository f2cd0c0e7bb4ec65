//! A stub whose socket the event loop watches.

use crate::{
    protocol::{Response, packet::receive_response},
    stub::link::{Stub, StubError},
};
use std::{io, os::fd::AsFd};
use tokio::{io::Interest, net::UnixDatagram};

/// A stub whose socket the event loop watches.
pub(super) struct WatchedStub {
    /// Tokio has no type for packets that keep their order (SOCK_SEQPACKET); for watching, any
    /// socket will do. Never used to receive or send. Dropped first: a stub ends when all
    /// descriptors of its socket are closed.
    watch: UnixDatagram,
    pub(super) stub: Stub,
}

impl WatchedStub {
    pub(super) fn new(stub: Stub) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixDatagram::from(stub.as_fd().try_clone_to_owned()?);
        socket.set_nonblocking(true)?;
        Ok(Self {
            watch: UnixDatagram::from_std(socket)?,
            stub,
        })
    }

    /// Waits for a response.
    pub(super) async fn receive(&self) -> Result<Response, StubError> {
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
