//! The calls that can fail on request, and the errors.

use super::super::decode::{self, X32_BIT};
use super::{NATIVE_ARCHITECTURE, Syscall};
use harness_metadata::event::TraceLevel;
use nix::errno::Errno;
use syscalls::Sysno;

/// The kind of thing that a call names.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::tracer) enum Place {
    /// Files, a program or an address, as the trace tells them.
    Told,
    /// The file of the descriptor in this argument.
    Descriptor(u8),
    /// Nothing.
    Nowhere,
}

/// Returns what a call names; `None` for one that cannot fail on request.
///
/// Left out are calls that give something back (`close`, `munmap`), as not to make them would leak it; calls that every
/// program begins with (`mmap`, `brk`); and calls that cannot fail.
pub(in crate::tracer) fn place(call: Sysno) -> Option<Place> {
    Some(match call {
        // The kernel knows the address, and the arguments do not have it.
        Sysno::listen | Sysno::accept | Sysno::accept4 => Place::Nowhere,
        _ if decode::level_of_named(call).is_some() => Place::Told,
        Sysno::read
        | Sysno::pread64
        | Sysno::readv
        | Sysno::preadv
        | Sysno::preadv2
        | Sysno::write
        | Sysno::pwrite64
        | Sysno::writev
        | Sysno::pwritev
        | Sysno::pwritev2
        | Sysno::fsync
        | Sysno::fdatasync
        | Sysno::sync_file_range
        | Sysno::ftruncate
        | Sysno::fallocate
        | Sysno::flock
        | Sysno::fcntl
        | Sysno::lseek
        | Sysno::recvfrom
        | Sysno::sendfile => Place::Descriptor(0),
        Sysno::copy_file_range => Place::Descriptor(2),
        Sysno::socket
        | Sysno::socketpair
        | Sysno::pipe2
        | Sysno::clone
        | Sysno::clone3
        | Sysno::epoll_create1
        | Sysno::eventfd2
        | Sysno::timerfd_create
        | Sysno::inotify_init1
        | Sysno::memfd_create
        | Sysno::dup
        | Sysno::dup3
        | Sysno::getrandom => Place::Nowhere,
        #[cfg(target_arch = "x86_64")]
        Sysno::pipe
        | Sysno::fork
        | Sysno::vfork
        | Sysno::dup2
        | Sysno::epoll_create
        | Sysno::eventfd => Place::Nowhere,
        _ => return None,
    })
}

/// Returns the level from which on it is seen.
pub(super) fn level(call: Sysno) -> TraceLevel {
    decode::level_of_named(call).unwrap_or(TraceLevel::Io)
}

/// Returns the file descriptor that a call is about.
pub(in crate::tracer) fn descriptor(call: Sysno, arguments: &[u64; 6]) -> Option<i32> {
    match place(call)? {
        Place::Descriptor(argument) => Some(arguments[usize::from(argument)] as i32),
        Place::Told | Place::Nowhere => None,
    }
}

/// Returns the call with this name, if it can fail on request.
pub(super) fn number(name: &str) -> Option<Sysno> {
    let number: Sysno = name.parse().ok()?;
    place(number).map(|_| number)
}

/// Returns the call of a stop; `None` for one of another architecture, which has other numbers.
pub(super) fn native(call: &Syscall) -> Option<Sysno> {
    // The kernel looks at 32 bits of the number.
    let number = call.number as u32;
    let foreign = call.arch != NATIVE_ARCHITECTURE || X32_BIT.is_some_and(|bit| number & bit != 0);
    if foreign {
        return None;
    }
    Sysno::new(number as usize)
}

/// Returns the names of the calls that can fail on request.
pub fn names() -> Vec<&'static str> {
    let numbers = 0..=Sysno::last().id() as usize;
    let calls = numbers.filter_map(Sysno::new);
    let calls = calls.filter(|call| place(*call).is_some());
    let mut names: Vec<_> = calls.map(|call| call.name()).collect();
    names.sort_unstable();
    names
}

/// The errors of errno(3).
#[derive(Debug)]
pub enum Errors {}

impl Errors {
    /// One more than the largest number of an error.
    const END: i32 = 134;

    fn all() -> impl Iterator<Item = (i32, String)> {
        let numbers = 1..Self::END;
        numbers.filter_map(|number| match Errno::from_raw(number) {
            Errno::UnknownErrno => None,
            known => Some((number, format!("{known:?}"))),
        })
    }

    /// Returns their names.
    pub fn names() -> Vec<String> {
        Self::all().map(|(_, name)| name).collect()
    }

    /// Returns the number of the error with this name.
    pub(super) fn number(name: &str) -> Option<i32> {
        let other = match name {
            "EWOULDBLOCK" => Some(libc::EWOULDBLOCK),
            "ENOTSUP" => Some(libc::ENOTSUP),
            "EDEADLOCK" => Some(libc::EDEADLOCK),
            _ => None,
        };
        let mut all = Self::all();
        let found = all.find(|(_, known)| known == name);
        found.map(|(number, _)| number).or(other)
    }
}
