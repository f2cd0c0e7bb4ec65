//! Processes that are stopped for a debugger.

use crate::tracer::breakpoint::Breakpoint;
use std::{io, os::fd::AsFd, process::Command, thread};

/// The treatment of processes that a user wants to debug.
#[derive(Clone, Debug)]
pub struct BreakExec {
    /// The pattern that selects them.
    pub breakpoint: Breakpoint,
    /// A command for `sh -c` to run for each; `{pid}` stands for the process. `None` if the user is
    /// to be told how to attach to it.
    pub command: Option<String>,
}

impl BreakExec {
    /// Returns the pattern as a stub takes it.
    pub(super) fn pattern(of: Option<&Self>) -> String {
        of.map_or_else(String::new, |of| of.breakpoint.to_string())
    }

    /// Runs the command for a process, without waiting for it.
    pub(super) fn run(&self, pid: i32) {
        let Some(command) = &self.command else {
            return;
        };
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(command.replace("{pid}", &pid.to_string()));
        // Standard output may be for another program to read.
        if let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() {
            shell.stdout(stderr);
        }
        // The thread reaps it. If no thread can be started, the event still names the process.
        drop(thread::Builder::new().spawn(move || shell.status()));
    }
}
