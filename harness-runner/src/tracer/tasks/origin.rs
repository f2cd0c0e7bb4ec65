//! The sender of a signal.

use super::Tasks;
use crate::{
    sys::{Pid, Tgid},
    tracer::stop::{Kernel, Tracee},
};
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

impl<K: Kernel> Tasks<K> {
    /// A task is about to receive a signal.
    pub(super) fn signalled(&mut self, tracee: Tracee, signal: i32) {
        if self.root.level < TraceLevel::Io {
            return;
        }
        let Some((code, sender)) = self.kernel.signal_origin(tracee.tid) else {
            return;
        };
        let is_own = |pid| {
            let process = Tgid::new(pid);
            self.context.processes.contains_key(&process) || self.tree.remembers(process)
        };
        let sender = self.harness.sender(code, sender, is_own);
        let kind = TraceEventKind::Signal(Signal {
            signal,
            code,
            sender,
        });
        self.outbox.event(tracee, kind);
        // The sender of a queued signal chooses what it shows (rt_sigqueueinfo(2)), SI_TIMER for example.
        let may_be_forged = match code {
            libc::SI_TKILL => false,
            libc::SI_QUEUE => !self.context.has_queued(),
            code => code < 0,
        };
        if may_be_forged || matches!(sender, Sender::Outside(_)) {
            let doubt = TraceEventKind::Doubt(Doubt::ForeignSignal);
            self.outbox.event(tracee, doubt);
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
