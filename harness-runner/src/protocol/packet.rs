//! Packets with descriptors over a SOCK_SEQPACKET socket (unix(7)).

use super::{Request, Response};
use crate::sys;
use nix::{
    cmsg_space,
    errno::Errno,
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
            recvmsg, sendmsg, socketpair,
        },
    },
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read, Seek, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

/// Larger messages travel in a memfd: a packet must fit into the socket's send buffer, which is
/// 208 KiB by default (net.core.wmem_default) but may have been set lower.
const INLINE_MAX: usize = 48 * 1024;

/// Most descriptors beside a message: the standard streams and a memfd.
const MAX_FDS: usize = 6;

/// First byte of a packet: where the message is.
const INLINE: u8 = 0;
const IN_MEMFD: u8 = 1;

/// Returns a connected pair of sockets, both closed on exec.
///
/// # Errors
///
/// As socketpair(2).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        flags,
    )?)
}

/// Sends a request with its descriptors. Blocks, or fails with `WouldBlock`, as the socket does.
///
/// # Errors
///
/// As sendmsg(2); `BrokenPipe` if the stub is gone.
pub fn send_request(
    socket: BorrowedFd<'_>,
    request: &Request<'_>,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send(socket, request, fds)
}

/// Sends a response.
///
/// # Errors
///
/// As sendmsg(2); `BrokenPipe` if the runner is gone.
pub fn send_response(socket: BorrowedFd<'_>, response: &Response) -> io::Result<()> {
    send(socket, response, &[])
}

/// Receives a response; `None` at end of file, which means that the stub is gone.
///
/// # Errors
///
/// As recvmsg(2), or `InvalidData` for a packet that cannot be decoded.
pub fn receive_response(socket: BorrowedFd<'_>) -> io::Result<Option<Response>> {
    let mut packet = Packet::default();
    if !packet.receive(socket)? {
        return Ok(None);
    }
    packet.decode().map(Some)
}

/// Sends a message with its descriptors. Blocks, or fails with `WouldBlock`, as the socket does.
///
/// # Errors
///
/// As sendmsg(2).
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut packet = Vec::with_capacity(16 * 1024);
    packet.push(INLINE);
    let packet = postcard::to_extend(message, packet).map_err(io::Error::other)?;
    let mut raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    if packet.len() <= INLINE_MAX {
        return send_packet(socket, &packet, &raw);
    }
    let mut file = File::from(memfd_create(c"harness-message", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&packet[1..])?;
    raw.insert(0, file.as_raw_fd());
    send_packet(socket, &[IN_MEMFD], &raw)
}

fn send_packet(socket: BorrowedFd<'_>, packet: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    loop {
        let data = [IoSlice::new(packet)];
        match sendmsg::<()>(
            socket.as_raw_fd(),
            &data,
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(Errno::EINTR) => {}
            result => return result.map(drop).map_err(io::Error::from),
        }
    }
}

/// Receives a small message that may come from anyone: without descriptors, which the kernel drops,
/// and of no more bytes than `room` has. `None` at end of file.
///
/// # Errors
///
/// As recvmsg(2), or `InvalidData` for a packet that is too large or is none.
pub(crate) fn receive_small<T: for<'a> Deserialize<'a>>(
    socket: BorrowedFd<'_>,
    room: &mut [u8],
) -> io::Result<Option<T>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let received = loop {
        let mut data = [IoSliceMut::new(room)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut data, None, flags) {
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Err(error) => return Err(error.into()),
            Ok(message) if message.flags.contains(MsgFlags::MSG_TRUNC) => return Err(invalid()),
            Ok(message) => break message.bytes,
        }
    };
    match &room[..received] {
        [] => Ok(None),
        [INLINE, message @ ..] => postcard::from_bytes(message)
            .map(Some)
            .map_err(|_| invalid()),
        _ => Err(invalid()),
    }
}

/// A received packet. Reused, so that its buffer is allocated once.
#[derive(Default)]
pub struct Packet {
    bytes: Vec<u8>,
    /// The offset of the message in them.
    start: usize,
    /// Descriptors that came with the message, in order, closed on exec.
    pub fds: Vec<OwnedFd>,
}

