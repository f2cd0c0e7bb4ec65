//! The teardown that the stub of a setup script runs if the runner dies.

use super::{arguments::arguments, blocks, shared::Shared, slot::Slot};
use crate::{
    protocol::{Request, Will},
    stub::{blocking::terminated, link::StubError},
};
use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd,
};

/// Leaves it with the stub, in the place of what was left with it before.
pub(super) fn leave(slot: &mut Slot, shared: &Shared, teardown: usize) -> Result<(), StubError> {
    let work = &shared.work;
    let test = &work.tests[teardown];
    let binary = &work.binaries[test.binary];
    let program = test.program(binary).first();
    let args: Vec<u8> = arguments(binary, test)
        .iter()
        .flat_map(|arg| terminated(arg))
        .collect();
    let environment = blocks::of_script(shared, test);
    let will = Will {
        program: &terminated(program.map_or(OsStr::new(""), OsString::as_os_str)),
        args: &args,
        environment: &environment,
        cwd: &terminated(binary.cwd.as_os_str()),
        limit: test.settings.slow_timeout.period,
    };
    let stderr = io::stderr();
    let null = slot.null.open()?.try_clone()?;
    let fds = [null.as_fd(), stderr.as_fd(), stderr.as_fd()];
    slot.stub.start(&Request::Will(will), &fds)
}
