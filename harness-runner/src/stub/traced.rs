//! The tracing of the processes of one attempt.

use super::{broker, outer::Subtree, sys::Pid};
use crate::{
    sys::Tgid,
    tracer::{notified::Notified, tasks::Tasks},
};
use harness_metadata::event::TraceLevel;
use std::time::Duration;

/// The tracing of the processes of one attempt.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, in the attempt's tree"
)]
pub(super) enum Traced {
    /// Not at all.
    Not,
    /// By this stub, with ptrace.
    Ptrace(Tasks),
    /// By this stub, which listens to their system calls.
    Notify(Notified),
    /// By the tracer that traces this stub, or why it does not follow them.
    Outer(Result<Subtree, String>),
}

impl Traced {
    /// Returns the tracees, if ptrace is used.
    pub(super) fn tasks(&self) -> Option<&Tasks> {
        match self {
            Self::Ptrace(tasks) => Some(tasks),
            Self::Not | Self::Notify(_) | Self::Outer(_) => None,
        }
    }

    /// As [`Self::tasks`].
    pub(super) fn tasks_mut(&mut self) -> Option<&mut Tasks> {
        match self {
            Self::Ptrace(tasks) => Some(tasks),
            Self::Not | Self::Notify(_) | Self::Outer(_) => None,
        }
    }

    /// Returns who has the listener, if there is one.
    pub(super) fn notified(&self) -> Option<&Notified> {
        match self {
            Self::Notify(notified) => Some(notified),
            Self::Not | Self::Ptrace(_) | Self::Outer(_) => None,
        }
    }

    /// As [`Self::notified`].
    pub(super) fn notified_mut(&mut self) -> Option<&mut Notified> {
        match self {
            Self::Notify(notified) => Some(notified),
            Self::Not | Self::Ptrace(_) | Self::Outer(_) => None,
        }
    }

    /// Returns the part of another tracer's tree, if that follows the attempt.
    pub(super) fn subtree(&self) -> Option<&Subtree> {
        match self {
            Self::Outer(followed) => followed.as_ref().ok(),
            Self::Not | Self::Ptrace(_) | Self::Notify(_) => None,
        }
    }

    /// As [`Self::subtree`].
    pub(super) fn subtree_mut(&mut self) -> Option<&mut Subtree> {
        match self {
            Self::Outer(followed) => followed.as_mut().ok(),
            Self::Not | Self::Ptrace(_) | Self::Notify(_) => None,
        }
    }
}

impl broker::Traced for Tasks {
    fn level(&self) -> TraceLevel {
        Self::level(self)
    }

    fn elapsed(&self) -> Duration {
        Self::elapsed(self)
    }

    fn has(&self, process: Pid) -> bool {
        Self::has(self, Tgid::new(process))
    }

    fn created(&self, child: Pid, creator: Pid) -> bool {
        self.created_by(Tgid::new(child), Tgid::new(creator))
    }
}
