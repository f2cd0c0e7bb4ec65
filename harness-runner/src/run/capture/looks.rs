//! The search for a line, and the reading end for others.

use super::{Capture, LineSearch, Pipe};
use regex::bytes::Regex;
use std::os::fd::{AsFd, BorrowedFd};

impl Capture {
    /// Looks for a line in all that is read.
    pub(in crate::run) fn look_for(&mut self, line: &Regex) {
        self.line = Some(LineSearch::new(line.clone()));
    }

    pub(in crate::run) fn look_for_nothing(&mut self) {
        self.line = None;
    }

    /// Returns whether such a line has been read.
    pub(in crate::run) fn has_line(&self) -> bool {
        self.line.as_ref().is_some_and(LineSearch::has_found)
    }

    /// Returns the reading end, as long as the event loop does not watch it.
    pub(in crate::run) fn reader(&self) -> Option<BorrowedFd<'_>> {
        match &self.pipe {
            Pipe::Plain(pipe) => Some(pipe.as_fd()),
            Pipe::Watched(_) | Pipe::Closed => None,
        }
    }
}
