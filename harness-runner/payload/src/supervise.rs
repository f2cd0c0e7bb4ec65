//! Follows a program from its start to the end of its last descendant: reads its streams, and gives the
//! guardian its orders.

use crate::{
    LeftBehind, Output, Status, Usage,
    guardian::{self, RECORD, Record},
    output::{Collector, MOST_KEPT},
    sys::{self, Pid},
};
use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::AsFd,
    os::unix::process::ExitStatusExt,
    process::{Child, ExitStatus},
    sync::Arc,
    time::{Duration, Instant},
};

/// The ends of the pipes.
pub(crate) struct Streams {
    pub(crate) stdout: PipeReader,
    pub(crate) stderr: PipeReader,
    /// Standard input, and what is to be written to it.
    pub(crate) stdin: Option<(PipeWriter, Vec<u8>)>,
    pub(crate) report: PipeReader,
}

/// A program that was started.
pub(crate) struct Tree {
    pub(crate) name: String,
    /// The guardian.
    child: Child,
    pub(crate) orders: Arc<PipeWriter>,
    pub(crate) streams: Streams,
    begun: Instant,
    limit: Option<Duration>,
    grace: Duration,
    pub(crate) leader: Option<Pid>,
    /// Records that were read before the program was known to run.
    pub(crate) early: Vec<Record>,
}

/// The facts of a program when it and its descendants are gone.
pub(crate) struct Ended {
    pub(crate) status: Status,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) usage: Usage,
    pub(crate) left_behind: Vec<LeftBehind>,
    pub(crate) unkillable: u64,
}

/// Gives the guardian an order.
pub(crate) fn order(mut orders: &PipeWriter, order: u8) {
    // A guardian that has ended needs none.
    let _ = orders.write_all(&[order]);
}

/// Reads a record. `None` at the end, or if there is none now and the pipe does not wait.
pub(crate) fn next_record(mut report: &PipeReader) -> Option<Record> {
    let mut raw = [0; RECORD];
    // A write of this size is atomic, and so is what is read.
    loop {
        match report.read(&mut raw) {
            Ok(RECORD) => return Record::from_raw(&raw),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
}

/// The next step of a program that is out of time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// It may run, until then if there is a limit.
    Running(Option<Instant>),
    /// It got SIGTERM, and is killed then.
    Terminating(Instant),
    Killing,
}

impl Phase {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Running(deadline) => deadline,
            Self::Terminating(deadline) => Some(deadline),
            Self::Killing => None,
        }
    }

    /// Returns the order to give if the deadline has passed, and goes on to the next phase.
    fn at(&mut self, now: Instant, grace: Duration) -> Option<u8> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let (next, order) = match self {
            Self::Running(_) if !grace.is_zero() => {
                (Self::Terminating(now + grace), guardian::TERMINATE)
            }
            _ => (Self::Killing, guardian::KILL),
        };
        *self = next;
        Some(order)
    }
}

/// The reports of the guardian.
#[derive(Default)]
struct Heard {
    status: Option<i32>,
    usage: Usage,
    left_behind: Vec<LeftBehind>,
    left: Option<u64>,
}

impl Heard {
    fn take(&mut self, record: Record) {
        match record {
            Record::Ended {
                status,
                user_us,
                system_us,
                peak_kib,
            } => {
                self.status = Some(status);
                self.usage.user = Duration::from_micros(user_us);
                self.usage.system = Duration::from_micros(system_us);
                self.usage.peak_memory = peak_kib * 1024;
            }
            Record::Survivor { pid, command } => {
                self.left_behind.push(LeftBehind { pid, command });
            }
            Record::Gone { left } => self.left = Some(left),
            Record::Started(_) | Record::Failed { .. } => {}
        }
    }
}

impl Tree {
    pub(crate) fn new(
        name: String,
        child: Child,
        orders: PipeWriter,
        streams: Streams,
        begun: Instant,
        limit: Option<Duration>,
        grace: Duration,
    ) -> Self {
        Self {
            name,
            child,
            orders: Arc::new(orders),
            streams,
            begun,
            limit,
            grace,
            leader: None,
            early: Vec::new(),
        }
    }

    /// Reaps the guardian, which has ended or is about to.
    pub(crate) fn reap(&mut self) {
        // A process that ignores SIGCHLD has no status to be had, which is of no use here anyway.
        let _ = self.child.wait();
    }

