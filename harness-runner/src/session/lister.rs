//! Lists binaries through stubs, which then serve the run.

use super::tracing;
use crate::{
    list::{Execute, Executed},
    protocol::{Available, Command},
    stub::{
        blocking::{Completed, End},
        link::{Stub, StubError},
    },
};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Stubs that wait for work.
#[derive(Clone, Debug, Default)]
pub(super) struct Stubs(Arc<Mutex<Vec<Stub>>>);

impl Stubs {
    /// Returns workers that share these stubs. A stub is started when its worker first has
    /// something to do.
    pub(super) fn workers(&self, count: usize) -> Vec<Box<dyn Execute>> {
        let worker = |_| -> Box<dyn Execute> {
            Box::new(Worker {
                stub: None,
                ticket: 0,
                stubs: self.clone(),
            })
        };
        (0..count).map(worker).collect()
    }

    /// Takes the stubs that have been started.
    pub(super) fn take(&self) -> Vec<Stub> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, stub: Stub) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(stub);
    }
}

/// How many stubs may be lost over one task.
const TRIES: usize = 5;

/// Asks a stub what tracing works here, the first one if there are any. Who has been killed is
/// replaced.
pub(super) fn ask(stubs: &mut Vec<Stub>) -> Result<Available, StubError> {
    if stubs.is_empty() {
        stubs.push(Stub::launch()?);
    }
    for _ in 1..TRIES {
        match stubs[0].ready() {
            Err(StubError::Gone | StubError::Talk { .. }) => stubs[0] = Stub::launch()?,
            told => return told,
        }
    }
    stubs[0].ready()
}

/// One stub, and what it lists.
struct Worker {
    stub: Option<Stub>,
    ticket: u64,
    stubs: Stubs,
}

impl Execute for Worker {
    fn execute(&mut self, command: &Command, limit: Duration) -> io::Result<Executed> {
        let mut completed = self.run(command, limit);
        for _ in 1..TRIES {
            // Somebody has killed it, and the next one need not suffer from that.
            if let Err(StubError::Gone | StubError::Talk { .. }) = completed {
                completed = self.run(command, limit);
            }
        }
        let completed = completed.map_err(io::Error::other)?;
        let (exit, start_failure) = match completed.end {
            End::Exited(exit) => (Some(exit), None),
            End::StartFailed(failure) => (None, Some(failure)),
            End::TimedOut => (None, None),
        };
        let (stdout, stderr) = (completed.stdout, completed.stderr);
        Ok(Executed {
            exit,
            stdout,
            stderr,
            start_failure,
        })
    }
}

impl Worker {
    fn run(&mut self, command: &Command, limit: Duration) -> Result<Completed, StubError> {
        let mut stub = match self.stub.take() {
            Some(stub) => stub,
            None => started()?,
        };
        self.ticket += 1;
        // A stub that failed is dropped, and with it whatever it ran.
        let completed = stub.run_to_end(self.ticket, command, tracing::of_listing(), limit)?;
        self.stub = Some(stub);
        Ok(completed)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(stub) = self.stub.take() {
            self.stubs.put(stub);
        }
    }
}

fn started() -> Result<Stub, StubError> {
    let stub = Stub::launch()?;
    stub.ready()?;
    Ok(stub)
}