impl Packet {
    /// Receives the next packet, replacing this one. Returns false at end of file.
    ///
    /// # Errors
    ///
    /// As recvmsg(2), or `InvalidData` for a packet that cannot be.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        self.fds.clear();
        self.bytes.resize(INLINE_MAX + 1, 0);
        let mut space = cmsg_space!([RawFd; MAX_FDS]);
        let received = loop {
            let mut data = [IoSliceMut::new(&mut self.bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(socket.as_raw_fd(), &mut data, Some(&mut space), flags) {
                // The other side has ended without reading all its messages, which the kernel
                // reports once.
                // What it has said before is still there, and then the end of file.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(error) => return Err(error.into()),
                Ok(message) => {
                    for control in message.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(fds) = control {
                            self.fds.extend(fds.into_iter().map(sys::owned));
                        }
                    }
                    break message.bytes;
                }
            }
        };
        self.bytes.truncate(received);
        match self.bytes.first() {
            None => Ok(false),
            Some(&INLINE) => {
                self.start = 1;
                Ok(true)
            }
            Some(&IN_MEMFD) if !self.fds.is_empty() => {
                let mut file = File::from(self.fds.remove(0));
                self.bytes.clear();
                self.start = 0;
                file.rewind()?;
                file.read_to_end(&mut self.bytes)?;
                Ok(true)
            }
            Some(_) => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }

    /// Decodes the message.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is not one.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> io::Result<T> {
        postcard::from_bytes(&self.bytes[self.start..])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Returns whether a request or response can be read without blocking.
///
/// # Errors
///
/// As poll(2).
pub fn readable(socket: impl AsFd, limit: std::time::Duration) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let deadline = std::time::Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        // Rounded up, so that a short rest of the limit is not spun away.
        let millis = left.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Cgroup, RawCommand, Spawn, Trace};
    use std::os::fd::AsFd;

    fn request(environment: &[u8]) -> Request<'_> {
        Request::Spawn(Spawn {
            ticket: 7,
            command: RawCommand {
                program: b"/bin/true\0",
                args: b"true\0",
                environment,
                cwd: b"/\0",
            },
            trace: Trace::LIFECYCLE,
            cgroup: Cgroup::default(),
            image: None,
            farewell: None,
            policy: &[],
            inject: &[],
            entries: None,
            foreground: true,
        })
    }

    fn sent_and_received(environment: &[u8], fds: usize) {
        let (near, far) = pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let borrowed = vec![file.as_fd(); fds];
        send_request(near.as_fd(), &request(environment), &borrowed).unwrap();
        let mut packet = Packet::default();
        assert!(packet.receive(far.as_fd()).unwrap());
        assert_eq!(
            packet.decode::<Request<'_>>().unwrap(),
            request(environment)
        );
        assert_eq!(packet.fds.len(), fds);
    }

    #[test]
    fn a_request_arrives_with_its_descriptors() {
        sent_and_received(b"A=1\0", 3);
    }

    #[test]
    fn what_was_said_before_the_end_arrives_even_if_something_was_not_read() {
        let (near, far) = pair().unwrap();
        send_request(near.as_fd(), &request(b""), &[]).unwrap();
        let said = Response::Refused { errno: 11 };
        send_response(far.as_fd(), &said).unwrap();
        drop(far);
        assert_eq!(receive_response(near.as_fd()).unwrap(), Some(said));
        assert_eq!(receive_response(near.as_fd()).unwrap(), None);
    }

    #[test]
    fn a_message_larger_than_a_packet_travels_in_a_memfd() {
        sent_and_received(&vec![b'x'; 3 * 1024 * 1024], 3);
    }

    #[test]
    fn a_closed_socket_reads_as_end_of_file() {
        let (near, far) = pair().unwrap();
        drop(near);
        assert!(!Packet::default().receive(far.as_fd()).unwrap());
    }

    #[test]
    fn a_request_to_a_stub_that_is_gone_is_a_broken_pipe() {
        let (near, far) = pair().unwrap();
        drop(far);
        let error = send_request(near.as_fd(), &request(b""), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
