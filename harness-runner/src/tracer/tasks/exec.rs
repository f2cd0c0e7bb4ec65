//! Programs that tracees have executed.

use super::{Call, Early, Root, Tasks};
use crate::{
    proc,
    sys::{self, Tgid, Tid},
    tracer::{
        decode::{self, Pending, Task, Vectors, environment_change},
        live::Live,
        loads::Key,
        stop::{Kernel, Tracee},
    },
};
use harness_metadata::{
    RawString, TraceEventKind,
    event::TraceLevel,
    trace::{CallResult, Exec, TracedPath},
};
use std::{fs::File, io::Read};

impl<K: Kernel> Tasks<K> {
    /// A process has executed a program. Returns whether it still stands at that event.
    pub(super) fn at_exec(&mut self, process: Tgid) -> bool {
        let leader = process.leader();
        // A thread that executes takes its leader's id over; its own is no more, and no exit of
        // it will be reported. Nor will one of its leader.
        let Some(former) = self.kernel.event_message(leader) else {
            return false;
        };
        let call = match former == leader {
            true => self.calls.take(leader),
            false => self.takes_over(former, process),
        };
        self.tree.entry(leader).process = Some(process);
        self.recorded_execution(process);
        if process == self.root.pid && !self.executed {
            self.at_exec_of_root();
            return true;
        }
        self.abandon_loading(process);
        let tracee = Tracee::leader_of(process);
        match call {
            Some(Call::Awaited(_, pending) | Call::Interrupted(_, pending)) => {
                self.at_awaited_exec(tracee, pending);
            }
            None => {
                let exec = self.exec_by_proc(tracee);
                self.outbox
                    .event(tracee, TraceEventKind::Exec(Box::new(exec)));
            }
        }
        self.look_at_program(process);
        true
    }

    /// Has the entries of functions recorded, if they are. Returns whether the process is still where it was.
    pub(super) fn records(&self, process: Tgid) -> bool {
        let recording = self.root.entries.as_ref();
        recording.is_none_or(|recording| recording.executed(process))
    }

    /// A thread leads its process from now on. Returns the call that it was in.
    fn takes_over(&mut self, former: Tid, process: Tgid) -> Option<Call> {
        let call = self.calls.take(former);
        let task = self.tree.remove(former).unwrap_or_default();
        if task.due {
            let (told, ended) = (task.told, None);
            self.tree.ended_early(former, Early { told, ended });
        }
        self.leads_now(process, task.options);
        self.abandon_call(process.leader());
        call
    }

    /// The root has become what it was created for.
    fn at_exec_of_root(&mut self) {
        let root = self.root.pid;
        let tracee = Tracee::leader_of(root);
        self.executed = true;
        if self.root.level >= TraceLevel::Io && !self.filtered && !self.filters_later() {
            self.report_unfiltered();
        }
        let exec = self
            .root
            .exec(&self.live(tracee), self.known_interpreters());
        let interpreters = exec.interpreters.clone();
        let exec = TraceEventKind::Exec(Box::new(exec));
        self.outbox.event(tracee, exec);
        self.look_at_program(root);
        self.begin_loading(interpreters);
    }

    /// A process has executed a program by a call that was awaited.
    fn at_awaited_exec(&mut self, tracee: Tracee, mut pending: Pending) {
        let process = tracee.process;
        let mut stack = std::mem::take(&mut self.stack);
        pending.started(|| started_with(process, &mut stack), &self.live(tracee));
        self.stack = stack;
        let loading = self.loader_of(&pending);
        if let Some(environment) = pending.environment() {
            self.context.set_environment(process, environment);
        }
        self.complete(tracee, pending, |pending, task, events| {
            decode::exit(pending, 0, task, events);
        });
        if let Some((key, interpreters)) = loading {
            self.begin_inherited_loading(process, key, interpreters);
        }
    }

    /// Returns what the loader of a program depends on that is being executed, and what interprets it.
    fn loader_of(&self, pending: &Pending) -> Option<(Key, Vec<RawString>)> {
        self.root.loads.as_ref()?;
        let (exec, environment) = (pending.exec()?, pending.environment()?);
        let key = Key::of_tracee(exec, &environment, self.root.level)?;
        Some((key, exec.interpreters.clone()))
    }

    /// The execution of a process whose call was not seen, or was expected to fail.
    fn exec_by_proc(&mut self, tracee: Tracee) -> Exec {
        let vectors = started_with(tracee.process, &mut self.stack);
        let live = self.live(tracee);
        let before = live.environment();
        let environment = vectors.environment.shared(before.as_ref());
        let (mut inherited, mut interpreters) = (Vec::new(), Vec::new());
        if self.root.level >= TraceLevel::Io {
            live.executed();
            inherited = decode::inherited(live.descriptors());
            interpreters = decode::interpreters_of_executed(&live);
        }
        let exec = Exec {
            program: TracedPath {
                asked: live.link("exe").unwrap_or_default().into(),
                absolute: None,
            },
            args: vectors.args,
            cwd: live.cwd().unwrap_or_default().into(),
            environment: environment_change(before.as_deref(), &environment),
            inherited,
            interpreters,
            result: CallResult::Ok(0),
            truncated: vectors.truncated,
        };
        self.context.set_environment(tracee.process, environment);
        exec
    }
}

/// Returns what a program was started with that has not run yet: as its stack says, or else /proc.
fn started_with(process: Tgid, stack: &mut Vec<u8>) -> Vectors {
    stack.resize(Vectors::STACK, 0);
    let mut on_stack = || {
        let address = sys::stack_pointer(process.leader())?;
        let read = sys::read_memory(process, address, stack).ok()?;
        Vectors::on_stack(address, &stack[..read])
    };
    on_stack().unwrap_or_else(|| {
        let read = |name: &str| {
            let file = File::open(proc::path(process, name)).ok()?;
            let mut block = Vec::new();
            let read = file.take(Vectors::STACK as u64).read_to_end(&mut block);
            read.ok().map(|_| block)
        };
        Vectors::in_blocks(read("cmdline").as_deref(), read("environ"))
    })
}

impl Root {
    /// The program is known from the call's arguments, and perhaps from its interpreter.
    pub(in crate::tracer) fn exec(
        &self,
        live: &Live<'_>,
        interpreters: Option<&[RawString]>,
    ) -> Exec {
        let (program, cwd) = (strings(&self.program), strings(&self.cwd));
        let (program, cwd) = (
            program.into_iter().next().unwrap_or_default(),
            cwd.into_iter().next().unwrap_or_default(),
        );
        let interpreters = if let Some(known) = interpreters {
            known.to_vec()
        } else if self.level >= TraceLevel::Io {
            decode::interpreters(program.as_bytes(), &mut |path, offset, buffer| {
                live.file(libc::AT_FDCWD, path, offset, buffer)
            })
        } else {
            Vec::new()
        };
        let relative = program.as_bytes().first() != Some(&b'/');
        let absolute = relative.then(|| [cwd.as_bytes(), program.as_bytes()].join(&b'/').into());
        Exec {
            program: TracedPath {
                asked: program,
                absolute,
            },
            args: strings(&self.args),
            cwd,
            interpreters,
            result: CallResult::Ok(0),
            ..Exec::default()
        }
    }
}

/// Takes strings that are ended by NUL apart.
fn strings(block: &[u8]) -> Vec<RawString> {
    let block = block.strip_suffix(b"\0").unwrap_or(block);
    if block.is_empty() {
        return Vec::new();
    }
    block
        .split(|byte| *byte == 0)
        .map(RawString::from)
        .collect()
}
