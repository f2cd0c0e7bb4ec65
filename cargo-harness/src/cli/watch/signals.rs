//! The signals of a watch: they end it, or stop it with the terminal given back.

use harness_runner::keys;
use nix::{
    libc,
    sys::{
        signal::{SigSet, Signal, kill, raise},
        signalfd::SignalFd,
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use std::{
    io,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// The time that a run has to stop its tests and to give the terminal back, before the watch stops.
const PAUSE_LIMIT: Duration = Duration::from_secs(1);

/// The interval for checking whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// A signal that ends the watch.
#[derive(Copy, Clone, Debug)]
pub(in crate::cli) struct Heard {
    pub(in crate::cli) signal: Signal,
    /// Whether the terminal sent it, which sends it to a run as well.
    pub(in crate::cli) from_terminal: bool,
}

/// The run of a watch, if there is one.
#[derive(Debug, Default)]
pub(in crate::cli) struct Run(Mutex<Option<Pid>>);

impl Run {
    pub(in crate::cli) fn begin(&self, pid: Pid) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
    }

    pub(in crate::cli) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(in crate::cli) fn pid(&self) -> Option<Pid> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signals that are read instead of delivered. A run has none of them blocked: the standard library clears
/// the mask of a child.
pub(in crate::cli) struct Signals(SignalFd);

impl Signals {
    /// Blocks them, for this thread and all that it starts.
    pub(in crate::cli) fn block() -> io::Result<Self> {
        let signals = [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGTSTP,
        ];
        let set: SigSet = signals.into_iter().collect();
        set.thread_block()?;
        Ok(Self(SignalFd::new(&set)?))
    }

    /// Passes them on from now on. `heard` returns whether it wants more.
    pub(in crate::cli) fn listen(
        self,
        run: std::sync::Arc<Run>,
        heard: impl Fn(Heard) -> bool + Send + 'static,
    ) -> io::Result<()> {
        let listen = move || {
            while let Ok(Some(info)) = self.0.read_signal() {
                let number = i32::try_from(info.ssi_signo).ok();
                let Some(signal) = number.and_then(|number| Signal::try_from(number).ok()) else {
                    continue;
                };
                // One that kill(2) sends has another code, and comes to this process alone.
                let from_terminal = info.ssi_code == libc::SI_KERNEL;
                if signal == Signal::SIGTSTP {
                    let _ = stop(&run, from_terminal);
                } else if !heard(Heard {
                    signal,
                    from_terminal,
                }) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("signals".to_owned());
        thread.spawn(listen).map(drop)
    }
}

/// Stops this process as the kernel would for Ctrl-Z: not in a group that is orphaned, where it could not
/// be continued. The run stops first.
fn stop(run: &Run, from_terminal: bool) -> nix::Result<()> {
    if let Some(pid) = run.pid() {
        if !from_terminal {
            kill(pid, Signal::SIGTSTP)?;
        }
        await_stop(pid);
    }
    if run.pid().is_none() {
        keys::lend();
    }
    let tstp = SigSet::from(Signal::SIGTSTP);
    tstp.thread_unblock()?;
    raise(Signal::SIGTSTP)?;
    tstp.thread_block()?;
    match run.pid() {
        // A shell continues the whole group; kill(1) may have continued this process alone.
        Some(pid) => kill(pid, Signal::SIGCONT),
        None => {
            keys::resume();
            Ok(())
        }
    }
}

/// Waits until a run has stopped or ended, for a limited time.
fn await_stop(pid: Pid) {
    let begun = Instant::now();
    let flags =
        WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    while begun.elapsed() < PAUSE_LIMIT {
        match waitid(Id::Pid(pid), flags) {
            Ok(WaitStatus::StillAlive) => thread::sleep(LOOK),
            _ => return,
        }
    }
}
