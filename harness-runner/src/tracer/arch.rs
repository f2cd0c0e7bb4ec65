//! What differs between architectures, beside what [`decode`](super::decode) says. Numbers of system
//! calls are nowhere: `syscalls::Sysno` knows them by name.

/// The smallest page. Where pages are larger, they begin at multiples of this all the same.
pub(crate) const PAGE: u64 = 4096;
