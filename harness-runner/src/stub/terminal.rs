//! The terminal of the runner, and which of its tests have it.
//!
//! A test whose output is captured cannot have the terminal: a question for a password would not be
//! seen. As a process in the background it would be stopped by SIGTTIN or SIGTTOU and wait for
//! ever. So its stub gives up the terminal, and its children have none: to open `/dev/tty` fails
//! with ENXIO at once, as on a machine for continuous integration. A session of its own would do
//! the same, and put each stub into a scheduling group of its own (sched(7), autogroup): on a busy
//! machine a run then took half as long again.
//!
//! Without capture one test runs at a time, and its process group is given the terminal while it
//! does, as by a shell: it can read and change modes, and gets Ctrl-C and Ctrl-Z.

use super::sys::{self, Pid};
use harness_metadata::{Exit, Outcome};
use nix::unistd::{getpgid, setpgid};
use rustix::{
    process::Pid as Group,
    termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp},
};
use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    sync::atomic::{AtomicBool, Ordering},
};

/// The argument of a stub whose tests have the terminal.
const ARGUMENT: &str = "terminal";

/// Whether tests are to have the terminal.
static LENT: AtomicBool = AtomicBool::new(false);

/// Has the stubs that are started from now on lend the terminal to their tests. To be called if only
/// one test runs at a time.
pub fn lend() {
    LENT.store(true, Ordering::Relaxed);
}

/// Returns the signal by which a user has ended a test, by a key of the terminal that the test had. It
/// is meant for the run as well, which is not in the foreground then and does not receive it.
pub(crate) fn key(outcome: &Outcome) -> Option<i32> {
    let Outcome::Exited(Exit::Signal { signal, .. }) = outcome else {
        return None;
    };
    let keys = [libc::SIGINT, libc::SIGQUIT];
    let lent = LENT.load(Ordering::Relaxed) && keys.contains(signal) && open().is_ok();
    lent.then_some(*signal)
}

/// Returns what a stub has to be told of it.
pub(super) fn argument() -> Option<&'static str> {
    LENT.load(Ordering::Relaxed).then_some(ARGUMENT)
}

/// Leaves the runner's process group: a signal to the whole group must leave a process to clean up.
/// Gives up the terminal as well, unless the stub's arguments say otherwise.
pub(super) fn leave(mut arguments: impl Iterator<Item = OsString>) -> Option<Terminal> {
    // This fails only for a session leader, which a stub is not.
    let _ = setpgid(nix::unistd::Pid::this(), nix::unistd::Pid::from_raw(0));
    let tty = open().ok()?;
    if arguments.any(|argument| argument == ARGUMENT) {
        return Terminal::new(tty);
    }
    sys::give_up_terminal(tty.as_fd());
    None
}

/// Opens the terminal of this process, if it has one.
fn open() -> io::Result<File> {
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let mut open = File::options();
    open.read(true).write(true).custom_flags(flags);
    open.open("/dev/tty")
}

/// The terminal that tests are lent. All signals are blocked in a stub, SIGTTOU among them, so that
/// it may change the terminal from the background.
pub(super) struct Terminal {
    tty: File,
    runner: Pid,
    /// The runner's process group.
    home: Group,
    /// Modes that were found when the terminal was lent.
    found: Option<Termios>,
    lent: Option<Lent>,
}

/// The owner of the terminal.
struct Lent {
    /// The root of the attempt, which leads a group.
    root: Pid,
    state: State,
}

enum State {
    Has,
    /// It is stopped, and the terminal is not its own. These were its modes, if it had it.
    Stopped(Option<Termios>),
}

impl Terminal {
    fn new(tty: File) -> Option<Self> {
        let runner = nix::unistd::getppid();
        let home = Group::from_raw(getpgid(Some(runner)).ok()?.as_raw())?;
        sys::report_stops();
        Some(Self {
            tty,
            runner: runner.as_raw(),
            home,
            found: None,
            lent: None,
        })
    }

    /// Returns the terminal if a root may take it: if the runner has it.
    pub(super) fn take_from_runner(&mut self) -> Option<RawFd> {
        if !self.is_with(self.home) {
            return None;
        }
        self.found = tcgetattr(&self.tty).ok();
        self.found.as_ref().map(|_| self.tty.as_raw_fd())
    }

    /// A root that was to take the terminal exists.
    pub(super) fn taken_by(&mut self, root: Pid) {
        let state = State::Has;
        self.lent = self.found.as_ref().map(|_| Lent { root, state });
    }

    fn is_with(&self, group: Group) -> bool {
        tcgetpgrp(&self.tty).is_ok_and(|there| there == group)
    }

    fn give_to(&self, group: Group, modes: &Termios) {
        // A terminal that is gone needs neither.
        let _ = tcsetpgrp(&self.tty, group);
        let _ = tcsetattr(&self.tty, OptionalActions::Now, modes);
    }

    /// Returns the terminal to the runner, in the modes that were found. If a shell has it, the shell
    /// knows which modes it wants.
    pub(super) fn take_back(&mut self) {
        let (Some(lent), Some(found)) = (self.lent.take(), self.found.take()) else {
            return;
        };
        // While the runner lives, its shell waits for it and has not taken the terminal.
        let runs = nix::unistd::getppid().as_raw() == self.runner;
        let has = Group::from_raw(lent.root).is_some_and(|root| self.is_with(root));
        if matches!(lent.state, State::Has) && (runs || has) {
            self.give_to(self.home, &found);
        }
    }

    /// A signal has stopped the root. If it is that of Ctrl-Z, or it wanted the terminal of a run in the
    /// background, the run stops with it.
    pub(super) fn stopped(&mut self, root: Pid, signal: i32) {
        match &mut self.lent {
            Some(lent) if signal == libc::SIGTSTP => {
                if matches!(lent.state, State::Has) {
                    lent.state = State::Stopped(tcgetattr(&self.tty).ok());
                }
                if let Some(found) = &self.found {
                    self.give_to(self.home, found);
                }
            }
            // In the foreground it would not have been stopped.
            None if matches!(signal, libc::SIGTTIN | libc::SIGTTOU) => {
                let state = State::Stopped(None);
                self.lent = Some(Lent { root, state });
            }
            Some(Lent {
                state: State::Stopped(_),
                ..
            }) => {}
            Some(_) | None => return,
        }
        let _ = sys::kill(self.runner, libc::SIGTSTP);
    }

    /// The run goes on, and so does the root: it has the terminal again if the runner has it.
    pub(super) fn continues(&mut self) {
        if !self.is_with(self.home) {
            return;
        }
        let Some(lent) = &mut self.lent else { return };
        let State::Stopped(modes) = &mut lent.state else {
            return;
        };
        let modes = modes.take().or_else(|| tcgetattr(&self.tty).ok());
        let Some((modes, root)) = modes.zip(Group::from_raw(lent.root)) else {
            return;
        };
        lent.state = State::Has;
        self.found = tcgetattr(&self.tty).ok().or(self.found.take());
        self.give_to(root, &modes);
    }
}
