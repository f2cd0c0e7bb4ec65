//! Programs that tracees have executed.

use super::{Call, Root, Tasks};
use crate::tracer::{
    Observer,
    decode::{self, Pending, Task, Vectors, environment_change},
    live::Live,
    loads::Key,
};
use crate::{
    proc,
    sys::{self, Pid},
};
use harness_metadata::{
    RawString, TraceEventKind,
    event::TraceLevel,
    trace::{CallResult, Exec, TracedPath},
};
use std::{fs::File, io::Read};

impl Tasks {
    pub(super) fn at_exec(&mut self, pid: Pid, observer: &mut dyn Observer) {
        // A thread that executes takes its leader's id over; its own is no more, and no exit of
        // it will be reported. Nor will one of its leader.
        let former = sys::event_message(pid).filter(|former| *former != pid);
        let call = if let Some(former) = former {
            let task = self.tasks.remove(&former).unwrap_or_default();
            if task.due {
                self.ended_early.insert(former, task.told);
            }
            self.leads_now(pid, task.options);
            self.abandon_call(pid, observer);
            task.call
        } else {
            self.take_call(pid)
        };
        let task = self.tasks.entry(pid).or_default();
        task.process = Some(pid);
        if pid == self.root.pid && !self.executed {
            self.executed = true;
            if self.root.level >= TraceLevel::Io && !self.filtered && !self.filters_later() {
                self.tell_unfiltered(observer);
            }
            let exec = self
                .root
                .exec(&self.live(pid, pid), self.known_interpreters());
            let interpreters = exec.interpreters.clone();
            let exec = TraceEventKind::Exec(Box::new(exec));
            self.tell_one(pid, pid, exec, observer);
            self.look_at_program(pid, observer);
            return self.begin_loading(interpreters, observer);
        }
        self.abandon_loading(pid, observer);
        match call {
            Call::Awaited(_, mut pending) | Call::Interrupted(_, mut pending) => {
                let mut stack = std::mem::take(&mut self.stack);
                pending.started(|| started_with(pid, &mut stack), &self.live(pid, pid));
                self.stack = stack;
                let loading = self.loader_of(&pending);
                if let Some(environment) = pending.environment() {
                    self.context.set_environment(pid, environment);
                }
                self.complete(pid, pid, pending, observer, |pending, live, events| {
                    decode::exit(pending, 0, live, events);
                });
                if let Some((key, interpreters)) = loading {
                    self.begin_inherited_loading(pid, key, interpreters);
                }
            }
            Call::None => {
                let exec = self.exec_by_proc(pid);
                self.tell_one(pid, pid, TraceEventKind::Exec(Box::new(exec)), observer);
            }
        }
        self.look_at_program(pid, observer);
    }

    /// Returns what the loader of a program depends on that is being executed, and what interprets it.
    fn loader_of(&self, pending: &Pending) -> Option<(Key, Vec<RawString>)> {
        self.root.loads.as_ref()?;
        let (exec, environment) = (pending.exec()?, pending.environment()?);
        let key = Key::of_tracee(exec, &environment, self.root.level)?;
        Some((key, exec.interpreters.clone()))
    }

    /// What a process has executed, when its call has not been seen, or when it was expected to fail.
    fn exec_by_proc(&mut self, pid: Pid) -> Exec {
        let vectors = started_with(pid, &mut self.stack);
        let live = self.live(pid, pid);
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
        self.context.set_environment(pid, environment);
        exec
    }
}

/// Returns what a program was started with that has not run yet: as its stack says, or else /proc.
fn started_with(pid: Pid, stack: &mut Vec<u8>) -> Vectors {
    stack.resize(Vectors::STACK, 0);
    let mut on_stack = || {
        let address = sys::stack_pointer(pid)?;
        let read = sys::read_memory(pid, address, stack).ok()?;
        Vectors::on_stack(address, &stack[..read])
    };
    on_stack().unwrap_or_else(|| {
        let read = |name: &str| {
            let file = File::open(proc::path(pid, name)).ok()?;
            let mut block = Vec::new();
            let read = file.take(Vectors::STACK as u64).read_to_end(&mut block);
            read.ok().map(|_| block)
        };
        Vectors::in_blocks(read("cmdline").as_deref(), read("environ"))
    })
}

impl Root {
    /// What it has executed is known from who asked for it, and perhaps what interprets that.
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
