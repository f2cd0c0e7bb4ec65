//! The signals that ask something of a run.

use crate::sys;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a run listens to.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Not if it is ignored, as under nohup(1).
    hangup: Option<Signal>,
    quit: Signal,
    stop: Signal,
    goes_on: Signal,
    status: Signal,
}

/// A signal, by what it means.
pub(super) enum Heard {
    Shutdown(i32),
    Stop,
    /// The process goes on after a stop of any origin.
    Continue,
    Status,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if sys::is_ignored(libc::SIGHUP) {
                None
            } else {
                Some(signal(SignalKind::hangup())?)
            },
            quit: signal(SignalKind::quit())?,
            stop: signal(SignalKind::from_raw(libc::SIGTSTP))?,
            goes_on: signal(SignalKind::from_raw(libc::SIGCONT))?,
            status: signal(SignalKind::user_defined1())?,
        })
    }

    pub(super) async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.interrupt.recv() => Heard::Shutdown(libc::SIGINT),
            _ = self.terminate.recv() => Heard::Shutdown(libc::SIGTERM),
            _ = hangup(&mut self.hangup) => Heard::Shutdown(libc::SIGHUP),
            _ = self.quit.recv() => Heard::Shutdown(libc::SIGQUIT),
            _ = self.stop.recv() => Heard::Stop,
            _ = self.goes_on.recv() => Heard::Continue,
            _ = self.status.recv() => Heard::Status,
        }
    }
}

async fn hangup(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