    /// Waits for the end. `None` if the guardian was ended by another process, so nothing is known.
    pub(crate) fn follow(mut self) -> Option<Ended> {
        let mut heard = Heard::default();
        for record in std::mem::take(&mut self.early) {
            heard.take(record);
        }
        let mut stdout = Collector::new(MOST_KEPT);
        let mut stderr = Collector::new(MOST_KEPT);
        let mut phase = Phase::Running(self.limit.and_then(|limit| self.begun.checked_add(limit)));
        let mut buffer = vec![0; 64 * 1024];
        let (mut out_open, mut err_open, mut is_over) = (true, true, heard.left.is_some());
        while !is_over {
            let now = Instant::now();
            if let Some(code) = phase.at(now, self.grace) {
                order(&self.orders, code);
            }
            let limit = phase
                .deadline()
                .map(|deadline| deadline.saturating_duration_since(now));
            let news = self.news([out_open, err_open], limit);
            if news[1] {
                out_open = take(&self.streams.stdout, &mut stdout, &mut buffer, 1);
            }
            if news[2] {
                err_open = take(&self.streams.stderr, &mut stderr, &mut buffer, 1);
            }
            if news[3] {
                self.feed();
            }
            if news[0] {
                match next_record(&self.streams.report) {
                    Some(record) => heard.take(record),
                    None => is_over = true,
                }
                is_over |= heard.left.is_some();
            }
        }
        // All writers are gone, or are no descendants: what is in the pipes is all there will be.
        take(&self.streams.stdout, &mut stdout, &mut buffer, usize::MAX);
        take(&self.streams.stderr, &mut stderr, &mut buffer, usize::MAX);
        heard.usage.elapsed = self.begun.elapsed();
        self.reap();
        let status = heard.status.or_else(|| heard.left.map(|_| libc::SIGKILL))?;
        Some(Ended {
            status: self.status(phase, status),
            stdout: stdout.finish(),
            stderr: stderr.finish(),
            usage: heard.usage,
            left_behind: heard.left_behind,
            unkillable: heard.left.unwrap_or_default(),
        })
    }

    /// Waits for news: of the report, of those streams that are open, and of the standard input.
    fn news(&self, open: [bool; 2], limit: Option<Duration>) -> [bool; 4] {
        let Streams {
            stdout,
            stderr,
            stdin,
            report,
        } = &self.streams;
        let input = stdin.as_ref().map(|(pipe, _)| pipe.as_fd());
        let wanted = [
            Some((report.as_fd(), libc::POLLIN)),
            open[0].then_some((stdout.as_fd(), libc::POLLIN)),
            open[1].then_some((stderr.as_fd(), libc::POLLIN)),
            input.map(|pipe| (pipe, libc::POLLOUT)),
        ];
        sys::poll(wanted, limit)
    }

    fn status(&self, phase: Phase, raw: i32) -> Status {
        let status = ExitStatus::from_raw(raw);
        let killed_by = match phase {
            Phase::Running(_) => {
                return match (status.code(), status.signal()) {
                    (Some(code), _) => Status::Exited(code),
                    (None, signal) => Status::Signalled {
                        signal: signal.unwrap_or_default(),
                    },
                };
            }
            Phase::Terminating(_) => libc::SIGTERM,
            Phase::Killing => libc::SIGKILL,
        };
        Status::TimedOut {
            after: self.limit.unwrap_or_default(),
            // It may have ended by SIGTERM just before it would have been killed.
            killed_by: status.signal().unwrap_or(killed_by),
        }
    }

    /// Writes to standard input what fits now.
    fn feed(&mut self) {
        let Some((pipe, bytes)) = &mut self.streams.stdin else {
            return;
        };
        match pipe.write(bytes) {
            Ok(count) => drop(bytes.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            // The program has closed it.
            Err(_) => bytes.clear(),
        }
        if bytes.is_empty() {
            self.streams.stdin = None;
        }
    }
}

/// Reads from a pipe up to so many times. Returns false at its end.
fn take(mut pipe: &PipeReader, into: &mut Collector, buffer: &mut [u8], times: usize) -> bool {
    for _ in 0..times {
        match pipe.read(buffer) {
            Ok(0) => return false,
            Ok(count) => into.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_time_is_terminated_and_then_killed() {
        let begun = Instant::now();
        let second = |count| begun + Duration::from_secs(count);
        let grace = Duration::from_secs(2);
        let mut phase = Phase::Running(Some(second(10)));
        assert_eq!(phase.at(second(9), grace), None);
        assert_eq!(phase.at(second(10), grace), Some(guardian::TERMINATE));
        assert_eq!(phase.at(second(11), grace), None);
        assert_eq!(phase.at(second(12), grace), Some(guardian::KILL));
        assert_eq!(phase.at(second(99), grace), None);
        let mut at_once = Phase::Running(Some(second(1)));
        assert_eq!(at_once.at(second(1), Duration::ZERO), Some(guardian::KILL));
        assert_eq!(Phase::Running(None).at(second(99), grace), None);
    }
}
