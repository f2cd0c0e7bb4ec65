//! The near side: starts attempts in slots, keeps their clocks, and tells what happens.
//!
//! A run is two state machines and their drivers: [`dispatch`](self) decides what runs next and
//! when the run is over, [`unit`](self) decides the life of one attempt. `driver` drives the first,
//! `attempt` the second. This is the only module that uses tokio, on one thread.

mod again;
pub mod agent;
mod arguments;
mod attempt;
mod benchmark;
mod blocks;
mod bounds;
mod budget;
mod capture;
mod causes;
mod clock;
mod debugger;
mod dispatch;
mod driver;
mod elsewhere;
pub mod engine;
mod environment;
mod job;
pub mod ladder;
mod line;
pub(crate) mod live;
mod metrics;
mod pulse;
mod road;
mod scripts;
mod serve;
mod services;
mod shared;
mod signals;
mod slot;
mod status;
mod streams;
mod unit;
mod unreported;
mod will;
mod word;
mod work;

pub use capture::Output;
pub use debugger::BreakExec;
pub(crate) use dispatch::Shortage;
pub use dispatch::{Stress, StressMode, Until};
pub use engine::{Away, MayGo};
pub(crate) use metrics::forget as forget_metrics;
pub use work::{
    Below, Binary, Capture, Image, ReadyWhen, Role, Script, Selection, Service, StandardInput,
    Test, Tracing, Work, Wrapped,
};

use crate::{
    keys::{self, Key},
    store::KeptTrace,
    sys,
};
use driver::drive;
use harness_metadata::{AttemptId, Event};
use signals::{Heard, Signals};
use std::{
    io, mem,
    sync::mpsc as std_mpsc,
    thread::{self, Thread},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::LocalSet,
    time::{Instant, sleep_until},
};

/// The time that the sinks have to show the end of the run before an impatient Ctrl-C ends the
/// process without them.
const SINKS_LIMIT: Duration = Duration::from_secs(2);

/// An event on its way to the sinks, with the output that belongs to it.
#[derive(Debug)]
pub struct Told {
    /// The event.
    pub event: Event,
    /// The output of the attempt that the event ends, if it ends one and if it was captured.
    pub output: Option<(AttemptId, Output)>,
    /// The position of its trace, if it has one that is kept.
    pub trace: Option<KeptTrace>,
    /// To be dropped once the event has been shown, so that more of the kind can be told.
    pub passage: Option<live::Passage>,
    /// To be dropped once the event has been shown and the terminal is as it was found.
    pub shown: Option<std_mpsc::SyncSender<()>>,
}

/// Requests to a run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Results cannot be reported any more.
    ReportFailed,
    /// The user wants to know what is running.
    Status,
    /// The user wants to know how far the run is.
    Progress,
}

/// A run on its own thread.
#[derive(Debug)]
pub struct Running {
    control: mpsc::UnboundedSender<Control>,
    thread: thread::JoinHandle<io::Result<()>>,
}

impl Running {
    /// Starts a run. Returns it with its events, which are disconnected when it is over. The thread that
    /// receives them is unparked then.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn start(work: Work, receives: Thread) -> io::Result<(Self, std_mpsc::Receiver<Told>)> {
        let (tell, events) = std_mpsc::channel();
        let (control, mut controls) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name("run".to_owned())
            .spawn(move || {
                sys::set_pace(sys::Pace::Prompt);
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
                receives.unpark();
                runtime.block_on(outlast_sinks(&mut controls, &mut signals, impatient));
                Ok(())
            })?;
        Ok((Self { control, thread }, events))
    }

    /// Asks something of the run. Nothing happens if it is over.
    pub fn control(&self, control: Control) {
        let _ = self.control.send(control);
    }

    /// Returns what passes on what keys ask for, until the run is over.
    pub fn keys(&self) -> impl FnMut(Key) + Send + 'static {
        // Not a lasting one: the run waits until the last requester is gone.
        let control = self.control.downgrade();
        move |key| {
            let asked = match key {
                Key::Status => Control::Status,
                Key::Progress => Control::Progress,
            };
            if let Some(control) = control.upgrade() {
                let _ = control.send(asked);
            }
        }
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
                keys::give_back();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::MaxFail;
    use std::collections::BTreeMap;

    #[test]
    fn a_run_whose_driver_panics_ends_and_says_so() {
        let test = Test {
            id: harness_metadata::TestId {
                binary: harness_metadata::RustBinaryId::new("krate"),
                name: harness_metadata::TestCaseName::new("test"),
            },
            settings: std::sync::Arc::new(dispatch::tests::settings()),
            memory: 0,
            quarantine: None,
            // There is none.
            binary: 7,
            ignored: false,
            location: None,
            policy: None,
            inject: None,
            tracing: Tracing {
                level: harness_metadata::event::TraceLevel::Off,
                backend: harness_metadata::trace::Backend::None,
                recording: crate::sys::Recording::Off,
                no_new_privs: false,
                ladder: None,
            },
            keeps_trace: false,
            role: Role::Test,
            measured: false,
            scripts: Vec::new(),
            services: Vec::new(),
            wrapped: None,
        };
        let work = Work {
            run_id: harness_metadata::RunId::random(),
            mode: Default::default(),
            profile: "default".to_owned(),
            started_at: chrono::DateTime::UNIX_EPOCH.fixed_offset(),
            tests: vec![test],
            binaries: Vec::new(),
            slots: 1,
            cpus: 1,
            memory: None,
            groups: BTreeMap::new(),
            max_fail: MaxFail::All,
            stress: None,
            global_timeout: None,
            skipped: 0,
            output_cap: 0,
            capture: Capture::Pipes,
            stdin: StandardInput::Terminal,
            trace_live: false,
            output_live: false,
            break_exec: None,
            trace_files: None,
            entries: None,
            cgroups: None,
            stubs: Vec::new(),
            scripts: Vec::new(),
            services: Vec::new(),
            remote: None,
        };
        let started = Running::start(work, thread::current());
        let (running, events) = started.expect("there is a thread");
        assert!(events.recv().is_err(), "no event is sent");
        let error = running.join().expect_err("it panicked");
        assert_eq!(error.to_string(), "the thread that drives the run panicked");
    }
}
