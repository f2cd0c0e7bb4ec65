//! The limit of open files: raised for the runner and its stubs, given back to tests.
//!
//! Programs that call select(2) rely on a low soft limit (RLIMIT_NOFILE, getrlimit(2)), so most
//! systems have one, far below the hard limit. A run needs a few descriptors per slot. What
//! tests start with is what the runner was given, to the number.

use crate::sys::OpenFiles;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use std::{ffi::OsString, fs, sync::OnceLock};

/// The most that a slot needs: the socket of its stub twice, four ends of pipes and two spilled
/// streams while it starts and runs a test, the CPU time of its cgroup, the pidfd of its stub and a thread's
/// worth while it ends that.
const PER_SLOT: u64 = 11;

/// The descriptors that a run needs besides: the event loop, reports, the store, the history.
const PER_RUN: u64 = 16;

/// The soft limit that this process was started with.
static GIVEN: OnceLock<rlim_t> = OnceLock::new();

/// Raises the soft limit to the hard one. To be called when tests begin to run: what cargo starts
/// keeps what it is given.
pub fn raise() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let _ = GIVEN.set(soft);
    if soft < hard {
        // A lower limit than hoped for is accounted for below.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Returns how many slots there can be with what may still be opened, at least one, and the limit.
pub fn room_for_slots() -> (usize, u64) {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return (usize::MAX, rlim_t::MAX);
    };
    // The standard streams at least.
    let open = fs::read_dir("/proc/self/fd").map_or(3, Iterator::count) as u64;
    let slots = soft.saturating_sub(open + PER_RUN) / PER_SLOT;
    (usize::try_from(slots).unwrap_or(usize::MAX).max(1), soft)
}

/// Returns the soft limit that tests are given back, if it has been raised.
pub fn given() -> Option<u64> {
    GIVEN.get().copied()
}

/// Returns what a stub has to be told of it.
pub(super) fn argument() -> Option<OsString> {
    GIVEN.get().map(|given| given.to_string().into())
}

/// Raises the limit of a stub to that in `argument`. Returns the limit for its children, if it
/// differs from the one that they would inherit.
pub(super) fn raise_in_stub(argument: Option<OsString>) -> Option<OpenFiles> {
    if let Some(given) = argument.and_then(|text| text.to_str()?.parse().ok()) {
        let _ = GIVEN.set(given);
    }
    raise();
    let (raised, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let soft = GIVEN.get().copied().filter(|given| *given < raised)?;
    Some(OpenFiles { soft, hard })
}
