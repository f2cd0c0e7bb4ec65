//! A program that runs beside its test.

use crate::{
    Check, Error, Expected, Payload, Report,
    check::{self, Judged, Wanted},
    guardian, metric, runner,
    supervise::{Ended, Tree, order},
};
use std::{
    io::PipeWriter,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, TryRecvError},
    },
    thread::JoinHandle,
    time::Duration,
};

/// The checks of a program, and all that they need.
pub(crate) struct Judgement<'a> {
    payload: Payload<'a>,
    checks: Vec<Check<'a>>,
    expected: &'a [Expected<'a>],
    wanted: Wanted,
    invocation: u32,
}

impl<'a> Judgement<'a> {
    pub(crate) fn new(
        payload: Payload<'a>,
        mut checks: Vec<Check<'a>>,
        expects: bool,
        wanted: Wanted,
    ) -> Self {
        if expects {
            let all = payload.metrics.iter();
            checks.extend(all.map(|expected| Check::exists(expected.name)));
        }
        Self {
            payload,
            checks,
            expected: payload.metrics,
            wanted,
            invocation: runner::next_invocation(payload.name),
        }
    }

    fn report(&self, ended: Ended, was_asked: bool) -> Report {
        let Ended {
            status,
            stdout,
            stderr,
            usage,
            left_behind,
            unkillable,
        } = ended;
        let format = self.payload.format;
        let read = metric::read(format, &stdout, &stderr, status, self.invocation);
        let (mut metrics, mut notes) = (read.metrics, read.notes);
        for metric in &mut metrics {
            let known = self.expected.iter().find(|known| known.name == metric.name);
            if let Some(known) = known {
                metric.polarity = known.polarity;
                if !known.unit.is_empty() {
                    metric.unit = Some(known.unit.to_owned());
                }
            }
        }
        let failures = check::judge(&Judged {
            checks: &self.checks,
            wanted: self.wanted,
            status,
            was_asked,
            metrics: &metrics,
            stderr: &stderr,
            notes: &notes,
        });
        if let Err(error) = runner::hand_over(self.payload.name, &metrics) {
            notes.push(format!(
                "the metrics could not be appended to the file that `{}` names: {error}",
                runner::METRICS_FILE
            ));
        }
        Report {
            name: self.payload.name.to_owned(),
            status,
            failures,
            metrics,
            notes,
            stdout,
            stderr,
            usage,
            left_behind,
            unkillable,
        }
    }
}

/// A program that runs. Whatever ends the test ends it: if this is dropped, the whole tree is killed and
/// reaped, and its metrics are lost; if the test process is killed, the tree is killed as well.
#[must_use = "the program is killed when its handle is dropped"]
pub struct Running<'a> {
    judgement: Judgement<'a>,
    pid: u32,
    grace: Duration,
    orders: Arc<PipeWriter>,
    ended: Receiver<Option<Ended>>,
    thread: Option<JoinHandle<()>>,
    was_asked: bool,
}

impl<'a> Running<'a> {
    pub(crate) fn new(
        tree: Tree,
        judgement: Judgement<'a>,
        grace: Duration,
    ) -> Result<Self, Error> {
        let orders = Arc::clone(&tree.orders);
        let pid = tree.leader.unwrap_or_default().unsigned_abs();
        let (tx, ended) = mpsc::sync_channel(1);
        let name = format!("payload {}", tree.name);
        let thread = std::thread::Builder::new().name(name);
        let thread = thread.spawn(move || drop(tx.send(tree.follow())));
        let thread = thread.map_err(|error| {
            order(&orders, guardian::KILL);
            Error::Start {
                payload: judgement.payload.name.to_owned(),
                reason: format!("there is no thread to read its streams: {error}"),
            }
        })?;
        Ok(Self {
            judgement,
            pid,
            grace,
            orders,
            ended,
            thread: Some(thread),
            was_asked: false,
        })
    }

    /// Returns the name of the payload.
    #[must_use]
    pub fn name(&self) -> &str {
        self.judgement.payload.name
    }

    /// Returns the process id of the program. It may be another process's once the program has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the program and all its descendants are gone.
    ///
    /// # Errors
    ///
    /// If the result was taken before.
    pub fn wait(&mut self) -> Result<Report, Error> {
        self.check_taken()?;
        let ended = self.ended.recv().ok().flatten();
        self.take(ended)
    }

    /// Returns the result if the program and all its descendants are gone, and nothing if not.
    ///
    /// # Errors
    ///
    /// If the result was taken before.
    pub fn try_wait(&mut self) -> Result<Option<Report>, Error> {
        self.check_taken()?;
        match self.ended.try_recv() {
            Ok(ended) => self.take(ended).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => self.take(None).map(Some),
        }
    }

    /// Sends SIGTERM to its process group, kills the tree if the program has not ended within its
    /// [grace period](crate::Invocation::grace), and returns the result. Its exit code need not be 0.
    ///
    /// # Errors
    ///
    /// If the result was taken before.
    pub fn stop(&mut self) -> Result<Report, Error> {
        self.check_taken()?;
        self.was_asked = true;
        order(&self.orders, guardian::TERMINATE);
        match self.ended.recv_timeout(self.grace) {
            Ok(ended) => self.take(ended),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => self.kill(),
        }
    }

    /// Kills the program and all its descendants, and returns the result. Its exit code need not be 0.
    ///
    /// # Errors
    ///
    /// If the result was taken before.
    pub fn kill(&mut self) -> Result<Report, Error> {
        self.check_taken()?;
        self.was_asked = true;
        order(&self.orders, guardian::KILL);
        let ended = self.ended.recv().ok().flatten();
        self.take(ended)
    }

    fn check_taken(&self) -> Result<(), Error> {
        match self.thread {
            Some(_) => Ok(()),
            None => Err(Error::Taken {
                payload: self.name().to_owned(),
            }),
        }
    }

    fn take(&mut self, ended: Option<Ended>) -> Result<Report, Error> {
        self.join();
        let ended = ended.ok_or_else(|| Error::Lost {
            payload: self.name().to_owned(),
        })?;
        Ok(self.judgement.report(ended, self.was_asked))
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It has nothing to say beyond what it has sent.
            let _ = thread.join();
        }
    }
}

impl Drop for Running<'_> {
    #[allow(
        clippy::print_stderr,
        reason = "the output of the test is where its author looks"
    )]
    fn drop(&mut self) {
        if self.thread.is_none() {
            return;
        }
        order(&self.orders, guardian::KILL);
        let _ = self.ended.recv();
        self.join();
        eprintln!(
            "warning: payload `{}` was dropped before `wait`, `stop` or `kill`: it was killed, and its \
             metrics are lost",
            self.name()
        );
    }
}

impl std::fmt::Debug for Running<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("name", &self.name())
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}
