//! Lists binaries through stubs, which then serve the run.
//!
//! Where the system does not have enough, it is waited for, as while tests run: see [`Shortages`].

use super::{Notice, tracing};
use crate::{
    list::{Execute, Executed},
    protocol::{Available, Command},
    run::Shortage,
    stub::{
        blocking::{Completed, End},
        link::{self, Stub, StubError},
    },
};
use harness_metadata::StartFailure;
use std::{
    error::Error,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Stubs that wait for work.
#[derive(Clone, Debug, Default)]
pub(super) struct Stubs(Arc<Mutex<Vec<Stub>>>);

impl Stubs {
    /// Returns workers that share these stubs. A stub is started when its worker first has
    /// something to do.
    pub(super) fn workers<'a>(
        &self,
        count: usize,
        shortages: &'a Shortages<'a>,
    ) -> Vec<Box<dyn Execute + 'a>> {
        let worker = |_| -> Box<dyn Execute + 'a> {
            Box::new(Worker {
                stub: None,
                ticket: 0,
                stubs: self.clone(),
                shortages,
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

/// The greatest number of stubs that may be lost over one task.
const TRIES: usize = 5;

/// Asks a stub what tracing works here, the first one if there are any. Who has been killed is
/// replaced. If the system does not have enough for a stub, it is waited for, and `awaited` is called
/// with the reason.
pub(super) fn ask(
    stubs: &mut Vec<Stub>,
    awaited: impl FnMut(Notice) + Send,
) -> Result<Available, StubError> {
    let mut awaited = awaited;
    let shortages = Shortages::new(&mut awaited);
    shortages.outlast(|| ask_once(stubs))
}

fn ask_once(stubs: &mut Vec<Stub>) -> Result<Available, StubError> {
    for _ in 1..TRIES {
        match first(stubs).and_then(|stub| stub.ready()) {
            Err(StubError::Gone | StubError::Talk { .. }) => drop(stubs.drain(..1)),
            Err(error) if error.is_scarcity() => {
                stubs.clear();
                return Err(error);
            }
            told => return told,
        }
    }
    first(stubs)?.ready()
}

fn first(stubs: &mut Vec<Stub>) -> Result<&Stub, StubError> {
    if stubs.is_empty() {
        stubs.push(Stub::launch()?);
    }
    Ok(&stubs[0])
}

/// The handling of refused processes, open files or memory while binaries are listed. As a run
/// does, it gives back what it has and tries again after a while, as long as nothing can be had, up to a
/// limit. One at a time: others would be refused for no other reason than that it tries.
pub(super) struct Shortages<'a> {
    turn: Mutex<Turn<'a>>,
    /// The number of attempts that the system has granted.
    had: AtomicU64,
}

struct Turn<'a> {
    notify: &'a mut (dyn FnMut(Notice) + Send),
    told: bool,
    /// Whether a shortage has lasted too long.
    given_up: bool,
}

/// The outcomes of an attempt to have something of the system.
trait Refusable {
    /// Returns what the system has refused, if it did for lack of it.
    fn refusal(&self) -> Option<String>;

    /// Says that it has done so until the limit.
    fn lasted(self) -> Self;
}

impl<'a> Shortages<'a> {
    pub(super) fn new(notify: &'a mut (dyn FnMut(Notice) + Send)) -> Self {
        let turn = Turn {
            notify,
            told: false,
            given_up: false,
        };
        Self {
            turn: Mutex::new(turn),
            had: AtomicU64::new(0),
        }
    }

    /// Tries something until it is not refused any more. What is refused must have nothing left.
    fn outlast<T: Refusable>(&self, mut attempt: impl FnMut() -> T) -> T {
        let mut tried = attempt();
        if tried.refusal().is_some() {
            let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let begun = Instant::now();
            let mut had = self.had.load(Ordering::Relaxed);
            let mut shortage = None;
            while let Some(because) = tried.refusal() {
                let had_now = self.had.load(Ordering::Relaxed);
                if std::mem::replace(&mut had, had_now) != had_now {
                    // Others are still served.
                    shortage = None;
                }
                shortage = match turn.given_up {
                    true => None,
                    false => Shortage::go_on(shortage, begun.elapsed()),
                };
                let Some(shortage) = shortage else {
                    turn.given_up = true;
                    return tried.lasted();
                };
                if !std::mem::replace(&mut turn.told, true) {
                    let limit = Shortage::LIMIT;
                    (turn.notify)(Notice::AwaitsSystem { because, limit });
                }
                thread::sleep(shortage.delay());
                tried = attempt();
            }
        }
        self.had.fetch_add(1, Ordering::Relaxed);
        tried
    }
}

impl<T> Refusable for Result<T, StubError> {
    fn refusal(&self) -> Option<String> {
        let error = self.as_ref().err().filter(|error| error.is_scarcity())?;
        let source = error.source().map(|source| format!(": {source}"));
        Some(format!("{error}{}", source.unwrap_or_default()))
    }

    fn lasted(self) -> Self {
        self.map_err(|error| match error {
            StubError::Start { program, source } => StubError::Start {
                program,
                source: io::Error::new(source.kind(), Shortage::lasted(&source.to_string())),
            },
            StubError::Talk { source } => StubError::Talk {
                source: io::Error::new(source.kind(), Shortage::lasted(&source.to_string())),
            },
            other => other,
        })
    }
}

/// A command that was run to its end, or not.
struct Ran(Result<Completed, StubError>);

impl Refusable for Ran {
    fn refusal(&self) -> Option<String> {
        match &self.0 {
            Ok(completed) => match &completed.end {
                End::StartFailed(failure) if link::is_scarcity(failure.errno) => {
                    Some(failure.message.clone())
                }
                End::StartFailed(_) | End::Exited(_) | End::TimedOut => None,
            },
            Err(_) => self.0.refusal(),
        }
    }

    fn lasted(self) -> Self {
        let lasted = |completed: Completed| match completed.end {
            End::StartFailed(failure) => Completed {
                end: End::StartFailed(StartFailure {
                    message: Shortage::lasted(&failure.message),
                    ..failure
                }),
                ..completed
            },
            End::Exited(_) | End::TimedOut => completed,
        };
        Self(self.0.lasted().map(lasted))
    }
}

/// One stub, and what it lists.
struct Worker<'a> {
    stub: Option<Stub>,
    ticket: u64,
    stubs: Stubs,
    shortages: &'a Shortages<'a>,
}

