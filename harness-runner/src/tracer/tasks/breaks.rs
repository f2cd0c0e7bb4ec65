//! Processes that a user wants to look into: they are stopped at an execution and let go, so that a
//! debugger can have them.
//!
//! A process whose tracer lets go of it must not have our filter: without a tracer, the calls that
//! the filter stops fail with ENOSYS. So there is no filter where there is a breakpoint. To stop in
//! front of an execution, every system call is stopped at instead (PTRACE_SYSCALL).

use super::Tasks;
use crate::{
    proc,
    sys::{self, Pid, RawSignal, Stop, SyscallInfo, Tgid, Tid, arch},
    tracer::{
        breakpoint::Moment,
        decode::{self, Entry, NATIVE_ARCHITECTURE},
        stop::{Kernel, Next, Tracee},
    },
};
use harness_metadata::{
    RawString, TraceEventKind,
    event::TraceLevel,
    trace::{Doubt, Exec},
};
use nix::sys::ptrace;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use syscalls::Sysno;

/// The tasks that are being released.
#[derive(Default)]
pub(super) struct Breaks {
    /// Processes that are stopped, some of whose threads are still traced.
    letting_go: BTreeSet<Tgid>,
    /// Threads that are to make their call again, with their registers at its entry.
    rewinding: Vec<(Tid, libc::user_regs_struct, Vec<RawString>)>,
    broke: Vec<Broke>,
}

/// A process that has been stopped for a debugger. It is not traced any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broke {
    pub(crate) pid: Pid,
    /// The arguments of the program that it executes.
    pub(crate) args: Vec<RawString>,
}

/// AT_EXECFN of getauxval(3).
const EXECUTED_NAME: u64 = 31;

/// As much as is read of what a process says of itself.
const ROOM: usize = 64 * 1024;

impl<K: Kernel> Tasks<K> {
    /// Returns the processes that have been let go since this was asked last.
    pub(crate) fn take_broken(&mut self) -> Vec<Broke> {
        std::mem::take(&mut self.breaks.broke)
    }

    /// Returns whether there are such processes.
    pub(crate) fn has_broken(&self) -> bool {
        !self.breaks.broke.is_empty()
    }

    /// Returns whether every call is stopped at.
    pub(super) fn stops_before(&self) -> bool {
        let breakpoint = self.root.breakpoint.as_ref();
        breakpoint.is_some_and(|breakpoint| breakpoint.moment == Moment::Before)
    }

    /// Sees to a stop that has to do with a breakpoint.
    pub(super) fn stopped_for_break(&mut self, tracee: Tracee, stop: Stop) -> Option<Next> {
        self.root.breakpoint.as_ref()?;
        let Tracee { tid, process } = tracee;
        if self.breaks.letting_go.contains(&process) {
            let signal = match stop {
                Stop::Signal(signal) => Some(RawSignal::new(signal)),
                _ => None,
            };
            return Some(Next::Debugged(signal));
        }
        match stop {
            Stop::Exec if self.executed && !self.stops_before() => {
                let process = tid.led();
                if !self.at_exec(process) {
                    return Some(Next::Killed);
                }
                Some(match self.wanted(process) {
                    Some(args) => self.let_go(Tracee::leader_of(process), args),
                    None => Next::Go(None),
                })
            }
            Stop::Syscall if self.stops_before() => {
                let Some(SyscallInfo::Entry(entered)) = self.kernel.syscall_info(tid) else {
                    return self.rewind(tracee);
                };
                let args = self.about_to_execute(tracee, &entered)?;
                self.defer(tid, entered.number, args)
            }
            _ => None,
        }
    }

    /// Returns the arguments of what a process has just executed, if it is to be stopped.
    fn wanted(&self, process: Tgid) -> Option<Vec<RawString>> {
        let asked = executed_name(process);
        let absolute = asked
            .as_ref()
            .map(|asked| match proc::link(process, "cwd") {
                Some(cwd) => path(&cwd)
                    .join(path(asked))
                    .into_os_string()
                    .into_encoded_bytes(),
                None => asked.clone(),
            });
        let linked = proc::link(process, "exe");
        let paths: Vec<&[u8]> = [&absolute, &linked]
            .into_iter()
            .flatten()
            .map(Vec::as_slice)
            .collect();
        let block = fs::read(proc::path(process, "cmdline")).unwrap_or_default();
        let block = block.strip_suffix(b"\0").unwrap_or(&block);
        let args: Vec<&[u8]> = block.split(|byte| *byte == 0).collect();
        let breakpoint = self.root.breakpoint.as_ref()?;
        breakpoint
            .matches(&paths, &args)
            .then(|| args.into_iter().map(RawString::from).collect())
    }

