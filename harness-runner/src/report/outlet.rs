//! The target of a report that may be a pipe, whose reader may never come.

use crate::sys;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// The time limit for a reader to open a pipe.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// The time limit for a reader to empty a full pipe.
const TAKE_WITHIN: Duration = Duration::from_secs(30);

/// A pipe that can be written to at all takes as much at once (pipe(7)).
const PIECE: usize = 4096;

/// A file, or a pipe that takes bytes as fast as its reader reads. A write that takes too long is
/// an error.
#[derive(Debug)]
pub struct Outlet {
    file: File,
    is_file: bool,
    patience: Duration,
}

impl Outlet {
    /// Creates a file, or opens what is there if it is something else.
    ///
    /// # Errors
    ///
    /// When that fails, or a pipe has no reader after some seconds.
    pub fn create(path: &Path) -> io::Result<Self> {
        let is_file = path.metadata().map_or(true, |there| there.is_file());
        if is_file {
            return Ok(Self {
                file: File::create(path)?,
                is_file,
                patience: TAKE_WITHIN,
            });
        }
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK);
        let limit = Instant::now() + OPEN_WITHIN;
        loop {
            match options.open(path) {
                // A pipe without a reader (fifo(7)).
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
                    if Instant::now() >= limit {
                        return Err(too_late("opened it for reading", OPEN_WITHIN));
                    }
                    thread::sleep(Duration::from_millis(10));
                }
                opened => {
                    return Ok(Self {
                        file: opened?,
                        is_file,
                        patience: TAKE_WITHIN,
                    });
                }
            }
        }
    }

    /// Writes to a descriptor that others may write to as well.
    ///
    /// # Errors
    ///
    /// When its kind cannot be told.
    pub fn shared(descriptor: OwnedFd) -> io::Result<Self> {
        let file = File::from(descriptor);
        Ok(Self {
            is_file: file.metadata()?.is_file(),
            file,
            patience: TAKE_WITHIN,
        })
    }

    /// Copies a descriptor that this program was started with, for [`Outlet::shared`]. Programs that are started
    /// from now on do not inherit it.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be written to.
    pub fn inherited(number: i32) -> io::Result<OwnedFd> {
        let descriptor = sys::inherited(number)?;
        let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL)?);
        match flags & OFlag::O_ACCMODE == OFlag::O_RDONLY {
            true => Err(io::Error::other("it is open for reading only")),
            false => Ok(descriptor),
        }
    }

    /// Connects to a socket of the file system.
    ///
    /// # Errors
    ///
    /// When that fails, or the one that listens does not take it up for some seconds.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let address = UnixAddr::new(path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        let limit = Instant::now() + OPEN_WITHIN;
        loop {
            match connect(socket.as_raw_fd(), &address) {
                // Too many others wait (unix(7)).
                Err(Errno::EAGAIN) if Instant::now() >= limit => {
                    return Err(too_late("taken up the connection", OPEN_WITHIN));
                }
                Err(Errno::EAGAIN) => thread::sleep(Duration::from_millis(10)),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => return Self::shared(socket),
            }
        }
    }

    /// Waits until something can be written.
    fn wait(&self) -> io::Result<()> {
        let limit = Instant::now() + self.patience;
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, left) {
                Ok(0) => return Err(too_late("read from it", self.patience)),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(()),
            }
        }
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_file {
            return self.file.write(bytes);
        }
        loop {
            self.wait()?;
            match self.file.write(&bytes[..bytes.len().min(PIECE)]) {
                // Another writer was faster.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_late(what: &str, limit: Duration) -> io::Error {
    let message = format!("no reader has {what} within {} seconds", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read, os::unix::net::UnixStream};

    #[test]
    fn a_pipe_that_nobody_reads_is_given_up_after_some_time() {
        let (reader, writer) = io::pipe().expect("there are descriptors");
        let mut outlet = Outlet::shared(writer.into()).expect("it is open");
        outlet.patience = Duration::from_millis(20);
        let error = outlet.write_all(&[b'x'; 1 << 20]).expect_err("it is full");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(
            error.to_string(),
            "no reader has read from it within 0 seconds"
        );
        drop(reader);
        let error = outlet.write_all(b"x").expect_err("there is no reader");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_is_read_slowly_arrives_whole() {
        let (mut reader, writer) = UnixStream::pair().expect("there are descriptors");
        let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        let mut outlet = Outlet::shared(OwnedFd::from(writer)).expect("it is open");
        let expected = sent.clone();
        let thread = thread::spawn(move || outlet.write_all(&sent));
        let mut received = Vec::new();
        reader.read_to_end(&mut received).expect("it can be read");
        thread.join().expect("no panic").expect("all was taken");
        assert!(received == expected, "{} bytes", received.len());
    }
}