impl Execute for Worker<'_> {
    fn execute(&mut self, command: &Command, limit: Duration) -> io::Result<Executed> {
        let shortages = self.shortages;
        let Ran(completed) = shortages.outlast(|| self.try_to_run(command, limit));
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

impl Worker<'_> {
    fn try_to_run(&mut self, command: &Command, limit: Duration) -> Ran {
        let mut completed = self.run(command, limit);
        for _ in 1..TRIES {
            // It was killed from outside, which need not affect the next one.
            if let Err(error @ (StubError::Gone | StubError::Talk { .. })) = &completed
                && !error.is_scarcity()
            {
                completed = self.run(command, limit);
            }
        }
        let ran = Ran(completed);
        if ran.refusal().is_some() {
            // A process that others can have.
            self.stub = None;
        }
        ran
    }

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

impl Drop for Worker<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Result<u32, StubError> {
        Err(StubError::refused(libc::EAGAIN))
    }

    #[test]
    fn what_is_refused_is_tried_again_until_it_is_to_be_had_and_that_is_said_once() {
        let mut said = Vec::new();
        let mut notify = |notice: Notice| said.push(notice);
        let shortages = Shortages::new(&mut notify);
        for fails in [3, 0, 2] {
            let mut tries = 0;
            let had = shortages.outlast(|| {
                tries += 1;
                if tries > fails { Ok(tries) } else { refused() }
            });
            assert_eq!(had.ok(), Some(fails + 1));
        }
        let [Notice::AwaitsSystem { because, limit }] = &said[..] else {
            panic!("{said:?}");
        };
        assert_eq!(*limit, Shortage::LIMIT);
        assert!(
            because.contains("Resource temporarily unavailable"),
            "{because}"
        );
    }

    #[test]
    fn what_is_refused_to_the_end_says_so_and_nothing_else_waits_as_long() {
        let mut notify = |_| {};
        let shortages = Shortages::new(&mut notify);
        shortages.turn.lock().unwrap().given_up = true;
        let mut tries = 0;
        let refused = shortages.outlast(|| {
            tries += 1;
            refused()
        });
        let source = refused.as_ref().unwrap_err().source().unwrap().to_string();
        assert!(source.ends_with("; it was tried for 30s"), "{source}");
        assert_eq!(tries, 1);
    }

    #[test]
    fn other_errors_are_not_tried_again() {
        let mut notify = |_| {};
        let shortages = Shortages::new(&mut notify);
        let mut tries = 0;
        let gone: Result<(), _> = shortages.outlast(|| {
            tries += 1;
            Err(StubError::Gone)
        });
        assert!(matches!(gone, Err(StubError::Gone)));
        assert_eq!(tries, 1);
    }
}
