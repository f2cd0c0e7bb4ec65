//! The two output streams of an attempt.

use super::{
    Output,
    capture::{Capture, Progress},
    unit::Input,
    word::Word,
};
use harness_metadata::event::OutputSoFar;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use regex::bytes::Regex;
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

/// The two output streams of an attempt.
#[derive(Default)]
pub(super) struct Streams {
    stdout: Option<Capture>,
    stderr: Option<Capture>,
    /// Whether the event loop watches them.
    pub(super) watched: bool,
}

impl Streams {
    /// Makes the pipes. Returns the writing ends.
    pub(super) fn open(
        &mut self,
        cap: u64,
        word: Word,
        live: bool,
    ) -> io::Result<(OwnedFd, OwnedFd)> {
        let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
            let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            // Only our end: the test must not notice.
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            Ok((reader, writer))
        };
        let (stdout, stdout_writer) = pipe()?;
        let (stderr, stderr_writer) = pipe()?;
        self.stdout = Some(Capture::new(stdout, cap).listening_for(word).live(live));
        self.stderr = Some(Capture::new(stderr, cap).live(live));
        Ok((stdout_writer, stderr_writer))
    }

    /// Returns the reading ends, as long as the event loop does not watch them.
    pub(super) fn readers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let both = [&self.stdout, &self.stderr].into_iter().flatten();
        both.filter_map(Capture::reader)
    }

    /// Looks for a line in all that is read.
    pub(super) fn look_for(&mut self, line: &Regex) {
        self.captures().for_each(|capture| capture.look_for(line));
    }

    /// Returns whether such a line has been read, once.
    pub(super) fn take_line(&mut self) -> bool {
        let found = self.captures().any(|capture| capture.has_line());
        if found {
            self.captures().for_each(Capture::look_for_nothing);
        }
        found
    }

    fn captures(&mut self) -> impl Iterator<Item = &mut Capture> {
        [self.stdout.as_mut(), self.stderr.as_mut()]
            .into_iter()
            .flatten()
    }

    pub(super) fn closed(&self) -> bool {
        ![&self.stdout, &self.stderr]
            .into_iter()
            .flatten()
            .any(Capture::is_open)
    }

    /// Has the event loop watch what is open.
    pub(super) fn watch(&mut self) {
        self.watched = true;
        self.captures().for_each(Capture::watch);
    }

    /// Waits until a watched stream can be read.
    pub(super) async fn readable(&self) {
        tokio::select! {
            () = readable(&self.stdout) => {}
            () = readable(&self.stderr) => {}
        }
    }

    /// Reads what is there.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> Vec<Input> {
        let was_closed = self.closed();
        for capture in self.captures() {
            capture.read_available(buffer);
        }
        if !was_closed && self.closed() {
            vec![Input::OutputClosed]
        } else {
            Vec::new()
        }
    }

    /// Reads all that has been written until now, asked of the pipes themselves.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) -> Vec<Input> {
        let was_closed = self.closed();
        self.captures().for_each(|capture| capture.drain(buffer));
        match !was_closed && self.closed() {
            true => vec![Input::OutputClosed],
            false => Vec::new(),
        }
    }

    /// Reads the rest after the last writer is gone, without waiting.
    pub(super) fn read_rest(&mut self, buffer: &mut Vec<u8>) {
        for capture in self.captures() {
            // More than a pipe holds by default. No process of the test is left to fill it, but
            // another process that got hold of it could, and would keep all slots waiting.
            for _ in 0..4 {
                if capture.read_available(buffer) != Progress::More {
                    break;
                }
            }
        }
    }

    /// Takes what has been read of standard output and of standard error since this was last asked.
    pub(super) fn take_news(&mut self) -> [Vec<u8>; 2] {
        [&mut self.stdout, &mut self.stderr]
            .map(|capture| capture.as_mut().map(Capture::take_news).unwrap_or_default())
    }

    /// Returns what has been read of standard output and of standard error.
    pub(super) fn so_far(&self) -> (Option<OutputSoFar>, Option<OutputSoFar>) {
        let so_far = |capture: &Option<Capture>| capture.as_ref().map(Capture::so_far);
        (so_far(&self.stdout), so_far(&self.stderr))
    }

    /// Returns what has been found of the harness's word; `None` if the output is not read.
    pub(super) fn word(&self) -> Option<&Word> {
        self.stdout.as_ref().and_then(Capture::word)
    }

    /// Returns how much was written so far.
    pub(super) fn written(&self) -> u64 {
        let both = [&self.stdout, &self.stderr].into_iter().flatten();
        both.map(Capture::written).sum()
    }

    pub(super) fn finish(self) -> Option<Output> {
        Some(Output {
            stdout: self.stdout?.finish(),
            stderr: self.stderr?.finish(),
            toll: None,
        })
    }
}

async fn readable(capture: &Option<Capture>) {
    match capture {
        Some(capture) => capture.readable().await,
        None => std::future::pending().await,
    }
}
