//! The teardown that the stub of a setup script runs if the runner dies.

use super::{arguments::command, blocks, shared::Shared, slot::Slot};
use crate::{
    protocol::{Request, Will},
    stub::link::StubError,
};
use std::{io, os::fd::AsFd};

/// Leaves it with the stub, in the place of what was left with it before.
pub(super) fn leave(slot: &mut Slot, shared: &Shared, teardown: usize) -> Result<(), StubError> {
    let work = &shared.work;
    let test = &work.tests[teardown];
    let binary = &work.binaries[test.binary];
    let command = command(binary, test, blocks::of_script(shared, test));
    let will = Will {
        command: command.raw(),
        limit: test.settings.slow_timeout.period,
    };
    let stderr = io::stderr();
    let null = slot.null.open()?.try_clone()?;
    let fds = [null.as_fd(), stderr.as_fd(), stderr.as_fd()];
    slot.stub.start(&Request::Will(will), &fds)
}
