//! The near side: starts attempts in slots, keeps their clocks, and tells what happens.
//!
//! A run is two state machines and their drivers: [`dispatch`](self) decides what runs next and
//! when the run is over, [`unit`](self) decides the life of one attempt. `driver` drives the first,
//! `slot` the second. This is the only module that uses tokio, on one thread.

mod again;
mod arguments;
mod bounds;
mod capture;
mod clock;
mod debugger;
mod dispatch;
mod driver;
mod environment;
mod live;
mod pulse;
mod signals;
mod slot;
mod streams;
mod unit;
mod work;

pub use capture::Output;
pub use debugger::BreakExec;
pub use work::{Binary, Capture, Test, Tracing, Work};

use crate::stub::sys;
use driver::{Shared, drive};
use harness_metadata::{AttemptId, Event};
use signals::{Heard, Signals};
use std::{io, mem, sync::mpsc as std_mpsc, thread, time::Duration};
use tokio::{
    sync::mpsc,
    task::LocalSet,
    time::{Instant, sleep_until},
};

/// How long the sinks may take to show the end of the run before an impatient Ctrl-C ends the
/// process without them.
const SINKS_LIMIT: Duration = Duration::from_secs(2);

/// An event on its way to the sinks, with the output that belongs to it.
#[derive(Debug)]
pub struct Told {
    /// The event.
    pub event: Event,
    /// The output of the attempt that the event ends, if it ends one and if it was captured.
    pub output: Option<(AttemptId, Output)>,
    /// To be dropped once the event has been shown, so that more of the kind can be told.
    pub passage: Option<live::Passage>,
    /// To be dropped once the event has been shown and the terminal is as it was found.
    pub shown: Option<std_mpsc::SyncSender<()>>,
}

/// What others ask of a run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Results cannot be reported any more.
    ReportFailed,
    /// The user wants to know what is running.
    Status,
}

/// A run on its own thread.
#[derive(Debug)]
pub struct Running {
    /// The events. Disconnected when the run is over.
    pub events: std_mpsc::Receiver<Told>,
    control: mpsc::UnboundedSender<Control>,
    thread: thread::JoinHandle<io::Result<()>>,
}

impl Running {
    /// Starts a run. The calling thread is unparked when it is over.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn start(work: Work) -> io::Result<Self> {
        let (tell, events) = std_mpsc::channel();
        let (control, mut controls) = mpsc::unbounded_channel();
        let sinks = thread::current();
        let thread = thread::Builder::new()
            .name("run".to_owned())
            .spawn(move || {
                crate::stub::sys::prefer_latency();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let mut signals = runtime.block_on(async { Signals::new() })?;
                let run = drive(work, tell, &mut controls, &mut signals);
                let local = LocalSet::new();
                let impatient = local.block_on(&runtime, run);
                if impatient.is_some() {
                    // Dropped, it would wait until every stub has killed what it has.
                    mem::forget(local);
                }
                sinks.unpark();
                runtime.block_on(outlast_sinks(&mut controls, &mut signals, impatient));
                Ok(())
            })?;
        Ok(Self {
            events,
            control,
            thread,
        })
    }

    /// Asks something of the run. Nothing happens if it is over.
    pub fn control(&self, control: Control) {
        let _ = self.control.send(control);
    }

    /// Waits for the end, when all events have been received.
    ///
    /// # Errors
    ///
    /// When the run could not be driven to its end.
    pub fn join(self) -> io::Result<()> {
        drop(self.control);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that drives the run panicked")))
    }
}

/// Waits until the sinks are done with what the run has told them. If one hangs (a full pipe, a
/// terminal that is held), a signal that asks the run to end has to end the process.
async fn outlast_sinks(
    controls: &mut mpsc::UnboundedReceiver<Control>,
    signals: &mut Signals,
    impatient: Option<i32>,
) {
    let limit = std::time::Instant::now() + SINKS_LIMIT;
    let mut shutdown = impatient;
    loop {
        tokio::select! {
            control = controls.recv() => if control.is_none() {
                return;
            },
            heard = signals.next() => if let Heard::Shutdown(signal) = heard {
                shutdown = Some(signal);
            },
            () = until(shutdown.map(|_| limit)) => if let Some(signal) = shutdown.take() {
                sys::restore_default_action(signal);
                let _ = sys::kill(std::process::id().cast_signed(), signal);
            },
        }
    }
}

/// Waits for a moment, or for ever.
async fn until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => sleep_until(Instant::from_std(at)).await,
        None => std::future::pending().await,
    }
}
