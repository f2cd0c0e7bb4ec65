//! Stops that nothing is going to end.
//!
//! A child that is to be traced by its parent asks for that (PTRACE_TRACEME) and stops itself. We are
//! its tracer, so the kernel refuses. A child that ignores the refusal stops all the same, and its
//! parent waits for a stop of which the kernel tells a tracer only: both would wait for ever.
//!
//! Where calls are seen, the refusal is. At the level `process` only the calls of programs that have
//! the symbol `ptrace` are. Of others it is known that a process has stopped itself, that nothing has
//! continued it for a while, and that its parent waits for it in a call that does not ask for stopped
//! children (wait(2), WUNTRACED): such a parent hears of a stop only as a tracer.

use super::Tasks;
use crate::{
    proc,
    sys::{Pid, Tgid},
    tracer::{
        Observer,
        stop::{Kernel, Tracee},
    },
};
use harness_metadata::{
    TraceEventKind,
    event::TraceLevel,
    trace::{Disturbance, Doubt},
};
use std::{
    collections::{HashMap, HashSet},
    fs,
    time::{Duration, Instant},
};

/// The time after which the wait of the parent of a process that has stopped itself is looked at. What is to
/// continue it has mostly done so by then.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// The disturbed request.
#[derive(Default)]
pub(super) struct Refusals {
    /// Processes that were refused to be tracers or tracees of others, because they are ours.
    refused: HashSet<Tgid>,
    /// Processes that have stopped themselves, and since when, where their calls are not seen.
    stopped: HashMap<Tgid, Instant>,
    /// Whether a process waits for a tracer that cannot come.
    stuck: bool,
}

impl Refusals {
    /// Takes notice of a refusal that we have caused.
    pub(super) fn heed(&mut self, process: Tgid, kind: &TraceEventKind) {
        if matches!(
            kind,
            TraceEventKind::Doubt(Doubt::Disturbed(Disturbance::PtraceRefused))
        ) {
            self.refused.insert(process);
        }
    }

    /// A process ended.
    pub(super) fn forget(&mut self, process: Tgid) {
        self.refused.remove(&process);
        self.stopped.remove(&process);
    }

    /// A process goes on after a stop.
    pub(super) fn continued(&mut self, process: Tgid) {
        self.stopped.remove(&process);
    }
}

impl<K: Kernel> Tasks<K> {
    /// Returns whether a process waits for what will not happen, because of us.
    pub(crate) fn is_stuck(&self) -> bool {
        self.refusals.stuck
    }

    /// As [`Self::is_stuck`], once.
    pub(crate) fn take_stuck(&mut self) -> bool {
        std::mem::take(&mut self.refusals.stuck)
    }

    /// A task is about to receive a signal. A process that stops itself after a refusal waits for a
    /// tracer.
    pub(super) fn heed_stop(&mut self, tracee: Tracee, signal: i32) {
        if signal != libc::SIGSTOP {
            return;
        }
        let process = tracee.process;
        let origin = self.kernel.signal_origin(tracee.tid);
        if origin.is_none_or(|(_, sender)| sender != process.raw()) {
            return;
        }
        if self.refusals.refused.contains(&process) {
            self.refusals.stuck = true;
        } else if self.root.level == TraceLevel::Process {
            self.refusals.stopped.insert(process, Instant::now());
        }
    }

    /// Looks at what the parents of processes wait for that have stopped themselves a while ago. To be
    /// called now and then.
    pub(crate) fn look_at_stopped(&mut self, observer: &mut dyn Observer) {
        let stopped = &mut self.refusals.stopped;
        let due = stopped
            .iter_mut()
            .filter(|(_, since)| since.elapsed() >= LEFT_ALONE);
        let due = due.map(|(process, since)| {
            *since = Instant::now();
            *process
        });
        let mut stuck: Vec<Tgid> = due.collect();
        stuck.retain(|process| parent_waits_as_tracer(process.raw()));
        for process in stuck {
            self.refusals.forget(process);
            self.refusals.stuck = true;
            let doubt = Doubt::Disturbed(Disturbance::PtraceRefused);
            let tracee = Tracee::leader_of(process);
            self.outbox.event(tracee, TraceEventKind::Doubt(doubt));
            self.deliver(observer);
        }
    }
}

