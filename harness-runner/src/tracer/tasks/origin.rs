//! Who sent a signal.

use super::{Pid, Tasks};
use crate::{sys, tracer::Observer};
use harness_metadata::{
    TraceEventKind,
    event::TraceLevel,
    trace::{Doubt, Sender, Signal},
};

/// The processes of the harness that send signals.
pub(super) struct Harness {
    /// This one.
    own: Pid,
    /// The runner.
    runner: Pid,
}

impl Default for Harness {
    fn default() -> Self {
        Self {
            own: nix::unistd::getpid().as_raw(),
            runner: nix::unistd::getppid().as_raw(),
        }
    }
}

impl Harness {
    /// Tells who sent a signal by `si_code` and `si_pid` (sigaction(2)). Only codes of kill(2),
    /// sigqueue(3) and tgkill(2) have a sender.
    pub(super) fn sender(&self, code: i32, pid: Pid, is_own: impl Fn(Pid) -> bool) -> Sender {
        match code {
            libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL => {}
            _ => return Sender::Kernel,
        }
        if pid == self.own || pid == self.runner {
            Sender::Harness
        } else if is_own(pid) {
            Sender::Tree(pid)
        } else {
            Sender::Outside(pid)
        }
    }
}

impl Tasks {
    pub(super) fn signalled(&mut self, tid: Pid, signal: i32, observer: &mut dyn Observer) {
        if self.root.level < TraceLevel::Io {
            return;
        }
        let Some((code, sender)) = sys::signal_origin(tid) else {
            return;
        };
        let is_own = |pid| self.context.processes.contains_key(&pid) || self.ended.contains(&pid);
        let sender = self.harness.sender(code, sender, is_own);
        let process = self.process_of(tid);
        let kind = TraceEventKind::Signal(Signal {
            signal,
            code,
            sender,
        });
        self.tell_one(tid, process, kind, observer);
        if let Sender::Outside(_) = sender {
            let doubt = TraceEventKind::Doubt(Doubt::ForeignSignal);
            self.tell_one(tid, process, doubt, observer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_signal_that_was_sent_has_a_sender() {
        let harness = Harness { own: 10, runner: 9 };
        let sender = |code, pid| harness.sender(code, pid, |pid| pid == 20);
        assert_eq!(sender(libc::SI_USER, 20), Sender::Tree(20));
        assert_eq!(sender(libc::SI_TKILL, 10), Sender::Harness);
        assert_eq!(sender(libc::SI_QUEUE, 9), Sender::Harness);
        assert_eq!(sender(libc::SI_USER, 30), Sender::Outside(30));
        // A fault's address, a timer's number: what is there instead of an id says nothing.
        for code in [
            libc::SI_KERNEL,
            libc::CLD_EXITED,
            libc::SI_TIMER,
            1, /* SEGV_MAPERR */
        ] {
            assert_eq!(sender(code, 30), Sender::Kernel);
        }
    }
}
