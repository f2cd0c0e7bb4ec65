//! The tracer of the run that this run is a test of: see [`crate::protocol::broker`].

use crate::protocol::{
    broker::{Ask, Tell, VERSION},
    packet::{self, Packet},
};
use harness_metadata::event::TraceLevel;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

/// A connection to the stub that traces us.
pub(super) struct Outer {
    socket: OwnedFd,
    packet: Packet,
}

impl Outer {
    /// Connects to the socket of this name.
    pub(super) fn connect(name: &str) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        connect(
            socket.as_raw_fd(),
            &UnixAddr::new_abstract(name.as_bytes())?,
        )?;
        Ok(Self {
            socket,
            packet: Packet::default(),
        })
    }

    /// Asks to be told what a process and its descendants do. [`Self::answer`] follows.
    pub(super) fn ask(&self, root: i32) -> io::Result<()> {
        let version = VERSION;
        packet::send(self.socket.as_fd(), &Ask::Follow { version, root }, &[])
    }

    /// Waits for the answer: the level, or why not.
    pub(super) fn answer(&mut self, limit: Duration) -> io::Result<Result<TraceLevel, String>> {
        if !packet::readable(self.socket.as_fd(), limit)? {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        match self.receive()? {
            Some(Tell::Following(level)) => Ok(Ok(level)),
            Some(Tell::Refused(why)) => Ok(Err(why)),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }

    /// Takes the next message; `None` if the outer stub is gone. Waits if there is none.
    pub(super) fn receive(&mut self) -> io::Result<Option<Tell>> {
        if !self.packet.receive(self.socket.as_fd())? {
            return Ok(None);
        }
        self.packet.decode().map(Some)
    }
}

impl AsFd for Outer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