/// Returns whether a thread of the parent of a process waits for that, and would hear of its stop only
/// as its tracer.
fn parent_waits_as_tracer(process: Pid) -> bool {
    let status = proc::read(&proc::path(process, "status")).unwrap_or_default();
    let parent = proc::field(&status, "PPid:").and_then(|parent| parent.trim().parse::<Pid>().ok());
    // An orphan's parent is this process, which waits for everything.
    let own = std::process::id().cast_signed();
    let Some(parent) = parent.filter(|parent| *parent != own) else {
        return false;
    };
    let threads = fs::read_dir(proc::path(parent, "task")).into_iter();
    let calls = threads.flatten().flatten();
    let mut calls =
        calls.filter_map(|thread| fs::read_to_string(thread.path().join("syscall")).ok());
    calls.any(|call| waits_as_tracer(&call, process))
}

/// Returns whether a call, as /proc/PID/syscall shows it (proc_pid_syscall(5)), waits for a child, but
/// not for its stops.
fn waits_as_tracer(call: &str, child: Pid) -> bool {
    let mut words = call.split_ascii_whitespace();
    let Some(number) = words.next().and_then(|word| word.parse::<i64>().ok()) else {
        return false;
    };
    let hexadecimal = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let args: Vec<u64> = words.map_while(hexadecimal).collect();
    let [first, second, third, fourth, ..] = args[..] else {
        return false;
    };
    let id = |argument: u64| argument as Pid;
    let (of_child, options) = match number {
        libc::SYS_wait4 => (id(first) == child || id(first) <= 0, third),
        libc::SYS_waitid => {
            let by_pid = first == u64::from(libc::P_PID);
            (!by_pid || id(second) == child, fourth)
        }
        _ => return false,
    };
    // WSTOPPED of waitid(2) is the same.
    of_child && options & libc::WUNTRACED as u64 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: i64, args: [u64; 4]) -> String {
        let args: Vec<String> = args.iter().map(|arg| format!("{arg:#x}")).collect();
        format!(
            "{number} {} 0x0 0x0 0x7ffc 0x7f00
",
            args.join(" ")
        )
    }

    #[test]
    fn who_waits_for_a_child_and_not_for_its_stops_waits_as_its_tracer() {
        let any = u64::from(-1_i32 as u32);
        for (number, args, expected) in [
            (libc::SYS_wait4, [7, 0x7ffc, 0, 0], true),
            (libc::SYS_wait4, [any, 0x7ffc, 0, 0], true),
            (libc::SYS_wait4, [u64::MAX, 0x7ffc, 0x4000_0000, 0], true),
            (libc::SYS_wait4, [8, 0x7ffc, 0, 0], false),
            (libc::SYS_wait4, [7, 0x7ffc, 2, 0], false),
            (libc::SYS_waitid, [1, 7, 0x7ffc, 4], true),
            (libc::SYS_waitid, [0, 0, 0x7ffc, 4], true),
            (libc::SYS_waitid, [3, 5, 0x7ffc, 4], true),
            (libc::SYS_waitid, [1, 8, 0x7ffc, 4], false),
            (libc::SYS_waitid, [1, 7, 0x7ffc, 6], false),
            (libc::SYS_read, [7, 0x7ffc, 0, 0], false),
        ] {
            let call = call(number, args);
            assert_eq!(waits_as_tracer(&call, 7), expected, "{call}");
        }
        assert!(!waits_as_tracer(
            "running
", 7
        ));
        assert!(!waits_as_tracer(
            "-1 0x7ffc 0x7f00
",
            7
        ));
    }
}