    /// Returns the arguments of what a task is about to execute, if it is to be stopped.
    fn about_to_execute(&self, tracee: Tracee, call: &decode::Syscall) -> Option<Vec<RawString>> {
        let number = usize::try_from(call.number).ok().and_then(Sysno::new)?;
        let executes = matches!(number, Sysno::execve | Sysno::execveat);
        if !executes || call.arch != NATIVE_ARCHITECTURE || !self.executed {
            return None;
        }
        let mut events = Vec::new();
        let live = self.live(tracee);
        let Entry::Await(mut pending) = decode::entry(call, TraceLevel::Io, &live, &mut events)
        else {
            return None;
        };
        pending.read_vectors(&live, &mut events);
        decode::exit(pending, 0, &live, &mut events);
        let exec: Exec = events.into_iter().find_map(|event| match event {
            TraceEventKind::Exec(exec) => Some(*exec),
            _ => None,
        })?;
        // A search in PATH asks for what is not there, too.
        let there = PathBuf::from(proc::path(tracee.process, "root"));
        let file = path(exec.program.path().as_bytes());
        let file = there.join(file.strip_prefix("/").unwrap_or(file));
        if !file.exists() {
            return None;
        }
        let resolved = fs::canonicalize(&file).unwrap_or_default();
        let resolved = resolved.into_os_string().into_encoded_bytes();
        let paths = [exec.program.path().as_bytes(), &resolved];
        let args: Vec<&[u8]> = exec.args.iter().map(RawString::as_bytes).collect();
        let breakpoint = self.root.breakpoint.as_ref()?;
        breakpoint.matches(&paths, &args).then_some(exec.args)
    }

    /// Has a call fail that a task is at the entry of, so that it can be made again later. Its path is
    /// taken away (EFAULT).
    fn defer(&mut self, tid: Tid, number: u64, args: Vec<RawString>) -> Option<Next> {
        let tracee = nix::unistd::Pid::from_raw(tid.raw());
        let before = ptrace::getregs(tracee).ok()?;
        let mut registers = before;
        if number == Sysno::execve as u64 {
            arch::set_first_argument(&mut registers, 0);
        } else {
            arch::set_second_argument(&mut registers, 0);
        }
        ptrace::setregs(tracee, registers).ok()?;
        self.breaks.rewinding.push((tid, before, args));
        Some(Next::ToExit)
    }

    /// Puts a task whose call has been made to fail back in front of it, and lets its process go.
    fn rewind(&mut self, tracee: Tracee) -> Option<Next> {
        let tid = tracee.tid;
        let rewinding = &mut self.breaks.rewinding;
        let at = rewinding.iter().position(|(it, ..)| *it == tid)?;
        let (_, mut registers, args) = rewinding.swap_remove(at);
        arch::rewind(&mut registers);
        // If it is gone there is nothing to be put anywhere.
        let _ = ptrace::setregs(nix::unistd::Pid::from_raw(tid.raw()), registers);
        Some(self.let_go(tracee, args))
    }

    /// Stops a process, one of whose threads stands in a stop of ours, and lets go of that. Other
    /// threads stop by the same signal, and are let go then.
    fn let_go(&mut self, tracee: Tracee, args: Vec<RawString>) -> Next {
        let pid = tracee.process.raw();
        let _ = sys::kill(pid, libc::SIGSTOP);
        self.breaks.letting_go.insert(tracee.process);
        self.breaks.broke.push(Broke { pid, args });
        let doubt = TraceEventKind::Doubt(Doubt::UntracedTask);
        self.outbox.event(tracee, doubt);
        Next::Debugged(None)
    }

    /// A task of a process that is let go was detached.
    pub(super) fn detached(&mut self, tid: Tid) {
        self.calls.take(tid);
        let Some(process) = self.tree.remove(tid).and_then(|task| task.process) else {
            return;
        };
        if !self.tree.alive().any(|alive| alive == process) {
            self.breaks.letting_go.remove(&process);
            self.context.processes.remove(&process);
            // If it becomes an orphan its end will be reported once more.
            self.tree.remember(process);
        }
    }
}

fn path(bytes: &[u8]) -> &Path {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    Path::new(OsStr::from_bytes(bytes))
}

/// Returns the path that a process was executed by, as the caller wrote it.
fn executed_name(process: Tgid) -> Option<Vec<u8>> {
    const WORD: usize = size_of::<usize>();
    let file = fs::File::open(proc::path(process, "auxv")).ok()?;
    let mut auxiliary = vec![0; 4096];
    let read = file.read_at(&mut auxiliary, 0).ok()?;
    let mut words = auxiliary[..read].chunks_exact(WORD).map(|word| {
        let word: [u8; WORD] = word.try_into().unwrap_or_default();
        usize::from_ne_bytes(word) as u64
    });
    let address = loop {
        let (kind, value) = (words.next()?, words.next()?);
        if kind == EXECUTED_NAME {
            break value;
        }
    };
    let mut name = vec![0; ROOM.min(libc::PATH_MAX as usize)];
    let read = sys::read_memory(process, address, &mut name).ok()?;
    name.truncate(read);
    let end = name.iter().position(|byte| *byte == 0)?;
    name.truncate(end);
    Some(name)
}
