//! The event of a process that is slow.

use crate::run::work::Role;
use harness_metadata::{EventKind, TestId};
use std::time::Duration;

/// Returns the event of a test or script that is slow. Of services there is none.
pub(super) fn event(
    role: Role,
    test: TestId,
    attempt: u32,
    elapsed: Duration,
    terminating: bool,
) -> Option<EventKind> {
    Some(match role {
        Role::Test => EventKind::AttemptSlow {
            test,
            attempt,
            elapsed,
            terminating,
        },
        Role::Setup { .. } | Role::Teardown { .. } => EventKind::SetupSlow {
            test,
            elapsed,
            terminating,
        },
        Role::Service { .. } | Role::Probe { .. } => return None,
    })
}
