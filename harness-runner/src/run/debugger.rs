//! What becomes of processes that are stopped so that a user can look into them.

use crate::tracer::breakpoint::Breakpoint;
use std::{io, os::fd::AsFd, process::Command, thread};

/// What is to be done with processes that a user wants to look into.
#[derive(Clone, Debug)]
pub struct BreakExec {
    /// Which they are.
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

    /// Runs the command for a process. Nobody waits for it.
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
        // The thread reaps it. Without a thread to be had, the user still is told of the process.
        drop(thread::Builder::new().spawn(move || shell.status()));
    }
}
