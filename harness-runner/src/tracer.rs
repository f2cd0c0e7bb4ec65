//! Follows a tree of processes and tells what they do, as [`TraceEvent`]s.
//!
//! [`decode`] turns a system call at its entry or exit into events and does no I/O of its own: what
//! it needs of the calling task it asks a [`decode::Task`]. [`filter`] builds the seccomp program that
//! stops a task where there is something to decode. [`record`] turns events into a bounded
//! summary and a file.

pub mod breakpoint;
pub mod decode;
pub(crate) mod disturbed;
pub mod entries;
pub mod filter;
#[cfg_attr(not(target_arch = "x86_64"), path = "tracer/no_hook.rs")]
pub(crate) mod hook;
mod imports;
pub mod inject;
mod kin;
mod live;
pub(crate) mod loads;
pub(crate) mod notified;
mod outbox;
pub mod record;
mod recorded;
#[cfg_attr(not(target_arch = "x86_64"), path = "tracer/no_recorder.rs")]
mod recorder;
mod served;
mod stop;
pub(crate) mod tasks;

use harness_metadata::TraceEvent;
use record::Loaded;
use std::{rc::Rc, time::Duration};

/// A map that is asked at every stop.
type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// The receiver of a tracer's events.
pub trait Observer {
    /// Something happened. Events come in the order in which the kernel reported them. The tracee
    /// stands still meanwhile, so this should be quick.
    fn event(&mut self, event: &TraceEvent);

    /// The loader of `pid` did exactly what was remembered. The default implementation replays its
    /// events one by one; override it to take them as a whole.
    fn loaded(&mut self, at: Duration, pid: i32, loaded: &Rc<Loaded>) {
        for event in loaded.events(at, pid) {
            self.event(&event);
        }
    }
}

/// A closure observes, too.
impl<F: FnMut(&TraceEvent)> Observer for F {
    fn event(&mut self, event: &TraceEvent) {
        self(event);
    }
}
